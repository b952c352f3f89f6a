"""Measures on this machine what the model needs to know of a worker: CPU time, calls and bytes, no wall clock.

Everything is measured as it happens in a run: beacons come one by one with pauses between them too, because a process
that was idle needs more CPU for the next one (on a virtual machine, several times as much).
"""

import asyncio
import re
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from itertools import islice

import aiohttp

from footfall.errors import Stop
from footfall.ingest.client_address import Client
from footfall.ingest.page_limits import SitePages
from footfall.ingest.rate_limits import NetworkLimits
from footfall.model.batch_log import BatchLog
from footfall.model.site_id import SiteId
from footfall.settings.settings import Limits
from tests.bench import traffic
from tests.bench.servers import Footfall, footfall
from tests.scale import copies, meter, paced
from tests.scale.model import Cost, Costs, Thing
from tests.support.raw_http import connected, read_answer, send_all

NO_ROLLUP = {"FOOTFALL_ROLLUP_EVERY_S": "300"}
LOOK_EVERY_S = 2.0
"""Each look takes the worker some time: its metrics have the series of all sites."""
ROLLED_UP, ROLLED_UP_MAX_S = "footfall_rollup_last_success_timestamp_seconds", 300
CONNECTIONS = 64
NEW_PAGES_PER_S = 200
"""As in the check, where most views are of a page that is new."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured; the suite's smoke measures less."""

    together: int = 4000
    """Beacons that come on many connections."""
    apart: Mapping[float, int] = field(default_factory=lambda: {25: 300, 100: 500, 200: 800, 400: 800, 800: 1600})
    """Beacons with pauses between them, by how many come in a second."""
    new_pages: int = 500
    sites: int = 300
    groups: Mapping[int, int] = field(default_factory=lambda: {20: 200, 1_000: 20, 4_000: 10, 5_000: 10})
    """Sites that are copied, by the visitors of their day: at most 4,096 keep their ids."""
    rounds: int = 3
    rest_s: float = 10.0
    """How long a process is watched that has nothing to do: as long as its slowest regular work takes to come again."""


Work = Callable[[], Awaitable[object]]
CostOf = Callable[[Work], Awaitable[Cost]]


async def measure(effort: Effort, say: Callable[[str], None]) -> Costs:
    """Return the costs of this machine."""
    say("a worker that has nothing to do, with one site and with many")
    async with footfall(pinned=False, variables=NO_ROLLUP) as service, measuring(service) as cost_of:
        await rolled_up(service)
        small_bytes = service.rss_mb() * 1e6
        with_one = await at_rest(cost_of, effort.rest_s)
        http_bytes = await _http_bytes(service)
    memory_of_site: list[float] = []
    async with footfall(sites=effort.sites, pinned=False, variables=series("off")) as service:
        async with measuring(service) as cost_of:
            await rolled_up(service)
            with_copies = await at_rest(cost_of, effort.rest_s)
        await _view_each_site(service, effort.sites)
        memory_of_site.append(service.rss_mb() * 1e6 - small_bytes)
    say("beacons that share a call to Redis, that do not, and that have pauses between them")
    async with footfall(sites=effort.sites, pinned=False, variables=series("on") | NO_ROLLUP) as service:
        async with measuring(service) as cost_of:
            await rolled_up(service)
            with_many = await at_rest(cost_of, effort.rest_s)
        await _view_each_site(service, effort.sites)
        memory_of_site.append(service.rss_mb() * 1e6 - small_bytes)
        of_beacons, wakes = await _beacons(service, effort)
        flight_s = await _flight_s(service)
    say("copies to PostgreSQL, and bytes in both stores")
    copied = await copies.measure(effort.groups, effort.rounds, effort.rest_s)
    without, with_series = (max(0.0, each) / effort.sites for each in memory_of_site)
    of_site = (with_many - with_one) * (1 / max(1, effort.sites - 1))
    of_rest = {
        Thing.STORES: copied.stores,
        Thing.WORKER: with_copies - copied.stores - of_site * effort.sites,
        Thing.SITE: of_site,
        Thing.LOOK: copied.look,
        Thing.COPY_PAGE: copied.page,
    }
    of_beacons[Thing.NEW_PAGE] += copied.new_page
    return Costs(
        of=of_beacons | of_rest,
        wakes=wakes,
        copies=copied.copies,
        flight_s=flight_s,
        worker_bytes=small_bytes,
        worker_site_bytes=without,
        worker_site_series_bytes=max(0.0, with_series - without),
        worker_page_bytes=_worker_page_bytes(),
        http_bytes=http_bytes,
        **copied.sizes,
    )


