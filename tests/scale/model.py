"""What an installation takes, as arithmetic over measured costs. Pure.

The day is given by its views; everything is worked out for its busiest moment, `peak` times the average. All sites are
taken to be equally busy, which is the dearest case: batches are smallest then, and most rows change.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, exp

from footfall.stores.history import REPORT_CONNECTIONS
from footfall.stores.postgres_connection import CONNECTIONS

DAY_S = 86_400
SITES_IN_ONE_TRANSACTION = 200
ONLINE_S = 300
VISIT_S = 180
"""How long a visitor stays, on top of the window in which a visitor counts as online."""
REDIS_DAYS = 10
"""A day stays in Redis until two days after its week is over, at the longest."""
BUSY = 0.5
"""Part of a core that may be in use at the busiest moment: answers are late long before a core is full."""
CONNECTIONS_OF_WORKER = CONNECTIONS + REPORT_CONNECTIONS
"""To PostgreSQL: those of copies, and those of reports while one is read."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one machine needs for each thing; CPU in microseconds of one of its cores."""

    worker_beacon_us: float
    """A worker's CPU for a beacon, apart from its share of a call to Redis."""
    worker_call_us: float
    redis_beacon_us: float
    """Redis' CPU for a beacon within a call."""
    redis_call_us: float
    flight_s: float
    """How long a call to Redis is on its way: beacons that come meanwhile share the next one."""
    worker_rollup_us: float
    """For one changed site, copied to PostgreSQL."""
    redis_rollup_us: float
    redis_rollup_calls: float
    postgres_rollup_us: float
    wal_bytes: Mapping[int, float]
    """Of one rollup of one site, by the visitors of its day."""
    look_us: float
    """A worker's CPU for the hourly look at all days of a site."""
    idle_us_per_s: float
    """A worker's CPU each second for a site where nothing happens."""
    worker_bytes: float
    """A worker's memory, without sites."""
    worker_site_bytes: float
    """A worker's memory for a site that has visitors."""
    redis_site_bytes: Mapping[int, float]
    """Redis' memory for a site with one day, who is online left out, by the visitors of that day."""
    redis_day_bytes: Mapping[int, float]
    """Redis' memory for each further day."""
    online_bytes: float
    postgres_day_bytes: Mapping[int, float]
    http_bytes: float
    """A beacon and its answer, head and body."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for; the defaults are those of `make scale`."""

    views_a_day: float
    sites: int
    peak: float = 3.0
    """The busiest moment by the average of the day."""
    pings_per_view: float = 0.5
    views_per_visitor: float = 4.0
    rollup_every_s: float = 10.0
    workers_per_site: int = 4
    """How many workers the beacons of one site reach: those of one host, where the balancer keeps a site on a host."""

    def beacons_per_s(self, peak: float | None = None) -> float:
        """Return views and pings a second at the busiest moment, or at `peak` times the average."""
        return self.views_a_day * (1 + self.pings_per_view) / DAY_S * (self.peak if peak is None else peak)

    @property
    def visitors_per_site(self) -> float:
        """Return the visitors of a site in a day."""
        return self.views_a_day / self.views_per_visitor / self.sites


@dataclass(frozen=True, slots=True)
class Needs:
    """What a load takes at its busiest moment, and in a day."""

    beacons_per_s: float
    calls_per_beacon: float
    worker_cores: float
    """Cores that are fully in use; `workers` leaves them room."""
    workers: int
    worker_bytes: float
    redis_cores: float
    redis_servers: int
    redis_bytes: float
    rows_per_s: float
    transactions_per_s: float
    postgres_cores: float
    wal_per_s: float
    wal_per_day: float
    postgres_day_bytes: float
    postgres_connections: int
    network_bits_per_s: float
    look_cores: float
    """What the hourly look at all days of all sites takes, of all workers together."""


def needs(costs: Costs, load: Load) -> Needs:
    """Return what a load takes."""
    beacons = load.beacons_per_s()
    calls = calls_per_beacon(costs, load, beacons)
    rows = changed_sites(load, beacons) / load.rollup_every_s
    visitors = load.visitors_per_site
    looks = load.sites * costs.look_us / 1e6 / 3600
    worker_cores = (
        beacons * (costs.worker_beacon_us + calls * costs.worker_call_us) / 1e6 + rows * costs.worker_rollup_us / 1e6
    )
    redis_cores = (
        beacons * (costs.redis_beacon_us + calls * costs.redis_call_us) / 1e6 + rows * costs.redis_rollup_us / 1e6
    )
    workers = workers_for(worker_cores + looks, load.sites * costs.idle_us_per_s / 1e6)
    online = load.views_a_day / load.views_per_visitor / DAY_S * load.peak * (ONLINE_S + VISIT_S)
    wal = between(costs.wal_bytes, visitors)
    rows_of_average = changed_sites(load, load.beacons_per_s(1.0)) / load.rollup_every_s
    further_days = (REDIS_DAYS - 1) * between(costs.redis_day_bytes, visitors)
    redis_bytes = between(costs.redis_site_bytes, visitors) + further_days
    return Needs(
        beacons_per_s=beacons,
        calls_per_beacon=calls,
        worker_cores=worker_cores,
        workers=workers,
        worker_bytes=costs.worker_bytes + load.sites * costs.worker_site_bytes,
        redis_cores=redis_cores,
        redis_servers=max(1, ceil(redis_cores / BUSY)),
        redis_bytes=load.sites * redis_bytes + online * costs.online_bytes,
        rows_per_s=rows,
        transactions_per_s=rows / min(SITES_IN_ONE_TRANSACTION, max(1.0, rows * load.rollup_every_s)),
        postgres_cores=rows * costs.postgres_rollup_us / 1e6,
        wal_per_s=rows * wal,
        wal_per_day=rows_of_average * DAY_S * wal,
        postgres_day_bytes=load.sites * between(costs.postgres_day_bytes, visitors),
        postgres_connections=workers * CONNECTIONS_OF_WORKER,
        network_bits_per_s=beacons * costs.http_bytes * 8,
        look_cores=looks,
    )


