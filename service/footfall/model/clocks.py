"""The two clocks: one for the calendar, one for durations. A program that mixes them up fails when a clock is set."""

import time
from collections.abc import Callable
from typing import NewType, cast

EpochSeconds = NewType("EpochSeconds", float)
"""Seconds since 1970-01-01 UTC."""

MonotonicSeconds = NewType("MonotonicSeconds", float)
"""Seconds since an unknown start; never falls."""

Clock = Callable[[], EpochSeconds]
"""The calendar's time, as `time.time`; an operator or NTP may set it."""

MonotonicClock = Callable[[], MonotonicSeconds]
"""For durations, as `time.monotonic`."""

WALL_CLOCK = cast("Clock", time.time)
MONOTONIC_CLOCK = cast("MonotonicClock", time.monotonic)
