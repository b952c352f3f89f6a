"""Which calendar day and week a moment belongs to, in a site's zone. Pure: the clock is handed in."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from math import floor
from zoneinfo import ZoneInfo

from footfall.model.clocks import Clock

CLOSING_DELAY = timedelta(hours=2)
"""A day is closed, and a week's salt destroyed, this long after its end."""


def local_day(at_s: float, zone: ZoneInfo) -> date:
    """Return the calendar day of a moment in `zone`.

    >>> local_day(1767200400.0, ZoneInfo("Asia/Ho_Chi_Minh"))  # 17:00 UTC on New Year's Eve
    datetime.date(2026, 1, 1)
    """
    # Rounded down: datetime rounds to the nearest microsecond, and the last one before midnight would be tomorrow's.
    return datetime.fromtimestamp(floor(at_s), zone).date()


def week_of(day: date) -> date:
    """Return the Monday that names the week of `day`.

    >>> week_of(date(2027, 1, 1))
    datetime.date(2026, 12, 28)
    """
    return day - timedelta(days=day.weekday())


def start_of(day: date, zone: ZoneInfo) -> float:
    """Return the first moment of `day` in `zone`, in seconds since the epoch.

    Where the clocks skip midnight, it is the first moment that exists.

    >>> start_of(date(2026, 1, 1), ZoneInfo("Asia/Ho_Chi_Minh"))
    1767200400.0
    """
    return datetime.combine(day, time.min, zone).astimezone(UTC).timestamp()


def week_end(week: date, zone: ZoneInfo) -> float:
    """Return the first moment after the week that starts on Monday `week`, in seconds since the epoch."""
    return start_of(week + timedelta(days=7), zone)


@dataclass(frozen=True, slots=True)
class Period:
    """A site's current day and the week around it, valid from `start_s` until just before `end_s`."""

    day: date
    week: date
    start_s: float
    end_s: float

    def holds(self, at_s: float) -> bool:
        """Tell whether a moment (seconds since the epoch) falls in this day."""
        return self.start_s <= at_s < self.end_s


def period_at(at_s: float, zone: ZoneInfo) -> Period:
    """Return the day and week of a moment in `zone`; worth keeping until it no longer holds.

    >>> period = period_at(1767200399.9, ZoneInfo("Asia/Ho_Chi_Minh"))
    >>> str(period.day), str(period.week), period.end_s - period.start_s
    ('2025-12-31', '2025-12-29', 86400.0)
    """
    day = local_day(at_s, zone)
    return Period(day, week_of(day), start_of(day, zone), start_of(day + timedelta(days=1), zone))


class Periods:
    """The current day and week in each zone, worked out once a day."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._known: dict[ZoneInfo, Period] = {}

    def now(self, zone: ZoneInfo) -> tuple[float, Period]:
        """Return the moment (seconds since the epoch) and the period of `zone` that holds it."""
        at_s = self.clock()
        period = self._known.get(zone)
        if period is None or not period.holds(at_s):
            period = self._known[zone] = period_at(at_s, zone)
        return at_s, period
