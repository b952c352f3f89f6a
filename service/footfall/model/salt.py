"""A salt: the key of one site's visitor hash for one week. Pure."""

from datetime import date
from typing import NamedTuple
from zoneinfo import ZoneInfo

from footfall.model.periods import CLOSING_DELAY, week_end

SALT_BYTES = 32


class Salt(NamedTuple):
    """A key with its week (its Monday) and the moment at which it is destroyed, seconds since the epoch."""

    week: date
    key: bytes
    ends_s: int


def salt_ends_s(week: date, zone: ZoneInfo) -> int:
    """Return when the salt of `week` is destroyed: two hours after the week's end, seconds since the epoch."""
    return int(week_end(week, zone) + CLOSING_DELAY.total_seconds())
