"""The model beside a real run: a worker with so many sites, beacons at a fixed rate, and what all of it took."""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from tests.bench import traffic
from tests.bench.servers import Footfall, footfall
from tests.bench.storage import opened
from tests.scale import meter, paced
from tests.scale.costs import rolled_up
from tests.scale.model import (
    DAY_S,
    Cost,
    Costs,
    Load,
    Thing,
    between,
    happens,
    page_rows_per_s,
    spent,
    viewed_pages,
    worker_bytes,
)

FACTOR = 2.0
"""A prediction that is off by more fails the run."""
LAST_ROLLUP_S = 12.0
BEAT_S = 0.005


@dataclass(frozen=True, slots=True)
class Compared:
    """What the model said of one figure, and what was measured."""

    name: str
    predicted: float
    measured: float
    unit: str

    @property
    def ratio(self) -> float:
        """Return the prediction by the measurement; 0 where nothing was measured."""
        return self.predicted / self.measured if self.measured else 0.0

    @property
    def holds(self) -> bool:
        """Return whether the prediction is within the factor."""
        return 1 / FACTOR <= self.ratio <= FACTOR


@dataclass(frozen=True, slots=True)
class Worker:
    """How a worker with many sites behaves apart from beacons."""

    ready_s: float
    """From the command to the first answer, making the stores' files included."""
    memory_bytes: float
    answers: dict[str, tuple[int, float, float]]
    """Of routes: bytes, seconds, and the longest time for which the event loop answered nothing meanwhile."""


@dataclass(frozen=True, slots=True)
class Run:
    """A real run."""

    sites: int
    per_s: float
    compared: list[Compared]
    worker: Worker
    parts: dict[str, Cost]
    """Of what the prediction is the sum."""


async def run(costs: Costs, sites: int, per_s: float, seconds: float, say: Callable[[str], None]) -> Run:
    """Start a worker with so many sites, send views of pages, and return predictions and measurements."""
    empty_redis_bytes = await _empty_redis_bytes()
    say(f"a worker with {sites:,} sites: the start, and its first look at all of them")
    async with footfall(sites=sites, pinned=False) as service, meter.reading(service.stores) as read:
        await rolled_up(service)
        say(f"{per_s:g} beacons a second for {seconds:g} s at {sites:,} sites")
        began, before, spent_s = time.monotonic(), await read(), meter.workers_cpu_s(service)
        beacons = await paced.send([service.port], paced.people(sites), per_s, seconds)
        sent_s = time.monotonic() - began
        await asyncio.sleep(LAST_ROLLUP_S)
        memory_bytes, spent_s = service.rss_mb() * 1e6, meter.workers_cpu_s(service) - spent_s
        now, took_s = await read(), time.monotonic() - began
        say("what operators read meanwhile")
        answers = {route: await _answer(service, route) for route in ("/metrics", "/readyz", "/status")}
        worker = Worker(service.first_start_s, memory_bytes, answers)
    load = Load(beacons / sent_s * DAY_S, sites, peak=1.0, pings_per_view=0.0, workers_per_site=1, pages=paced.PAGES)
    happened = happened_in(costs, load, sent_s, took_s)
    visitors, pages = beacons / sites, happened[Thing.NEW_PAGE]
    each = load.beacons_per_s(), load.beacons_per_s()  # one worker, and one primary
    predicted, used = spent(costs, happened, visitors, *each), now - before
    redis_bytes = sites * between(costs.redis_site_bytes, visitors) + beacons * costs.online_bytes
    redis_bytes += pages * (between(costs.redis_page_bytes, pages / sites) + costs.redis_page_total_bytes)
    redis_bytes += beacons * between(costs.view_id_bytes, visitors)
    compared = [
        Compared("worker, CPU", predicted.worker_us / 1e6, spent_s, "s"),
        Compared("Redis, CPU", predicted.redis_us / 1e6, used.redis_cpu_s, "s"),
        Compared("Redis, script calls", predicted.redis_calls, used.redis_calls, ""),
        Compared("PostgreSQL, CPU", predicted.postgres_us / 1e6, used.postgres_cpu_s, "s"),
        Compared("PostgreSQL, rows of days", happened[Thing.COPY], used.rows, ""),
        Compared("PostgreSQL, rows of pages", page_rows_per_s(load, load.views_per_s()) * sent_s, used.page_rows, ""),
        Compared("PostgreSQL, log (WAL)", predicted.wal_bytes / 1e6, used.wal_bytes / 1e6, "MB"),
        Compared("worker, memory", worker_bytes(costs, sites, pages) / 1e6, memory_bytes / 1e6, "MB"),
        Compared("Redis, memory", redis_bytes / 1e6, (now.redis_bytes - empty_redis_bytes) / 1e6, "MB"),
    ]
    parts = {str(thing): spent(costs, {thing: times}, visitors, *each) for thing, times in happened.items()}
    return Run(sites, beacons / sent_s, compared, worker, parts)


def happened_in(costs: Costs, load: Load, sent_s: float, took_s: float) -> dict[Thing, float]:
    """Return how often each thing happens in a run that begins with empty stores: each page is new once."""
    each_second = happens(costs, load, peak=1.0)
    return {
        **{thing: times * sent_s for thing, times in each_second.items()},
        Thing.NEW_PAGE: load.sites * viewed_pages(load.views_per_s() * sent_s / load.sites, load.pages),
        Thing.LOOK: 0.0,
        Thing.STORES: took_s,
        Thing.WORKER: took_s,
        Thing.SITE: took_s * load.sites,
    }


async def _empty_redis_bytes() -> float:
    """Return the memory of a Redis that has one site, the scripts and the connections of a worker."""
    async with opened([traffic.SITE]) as stores, meter.reading(stores.urls) as read:
        await stores.view(traffic.SITE, 1)
        await stores.services.copy()
        return (await read()).redis_bytes


async def _answer(service: Footfall, route: str) -> tuple[int, float, float]:
    """Return size and time of an answer, and the longest answer to another request, less a usual one, meanwhile."""
    beats: list[float] = []
    is_over = asyncio.Event()

    async def beat(session: aiohttp.ClientSession) -> None:
        while not is_over.is_set():
            began = time.monotonic()
            async with session.get(f"{service.ops_url}/version") as answer:
                await answer.read()
            beats.append(time.monotonic() - began)
            await asyncio.sleep(BEAT_S)

    async with aiohttp.ClientSession() as session:
        beating = asyncio.create_task(beat(session))
        await asyncio.sleep(0.5)
        usual_s = statistics.median(beats)
        beats.clear()
        began = time.monotonic()
        async with session.get(f"{service.ops_url}{route}") as answer:
            size = len(await answer.read())
        took_s = time.monotonic() - began
        is_over.set()
        await beating
    return size, took_s, max(0.0, max(beats) - usual_s)
