"""What an installation takes, as arithmetic over measured costs. Pure.

A load says how often each `Thing` happens, a machine what it costs (`Cost`); what a load takes is the sum of their
products. The day is given by its views; everything is worked out for its busiest moment, `peak` times the average. All
sites are taken to be equally busy, which is the dearest case: batches are smallest then, and most rows change.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from math import ceil, exp, inf

from footfall.settings.settings import SITES_WITH_METRICS_MAX
from footfall.stores.history import REPORT_CONNECTIONS
from footfall.stores.postgres_connection import CONNECTIONS

DAY_S = 86_400
SITES_IN_ONE_TRANSACTION = 200
ONLINE_S = 300
VISIT_S = 180
"""How long a visitor stays, on top of the window in which a visitor counts as online."""
REDIS_DAYS = 10
"""A day stays in Redis until two days after its week is over, at the longest."""
VIEW_IDS_S = 240
"""For how long Redis knows the id of a view, at the longest."""
LOG_OF_PAGE_BYTES = 20
"""What each further log adds to a page in Redis: its id and its views."""
BUSY = 0.5
"""Part of a core that may be in use at the busiest moment: answers are late long before a core is full."""
CONNECTIONS_OF_WORKER = CONNECTIONS + REPORT_CONNECTIONS
"""To PostgreSQL: those of copies, and those of reports while one is read."""


class Thing(StrEnum):
    """What takes processors."""

    BEACON = "a beacon, within a call to Redis"
    CALL = "a call to Redis with beacons"
    WAKE = "more, for a beacon with a pause before it"
    NEW_PAGE = "more, for the first view of a page"
    COPY = "a changed site and one page, copied"
    COPY_PAGE = "more, for each further page of it"
    LOOK = "the hourly look at all days of a site"
    STORES = "both stores, each second"
    WORKER = "a worker, each second"
    SITE = "a site in a worker, each second"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one thing takes: microseconds of a core in each program, calls, bytes."""

    worker_us: float = 0.0
    redis_us: float = 0.0
    redis_calls: float = 0.0
    postgres_us: float = 0.0
    wal_bytes: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __sub__(self, other: "Cost") -> "Cost":
        """Subtract, to no less than nothing: two measurements are never quite of the same moment.

        >>> Cost(worker_us=3, redis_us=1) - Cost(worker_us=1, redis_us=2)
        Cost(worker_us=2, redis_us=0.0, redis_calls=0.0, postgres_us=0.0, wal_bytes=0.0)
        """
        return Cost(*(max(0.0, getattr(self, field.name) - getattr(other, field.name)) for field in fields(self)))

    def __mul__(self, times: float) -> "Cost":
        return Cost(*(getattr(self, field.name) * times for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Costs:
    """What one machine needs for each thing, and for keeping it."""

    of: Mapping[Thing, Cost]
    """Of all but the copies of sites, and pauses."""
    wakes: Mapping[float, Cost]
    """How much more a beacon costs where a worker, or Redis, gets so many a second: it was idle before most of them."""
    copies: Mapping[int, Cost]
    """Of a changed site and one of its pages, copied to PostgreSQL, by the visitors of its day."""
    flight_s: float
    """How long a call to Redis is on its way: beacons that come meanwhile share the next one."""
    worker_bytes: float
    """A worker's memory, without sites."""
    worker_site_bytes: float
    """A worker's memory for a site that has visitors, without series of its own in /metrics."""
    worker_site_series_bytes: float
    """A worker's memory for the series of a site."""
    worker_page_bytes: float
    """A worker's memory for a page: it knows those of all sites."""
    redis_site_bytes: Mapping[int, float]
    """Redis' memory for a site with one day, who is online left out, by the visitors of that day."""
    redis_day_bytes: Mapping[int, float]
    """Redis' memory for each further day."""
    redis_page_bytes: Mapping[int, float]
    """Redis' memory for a page of a day, by the pages of that day."""
    redis_page_total_bytes: float
    """Redis' memory for what PostgreSQL has of a page."""
    online_bytes: float
    """Redis' memory for a visitor who is online."""
    view_id_bytes: Mapping[int, float]
    """Redis' memory for the id of a view, for minutes, by how many ids of its site there are."""
    postgres_day_bytes: Mapping[int, float]
    postgres_page_bytes: float
    """A page of a day in PostgreSQL."""
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
    pages: int = 300
    """Of each site. The second most viewed has half the views of the first one, the third one a third, and so on."""

    def views_per_s(self, peak: float | None = None) -> float:
        """Return the views a second at the busiest moment, or at `peak` times the average."""
        return self.views_a_day / DAY_S * (self.peak if peak is None else peak)

    def beacons_per_s(self, peak: float | None = None) -> float:
        """Return the views and pings a second at the busiest moment, or at `peak` times the average."""
        return self.views_per_s(peak) * (1 + self.pings_per_view)

    @property
    def visitors_per_site(self) -> float:
        """Return the visitors of a site in a day."""
        return self.views_a_day / self.views_per_visitor / self.sites

    @property
    def pages_per_site(self) -> float:
        """Return how many pages of a site have a view in a day."""
        return viewed_pages(self.views_a_day / self.sites, self.pages)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a load takes at its busiest moment, and in a day."""

    beacons_per_s: float
    calls_per_beacon: float
    worker_cores: float
    """Cores that are fully in use; `workers` leaves them room."""
    workers: int
    """How many are needed, however many are started."""
    worker_bytes: float
    redis_cores: float
    redis_servers: int
    redis_bytes: float
    rows_per_s: float
    page_rows_per_s: float
    transactions_per_s: float
    postgres_cores: float
    wal_per_s: float
    wal_per_day: float
    postgres_day_bytes: float
    postgres_connections: int
    network_bits_per_s: float


def needs(costs: Costs, load: Load, started: int | None = None) -> Needs:
    """Return what a load takes, where so many workers are started; None: as many as it takes."""
    peak, visitors, pages = happens(costs, load, load.peak), load.visitors_per_site, load.pages_per_site
    workers, _, _ = sizes(costs, load, peak)
    _, primaries, in_use = sizes(costs, load, peak, started or workers)
    online = load.views_per_s() / load.views_per_visitor * (ONLINE_S + VISIT_S)
    ids = load.views_per_s() * VIEW_IDS_S
    of_id = between(costs.view_id_bytes, ids / load.sites)
    page_bytes = between(costs.redis_page_bytes, pages) + (load.workers_per_site - 1) * LOG_OF_PAGE_BYTES
    of_pages = pages * (REDIS_DAYS * page_bytes + costs.redis_page_total_bytes)
    further_days = (REDIS_DAYS - 1) * between(costs.redis_day_bytes, visitors)
    redis_site_bytes = between(costs.redis_site_bytes, visitors) + further_days + of_pages
    rows = peak[Thing.COPY]
    return Needs(
        beacons_per_s=peak[Thing.BEACON],
        calls_per_beacon=peak[Thing.CALL] / peak[Thing.BEACON],
        worker_cores=in_use.worker_us / 1e6,
        workers=workers,
        worker_bytes=worker_bytes(costs, load.sites, load.sites * pages),
        redis_cores=in_use.redis_us / 1e6,
        redis_servers=primaries,
        redis_bytes=load.sites * redis_site_bytes + online * costs.online_bytes + ids * of_id,
        rows_per_s=rows,
        page_rows_per_s=page_rows_per_s(load, load.views_per_s()),
        transactions_per_s=rows / min(SITES_IN_ONE_TRANSACTION, max(1.0, rows * load.rollup_every_s)),
        postgres_cores=in_use.postgres_us / 1e6,
        wal_per_s=in_use.wal_bytes,
        wal_per_day=DAY_S * spent(costs, happens(costs, load, 1.0), visitors).wal_bytes,
        postgres_day_bytes=load.sites
        * (between(costs.postgres_day_bytes, visitors) + pages * costs.postgres_page_bytes),
        postgres_connections=(started or workers) * CONNECTIONS_OF_WORKER,
        network_bits_per_s=peak[Thing.BEACON] * costs.http_bytes * 8,
    )


def sizes(
    costs: Costs, load: Load, happened: Mapping[Thing, float], started: int | None = None
) -> tuple[int, int, Cost]:
    """Return how many workers and primaries are needed, and what all of them take in a second.

    With more of them each gets fewer beacons a second, and is idle before more of them, which cost more then.
    """
    idle = costs.of[Thing.WORKER] + costs.of[Thing.SITE] * load.sites
    beacons, workers, primaries = happened[Thing.BEACON], 1, 1
    while True:
        each = beacons / (started or workers), beacons / primaries
        of_all = spent(costs, happened, load.visitors_per_site, *each)
        in_use = of_all + idle * (started or workers)
        more = workers_for(of_all.worker_us / 1e6, idle.worker_us / 1e6), ceil(in_use.redis_us / 1e6 / BUSY)
        if more[0] <= workers and more[1] <= primaries:
            return workers, primaries, in_use
        workers, primaries = max(workers, more[0]), max(primaries, more[1])


def happens(costs: Costs, load: Load, peak: float) -> dict[Thing, float]:
    """Return how often each thing happens in a second, at `peak` times the average, beside what each worker does."""
    beacons, views = load.beacons_per_s(peak), load.views_per_s(peak)
    copies, page_rows = changed_sites(load, beacons) / load.rollup_every_s, page_rows_per_s(load, views)
    return {
        Thing.BEACON: beacons,
        Thing.CALL: beacons * calls_per_beacon(costs, load, beacons),
        Thing.WAKE: beacons,
        Thing.NEW_PAGE: load.sites * load.pages_per_site / DAY_S * peak,
        Thing.COPY: copies,
        Thing.COPY_PAGE: max(0.0, page_rows - copies),
        Thing.LOOK: load.sites / 3600,
        Thing.STORES: 1.0,
    }


def spent(
    costs: Costs,
    happened: Mapping[Thing, float],
    visitors: float,
    worker_per_s: float = inf,
    redis_per_s: float = inf,
) -> Cost:
    """Return what things have cost, at sites whose day has so many visitors.

    `worker_per_s` and `redis_per_s` are the beacons that each worker and each primary gets in a second.
    """
    wake = Cost(
        worker_us=of_size(costs.wakes, worker_per_s).worker_us, redis_us=of_size(costs.wakes, redis_per_s).redis_us
    )
    costs_of = {**costs.of, Thing.COPY: of_size(costs.copies, visitors), Thing.WAKE: wake}
    return sum((costs_of[thing] * times for thing, times in happened.items()), Cost())


def of_size(known: Mapping[int, Cost] | Mapping[float, Cost], at: float) -> Cost:
    """Return the cost at `at`, on the line through its neighbours."""
    names = [field.name for field in fields(Cost)]
    return Cost(*(between({size: getattr(cost, name) for size, cost in known.items()}, at) for name in names))


def worker_bytes(costs: Costs, sites: int, pages: float) -> float:
    """Return a worker's memory; with the usual settings, many sites have no series of their own in /metrics."""
    series = costs.worker_site_series_bytes if sites <= SITES_WITH_METRICS_MAX else 0.0
    return costs.worker_bytes + sites * (costs.worker_site_bytes + series) + pages * costs.worker_page_bytes


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


def page_rows_per_s(load: Load, views_per_s: float) -> float:
    """Return how many rows of pages are written in a second: one for each that was viewed between two rollups."""
    each_interval = views_per_s * load.rollup_every_s / load.sites
    return load.sites * viewed_pages(each_interval, load.pages) / load.rollup_every_s


@cache
def viewed_pages(views: float, pages: int) -> float:
    """Return how many of a site's pages have at least one of so many views, where views come by chance.

    The views of pages follow Zipf's law, as those of most sites roughly do.

    >>> round(viewed_pages(1, 300), 2), round(viewed_pages(100, 300)), round(viewed_pages(100_000, 300))
    (0.98, 53, 300)
    """
    first = views / sum(1 / place for place in range(1, pages + 1))
    return sum(1 - exp(-first / place) for place in range(1, pages + 1))


def workers_for(cores: float, idle: float) -> int:
    """Return how many workers share some cores' work, each with its own `idle` part of a core beside.

    >>> workers_for(1.2, 0.0), workers_for(1.2, 0.2), workers_for(0.01, 0.0)
    (3, 4, 1)
    """
    return max(1, ceil(cores / max(0.05, BUSY - idle)))


def between(known: Mapping[int, float] | Mapping[float, float], at: float) -> float:
    """Return the value at `at` on the line through its neighbours; beyond the ends, that of the end.

    >>> between({10: 1.0, 20: 3.0}, 15), between({10: 1.0, 20: 3.0}, 5), between({10: 1.0, 20: 3.0}, 99)
    (2.0, 1.0, 3.0)
    """
    points = sorted(known.items())
    place = bisect_left(points, (at,))
    if place == 0 or place == len(points):
        return points[max(0, place - 1)][1]
    (low, at_low), (high, at_high) = points[place - 1], points[place]
    return at_low + (at_high - at_low) * (at - low) / (high - low)
