"""Beacons and reads in turn with the baseline, so that a slower minute of the machine hits both; then workers."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from footfall.errors import Stop
from tests.bench import traffic
from tests.bench.servers import Footfall, Server, answer_of, baseline, footfall
from tests.bench.wrk import Load, drive
from tests.support.raw_http import send_all

CONNECTIONS = (16, 64, 256)
MANY_SITES, AT = 1000, 64
IDLE_ROUNDS = 11


@dataclass(frozen=True, slots=True)
class Run:
    """One run against one server: what its clients measured, and its CPU time."""

    load: Load
    cpu_us: float
    """Microseconds of CPU time per request, which is as many seconds per million."""


async def run(server: Server, requests: Sequence[bytes], connections: int, seconds: float) -> Run:
    """Load a server and read its CPU time before and after."""
    before = server.cpu_s()
    load = await drive(server.url, requests, connections, seconds)
    return Run(load, (server.cpu_s() - before) / max(1, load.requests) * 1e6)


async def seen(
    service: Footfall, seconds: float, repeats: int, *, sites: int = 1, at: Sequence[int] = CONNECTIONS
) -> dict[str, Any]:
    """Compare beacons with empty requests, at each number of connections.

    Those of many sites are of no page: each page that is new to a site is looked up in Postgres once, and of a thousand
    sites with a thousand pages nearly all would be new.
    """
    found: dict[str, Any] = {}
    requests = traffic.beacons(sites, with_pages=sites == 1)
    await drive(service.url, requests, 64, seconds)  # warms up, until the numbers have their final length
    async with baseline(service) as empty:
        await drive(empty.url, requests, 64, seconds)
        for connections in at:
            pairs = []
            calls_before, commands_before = await service.redis_calls()
            valkey_before = service.valkey_cpu_s()
            for _ in range(repeats):
                theirs = await run(empty, requests, connections, seconds)
                pairs.append((theirs, await run(service, requests, connections, seconds)))
            calls, commands = await service.redis_calls()
            beacons = sum(ours.load.requests for _, ours in pairs)
            found[str(connections)] = compared(pairs) | {
                "round_trips_per_beacon": round((calls - calls_before) / beacons, 4),
                "redis_commands_per_beacon": round((commands - commands_before) / beacons, 3),
                "redis_cpu_s_per_million": round((service.valkey_cpu_s() - valkey_before) / beacons * 1e6, 1),
            }
    return found


async def counts(service: Footfall, seconds: float, repeats: int) -> dict[str, Any]:
    """Compare reads with constant bytes: reads that get the numbers, and reads that know them (304).

    No beacon may count meanwhile, or the ETag changes and the answer is no 304.
    """
    async with baseline(service) as empty:
        etag = (await answer_of(service, traffic.reads()[0]))["headers"]["ETag"]
        tables = []
        for requests in (traffic.reads(), traffic.reads(etag)):
            for server in (empty, service):
                await drive(server.url, requests, 64, seconds / 2)  # warms up
            before = await service.answered("/counts", "304")
            pairs = [
                (await run(empty, requests, 64, seconds), await run(service, requests, 64, seconds))
                for _ in range(repeats)
            ]
            reads = sum(ours.load.requests for _, ours in pairs)
            not_modified = (await service.answered("/counts", "304") - before) / reads
            tables.append(compared(pairs) | {"not_modified": round(not_modified, 3)})
    fresh, known = tables
    if fresh["not_modified"] > 0.01 or known["not_modified"] < 0.99:
        raise Stop("The reads were not answered as this comparison needs: 200 without an ETag, 304 with it.", 1)
    return fresh | {f"{name}_304": value for name, value in known.items()}


def compared(pairs: list[tuple[Run, Run]]) -> dict[str, float]:
    """Return medians over pairs of (baseline, ours); a ratio is ours by theirs, for CPU theirs by ours."""

    def median(figure: str) -> int:
        return round(float(statistics.median(getattr(ours.load, figure) for _, ours in pairs)))

    def ratio(figure: str) -> float:
        both = [(getattr(theirs.load, figure), getattr(ours.load, figure)) for theirs, ours in pairs]
        return round(float(statistics.median(ours / max(1, theirs) for theirs, ours in both)), 3)

    return {
        "ratio": ratio("rps"),
        "p50_ratio": ratio("p50_us"),
        "p99_ratio": ratio("p99_us"),
        "p999_ratio": ratio("p999_us"),
        "cpu_ratio": round(statistics.median(theirs.cpu_us / ours.cpu_us for theirs, ours in pairs), 3),
        "rps": median("rps"),
        "p50_us": median("p50_us"),
        "p99_us": median("p99_us"),
        "p999_us": median("p999_us"),
        "cpu_s_per_million": round(statistics.median(ours.cpu_us for _, ours in pairs), 1),
        "baseline_rps": round(statistics.median(theirs.load.rps for theirs, _ in pairs)),
        "baseline_cpu_s_per_million": round(statistics.median(theirs.cpu_us for theirs, _ in pairs), 1),
        "errors": sum(ours.load.errors + theirs.load.errors for theirs, ours in pairs),
    }


async def idle_round_trips(service: Footfall) -> float:
    """Send beacons one after the other: each has a script call of its own.

    The median of some rounds, because the rollup calls Redis too, every ten seconds.
    """
    rounds = []
    people = [request for visitor, request in enumerate(traffic.beacons()[:100]) if not traffic.is_robot(visitor)]
    for _ in range(IDLE_ROUNDS):
        before, _ = await service.redis_calls()
        await send_all(service.port, people, connections=1)
        after, _ = await service.redis_calls()
        rounds.append((after - before) / len(people))
    return statistics.median(rounds)


async def many_sites(seconds: float, repeats: int) -> dict[str, Any]:
    """Compare beacons of many portals at once with empty requests: each site's batches hold one or two of them."""
    async with footfall(sites=MANY_SITES) as service:
        found = await seen(service, seconds, repeats, sites=MANY_SITES, at=[AT])
    return {"sites": MANY_SITES, **found[str(AT)]}


async def workers(seconds: float, repeats: int) -> dict[str, Any]:
    """Measure beacons a second with one worker and with two on one socket, without pinning."""
    found: dict[str, Any] = {}
    for number in (1, 2):
        async with footfall(workers=number, pinned=False) as service:
            runs = []
            for _ in range(repeats + 1):  # the first run warms up
                before = service.cpu_s()
                load = await drive(service.url, traffic.beacons(), 64, seconds, pinned=False)
                runs.append(Run(load, (service.cpu_s() - before) / max(1, load.requests) * 1e6))
            found[str(number)] = {
                "rps": round(statistics.median(run.load.rps for run in runs[1:])),
                "p99_us": round(statistics.median(run.load.p99_us for run in runs[1:])),
                "cpu_s_per_million": round(statistics.median(run.cpu_us for run in runs[1:]), 1),
            }
    return found | {"scaling": round(found["2"]["rps"] / found["1"]["rps"], 2)}
