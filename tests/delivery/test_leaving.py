"""A worker that leaves: first everything is on the disk, then Postgres gets what it takes in time."""

import asyncio
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from footfall import sql_folder
from footfall.delivery.pending import View
from footfall.delivery.sender import LogSender
from footfall.embedded.servers import Postgres
from footfall.http.services import Services
from footfall.settings.settings import Settings
from footfall.stores.migrations import migrate
from tests.support.delivery import open_worker
from tests.support.footfall import settings_for
from tests.support.storage import TODAY, plain_redis

SITES = [f"site{number:03}" for number in range(300)]


@pytest.fixture
async def settings(redis_url: str, own_postgres: Postgres, tmp_path: Path) -> Settings:
    """Many sites, and a Postgres of their own."""
    await migrate(own_postgres.url, sql_folder())
    sites = {site: {"name": site, "hosts": [f"{site}.example.vn"]} for site in SITES}
    return settings_for(redis_url, own_postgres.url, tmp_path, sites=sites)


async def count_everywhere(services: Services) -> None:
    """One view of each site."""
    for number, site in enumerate(services.settings.sites.values()):
        await services.recorder.record(site, TODAY, number.to_bytes(16, "big"), None, View("/"))


async def copied(url: str) -> tuple[int, int]:
    """How many sites Postgres has a view of, and how many views in all."""
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow("SELECT count(*), COALESCE(sum(views), 0) FROM footfall.site_day")
    finally:
        await connection.close()
    assert row is not None
    return row[0], int(row[1])


@pytest.mark.timeout(400)
async def test_a_worker_that_leaves_while_postgres_hangs_has_everything_on_the_disk(
    settings: Settings, own_postgres: Postgres
) -> None:
    """It rolled up first, waited for Postgres, and was killed before it wrote; with Redis lost, so were the counts."""
    async with open_worker(settings) as services:
        await services.rollup.step()
        await count_everywhere(services)
        own_postgres.suspend()
        try:
            await replace(services, leaving_max_s=0.5).leave()
        finally:
            own_postgres.resume()
    assert await copied(own_postgres.url) == (0, 0)
    async with plain_redis(settings.redis_url.get_secret_value()) as redis:
        await redis.flushall()
    async with open_worker(settings) as services:
        await services.copy()
        await services.recorder.settle()
    assert await copied(own_postgres.url) == (len(SITES), len(SITES))


@pytest.mark.timeout(400)
async def test_a_worker_that_leaves_in_peace_leaves_nothing_on_the_disk(
    settings: Settings, own_postgres: Postgres
) -> None:
    """What Postgres has taken meanwhile is dropped there again: the next worker has nothing to adopt."""
    async with open_worker(settings) as services:
        await count_everywhere(services)
        await services.secure()
        assert services.spool.used_bytes > 0
        on_disk = [len(await services.spool.read(sender.log.log_id, 0, 9)) for sender in _senders(services)]
        assert on_disk == [1] * len(SITES)
        await services.leave()
        assert not any([await services.spool.read(sender.log.log_id, 0, 9) for sender in _senders(services)])
    assert await copied(own_postgres.url) == (len(SITES), len(SITES))


def _senders(services: Services) -> list[LogSender]:
    return [sender for delivery in services.recorder.sites.values() for sender in delivery]


async def test_calls_that_wait_for_postgres_end_when_a_worker_gives_up(
    own_postgres: Postgres, settings: Settings
) -> None:
    """A stop took fifty seconds: each of several calls waited for its whole deadline."""
    async with open_worker(settings) as services:
        own_postgres.suspend()
        try:
            waiting = asyncio.create_task(services.rollup.step())
            await asyncio.sleep(0)
            services.stores.postgres.give_up()
            assert await waiting == []
        finally:
            own_postgres.resume()
