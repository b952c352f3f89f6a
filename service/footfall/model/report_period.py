"""The days of a report, and the days, weeks, months or years into which it divides them. Pure."""

from collections.abc import Iterator
from datetime import date, timedelta
from enum import StrEnum
from typing import NamedTuple

DAY = timedelta(days=1)
DAYS_SHOWN = 30
WEEKS_SHOWN = 26
MONTHS_SHOWN = 24
OLDEST = date(1990, 1, 1)
"""No portal is older: an earlier day in a question is a slip of the keyboard."""


class By(StrEnum):
    """Into which periods a report divides its days."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"

    def start(self, day: date) -> date:
        """Return the first day of the period that holds `day`.

        >>> [str(by.start(date(2026, 11, 25))) for by in By]
        ['2026-11-25', '2026-11-23', '2026-11-01', '2026-01-01']
        """
        match self:
            case By.DAY:
                return day
            case By.WEEK:
                return day - timedelta(days=day.weekday())
            case By.MONTH:
                return day.replace(day=1)
            case By.YEAR:
                return day.replace(month=1, day=1)

    def end(self, day: date) -> date:
        """Return the last day of the period that holds `day`.

        >>> [str(by.end(date(2024, 2, 5))) for by in By]
        ['2024-02-05', '2024-02-11', '2024-02-29', '2024-12-31']
        """
        longest = {By.DAY: 1, By.WEEK: 7, By.MONTH: 31, By.YEAR: 366}[self]
        return self.start(self.start(day) + timedelta(days=longest + (longest > 7) * 4)) - DAY


class Days(NamedTuple):
    """Days from `first` to `last`, both included."""

    first: date
    last: date

    @property
    def number(self) -> int:
        """How many days these are."""
        return (self.last - self.first).days + 1

    def before(self) -> "Days":
        """Return the days to compare these with: whole months by as many months, others by as many days.

        >>> print(*Days(date(2026, 4, 1), date(2026, 6, 30)).before())
        2026-01-01 2026-03-31
        >>> print(*Days(date(2026, 11, 9), date(2026, 11, 15)).before())
        2026-11-02 2026-11-08
        """
        if self.first.day == 1 and (self.last + DAY).day == 1:
            end = self.last + DAY
            months = (end.year - self.first.year) * 12 + end.month - self.first.month
            at = self.first.year * 12 + self.first.month - 1 - months
            return Days(date(at // 12, at % 12 + 1, 1), self.first - DAY)
        return Days(self.first - timedelta(days=self.number), self.first - DAY)

    def parts(self, by: By) -> Iterator["Days"]:
        """Yield the periods of these days; the first and the last may be cut.

        >>> for part in Days(date(2026, 11, 28), date(2026, 12, 1)).parts(By.MONTH):
        ...     print(*part)
        2026-11-28 2026-11-30
        2026-12-01 2026-12-01
        """
        first = self.first
        while first <= self.last:
            part = Days(first, min(by.end(first), self.last))
            yield part
            first = part.last + DAY

    def whole_months(self) -> tuple[date, date]:
        """Return the first day of the first whole month and the day after the last one; twice the same if none is.

        >>> print(*Days(date(2026, 1, 15), date(2026, 4, 1)).whole_months())
        2026-02-01 2026-04-01
        >>> print(*Days(date(2026, 1, 15), date(2026, 2, 27)).whole_months())
        2026-02-28 2026-02-28
        """
        after = self.last + DAY
        start = self.first if self.first.day == 1 else By.MONTH.end(self.first) + DAY
        end = after.replace(day=1)
        return (start, end) if start < end else (after, after)

    def is_whole(self, by: By) -> bool:
        """Return whether these are all days of one period."""
        return self.first == by.start(self.first) and self.last == by.end(self.first)


def asked_days(by: By, first: date | None, last: date | None, today: date, since: date | None) -> Days:
    """Return the days of a report: those asked for, else some that end today, and none before the first that counts.

    `since` is the first day that has numbers. Raises ValueError with a sentence about days that cannot be.
    """
    if first is not None and last is not None and first > last:
        raise ValueError(f"from ({first}) is after to ({last})")
    if (first is not None and first < OLDEST) or (last is not None and last < OLDEST):
        raise ValueError(f"no day before {OLDEST} can be asked for")
    if first is not None and first > today:
        raise ValueError(f"from ({first}) lies in the future: today is {today}")
    end = min(last or today, today)
    if first is None:
        first = max(since or end, _shown_first(by, end, since)) if since is None or since <= end else end
    return Days(first, end)


def _shown_first(by: By, end: date, since: date | None) -> date:
    match by:
        case By.DAY:
            return end - (DAYS_SHOWN - 1) * DAY
        case By.WEEK:
            return by.start(end) - timedelta(weeks=WEEKS_SHOWN - 1)
        case By.MONTH:
            at = end.year * 12 + end.month - MONTHS_SHOWN
            return date(at // 12, at % 12 + 1, 1)
        case By.YEAR:
            return since or by.start(end)
