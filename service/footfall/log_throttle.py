"""Limits how often one kind of event is logged: a client, or a fault of hours, must not fill the log."""

import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

LINE_EVERY_S = 60.0
NAMES_MAX = 10


class LogThrottle:
    """Allows one log line a minute, and counts the events since the last line."""

    def __init__(self, every_s: float = LINE_EVERY_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._monotonic = monotonic
        self._next_at = float("-inf")
        self._times = 0

    def happened(self) -> int:
        """Record one event; return the events since the last line if a line is due now, else 0.

        >>> clock = iter([0.0, 1.0, 2.0, 61.0])
        >>> throttle = LogThrottle(monotonic=lambda: next(clock))
        >>> [throttle.happened() for _ in range(4)]
        [1, 0, 0, 3]
        """
        self._times += 1
        now = self._monotonic()
        if now < self._next_at:
            return 0
        times, self._times = self._times, 0
        self._next_at = now + self._every_s
        return times


class ReportedFailures:
    """Remembers which of many things were reported as failing: each begin and each end is reported once."""

    def __init__(self, every_s: float = LINE_EVERY_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._throttle = LogThrottle(every_s, monotonic)
        self._reported: set[str] = set()

    def began(self, failing: AbstractSet[str]) -> list[str]:
        """Return the failing things to report now: those not reported yet, at most once a minute.

        >>> clock = iter([0.0, 1.0, 61.0])
        >>> known = ReportedFailures(monotonic=lambda: next(clock))
        >>> known.began({"a"}), known.began({"a", "b"}), known.began({"a", "b", "c"}), known.began({"a", "b"})
        (['a'], [], ['b', 'c'], [])
        """
        new = sorted(failing - self._reported)
        if not new or not self._throttle.happened():
            return []
        self._reported.update(new)
        return new

    def ended(self, failing: AbstractSet[str]) -> list[str]:
        """Return the things that were reported as failing and no longer fail."""
        recovered = sorted(self._reported - failing)
        self._reported.difference_update(recovered)
        return recovered


def some_of(names: Sequence[str]) -> str:
    """Return the first names in one line, and how many more there are.

    >>> some_of(["a", "b"])
    'a,b'
    >>> some_of([str(number) for number in range(500)])
    '0,1,2,3,4,5,6,7,8,9 and 490 more'
    """
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return ",".join(names[:NAMES_MAX]) + more
