"""F19: several workers restore Redis at once while beacons flow; some workers are killed or paused."""

import asyncio
import signal

from tests.chaos.host import signal_worker
from tests.chaos.redis_faults import never_half_restored, wait_until_counted
from tests.chaos.stage import Stage
from tests.chaos.workers import wait_for_workers


async def race(stage: Stage) -> None:
    """Empty Redis and disturb a restorer at once. Beacons use the other host, so that none is lost with it."""
    stage.watcher.across_workers = False
    disturbed = stage.hosts[1]
    async with never_half_restored(stage):
        for turn in stage.rounds(6, 2):
            await wait_for_workers(stage, 1)
            await stage.pause(0.2, 1)
            workers = disturbed.workers()
            await stage.stores.redis.flushall()
            await asyncio.sleep(stage.chance.uniform(0, 0.03))
            worker = stage.chance.choice(workers)
            signal_worker(worker, signal.SIGKILL if turn % 2 else signal.SIGSTOP)
            await wait_until_counted(stage)
            signal_worker(worker, signal.SIGCONT)
