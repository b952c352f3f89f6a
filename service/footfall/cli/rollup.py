"""A rollup outside a worker: what `footfall rollup` runs, and `footfall adjust` after its change."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from footfall.cli.terminal import say
from footfall.errors import Stop, StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.clocks import WALL_CLOCK
from footfall.settings.settings import Settings
from footfall.stores.postgres_store import PostgresStore, open_postgres
from footfall.stores.redis_store import open_redis
from footfall.stores.store_pair import StorePair
from footfall.sync.repairs import Repairs
from footfall.sync.rollup import Rollup


@asynccontextmanager
async def open_rollup(settings: Settings) -> AsyncIterator[tuple[Rollup, PostgresStore]]:
    """Open both stores and the rollup between them; raises StoreUnavailable where Postgres does not answer."""
    async with (
        open_redis(settings.redis_url.get_secret_value(), settings.redis_timeout_s) as redis,
        open_postgres(settings.postgres_url.get_secret_value()) as postgres,
    ):
        stores = StorePair(redis, postgres)
        await stores.learn_installation()
        metrics = Metrics(CollectorRegistry())
        repairs = Repairs.between(stores, metrics, WALL_CLOCK)
        yield Rollup(settings.sites.values(), stores, repairs, metrics, WALL_CLOCK), postgres


async def roll_up_sites(settings: Settings) -> None:
    """Roll up every day of every site, and print a line a site; raises Stop when one failed."""
    failed = 0
    async with open_rollup(settings) as (rollup, _):
        for site in settings.sites.values():
            try:
                done = await rollup.roll_up(site, all_days=True)
                say(f"{site.id}: days saved {done.saved}, joined back into Redis {done.merged_back}")
            except StoreUnavailable as error:
                failed += 1
                say(f"{site.id}: not rolled up: {error}")
    if failed:
        raise Stop(f"{failed} of {len(settings.sites)} sites were not rolled up; footfall doctor checks the stores", 1)
