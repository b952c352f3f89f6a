"""Background work: a loop that repeats a step; a test calls the step itself."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from footfall.log_throttle import LogThrottle

logger = logging.getLogger(__name__)

TICK_S = 0.5
TICKS_REMEMBERED = 10


async def repeat(step: Callable[[], Awaitable[object]], every_s: float, stopping: asyncio.Event) -> None:
    """Call `step` now and `every_s` seconds after each end of a step, until `stopping` is set.

    A step that raises is logged, at most once a minute, and repeated: a loop that owns data must not end early.
    """
    failures = LogThrottle()
    while not stopping.is_set():
        try:
            await step()
        except Exception:
            if times := failures.happened():
                logger.exception(
                    "A step of the background work failed; the loop repeats it. step=%s times=%d", step, times
                )
        try:
            await asyncio.wait_for(stopping.wait(), every_s)
        except TimeoutError:
            continue


class LoopLag:
    """Measures how late the event loop runs what is due: a ticker compares its waking with its plan."""

    def __init__(self, report: Callable[[float], object]) -> None:
        self._report = report
        """Receives the worst delay at every tick."""
        self._late_s: deque[float] = deque(maxlen=TICKS_REMEMBERED)
        self._due_at = float("inf")

    @property
    def worst_s(self) -> float:
        """Return the worst delay of the last five seconds, including one that has not ended yet."""
        pending_s = asyncio.get_running_loop().time() - self._due_at
        return max(pending_s, 0.0, *self._late_s)

    async def watch(self) -> None:
        """Tick until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._due_at = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self._late_s.append(loop.time() - self._due_at)
            self._report(self.worst_s)
