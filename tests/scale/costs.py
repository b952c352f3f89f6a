"""Measures on this machine what the model needs to know, in half a minute: CPU time, calls and bytes, no wall clock."""

import asyncio
import gc
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import psutil

from footfall.errors import Stop
from tests.bench.servers import Footfall, footfall
from tests.bench.storage import Stores, opened
from tests.scale import meter, paced
from tests.scale.model import Costs
from tests.support.raw_http import connected, read_answer, send_all

NO_ROLLUP = {"FOOTFALL_ROLLUP_EVERY_S": "300"}
LOOK_EVERY_S = 2.0
"""Each look takes the worker some time: its metrics have the series of all sites."""
ROLLED_UP, ROLLED_UP_MAX_S = "footfall_rollup_last_success_timestamp_seconds", 300


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured; the suite's smoke measures less."""

    together: int = 4000
    """Beacons that come on many connections."""
    alone: int = 500
    """Beacons that come one after the other."""
    sites: int = 150
    """For a worker's memory."""
    groups: Mapping[int, int] = field(default_factory=lambda: {20: 200, 1_000: 20, 4_000: 4, 5_000: 4})
    """Sites that are rolled up, by the visitors of their day: at most 4,096 keep their ids."""
    rounds: int = 3
    settle_s: float = 1.5
    """Pause before a worker is taken for idle."""


async def measure(effort: Effort, say: Callable[[str], None]) -> Costs:
    """Return the costs of this machine."""
    say("a beacon that shares its call to Redis, and one that does not")
    async with footfall(pinned=False, variables=NO_ROLLUP) as service:
        await asyncio.sleep(effort.settle_s)
        small_bytes = service.rss_mb() * 1e6
        found: dict[str, Any] = await _beacons(service, effort)
    say(f"a worker with {effort.sites} sites")
    async with footfall(sites=effort.sites, pinned=False) as service:
        idle_us = await _idle_us_per_s(service, effort.settle_s)
        await send_all(service.port, _some(effort.sites, 3 * effort.sites))
        site_bytes = max(0.0, service.rss_mb() * 1e6 - small_bytes) / effort.sites
    say("rollups, and bytes in both stores")
    names = {visitors: [f"v{visitors}-{turn}" for turn in range(sites)] for visitors, sites in effort.groups.items()}
    async with opened([name for group in names.values() for name in group]) as stores:
        found |= await _rollups(stores, names, effort)
    return Costs(worker_bytes=small_bytes, worker_site_bytes=site_bytes, idle_us_per_s=idle_us / effort.sites, **found)


async def _idle_us_per_s(service: Footfall, settle_s: float) -> float:
    """Return the CPU of a worker to which nothing comes, in its quietest second: at first it looks at all days."""
    await rolled_up(service)
    seconds: list[float] = []
    for _ in range(6):
        spent_s = service.cpu_s()
        await asyncio.sleep(settle_s)
        seconds.append((service.cpu_s() - spent_s) * 1e6 / settle_s)
    return min(seconds)


async def rolled_up(service: Footfall) -> None:
    """Wait for the end of the first rollup, which looks at all days of all sites."""
    until_s = time.monotonic() + ROLLED_UP_MAX_S
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < until_s:
            async with session.get(f"{service.ops_url}/metrics") as answer:
                if re.search(rf"^{ROLLED_UP} [1-9]", await answer.text(), re.MULTILINE):
                    return
            await asyncio.sleep(LOOK_EVERY_S)
    raise Stop(f"The first rollup did not end within {ROLLED_UP_MAX_S} s: this machine is too busy to measure on.", 1)


async def _beacons(service: Footfall, effort: Effort) -> dict[str, float]:
    """Solve for the cost of a beacon and of a call: two runs, of many beacons a call and of one."""
    valkey, postgres = meter.family_of(psutil.Process())
    rows: dict[int, list[tuple[int, float, float, float]]] = {64: [], 1: []}
    await send_all(service.port, _some(1, effort.alone), 64)  # warms up
    for beacons, connections in ((effort.together, 64), (effort.alone, 1)) * effort.rounds:
        before, spent_s = await meter.read(service.stores, valkey, postgres), service.cpu_s()
        await send_all(service.port, _some(1, beacons), connections)
        used = await meter.read(service.stores, valkey, postgres) - before
        rows[connections].append((beacons, used.redis_calls, service.cpu_s() - spent_s, used.redis_cpu_s))
    # The least of some rounds: a core that others use too is a slower one.
    together, alone = (min(of_some, key=lambda row: row[2]) for of_some in rows.values())
    worker = _solve(together[:3], alone[:3])
    redis = _solve((together[0], together[1], together[3]), (alone[0], alone[1], alone[3]))
    return {
        "worker_beacon_us": worker[0],
        "worker_call_us": worker[1],
        "redis_beacon_us": redis[0],
        "redis_call_us": redis[1],
        "flight_s": await _flight_s(service),
        "http_bytes": await _http_bytes(service),
    }


