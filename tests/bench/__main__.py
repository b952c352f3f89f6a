"""`make bench`: one run, everything as ratios side by side; a table for people, `.footfall/bench.json` for machines."""

import argparse
import asyncio
import json
import platform
import statistics
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from rich.console import Console
from rich.table import Table

from service import __version__
from service.errors import Stop
from tests.bench import growth, openloop
from tests.bench.servers import HOST, SITE, Footfall, baseline, footfall
from tests.bench.wrk import Load, drive, find_wrk

RESULT = Path(".footfall/bench.json")
CONNECTIONS = (16, 64, 256)
BEACONS_PER_S, READS_PER_S = 11_600, 3_000
BILLION_A_DAY = 1e9 / 86_400


async def measure(seconds: float, repeats: int, sustained_s: float, *, only: str) -> dict[str, Any]:
    """Run the chosen parts and return the figures."""
    found: dict[str, Any] = {"machine": machine()}
    if only in ("", "requests", "sustained"):
        async with footfall() as service:
            found["start_s"] = round(service.start_s, 2)
            found["rss_idle_mb"] = round(service.rss_mb(), 1)
            if only in ("", "requests"):
                async with baseline(*await example(service)) as empty:
                    found |= await requests(service, empty, seconds, repeats)
                found["rss_loaded_mb"] = round(service.rss_mb(), 1)
            if only in ("", "sustained"):
                found["sustained"] = await sustained(service, sustained_s)
    if only in ("", "workers"):
        found["workers"] = {str(n): await several(n, seconds) for n in (1, 2)}
    if only in ("", "growth"):
        found["growth"] = await growth.measure()
    return found


async def requests(service: Footfall, empty: str, seconds: float, repeats: int) -> dict[str, Any]:
    """Compare beacons and reads with the baseline, in turn, so that a slower minute of the machine hits both."""
    found: dict[str, Any] = {"seen": {}}
    _, etag = await example(service)
    for url in (service.url, empty):
        await drive(url, "/seen", 64, seconds)  # warm
    for connections in CONNECTIONS:
        before, cpu_before, valkey_before = await service.metrics(), service.cpu_s(), service.valkey_cpu_s()
        pairs = [
            (await drive(empty, "/seen", connections, seconds), await drive(service.url, "/seen", connections, seconds))
            for _ in range(repeats)
        ]
        after = await service.metrics()
        beacons = sum(ours.requests for _, ours in pairs)
        trips = after["footfall_flushes_total"] - before["footfall_flushes_total"]
        found["seen"][str(connections)] = ratios(pairs) | {
            "round_trips_per_beacon": round(trips / beacons, 4),
            "cpu_s_per_million": round((service.cpu_s() - cpu_before) / beacons * 1e6, 1),
            "redis_cpu_s_per_million": round((service.valkey_cpu_s() - valkey_before) / beacons * 1e6, 1),
        }
    reads = [
        [
            (await drive(empty, "/counts", 64, seconds), await drive(service.url, "/counts", 64, seconds, tag))
            for _ in range(repeats)
        ]
        for tag in ("", etag)
    ]
    found["counts"] = ratios(reads[0]) | {"ratio_304": ratios(reads[1])["ratio"]}
    found["idle_round_trips"] = await idle_round_trips(service)
    return found


def ratios(pairs: list[tuple[Load, Load]]) -> dict[str, float]:
    """Medians over the pairs; throughput as ours by theirs, latencies likewise."""

    def median_of(figure: str) -> float:
        return float(
            statistics.median(getattr(ours, figure) / max(1, getattr(theirs, figure)) for theirs, ours in pairs)
        )

    return {
        "ratio": round(median_of("rps"), 3),
        "p50_ratio": round(median_of("p50_us"), 2),
        "p99_ratio": round(median_of("p99_us"), 2),
        "p999_ratio": round(median_of("p999_us"), 2),
        "rps": round(statistics.median(ours.rps for _, ours in pairs)),
        "errors": sum(ours.errors + theirs.errors for theirs, ours in pairs),
    }


async def idle_round_trips(service: Footfall, beacons: int = 200) -> float:
    """Send beacons one after the other: each shares its script call with nobody."""
    before = await service.metrics()
    headers = {"Origin": f"https://{HOST}", "User-Agent": openloop.AGENT}
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(beacons):
            async with session.post(f"{service.url}/seen", data=json.dumps({"site": SITE})) as answer:
                await answer.read()
    after = await service.metrics()
    return (after["footfall_flushes_total"] - before["footfall_flushes_total"]) / beacons


