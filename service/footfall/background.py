"""Background work: a loop that repeats a step, and which steps fail now; a test calls the step itself."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from footfall.log_throttle import LogThrottle

logger = logging.getLogger(__name__)

TICK_S = 0.5
TICKS_REMEMBERED = 10

Step = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Failing:
    """A step that failed the last time it ran."""

    why: str
    """The type of the exception; the log has the traceback."""
    since_s: float
    """Seconds since the epoch."""


class StepFailures:
    """The steps of a worker's background work that fail now: for `/readyz`, a metric and the log.

    The log gets one line when a step begins to fail and one when it succeeds again, each at most once a minute.
    """

    def __init__(self, report: Callable[[str, bool], object], clock: Callable[[], float] = time.time) -> None:
        self._report = report
        """Receives the name of a step and whether it fails, after every run."""
        self._clock = clock
        self._throttles: dict[str, LogThrottle] = {}
        self._logged: set[str] = set()
        """Steps whose failure the log has, and not yet their success."""
        self.now: dict[str, Failing] = {}
        """What fails now, by the name of the step."""

    async def attempt(self, name: str, step: Step) -> bool:
        """Run a step; return whether it succeeded. Whatever it raises is noted here, and ends here."""
        try:
            await step()
        except Exception as error:  # noqa: BLE001 - a loop that owns data must outlive a fault of any kind
            self._note_failure(name, error)
            return False
        self._note_success(name)
        return True

    def _note_failure(self, name: str, error: Exception) -> None:
        why = type(error).__name__
        before = self.now.get(name)
        self.now[name] = Failing(why, before.since_s if before else self._clock())
        self._report(name, True)
        is_news = name not in self._logged or before is None or before.why != why
        if is_news and (times := self._throttles.setdefault(name, LogThrottle()).happened()):
            self._logged.add(name)
            logger.error(
                "A step of the background work fails; the loop repeats it. step=%s times=%d",
                name,
                times,
                exc_info=error,
            )

    def _note_success(self, name: str) -> None:
        failing = self.now.pop(name, None)
        self._report(name, False)
        if failing and name in self._logged:
            self._logged.discard(name)
            failed_s = self._clock() - failing.since_s
            logger.info("A step of the background work succeeds again. step=%s failed_s=%.0f", name, failed_s)


async def repeat(name: str, step: Step, every_s: float, stopping: asyncio.Event, failures: StepFailures) -> None:
    """Call `step` now and `every_s` seconds after each end of a step, until `stopping` is set.

    A step that raises is noted in `failures` under `name`, and repeated: a loop that owns data must not end early.
    """
    while not stopping.is_set():
        await failures.attempt(name, step)
        await _pause(every_s, stopping)


async def repeat_until_done(
    name: str, step: Step, every_s: float, stopping: asyncio.Event, failures: StepFailures
) -> None:
    """Call `step` until it succeeds once, or until `stopping` is set."""
    while not stopping.is_set() and not await failures.attempt(name, step):
        await _pause(every_s, stopping)


async def run_each(*parts: Step) -> None:
    """Run every part of a step in order, each although another one failed; raise afterwards what they raised."""
    errors: list[Exception] = []
    for part in parts:
        try:
            await part()
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)
    raise_all(errors)


def raise_all(errors: Sequence[Exception]) -> None:
    """Raise what parts of a step raised, if they raised anything."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExceptionGroup("several parts of a step failed", errors)


async def _pause(every_s: float, stopping: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), every_s)
    except TimeoutError:
        return


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