def _solve(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float]:
    """Return what a beacon and what a call takes, in microseconds, of two (beacons, calls, seconds).

    >>> _solve((100, 10, 110e-6), (100, 100, 200e-6))
    (1.0, 1.0)
    """
    (beacons, calls, spent_s), (beacons_2, calls_2, spent_2_s) = one, other
    of_call = (spent_2_s / beacons_2 - spent_s / beacons) / (calls_2 / beacons_2 - calls / beacons)
    of_beacon = spent_s / beacons - of_call * calls / beacons
    return round(max(0.0, of_beacon) * 1e6, 3), round(max(0.0, of_call) * 1e6, 3)


async def _flight_s(service: Footfall) -> float:
    """Return the median time to the answer of a beacon that comes alone."""
    took: list[float] = []
    async with connected(service.port) as (reader, writer):
        for request in _some(1, 200):
            began = time.perf_counter()
            writer.write(request)
            await read_answer(reader)
            took.append(time.perf_counter() - began)
    return statistics.median(took)


async def _http_bytes(service: Footfall) -> float:
    (request,) = _some(1, 1)
    async with connected(service.port) as (reader, writer):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
    return len(request) + len(head) + length


async def _rollups(stores: Stores, names: Mapping[int, Sequence[str]], effort: Effort) -> dict[str, Any]:
    """Roll up groups of sites again and again, one new visitor at each; sizes are of the first site of each group."""
    gc.collect()
    spent_s = time.process_time()
    await stores.services.rollup.step()
    found: dict[str, Any] = {"look_us": (time.process_time() - spent_s) * 1e6 / sum(map(len, names.values()))}
    spent: list[Spent] = []
    of_size: dict[str, dict[int, float]] = {"wal_bytes": {}, "redis_site_bytes": {}, "redis_day_bytes": {}}
    of_size["postgres_day_bytes"] = {}
    for visitors, group in names.items():
        for name in group:
            await stores.view(name, visitors)
        await stores.services.rollup.step()
        rounds = [await _roll_up(stores, group) for _ in range(effort.rounds)]
        spent += rounds if visitors == min(names) else []
        sizes = await stores.redis_bytes(group[0])
        online = sum(size for key, size in sizes.items() if key.endswith(":online"))
        found["online_bytes"] = max(found.get("online_bytes", 0.0), online / visitors)  # a small set is packed
        of_size["wal_bytes"][visitors] = statistics.median(each.wal_bytes for each in rounds)
        of_size["redis_site_bytes"][visitors] = sum(sizes.values()) - online
        of_size["redis_day_bytes"][visitors] = sum(size for key, size in sizes.items() if ":day:" in key)
        of_size["postgres_day_bytes"][visitors] = await stores.row_bytes(group[0])
    return found | {
        "worker_rollup_us": min(each.worker_us for each in spent),
        "redis_rollup_us": statistics.mean(each.redis_us for each in spent),
        "redis_rollup_calls": statistics.mean(each.redis_calls for each in spent),
        "postgres_rollup_us": statistics.mean(each.postgres_us for each in spent),
        **of_size,
    }


@dataclass(frozen=True, slots=True)
class Spent:
    """What the rollup of a group took, for each of its sites."""

    worker_us: float
    redis_us: float
    redis_calls: float
    postgres_us: float
    wal_bytes: float


async def _roll_up(stores: Stores, group: Sequence[str]) -> Spent:
    for name in group:
        await stores.view(name, 1)
    valkey, postgres = meter.family_of(psutil.Process())
    before, spent_s = await meter.read(stores.urls, valkey, postgres), time.process_time()
    await stores.services.rollup.step()
    spent_s = time.process_time() - spent_s
    used = await meter.read(stores.urls, valkey, postgres) - before
    in_microseconds = 1e6 / len(group)
    return Spent(
        spent_s * in_microseconds,
        used.redis_cpu_s * in_microseconds,
        used.redis_calls / len(group),
        used.postgres_cpu_s * in_microseconds,
        used.wal_bytes / len(group),
    )


def _some(sites: int, number: int) -> list[bytes]:
    requests = paced.people(sites)
    return [next(requests) for _ in range(number)]
