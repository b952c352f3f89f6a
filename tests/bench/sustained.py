"""A billion views a day, for a while, with readers: open loop, everything on this machine, compared with the ledger."""

import asyncio
import statistics
from typing import Any

from tests.bench import machine, openloop
from tests.bench.servers import Footfall, baseline, footfall

BEACONS_PER_S, READS_PER_S = 11_600, 3_000
WARM_S = 10
LOOK_EVERY_S = 1
ROLLUP_S = 12
"""After which Postgres has what Redis had; the rollup runs every ten seconds."""
SAVED_MAX_S = 30
WORKERS = max(1, min(4, len(machine.CORES)))
"""One per core, as `--workers auto` does; more than four are never needed for this rate."""


async def measure(seconds: float) -> dict[str, Any]:
    """Send both rates for `seconds`, to an empty server and then to Footfall."""
    async with footfall(workers=WORKERS, pinned=False) as service:
        async with baseline(service) as empty:
            floor = await openloop.drive(empty.port, BEACONS_PER_S, READS_PER_S, min(seconds, WARM_S))
        warm = await openloop.drive(service.port, BEACONS_PER_S, READS_PER_S, WARM_S)
        cpu_before, valkey_before = service.cpu_s(), service.valkey_cpu_s()
        memory: list[float] = []
        watching = asyncio.create_task(_watch(service, memory))
        outcome = await openloop.drive(service.port, BEACONS_PER_S, READS_PER_S, seconds)
        watching.cancel()
        cpu_s, valkey_cpu_s = service.cpu_s() - cpu_before, service.valkey_cpu_s() - valkey_before
        acked = _acked(warm) + _acked(outcome)
        saved = await _saved(service, acked)
    elapsed_s = outcome["elapsed_s"]
    third = max(1, len(memory) // 3)
    answers = outcome["answers"]
    beacons = answers.get("robot 200", 0) + _acked(outcome)
    return {
        "workers": WORKERS,
        "elapsed_s": elapsed_s,
        "beacons_per_s": round(beacons / elapsed_s),
        "reads_per_s": round(answers.get("read 200", 0) / elapsed_s),
        "answers": answers,
        "unanswered": outcome["unanswered"] + warm["unanswered"],
        "p50_ms": outcome["p50_ms"],
        "p99_ms": outcome["p99_ms"],
        "p999_ms": outcome["p999_ms"],
        "baseline_p99_ms": floor["p99_ms"],
        "generator_late_p99_ms": outcome["late_p99_ms"],
        "generator_cpu_share": round(outcome["cpu_s"] / elapsed_s, 2),
        "cpu_share": round(cpu_s / elapsed_s, 2),
        "redis_cpu_share": round(valkey_cpu_s / elapsed_s, 2),
        "views_acked": acked,
        "views_in_postgres": saved,
        "lost": max(0, acked - saved),
        "counted_twice": max(0, saved - acked - outcome["unanswered"] - warm["unanswered"]),
        "rss_mb": [round(sample, 1) for sample in memory[:: max(1, len(memory) // 12)]],
        "rss_growth_mb": round(statistics.fmean(memory[-third:]) - statistics.fmean(memory[:third]), 1),
    }


def _acked(outcome: dict[str, Any]) -> int:
    """Views that Footfall has said to have: in Redis (200), or on the disk (202)."""
    return int(outcome["answers"].get("view 200", 0) + outcome["answers"].get("view 202", 0))


async def _watch(service: Footfall, memory: list[float]) -> None:
    while True:
        memory.append(service.rss_mb())
        await asyncio.sleep(LOOK_EVERY_S)


async def _saved(service: Footfall, expected: int) -> int:
    """Views that Postgres has, after a rollup at least, and then once it has all that are expected."""
    await asyncio.sleep(ROLLUP_S)
    for _ in range(SAVED_MAX_S):
        if await service.saved_views() >= expected:
            break
        await asyncio.sleep(1)
    return await service.saved_views()
