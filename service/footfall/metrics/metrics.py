"""Every metric, declared once. Labels come from closed sets (sites, routes, reasons), never from a request."""

import asyncio
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest

from footfall import __version__
from footfall._compat import MetricValue, QuickHistogram, value_of
from footfall.metrics.reports import Reports
from footfall.model.counts import NEVER_FALLING

REQUEST_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
ALL_SITES = "(all)"
"""The site of what is not counted by site."""
ROLLUP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

ShowNumber = Callable[[str, str, float], None]


class Named(NamedTuple):
    """A metric whose values are also written without an object for each."""

    name: str
    text: str
    labels: tuple[str, ...]


VISITORS = Named(
    "footfall_visitors",
    "Numbers last shown for a site, by their names in the answers",  # short: each number's key repeats it
    ("site", "period"),
)


class Metrics:
    """The metrics of one process; the shapes also work in prometheus_client's multiprocess mode."""

    def __init__(self, registry: CollectorRegistry) -> None:  # noqa: PLR0915 - one for each metric
        self.registry, self.reports = registry, Reports()
        self.per_site = True
        """Whether each site has series of its own; with ten thousand sites they are megabytes at every scrape."""
        self.write: Callable[[], None] = lambda: None
        """Makes what this process has counted readable."""
        self.readable = registry
        """What another thread may read then."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str, merge: str = "livesum") -> Gauge:
            return Gauge(name, text, labels, registry=registry, multiprocess_mode=merge)  # type: ignore[arg-type]

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return QuickHistogram(name, text, labels, registry=registry, buckets=buckets)

        self.beacons = counter(
            "footfall_beacons_total",
            "Beacons by what became of them: counted (200), spooled (202), ignored (200, not counted) or refused",
            "site",
            "outcome",
            "reason",
        )
        self.request_seconds = histogram(
            "footfall_request_seconds",
            "Time from a request's head to its answer, in seconds, by route and HTTP status",
            REQUEST_SECONDS,
            "route",
            "status",
        )
        self.flushes = counter(
            "footfall_flushes_total",
            "Batches sent to Redis by its answer; gap, old, seen and notready were refused there, error had no answer",
            "answer",
        )
        self.batch_beacons = histogram("footfall_batch_beacons", "Beacons that shared one script call", BATCH_SIZES)
        self.queue_beacons = gauge("footfall_queue_beacons", "Beacons waiting for their commit now")
        self.retries = counter("footfall_retries_total", "Batches sent again because no answer had come")
        self.repeated_views = counter(
            "footfall_repeated_views_total",
            "Views that a page sent again although they were counted; each counts once",
        )
        self.resent = counter(
            "footfall_resent_batches_total",
            "Batches sent again because Redis had lost them (rewind, failover, wipe)",
        )
        self.spooled = counter("footfall_spooled_beacons_total", "Beacons written to this host's disk (202)")
        self.drained = counter("footfall_drained_batches_total", "Spooled batches that reached Redis")
        self.spool_bytes = gauge(
            "footfall_spool_bytes",
            "What the spool folder takes of the disk: files of all workers, journals, files that are kept damaged",
            merge="livemax",
        )
        self.spool_used_ratio = gauge(
            "footfall_spool_used_ratio",
            "How much of FOOTFALL_SPOOL_MAX_BYTES the fullest worker's spool holds, 0 to 1; at 1 it refuses beacons",
            merge="livemax",
        )
        self.retained_bytes = gauge("footfall_kept_bytes", "Memory in use by batches that Postgres does not have yet")
        self.forgotten = counter(
            "footfall_forgotten_batches_total",
            "Batches dropped from memory for room before Postgres had them; Redis has them",
        )
        self.internal_faults = counter(
            "footfall_internal_faults_total",
            "Faults in Footfall itself while a batch was sent: it waits, its beacons are on the disk; should stay 0",
        )
        self.lost = counter(
            "footfall_lost_batches_total",
            "Batches whose visitors nobody has any more (their views are counted); should stay 0",
        )
        self.merged = counter(
            "footfall_joined_days_total",
            "Day states joined, by direction: to_postgres or to_redis",
            "direction",
        )
        self.damaged = counter(
            "footfall_damaged_sketches_total",
            "Damage that was found: sketches in Postgres not used; sketches, keys and values in Redis dropped",
        )
        self.damaged_batches = counter(
            "footfall_damaged_batches_total", "Batches in the spool that were damaged and are dropped"
        )
        self.damaged_spool_files = counter(
            "footfall_damaged_spool_files_total",
            "Spool files that were damaged or incomplete: what could be read of them counts, the files are kept",
        )
        self.lost_page_views = counter(
            "footfall_lost_page_views_total",
            "Views of single pages that damage of the spool cost, at most; the views of the sites do not count here",
        )
        self.corrected = counter(
            "footfall_corrected_counts_total",
            "Readings lower than what was already shown for the same period; the higher number was kept",
            "number",
        )
        for number in NEVER_FALLING:  # from 0, or the first increase would be none to Prometheus
            self.corrected.labels(number)
        self.rollup_seconds = histogram(
            "footfall_rollup_seconds", "Duration of one rollup, of up to 200 sites together, in seconds", ROLLUP_SECONDS
        )
        self.rollup_errors = counter("footfall_rollup_errors_total", "Rollups of a site that failed")
        self.sites_not_copied = gauge(
            "footfall_sites_not_copied",
            "Sites that PostgreSQL or Redis refused at their last rollup; /readyz says which and why",
            merge="livemax",
        )
        self.sites_not_folded = gauge(
            "footfall_sites_not_folded",
            "Sites whose old days of pages cannot be folded into months; /readyz says which and why",
            merge="livemax",
        )
        self.rollup_success = gauge(
            "footfall_rollup_last_success_timestamp_seconds",
            "When every site that had changed was last confirmed in Postgres, seconds since 1970",
            merge="mostrecent",
        )
        self.log_rewritten = gauge(
            "footfall_redis_log_rewritten_timestamp_seconds",
            "Since when the append-only file of Redis holds what was deleted, seconds since 1970; 0: since ever",
            merge="mostrecent",
        )
        self.visitors = gauge(VISITORS.name, VISITORS.text, *VISITORS.labels, merge="mostrecent")
        self.show: ShowNumber = lambda site, period, number: self.visitors.labels(site, period).set(number)
        """Sets a number of a site: its id, the number's name and the number."""
        self.store_up = gauge(
            "footfall_store_up",
            "1 while the store (redis, postgres, spool) answered last time",
            "store",
            merge="livemin",
        )
        self.not_ready = gauge(
            "footfall_sites_not_ready", "Sites whose beacons cannot go to Redis now", merge="livemax"
        )
        self.clock_skew = gauge(
            "footfall_clock_skew_seconds", "Redis' clock minus this host's, in seconds", merge="mostrecent"
        )
        self.early_days = gauge(
            "footfall_early_days",
            "Days in Redis that have not come, over all sites: a clock was ahead, or is",
            merge="livemax",
        )
        self.events = counter(
            "footfall_events_total",
            "What a report must mention, by kind, as each worker noticed it; footfall events lists it",
            "kind",
        )
        self.salts_lost = counter(
            "footfall_salts_lost_total",
            "Weeks whose visitor hash got a second key: their visitors count twice",
        )
        self.from_proxy = counter(
            "footfall_unresolved_clients_total",
            "Beacons whose address is that of a trusted proxy itself: check that it forwards the client's",
        )
        self.unread_answers = counter(
            "footfall_unread_answers_total",
            "Connections that were ended because their client took nothing of an answer for ten seconds",
        )
        self.network_share = gauge(
            "footfall_busiest_network_share",
            "Share of recent beacons from the busiest network; near 1 it is a proxy that is not trusted yet",
            merge="livemax",
        )
        self.failing_steps = gauge(
            "footfall_failing_steps",
            "1 while a step of a worker's background work fails: nothing of that step's kind may happen meanwhile",
            "step",
            merge="livemax",
        )
        self.loop_lag = gauge(
            "footfall_loop_lag_seconds",
            "How late the event loop was at worst in the last five seconds; above 1 /healthz is not well",
            merge="livemax",
        )
        self.workers = gauge("footfall_workers", "Worker processes that serve")
        self.workers_configured = gauge(
            "footfall_workers_configured", "Worker processes that should serve, by FOOTFALL_WORKERS", merge="livemax"
        )
        self.process_cpu = counter("process_cpu_seconds_total", "Time on the CPU, in seconds, all workers together")
        self.process_memory = gauge("process_resident_memory_bytes", "Memory in use, all workers together")
        self.process_fds = gauge("process_open_fds", "Open files and connections, all workers together")
        self.process_max_fds = gauge(
            "process_max_fds", "Files and connections that one worker may have open", merge="livemin"
        )
        self.process_start = gauge(
            "process_start_time_seconds", "Start of the oldest worker, seconds since 1970", merge="livemin"
        )
        self.newest_start = gauge(
            "footfall_newest_worker_start_timestamp_seconds",
            "Start of the newest worker, seconds since 1970: it changes whenever a worker is replaced",
            merge="livemax",
        )
        self.build = gauge("footfall_build_info", "1, with the version as label", "version", merge="max")
        self.build.labels(__version__).set(1)

        # Looking up a labelled child costs a microsecond, many times the cost of counting.
        self.beacon: Callable[[str, str, str], MetricValue] = cache(
            lambda site, outcome, reason: value_of(
                self.beacons.labels(site if self.per_site or not site else ALL_SITES, outcome, reason)
            )
        )
        self.request: Callable[[str, int], Histogram] = cache(
            lambda route, status: self.request_seconds.labels(route, str(status))
        )
        self.flush: Callable[[str], MetricValue] = cache(lambda answer: value_of(self.flushes.labels(answer)))

    async def render(self) -> bytes:
        """Return all metrics in Prometheus' text format.

        It is made in a thread: with ten thousand sites it takes seconds, in which the event loop goes on.
        """
        self.write()
        return await asyncio.to_thread(generate_latest, self.readable)

    async def collect(self) -> list[Metric]:
        """Return all metrics, collected in a thread too."""
        self.write()
        return await asyncio.to_thread(lambda: list(self.readable.collect()))

    def note_step(self, step: str, is_failing: bool) -> None:
        """Set whether a step of the background work fails."""
        self.failing_steps.labels(step).set(is_failing)
