"""The model beside a real run: a worker with so many sites, beacons at a fixed rate, and what all of it took."""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import psutil

from tests.bench.servers import Footfall, footfall
from tests.scale import meter, paced
from tests.scale.costs import rolled_up
from tests.scale.model import DAY_S, Costs, Load, between, calls_per_beacon, changed_sites

FACTOR = 2.0
"""A prediction that is off by more fails the run."""
EVERY_S = 10.0
EMPTY_REDIS_BYTES = 1.2e6
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


async def run(costs: Costs, sites: int, per_s: float, seconds: float, say: Callable[[str], None]) -> Run:
    """Start a worker with so many sites, send beacons, and return predictions and measurements."""
    say(f"a worker with {sites:,} sites: the start, and its first look at all of them")
    async with footfall(sites=sites, pinned=False) as service:
        await rolled_up(service)
        valkey, postgres = meter.family_of(psutil.Process())
        say(f"{per_s:g} beacons a second for {seconds:g} s at {sites:,} sites")
        before, spent_s = await meter.read(service.stores, valkey, postgres), service.cpu_s()
        beacons = await paced.send([service.port], paced.people(sites), per_s, seconds)
        await asyncio.sleep(LAST_ROLLUP_S)
        memory_bytes, spent_s = service.rss_mb() * 1e6, service.cpu_s() - spent_s
        now = await meter.read(service.stores, valkey, postgres)
        used = now - before
        say("what operators read meanwhile")
        answers = {route: await _answer(service, route) for route in ("/metrics", "/readyz", "/status")}
        worker = Worker(service.first_start_s, memory_bytes, answers)
    load = Load(views_a_day=per_s * DAY_S, sites=sites, peak=1.0, pings_per_view=0.0, workers_per_site=1)
    calls = beacons * calls_per_beacon(costs, load, per_s)
    rows = changed_sites(load, per_s) * seconds / EVERY_S
    visitors = beacons / sites
    worker_us = beacons * costs.worker_beacon_us + calls * costs.worker_call_us + rows * costs.worker_rollup_us
    idle_us = sites * costs.idle_us_per_s * (seconds + LAST_ROLLUP_S)
    redis_us = beacons * costs.redis_beacon_us + calls * costs.redis_call_us + rows * costs.redis_rollup_us
    redis_bytes = sites * between(costs.redis_site_bytes, visitors) + beacons * costs.online_bytes
    compared = [
        Compared("worker, CPU", (worker_us + idle_us) / 1e6, spent_s, "s"),
        Compared("Redis, CPU", redis_us / 1e6, used.redis_cpu_s, "s"),
        Compared("Redis, script calls", calls + rows * costs.redis_rollup_calls, used.redis_calls, ""),
        Compared("PostgreSQL, CPU", rows * costs.postgres_rollup_us / 1e6, used.postgres_cpu_s, "s"),
        Compared("PostgreSQL, rows of days", rows, used.rows, ""),
        Compared("PostgreSQL, log (WAL)", rows * between(costs.wal_bytes, visitors) / 1e6, used.wal_bytes / 1e6, "MB"),
        Compared(
            "worker, memory", (costs.worker_bytes + sites * costs.worker_site_bytes) / 1e6, memory_bytes / 1e6, "MB"
        ),
        Compared("Redis, memory", redis_bytes / 1e6, (now.redis_bytes - EMPTY_REDIS_BYTES) / 1e6, "MB"),
    ]
    return Run(sites, beacons / seconds, compared, worker)


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
