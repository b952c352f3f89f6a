"""A whole Footfall under a flood of requests: its answers, and the content of Redis before and after."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

from redis.asyncio import Redis

from footfall.display.page_views import UNSEEN_REFRESH_AFTER_S
from footfall.stores.redis_store import day_key
from tests.support.footfall import SITE, Footfall
from tests.support.raw_http import beacon, connected, read_answer, send_all

HONEST_ADDRESS = "198.51.100.1"
NEIGHBOUR = "198.51.100.2"
HONEST_VIEW = beacon({"page": "/"}, X_Forwarded_For=HONEST_ADDRESS)
REAL_PAGES = ("/", "/tin-tuc/published-meanwhile")
FLOOD_PER_S = 1000
"""Twenty times what the limits allow one network."""
NEIGHBOUR_VIEWS = 200


@dataclass(frozen=True, slots=True)
class State:
    """The site's state in Redis."""

    views: int
    visitors: int
    """The exact number of ids online."""
    shown: int
    """The estimate that pages show as today's visitors."""
    keys: int
    memory_bytes: int
    pages: int
    """Those that count by themselves, and `(other)`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an attack: the answers, and the state before and after it."""

    answers: Counter[int]
    before: State
    after: State
    remark: str = ""
    real_pages: tuple[int, ...] = ()
    """By how much the numbers of `REAL_PAGES` grew, when a neighbour viewed each once after the attack."""

    @property
    def views(self) -> int:
        """Return the views that the attack added."""
        return self.after.views - self.before.views

    @property
    def visitors(self) -> int:
        """Return the visitors that the attack added."""
        return self.after.visitors - self.before.visitors

    @property
    def pages(self) -> int:
        """Return the pages that the attack added."""
        return self.after.pages - self.before.pages

    @property
    def added_bytes(self) -> int:
        """Return the memory that Redis uses for the attack."""
        return self.after.memory_bytes - self.before.memory_bytes


async def attack(footfall: Footfall, redis: Redis, requests: Iterable[bytes]) -> Outcome:
    """Count one honest visitor, then send the attack; the honest visitor's state is not charged to the attack."""
    port = port_of(footfall)
    await send_all(port, [HONEST_VIEW])
    before = await state_of(footfall, redis)
    answers = await send_all(port, requests)
    after = await state_of(footfall, redis)
    return Outcome(answers, before, after, real_pages=await _view_real_pages(footfall))


async def _view_real_pages(footfall: Footfall) -> tuple[int, ...]:
    """Let a neighbour view an old page and a new one; return by how much each number grew."""
    before = await _views_of(footfall, REAL_PAGES)
    await send_all(port_of(footfall), [beacon({"page": page}, X_Forwarded_For=NEIGHBOUR) for page in REAL_PAGES])
    footfall.clock.advance(UNSEEN_REFRESH_AFTER_S)
    after = await _views_of(footfall, REAL_PAGES)
    return tuple(now - then for now, then in zip(after, before, strict=True))


async def _views_of(footfall: Footfall, pages: Sequence[str]) -> list[int]:
    services = footfall.services
    views = await services.page_views.views(services.settings.sites[SITE], pages)
    return [views[page] or 0 for page in pages]


async def flood(footfall: Footfall, redis: Redis) -> Outcome:
    """Send a steady flood from a network without budget left, and views of another network before and during it."""
    port = port_of(footfall)
    await send_all(port, [HONEST_VIEW])
    before = await state_of(footfall, redis)
    view = beacon(X_Forwarded_For="203.0.113.66")
    answers = await send_all(port, repeat(view, footfall.services.settings.limits.beacons_burst))
    alone, alone_s = await _one_by_one(port)
    done = asyncio.Event()
    started_s = time.perf_counter()
    flooding = asyncio.create_task(_pour(port, view, done))
    during, during_s = await _one_by_one(port)
    done.set()
    refused = await flooding
    per_s = refused.total() / (time.perf_counter() - started_s)
    assert alone + during == {200: 2 * NEIGHBOUR_VIEWS}, "a neighbour of the flood was refused"
    remark = f"{per_s:,.0f} refused a second; the neighbour's median answer took {during_s / alone_s:.1f} times as long"
    return Outcome(answers + refused + alone + during, before, await state_of(footfall, redis), remark)


async def _pour(port: int, request: bytes, done: asyncio.Event) -> Counter[int]:
    """Send up to `FLOOD_PER_S` requests a second until `done`; return their statuses."""
    statuses: Counter[int] = Counter()
    async with connected(port) as (reader, writer):
        while not done.is_set():
            writer.write(request * (FLOOD_PER_S // 100))
            for _ in range(FLOOD_PER_S // 100):
                status, _ = await read_answer(reader)
                statuses[status] += 1
            await asyncio.sleep(0.01)  # keeps the pace
    return statuses


async def _one_by_one(port: int) -> tuple[Counter[int], float]:
    """Send views of one honest client, each after the last one's answer; return statuses and the median time."""
    statuses: Counter[int] = Counter()
    took_s = []
    async with connected(port) as (reader, writer):
        for _ in range(NEIGHBOUR_VIEWS):
            started_s = time.perf_counter()
            writer.write(beacon(X_Forwarded_For=HONEST_ADDRESS))
            status, _ = await read_answer(reader)
            took_s.append(time.perf_counter() - started_s)
            statuses[status] += 1
    return statuses, statistics.median(took_s)


async def state_of(footfall: Footfall, redis: Redis) -> State:
    """Return the state of Redis, which holds only the site."""
    reading = await footfall.services.recorder.read(footfall.services.settings.sites[SITE])
    keys = [key async for key in redis.scan_iter(count=1000)]
    sizes = [await redis.memory_usage(key, samples=0) or 0 for key in keys]
    visitors = await redis.zcard(f"ff1:{{{SITE}}}:online")
    pages = await redis.hlen(day_key(SITE, reading.day_of, "pages"))
    return State(reading.today_views, visitors, reading.today_visitors, len(keys), sum(sizes), pages)


def port_of(footfall: Footfall) -> int:
    """Return the port of the public listener."""
    port = footfall.public.server.port
    assert port is not None
    return port
