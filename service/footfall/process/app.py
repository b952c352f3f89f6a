"""The wiring of one worker: opens its stores, builds its parts, and serves them on two listeners."""

import asyncio
import gc
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from aiohttp import web
from prometheus_client import CollectorRegistry

from footfall import __version__
from footfall.background import StepFailures, repeat, repeat_until_done
from footfall.delivery.outage import Outage
from footfall.delivery.pending import BeaconQueue
from footfall.delivery.reconciler import PROBES_AT_ONCE, Reconciler
from footfall.delivery.recorder import Recorder
from footfall.delivery.redis_writer import Displays, RedisWriter
from footfall.delivery.sender import Outlets
from footfall.delivery.site_delivery import SiteDelivery
from footfall.delivery.spool_writer import SpoolWriter
from footfall.display.counts_cache import CountsCache
from footfall.display.page_views import PageViews
from footfall.display.saved_counts import read_saved_counts
from footfall.errors import Stop, StoreMistaken, StoreUnavailable
from footfall.http import status
from footfall.http.ops import create_ops_app
from footfall.http.public import create_public_app
from footfall.http.server import ConnectionLimiter, Listener, connections_max
from footfall.http.services import Services
from footfall.ingest.admission import Admission
from footfall.ingest.client_address import AddressResolver
from footfall.ingest.counting import Counting
from footfall.ingest.proxy_watch import ProxyWatch
from footfall.ingest.refused_pages import RefusedPages
from footfall.log_throttle import some_of
from footfall.metrics.metrics import Metrics
from footfall.metrics.process import MEASURE_EVERY_S, ProcessMetrics
from footfall.model.clocks import MONOTONIC_CLOCK, WALL_CLOCK, Clock, MonotonicClock
from footfall.model.counts import Reading
from footfall.model.pages import PageReading
from footfall.model.periods import Periods
from footfall.model.retention import DAY
from footfall.model.site_id import SiteId
from footfall.process.sockets import BACKLOG
from footfall.settings.settings import Settings, Site
from footfall.stores.history import History, open_report_connections
from footfall.stores.postgres_store import open_postgres
from footfall.stores.redis_store import RedisStore, open_redis
from footfall.stores.report_tokens import ReportTokens
from footfall.stores.sites_history import SitesHistory
from footfall.stores.spool_store import open_spool
from footfall.stores.store_pair import StorePair
from footfall.sync.clock_watch import ClockWatch
from footfall.sync.log_rewrites import LogRewrites
from footfall.sync.page_folding import PageFolding
from footfall.sync.repairs import Repairs
from footfall.sync.rollup import Rollup

logger = logging.getLogger(__name__)

PROBE_EVERY_S = 0.5
CLOCKS_EVERY_S = 60.0
MEANING = ("time_zone", "measure", "visitor_id", "hosts", "exact_up_to", "page_query", "pages_max")
"""Settings of a site that change what its numbers mean."""
OPENED_FIRST = 10 * PROBES_AT_ONCE
"""The busiest sites: a worker serves once they are open. Each other one opens at its first beacon or in its turn."""
GARBAGE_AFTER = 10_000
"""New objects between two searches for garbage in circles."""
OPENING_MAX_S = 10.0
"""A worker serves after this time although a store hangs."""


