"""The only wiring: builds what one worker needs, opens and closes it, and serves it on two listeners."""

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry

from footfall.background import repeat
from footfall.delivery.reconciler import Reconciler
from footfall.delivery.recorder import Recorder
from footfall.display.counts_cache import CountsCache
from footfall.errors import Stop, StoreUnavailable
from footfall.http.ops import create_ops_app
from footfall.http.public import create_public_app
from footfall.http.server import ConnectionLimiter, Listener, connections_max
from footfall.http.services import Services
from footfall.ingest.admission import Admission
from footfall.ingest.client_address import AddressResolver
from footfall.ingest.counting import Counting
from footfall.metrics.metrics import Metrics
from footfall.metrics.process import MEASURE_EVERY_S, ProcessMetrics
from footfall.model.counts import Reading
from footfall.model.periods import Clock, Periods
from footfall.settings.settings import Settings, Site
from footfall.stores.postgres_store import open_postgres
from footfall.stores.redis_store import RedisStore, open_redis
from footfall.stores.spool_store import open_spool
from footfall.sync.restore import Restore
from footfall.sync.rollup import Rollup
from footfall.sync.salts import Salts

logger = logging.getLogger(__name__)

PROBE_EVERY_S = 0.5
PROBES_AT_ONCE = 16
BACKLOG = 1024
OPENING_MAX_S = 10.0
"""A worker serves after this time although a store hangs; the remaining sites are opened meanwhile."""


@asynccontextmanager
async def open_services(
    settings: Settings,
    clock: Clock = time.time,
    monotonic: Clock = time.monotonic,
    metrics: Metrics | None = None,
) -> AsyncIterator[Services]:
    """Open the stores and build one worker's parts; at the end flush, roll up, and close in reverse order.

    No background work runs yet: `run_background` does it, and a test may call the steps itself. Without
    `metrics` it gets some that no other process shares.
    """
    metrics = metrics or Metrics(CollectorRegistry())
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(
            open_redis(settings.redis_url.get_secret_value(), settings.redis_timeout_s)
        )
        postgres = await stack.enter_async_context(open_postgres(settings.postgres_url.get_secret_value()))
        spool = await stack.enter_async_context(
            open_spool(settings.data_dir / "spool", secrets.token_hex(8), settings.spool_max_bytes)
        )
        await _refuse_eviction(redis)

        async def read_counts(site: Site) -> Reading:
            return await recorder.read(site)

        counts_cache = CountsCache(settings, metrics, read_counts, clock, monotonic)
        salts = Salts(metrics)
        periods = Periods(clock)
        restore = Restore(redis, postgres, salts, metrics, clock)
        rollup = Rollup(settings, redis, postgres, restore, salts, metrics, clock)
        recorder = Recorder(settings, redis, spool, restore, counts_cache, metrics, periods)
        reconciler = Reconciler(settings, redis, postgres, spool, recorder, restore, rollup, metrics, clock)
        admission = Admission(settings, monotonic)
        counting = Counting(
            settings=settings,
            admission=admission,
            periods=periods,
            salts=salts,
            restore=restore,
            recorder=recorder,
            metrics=metrics,
        )
        stack.push_async_callback(counts_cache.close)
        stack.push_async_callback(restore.close)
        stack.push_async_callback(reconciler.close)
        yield Services(
            settings=settings,
            metrics=metrics,
            periods=periods,
            resolver=AddressResolver(settings),
            admission=admission,
            salts=salts,
            spool=spool,
            counts_cache=counts_cache,
            restore=restore,
            rollup=rollup,
            recorder=recorder,
            reconciler=reconciler,
            counting=counting,
        )


@asynccontextmanager
async def run_background(services: Services) -> AsyncIterator[None]:
    """Open the sites, then keep rolling up, reconciling, probing and measuring; at the end each step finishes."""
    stopping = asyncio.Event()
    opening = asyncio.create_task(open_sites(services))
    await asyncio.wait([opening], timeout=OPENING_MAX_S)
    vitals = ProcessMetrics(services.metrics)
    loops = [
        repeat(services.reconciler.step, services.settings.rollup_every_s, stopping),
        repeat(services.reconciler.quick_step, PROBE_EVERY_S, stopping),
        repeat(vitals.measure, MEASURE_EVERY_S, stopping),
        repeat(services.export, MEASURE_EVERY_S, stopping),
    ]
    tasks = [opening, *map(asyncio.create_task, loops)]
    try:
        yield
    finally:
        stopping.set()
        await asyncio.gather(*tasks)


async def open_sites(services: Services) -> None:
    """Make every site ready, so that no visitor waits for it; where Redis does not answer, show what Postgres has."""
    sites = list(services.recorder.sites.values())
    for some in (sites[first : first + PROBES_AT_ONCE] for first in range(0, len(sites), PROBES_AT_ONCE)):
        opened = await asyncio.gather(*map(services.recorder.probe, some))
        closed = [writers.site for writers, is_open in zip(some, opened, strict=True) if not is_open]
        await asyncio.gather(*(_show_saved(services, site) for site in closed))


async def _show_saved(services: Services, site: Site) -> None:
    try:
        services.counts_cache.accept_saved(site, await services.restore.saved_reading(site))
    except StoreUnavailable as error:
        logger.warning("Nothing is known of a site yet: both stores are away. site=%s error=%s", site.id, error)


async def serve(
    settings: Settings,
    metrics: Metrics,
    public: socket.socket,
    ops: socket.socket,
    ready: Callable[[], None],
    stop: Awaitable[object],
) -> None:
    """Serve both listeners until `stop` is done, then answer what was read, flush, roll up and close."""
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services(settings, metrics=metrics))
        await stack.enter_async_context(run_background(services))
        limiter = ConnectionLimiter(services.resolver, connections_max())
        public_app, ops_app = create_public_app(services), create_ops_app(services)
        runners = Listener(public_app, limiter=limiter), Listener(ops_app)
        for runner, listener in zip(runners, (public, ops), strict=True):
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.SockSite(runner, listener, backlog=BACKLOG).start()
        ready()
        await stop
        await asyncio.gather(*(runner.drain() for runner in runners))


async def _refuse_eviction(redis: RedisStore) -> None:
    try:
        facts = await redis.facts()
    except StoreUnavailable:
        return  # it starts later, or answers no INFO: `doctor` tells
    if facts.maxmemory and facts.maxmemory_policy != "noeviction":
        raise Stop(
            f"Redis may throw counts away: maxmemory-policy is {facts.maxmemory_policy}."
            " Set `maxmemory-policy noeviction` for it, or give Footfall a Redis of its own."
        )