def calls_per_beacon(costs: Costs, load: Load, beacons_per_s: float) -> float:
    """Return calls to Redis by beacons: while a call of a site is on its way, the site's beacons gather in a worker.

    >>> round(1 / (1 + 100 * 0.005), 2)  # a hundred a second at one worker, five milliseconds a call
    0.67
    """
    each = beacons_per_s / load.sites / load.workers_per_site
    return 1 / (1 + each * costs.flight_s)


def changed_sites(load: Load, beacons_per_s: float) -> float:
    """Return how many sites have had a beacon between two rollups, where beacons come by chance.

    >>> round(changed_sites(Load(1, 1000), 100.0))
    632
    """
    return load.sites * (1 - exp(-beacons_per_s * load.rollup_every_s / load.sites))


def workers_for(cores: float, idle: float) -> int:
    """Return how many workers share some cores' work, each with its own `idle` part of a core beside.

    >>> workers_for(1.2, 0.0), workers_for(1.2, 0.2), workers_for(0.01, 0.0)
    (3, 4, 1)
    """
    return max(1, ceil(cores / max(0.05, BUSY - idle)))


def between(known: Mapping[int, float], at: float) -> float:
    """Return the value at `at` on the line through its neighbours; beyond the ends, that of the end.

    >>> between({10: 1.0, 20: 3.0}, 15), between({10: 1.0, 20: 3.0}, 5), between({10: 1.0, 20: 3.0}, 99)
    (2.0, 1.0, 3.0)
    """
    points = sorted(known)
    place = bisect_left(points, at)
    if place == 0 or place == len(points):
        return known[points[max(0, place - 1)]]
    low, high = points[place - 1], points[place]
    return known[low] + (known[high] - known[low]) * (at - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Bound:
    """What one part can give, and what to do when it is used up."""

    name: str
    used: float
    """Part of it that the load takes: above 1 it does not fit."""
    what: str
    advice: str
    is_more_of_same: bool = False
    """Whether more servers are the whole answer."""


def bounds(need: Needs, load: Load, workers: int | None = None) -> list[Bound]:
    """Return each part with what of it is used, the one that breaks first at the head.

    `workers` is how many there are; None: as many as it takes.
    """
    return sorted(_bounds(need, load, workers), key=lambda bound: -bound.used)


CLUSTER_SERVERS, POSTGRES_CORES, WAL_PER_S, CONNECTIONS_MAX = 1000, 16, 200e6, 90
REDIS_BYTES, WORKER_BYTES, SITE_CORES = 25e9, 1e9, BUSY


def _bounds(need: Needs, load: Load, workers: int | None) -> Iterator[Bound]:
    if workers is not None:
        yield Bound(
            "workers",
            need.workers / workers,
            f"{need.workers:,} needed, {workers:,} there",
            "Start more workers.",
            True,
        )
    yield Bound(
        "one Redis server",
        need.redis_cores / BUSY,
        f"{need.redis_cores:.2f} cores; it uses one, half of it at the busiest moment",
        "Use a Redis Cluster: it spreads the sites over its primaries.",
        is_more_of_same=True,
    )
    yield Bound(
        "a Redis Cluster",
        need.redis_servers / CLUSTER_SERVERS,
        f"{need.redis_servers:,} primaries; beyond {CLUSTER_SERVERS:,} a cluster is not advised",
        "Divide the sites among installations, each with its own cluster.",
    )
    yield Bound(
        "the memory of a Redis server",
        need.redis_bytes / need.redis_servers / REDIS_BYTES,
        f"{need.redis_bytes / need.redis_servers / 1e9:.2f} GB each; {REDIS_BYTES / 1e9:.0f} GB are taken for full",
        "More primaries, or exact_up_to = 0 for sites that need no exact numbers.",
    )
    site_cores = need.redis_cores / load.sites
    yield Bound(
        "one site on its Redis server",
        site_cores / SITE_CORES,
        f"{site_cores:.4f} cores; a site is on one server",
        "A site cannot be divided: keep it on one host at the balancer, so that its batches grow.",
    )
    yield Bound(
        "PostgreSQL's processors",
        need.postgres_cores / (POSTGRES_CORES * BUSY),
        f"{need.postgres_cores:.2f} cores; {POSTGRES_CORES} are taken for a large server, half in use",
        "Raise FOOTFALL_ROLLUP_EVERY_S, up to 300: a busy site is then one row in five minutes.",
    )
    yield Bound(
        "PostgreSQL's log (WAL)",
        need.wal_per_s / WAL_PER_S,
        f"{need.wal_per_s / 1e6:,.1f} MB/s; {WAL_PER_S / 1e6:.0f} MB/s are taken for full",
        "Raise FOOTFALL_ROLLUP_EVERY_S, up to 300.",
    )
    yield Bound(
        "PostgreSQL's connections",
        need.postgres_connections / CONNECTIONS_MAX,
        f"{need.postgres_connections:,}, {CONNECTIONS_OF_WORKER} for each worker; max_connections is 100 by default",
        "Put pgbouncer between, in transaction mode, or raise max_connections.",
    )
    yield Bound(
        "the memory of a worker",
        need.worker_bytes / WORKER_BYTES,
        f"{need.worker_bytes / 1e6:,.0f} MB each; every worker knows all sites; {WORKER_BYTES / 1e9:.0f} GB is full",
        "Give groups of sites hosts of their own, each with a footfall.toml of these sites alone.",
    )