@asynccontextmanager
async def open_services(
    settings: Settings,
    clock: Clock = WALL_CLOCK,
    monotonic: MonotonicClock = MONOTONIC_CLOCK,
    metrics: Metrics | None = None,
    failures: StepFailures | None = None,
) -> AsyncIterator[Services]:
    """Open the stores and build one worker's parts; at the end flush, roll up, and close in reverse order.

    `run_background` runs the background work; a test may call its steps instead. Without `metrics` the parts
    get metrics that no other process shares.
    """
    metrics = metrics or Metrics(CollectorRegistry())
    metrics.per_site = settings.has_metrics_per_site
    failures = failures or StepFailures(metrics.note_step, clock)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(
            open_redis(settings.redis_url.get_secret_value(), settings.redis_timeout_s)
        )
        postgres = await stack.enter_async_context(open_postgres(settings.postgres_url.get_secret_value()))
        of_reports = await stack.enter_async_context(open_report_connections(settings.postgres_url.get_secret_value()))
        spool = await stack.enter_async_context(
            open_spool(settings.data_dir / "spool", secrets.token_hex(8), settings.spool_max_bytes, monotonic)
        )
        await _refuse_redis(redis)

        async def read_counts(site: Site) -> Reading:
            return await recorder.read(site)

        async def read_pages(site: Site, pages: Sequence[str]) -> PageReading:
            return await recorder.read_pages(site, pages)

        periods = Periods(clock)
        counts_cache = CountsCache(settings, metrics, read_counts, clock, monotonic)
        stores = StorePair(redis, postgres)
        page_views = PageViews(stores, read_pages, monotonic)
        repairs = Repairs.between(stores, metrics, clock)
        rollup = Rollup(settings.sites.values(), stores, repairs, metrics, clock, settings.rollup_every_s)
        spool_writer = SpoolWriter(spool, repairs.events, metrics, monotonic)
        outlets = Outlets(
            redis=RedisWriter(redis, repairs.restore, Displays(counts_cache, page_views), periods, metrics, monotonic),
            spool_writer=spool_writer,
            spool=spool,
            queue=BeaconQueue(settings.queue_max_beacons, metrics),
            events=repairs.events,
            metrics=metrics,
        )
        recorder = Recorder(settings.sites.values(), outlets, repairs, periods, monotonic)
        reconciler = Reconciler(settings.keep_max_bytes, recorder, stores, spool_writer, repairs, metrics)
        admission = Admission(settings, monotonic)
        counting = Counting(
            sites=settings.sites,
            admission=admission,
            periods=periods,
            opener=repairs.opener,
            recorder=recorder,
            metrics=metrics,
            proxies=ProxyWatch(settings.forwarded_header, metrics, is_demo=settings.demo),
            refused_pages=RefusedPages(settings.sites, clock),
        )
        services = Services(
            settings=settings,
            metrics=metrics,
            periods=periods,
            resolver=AddressResolver(settings),
            admission=admission,
            spool=spool,
            stores=stores,
            history=History(of_reports),
            sites_history=SitesHistory(of_reports),
            report_tokens=ReportTokens(of_reports),
            counts_cache=counts_cache,
            page_views=page_views,
            repairs=repairs,
            rollup=rollup,
            log_rewrites=LogRewrites(settings.sites.values(), redis, metrics, clock),
            page_folding=PageFolding(settings.sites.values(), stores, metrics, clock),
            recorder=recorder,
            outage=Outage(repairs.events, clock, monotonic),
            reconciler=reconciler,
            counting=counting,
            failures=failures,
            clock_watch=ClockWatch(stores, repairs.events, clock, monotonic),
        )
        stack.push_async_callback(counts_cache.close)
        stack.push_async_callback(page_views.close)
        stack.push_async_callback(repairs.opener.close)
        stack.push_async_callback(services.leave)
        yield services


@asynccontextmanager
async def run_background(services: Services) -> AsyncIterator[None]:
    """Open the busiest sites, then repeat the background steps; at the end let each running step finish."""
    stopping, failures = asyncio.Event(), services.failures
    busiest_open = asyncio.Event()
    opening = asyncio.create_task(
        repeat_until_done("open_sites", partial(open_sites, services, busiest_open), PROBE_EVERY_S, stopping, failures)
    )
    with suppress(TimeoutError):
        await asyncio.wait_for(busiest_open.wait(), OPENING_MAX_S)
    vitals = ProcessMetrics(services.metrics)
    loops = [
        repeat("copy", services.copy, services.settings.rollup_every_s, stopping, failures),
        repeat("quick_step", services.reconciler.quick_step, PROBE_EVERY_S, stopping, failures),
        repeat("watch_redis", services.watch_redis, PROBE_EVERY_S, stopping, failures),
        repeat("measure", vitals.measure, MEASURE_EVERY_S, stopping, failures),
        repeat("export", services.export, MEASURE_EVERY_S, stopping, failures),
        repeat("report", partial(status.report, services), MEASURE_EVERY_S, stopping, failures),
        repeat("clock_watch", services.clock_watch.step, CLOCKS_EVERY_S, stopping, failures),
    ]
    tasks = [opening, *map(asyncio.create_task, loops)]
    try:
        yield
    finally:
        stopping.set()
        await services.secure()  # before the running step ends: it may be waiting for Postgres
        await asyncio.gather(*tasks)


async def open_sites(services: Services, busiest_open: asyncio.Event | None = None) -> None:
    """Open every site, the busiest first; where Redis does not answer, show the counts of Postgres.

    `busiest_open` is set once the first `OPENED_FIRST` are open, or have been tried.
    """
    sites = await _busiest_first(services)
    errors: dict[SiteId, StoreUnavailable] = {}
    for first in range(0, len(sites), PROBES_AT_ONCE):
        if first >= OPENED_FIRST and busiest_open:
            busiest_open.set()
        some = sites[first : first + PROBES_AT_ONCE]
        opened = await asyncio.gather(*(delivery.probe() for delivery in some))
        opened_sites = [delivery.site for delivery, is_open in zip(some, opened, strict=True) if is_open]
        await asyncio.gather(*(_learn_pages(services, site) for site in opened_sites))
        closed = [delivery.site for delivery, is_open in zip(some, opened, strict=True) if not is_open]
        shown = await asyncio.gather(*(_show_saved(services, site) for site in closed))
        errors |= {site.id: error for site, error in zip(closed, shown, strict=True) if error}
    if busiest_open:
        busiest_open.set()
    if errors:
        names, error = some_of(list(errors)), next(iter(errors.values()))
        logger.warning("Sites have no counts yet: both stores are away. sites=%s error=%s", names, error)


