"""Keeps what anybody on the network can cause, or what goes on for hours, from filling the log."""

import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

LINE_EVERY_S = 60.0
NAMES_MAX = 10


class LogThrottle:
    """Lets one log line through per minute, and knows for how many times it stands."""

    def __init__(self, every_s: float = LINE_EVERY_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._monotonic = monotonic
        self._next_at = float("-inf")
        self._times = 0

    def happened(self) -> int:
        """Note that it happened; return how often since the last line if one is due now, else 0.

        >>> clock = iter([0.0, 1.0, 2.0, 61.0])
        >>> seldom = LogThrottle(monotonic=lambda: next(clock))
        >>> [seldom.happened() for _ in range(4)]
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
    """Knows which of many things were said to fail: each is said once when it begins, and once when it is over."""

    def __init__(self, every_s: float = LINE_EVERY_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._seldom = LogThrottle(every_s, monotonic)
        self._said: set[str] = set()

    def began(self, failing: AbstractSet[str]) -> list[str]:
        """Return those that fail and were not said yet; none until a minute after the last ones.

        >>> clock = iter([0.0, 1.0, 61.0])
        >>> changes = ReportedFailures(monotonic=lambda: next(clock))
        >>> changes.began({"a"}), changes.began({"a", "b"}), changes.began({"a", "b", "c"}), changes.began({"a", "b"})
        (['a'], [], ['b', 'c'], [])
        """
        new = sorted(failing - self._said)
        if not new or not self._seldom.happened():
            return []
        self._said.update(new)
        return new

    def ended(self, failing: AbstractSet[str]) -> list[str]:
        """Return those that were said to fail and no longer do."""
        well = sorted(self._said - failing)
        self._said.difference_update(well)
        return well


def some_of(names: Sequence[str]) -> str:
    """Name some of many in one line.

    >>> some_of(["a", "b"])
    'a,b'
    >>> some_of([str(number) for number in range(500)])
    '0,1,2,3,4,5,6,7,8,9 and 490 more'
    """
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return ",".join(names[:NAMES_MAX]) + more
