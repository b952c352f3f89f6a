"""Keeps what anybody on the network can cause from filling the log."""

import time
from collections.abc import Callable

LINE_EVERY_S = 60.0


class Seldom:
    """Lets one log line through per minute, and knows for how many times it stands."""

    def __init__(self, every_s: float = LINE_EVERY_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._monotonic = monotonic
        self._next_at = float("-inf")
        self._times = 0

    def happened(self) -> int:
        """Note that it happened; return how often since the last line if one is due now, else 0.

        >>> clock = iter([0.0, 1.0, 2.0, 61.0])
        >>> seldom = Seldom(monotonic=lambda: next(clock))
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
