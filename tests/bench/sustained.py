"""A billion views a day, for a while, with readers: open loop, all on this machine, compared with the ledger."""

import asyncio
import statistics
from typing import Any

from tests.bench import goals, machine, openloop
from tests.bench.servers import Footfall, Server, baseline, footfall

BEACONS_PER_S, READS_PER_S = 11_600, 3_000
STEP_S = 10
SHARES = (1.0, 0.8, 0.6, 0.4, 0.2)
LOOK_EVERY_S = 1
ROLLUP_S = 12
"""After this time Postgres has what Redis had; the rollup runs every ten seconds."""
SAVED_MAX_S = 30
WORKERS = max(1, min(4, len(machine.CORES)))
"""One worker per core, as `--workers auto`; this rate never needs more than four."""


async def measure(seconds: float) -> dict[str, Any]:
    """Send both rates for `seconds`; before, measure which part of them an empty server and Footfall carry."""
    async with footfall(workers=WORKERS, pinned=False) as service:
        async with baseline(service) as empty:
            floor = await _descend(empty, min(seconds, STEP_S))
        steps = await _descend(service, min(seconds, STEP_S))
        cpu_before, valkey_before = service.cpu_s(), service.valkey_cpu_s()
        memory: list[float] = []
        watching = asyncio.create_task(_watch(service, memory))
        outcome = await openloop.drive(service.port, BEACONS_PER_S, READS_PER_S, seconds)
        watching.cancel()
        cpu_s, valkey_cpu_s = service.cpu_s() - cpu_before, service.valkey_cpu_s() - valkey_before
        acked = _acked(outcome) + sum(map(_acked, steps.values()))
        saved = await _saved(service, acked)
    unanswered = outcome["unanswered"] + sum(step["unanswered"] for step in steps.values())
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
        "unanswered": unanswered,
        "p50_ms": outcome["p50_ms"],
        "p99_ms": outcome["p99_ms"],
        "p999_ms": outcome["p999_ms"],
        "carried": _carried(steps),
        "baseline_carried": _carried(floor),
        "baseline_p99_ms": floor[1.0]["p99_ms"],
        "generator_late_p99_ms": outcome["late_p99_ms"],
        "generator_cpu_share": round(outcome["cpu_s"] / elapsed_s, 2),
        "cpu_share": round(cpu_s / elapsed_s, 2),
        "redis_cpu_share": round(valkey_cpu_s / elapsed_s, 2),
        "views_acked": acked,
        "views_in_postgres": saved,
        "lost": max(0, acked - saved),
        "counted_twice": max(0, saved - acked - unanswered),
        "rss_mb": [round(sample, 1) for sample in memory[:: max(1, len(memory) // 12)]],
        "rss_growth_mb": round(statistics.fmean(memory[-third:]) - statistics.fmean(memory[:third]), 1),
    }


async def _descend(server: Server, seconds: float) -> dict[float, dict[str, Any]]:
    """Send ever smaller shares of both rates, until one is carried; return the outcome of each."""
    steps: dict[float, dict[str, Any]] = {}
    for share in SHARES:
        steps[share] = await openloop.drive(server.port, BEACONS_PER_S * share, READS_PER_S * share, seconds)
        if _carried(steps):
            break
    return steps


def _carried(steps: dict[float, dict[str, Any]]) -> float:
    """Return the share of the rates at which every request was answered and p99 met the goal; 0 where none did."""
    share, last = list(steps.items())[-1]
    return share if not last["unanswered"] and last["p99_ms"] <= goals.SUSTAINED_P99.bound else 0.0


def _acked(outcome: dict[str, Any]) -> int:
    """Views that Footfall has acknowledged: in Redis (200), or on the disk (202)."""
    return int(outcome["answers"].get("view 200", 0) + outcome["answers"].get("view 202", 0))


async def _watch(service: Footfall, memory: list[float]) -> None:
    while True:
        memory.append(service.rss_mb())
        await asyncio.sleep(LOOK_EVERY_S)


async def _saved(service: Footfall, expected: int) -> int:
    """Return the views in Postgres, after at least one rollup and then once it has all expected views."""
    await asyncio.sleep(ROLLUP_S)
    for _ in range(SAVED_MAX_S):
        if await service.saved_views() >= expected:
            break
        await asyncio.sleep(1)
    return await service.saved_views()
