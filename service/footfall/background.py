"""Work in the background: a step that can be called by itself, and one loop that repeats it."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from footfall.log_throttle import LogThrottle

logger = logging.getLogger(__name__)

TICK_S = 0.5
TICKS_REMEMBERED = 10


async def repeat(step: Callable[[], Awaitable[object]], every_s: float, stopping: asyncio.Event) -> None:
    """Call `step` now and `every_s` seconds after each end of it, until `stopping` is set.

    A step that raises is repeated, and logged once a minute: a loop that owns data must not end before its time.
    """
    failures = LogThrottle()
    while not stopping.is_set():
        try:
            await step()
        except Exception:
            if times := failures.happened():
                logger.exception("A step of the background work failed; it is repeated. step=%s times=%d", step, times)
        try:
            await asyncio.wait_for(stopping.wait(), every_s)
        except TimeoutError:
            continue


class LoopLag:
    """How late the event loop does what is due, by a ticker that notes how late it woke itself."""

    def __init__(self, report: Callable[[float], object]) -> None:
        self._report = report
        """Told the worst delay at every tick."""
        self._late_s: deque[float] = deque(maxlen=TICKS_REMEMBERED)
        self._due_at = float("inf")

    @property
    def worst_s(self) -> float:
        """The worst delay of the last five seconds, also one that has not ended yet."""
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