async def _busiest_first(services: Services) -> list[SiteDelivery]:
    """Return the sites by their views of today and yesterday, in Postgres; as configured where it does not answer."""
    sites = dict(services.recorder.sites)
    yesterday = datetime.fromtimestamp(services.periods.clock(), UTC).date() - DAY
    busiest: list[SiteId] = []
    if len(sites) > OPENED_FIRST:
        try:
            busiest = await services.stores.postgres.busiest(list(sites), yesterday)
        except StoreUnavailable as error:
            logger.debug("Postgres does not say which sites are busy. error=%s", error)
    return [*(sites.pop(site_id) for site_id in busiest if site_id in sites), *sites.values()]


async def _learn_pages(services: Services, site: Site) -> None:
    """Let the pages that Redis has count without a budget: they are new to this worker alone."""
    _, period = services.periods.now(site.zone)
    try:
        names = await services.stores.redis.page_names(site.id, [period.day - DAY, period.day])
    except StoreUnavailable as error:
        logger.debug("The pages of a site are not known yet. site=%s error=%s", site.id, error)
    else:
        services.admission.learn_pages(site, names)


async def _show_saved(services: Services, site: Site) -> StoreUnavailable | None:
    """Show what Postgres has of a site, or return why it has nothing."""
    try:
        reading = await read_saved_counts(services.stores.postgres, site, services.periods.clock())
        services.counts_cache.accept_saved(site, reading)
    except StoreUnavailable as error:
        return error
    return None


@dataclass(frozen=True, slots=True)
class Life:
    """When a worker serves and ends, between it and its parent."""

    ready: Callable[[], None]
    """To be called once the worker serves."""
    stopping: asyncio.Event
    """Set when the worker is to end."""
    is_last: Callable[[], bool]
    """Whether Footfall as a whole stops; else another worker follows."""
    service_started_s: float
    """When Footfall as a whole started, seconds since the epoch; the same for all workers."""


def note_start(services: Services, service_started_s: float) -> None:
    """Note, for reports, that Footfall started, and which settings say what its numbers mean."""
    events = services.repairs.events
    events.note("started", f"{__version__} {moment_of(service_started_s)}")
    for site in services.settings.sites.values():
        events.note_settings(meaning_of(site), site.id)


def meaning_of(site: Site) -> str:
    """Return the settings that say what the numbers of a site mean, as the details of events have them."""
    return " ".join(f"{name}={getattr(site, name)}" for name in MEANING)


def moment_of(at_s: float) -> str:
    """Return a moment as the details of events have it.

    >>> moment_of(1767200400.0)
    '2025-12-31T17:00:00Z'
    """
    return f"{datetime.fromtimestamp(int(at_s), UTC):%Y-%m-%dT%H:%M:%SZ}"


async def serve(
    settings: Settings,
    metrics: Metrics,
    failures: StepFailures,
    listeners: tuple[socket.socket, socket.socket],
    life: Life,
) -> None:
    """Serve both listeners, public and ops, until `life.stopping` is set.

    Then answer the requests already read, flush, roll up and close.
    """
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services(settings, metrics=metrics, failures=failures))
        await stack.enter_async_context(run_background(services))
        limiter = ConnectionLimiter(services.resolver, connections_max())
        public_app, ops_app = create_public_app(services), create_ops_app(services)
        runners = Listener(public_app, limiter=limiter), Listener(ops_app)
        for runner, listener in zip(runners, listeners, strict=True):
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.SockSite(runner, listener, backlog=BACKLOG).start()
        note_start(services, life.service_started_s)
        collect_garbage_rarely()
        metrics.workers.set(1)
        life.ready()
        await life.stopping.wait()
        if life.is_last():
            services.repairs.events.note_lasting("stopped", 0)  # all workers stop within a minute
        await asyncio.gather(*(runner.drain() for runner in runners))


def collect_garbage_rarely() -> None:
    """Have Python look for garbage in circles at every ten thousandth new object, and not among those made until now.

    By default it does so at every 700th, and walks all that a thousand sites retain once it has grown by a quarter. A
    beacon makes no circles; what is let go of otherwise is freed at once.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER)


async def _refuse_redis(redis: RedisStore) -> None:
    """Stop where only other settings, of Redis or of Footfall, would help."""
    try:
        servers = await redis.facts()
    except StoreMistaken as error:
        raise Stop(f"FOOTFALL_REDIS_URL: {error.sentence}.") from error
    except StoreUnavailable:
        return  # Redis starts later, or refuses INFO: `footfall doctor` reports it
    for facts in servers:
        if facts.maxmemory and facts.maxmemory_policy != "noeviction":
            raise Stop(
                f"Redis {facts.server and f'at {facts.server} '}may throw counts away:"
                f" maxmemory-policy is {facts.maxmemory_policy}."
                " Set `maxmemory-policy noeviction` for it, or give Footfall a Redis of its own."
            )