def series(setting: str) -> dict[str, str]:
    """Return what gives each site series of its own in /metrics, or not."""
    return {"FOOTFALL_METRICS_PER_SITE": setting}


@asynccontextmanager
async def measuring(service: Footfall) -> AsyncIterator[CostOf]:
    """Yield what measures the cost of some work, in a worker and in its stores."""
    async with meter.reading(service.stores) as read:

        async def cost_of(work: Work) -> Cost:
            before, spent_s = await read(), meter.workers_cpu_s(service)
            await work()
            spent_s = meter.workers_cpu_s(service) - spent_s
            return copies.cost(spent_s, await read() - before)

        yield cost_of


async def at_rest(cost_of: CostOf, rest_s: float) -> Cost:
    """Return what a second costs in which nothing happens."""
    return await cost_of(lambda: asyncio.sleep(rest_s)) * (1 / rest_s)


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


async def _view_each_site(service: Footfall, sites: int) -> None:
    """View the page of each site that later beacons view, so that it is new to none of them."""
    names = enumerate(traffic.site_names(sites), start=1)
    await send_all(service.port, [traffic.view(visitor, name, paced.page(0)) for visitor, name in names])


async def _beacons(service: Footfall, effort: Effort) -> tuple[dict[Thing, Cost], dict[float, Cost]]:
    """Return what beacons cost, and how much more where so many come in a second, with pauses between them.

    Each is compared with those that lack one thing.
    """
    sites, together = effort.sites, effort.together
    async with measuring(service) as cost_of:

        async def of_each(work: Work, beacons: int) -> tuple[float, Cost]:
            """Return how many came in a second, and what each cost."""
            began = time.monotonic()
            cost = await cost_of(work) * (1 / beacons)
            return beacons / (time.monotonic() - began), cost

        async def at_once(of_sites: int) -> tuple[float, Cost]:
            some = list(islice(paced.people(of_sites, pages=1), together))
            return await of_each(lambda: send_all(service.port, some, CONNECTIONS), together)

        async def apart(requests: Iterator[bytes], per_s: float, beacons: int) -> tuple[float, Cost]:
            return await of_each(lambda: paced.send([service.port], requests, per_s, beacons / per_s), beacons)

        await at_once(1)  # warms up
        of_one_site = [await at_once(1) for _ in range(effort.rounds)]
        of_many = [await at_once(sites) for _ in range(effort.rounds)]
        # The least of some rounds: a core that others use too is a slower one.
        (_, shared), (full_per_s, alone) = (
            min(each, key=lambda one: one[1].worker_us) for each in (of_one_site, of_many)
        )
        wakes = {full_per_s: Cost()}
        for per_s, beacons in effort.apart.items():
            came_per_s, with_pauses = await apart(paced.people(sites, pages=1), per_s, beacons)
            wakes[came_per_s] = with_pauses - alone
        usual_per_s = min(effort.apart, key=lambda per_s: abs(per_s - NEW_PAGES_PER_S))
        _, known = await apart(paced.people(sites, pages=1), usual_per_s, effort.new_pages)
        _, new = await apart(paced.of_new_pages(sites), usual_per_s, effort.new_pages)
    call = (alone - shared) * (1 / max(0.01, alone.redis_calls - shared.redis_calls))
    return {Thing.BEACON: shared - call * shared.redis_calls, Thing.CALL: call, Thing.NEW_PAGE: new - known}, wakes


async def _flight_s(service: Footfall) -> float:
    """Return the median time to the answer of a beacon that comes alone."""
    took: list[float] = []
    async with connected(service.port) as (reader, writer):
        for request in islice(paced.people(1, pages=1), 200):
            began = time.perf_counter()
            writer.write(request)
            await read_answer(reader)
            took.append(time.perf_counter() - began)
    return statistics.median(took)


async def _http_bytes(service: Footfall) -> float:
    request = next(paced.people(1))
    async with connected(service.port) as (reader, writer):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
    return len(request) + len(head) + length


def _worker_page_bytes(pages: int = 5_000) -> float:
    """Return what a page takes that a worker has learned from Redis and counted today, measured in this process."""
    known = SitePages(2 * pages, b"site", NetworkLimits(Limits(enabled=False)))
    log, client = BatchLog(SiteId("site"), date.max, "a" * 16), Client(b"", b"", b"", is_proxy=False)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        known.learn(map(paced.page, range(pages)))
        for number in range(pages):
            log.append(1, b"", b"", 0, 1, {known.admit(paced.page(number), date.max, client, 0.0): 1})
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / pages
