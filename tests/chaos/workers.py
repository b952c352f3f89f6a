"""F1-F3: workers that are killed, stopped, or stand still."""

import asyncio
import signal

import psutil

from tests.chaos.host import signal_worker
from tests.chaos.stage import Stage
from tests.chaos.waiting import until

RESTART_MAX_S = 15
WORKERS = 2
"""Workers of each host in these plans."""


async def kill(stage: Stage) -> None:
    """Kill workers in the middle of their work, 20 times; what they had not answered counts once or not at all."""
    for _ in stage.rounds(20, 3):
        workers = await _full_host(stage)
        await stage.pause(0.005, 0.2)
        signal_worker(stage.chance.choice(workers), signal.SIGKILL)
    await wait_for_workers(stage, WORKERS)


async def stop_one_after_another(stage: Stage) -> None:
    """Stop every worker by SIGTERM while beacons flow: no beacon is answered with an error."""
    for host in stage.hosts:
        for worker in host.workers():
            signal_worker(worker, signal.SIGTERM)
            await asyncio.to_thread(worker.wait, RESTART_MAX_S)
            await wait_for_workers(stage, WORKERS)
            await stage.pause(0.5, 1)
    stage.expect(stage.ledger.server_errors == 0, f"server errors: {dict(stage.ledger.statuses)}")


async def suspend(stage: Stage) -> None:
    """Stop a worker for 10 seconds; its batch arrives afterwards and is not counted twice."""
    host = stage.hosts[0]
    worker = stage.chance.choice(host.workers())
    signal_worker(worker, signal.SIGSTOP)
    try:
        await asyncio.sleep(4 if stage.quick else 10)
    finally:
        signal_worker(worker, signal.SIGCONT)
    await stage.pause(1)


async def wait_for_workers(stage: Stage, at_least: int) -> None:
    """Wait until every host has that many workers again, each past its start."""
    await until(lambda: all(len(host.workers()) >= at_least for host in stage.hosts), RESTART_MAX_S)


async def _full_host(stage: Stage) -> list[psutil.Process]:
    """Wait until a host has all its workers, so that its clients can use another worker when one dies."""
    found: list[list[psutil.Process]] = []

    def look() -> bool:
        found[:] = [workers for workers in (host.workers() for host in stage.hosts) if len(workers) >= WORKERS]
        return bool(found)

    await until(look, RESTART_MAX_S)
    return stage.chance.choice(found)