async def sustained(service: Footfall, seconds: float) -> dict[str, Any]:
    """A billion views a day, for a while, with readers; everything on this machine, nothing lost by the ledger."""
    port = urlsplit(service.url).port or 0
    rates = {"/seen": BEACONS_PER_S, "/counts": READS_PER_S}
    await openloop.drive(port, rates, 5)
    before, memory = (await views(service)), [service.rss_mb()]

    async def watch() -> None:
        for _ in range(int(seconds / 5)):
            await asyncio.sleep(5)
            memory.append(service.rss_mb())

    watching = asyncio.create_task(watch())
    outcome = await openloop.drive(port, rates, seconds)
    await watching
    acked = outcome.answers["/seen", 200] + outcome.answers["/seen", 202]
    counted = await views(service) - before
    return {
        "beacons_per_s": round(acked / seconds),
        "reads_per_s": round(outcome.answers["/counts", 200] / seconds),
        "p50_ms": round(outcome.percentile_ms(50), 2),
        "p99_ms": round(outcome.percentile_ms(99), 2),
        "refused": outcome.answers["/seen", 503],
        "unanswered": outcome.broken + sum(outcome.sent.values()) - sum(outcome.answers.values()),
        "lost": acked - counted,
        "rss_growth_mb": round(memory[-1] - memory[len(memory) // 3], 1),
    }


async def several(workers: int, seconds: float) -> dict[str, float]:
    """Beacons a second with some workers on one socket, not pinned: on two cores they share with the load."""
    async with footfall(workers=workers) as service:
        await drive(service.url, "/seen", 64, seconds)
        load = await drive(service.url, "/seen", 64, seconds * 2)
    return {"rps": round(load.rps), "p99_us": load.p99_us}


async def example(service: Footfall) -> tuple[bytes, str]:
    """Read an answer of the service, for the baseline to repeat."""
    async with aiohttp.ClientSession() as session, session.get(f"{service.url}/counts?site={SITE}") as answer:
        return await answer.read(), answer.headers["ETag"]


async def views(service: Footfall) -> int:
    """Read the views of today, after the board had time to refresh."""
    await asyncio.sleep(1.1)
    await example(service)
    await asyncio.sleep(0.3)
    body, _ = await example(service)
    return int(json.loads(body)["views_today"])


def machine() -> dict[str, str]:
    """What it was measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = f"{len(names)} x {names[0]}" if names else model
    return {"cpu": model, "python": platform.python_version(), "footfall": __version__, "aiohttp": aiohttp.__version__}


def show(found: dict[str, Any]) -> None:
    """Print the figures as tables."""
    console = Console(width=120)
    console.print(*(f"{name} {value}" for name, value in found["machine"].items()), sep=", ")
    if "seen" in found:
        figures = ("throughput", "p50", "p99", "p99.9", "beacons/s", "round trips", "CPU s/M", "Redis CPU s/M")
        table = Table("connections", *figures)
        for connections, row in found["seen"].items():
            table.add_row(
                connections,
                *(f"{row[name]:.2f}" for name in ("ratio", "p50_ratio", "p99_ratio", "p999_ratio")),
                f"{row['rps']:,}",
                f"{row['round_trips_per_beacon']:.3f}",
                f"{row['cpu_s_per_million']:.0f}",
                f"{row['redis_cpu_s_per_million']:.1f}",
            )
        table.title = "POST /seen against an empty POST (ratios, 1 = the same)"
        console.print(table)
    others = ("counts", "idle_round_trips", "sustained", "workers", "growth", "start_s", "rss_idle_mb", "rss_loaded_mb")
    for name in others:
        if name in found:
            console.print(f"{name}: {json.dumps(found[name])}")


def main() -> None:
    """Parse the command line, measure, show and save."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="length of each closed-loop run")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs per figure; the median is shown")
    parser.add_argument("--sustained", type=float, default=60, help="seconds of the open-loop run")
    parser.add_argument("--only", default="", choices=["", "requests", "sustained", "workers", "growth"])
    chosen = parser.parse_args()
    try:
        find_wrk()
        found = asyncio.run(measure(chosen.seconds, chosen.repeats, chosen.sustained, only=chosen.only))
    except Stop as stop:
        print(f"bench: {stop}", file=sys.stderr)
        sys.exit(stop.status)
    show(found)
    RESULT.parent.mkdir(exist_ok=True)
    earlier = json.loads(RESULT.read_text()) if chosen.only and RESULT.exists() else {}
    RESULT.write_text(json.dumps(earlier | found, indent=1))
    print(f"Saved as {RESULT}.")


if __name__ == "__main__":
    main()
