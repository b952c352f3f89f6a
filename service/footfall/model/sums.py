"""The sums over days that are over, and the numbers that they and the open days make of any day. Pure.

What is closed comes from Postgres and is kept in Redis (`Sums`); what is open is in Redis. A sum names the day through
which it is closed, and holds its month and its year with the month before, so that the numbers of the next day, week,
month and year are right at once, before Postgres closes anything of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from footfall.model.periods import week_of
from footfall.model.retention import DAY, WEEK


class Tally(NamedTuple):
    """Visitors and views of a day, or summed over days; `None` is unknown."""

    visitors: int | None
    views: int

    def plus(self, other: "Tally") -> "Tally":
        """Return the sum of both; unknown where one of them is."""
        unknown = self.visitors is None or other.visitors is None
        return Tally(None if unknown else (self.visitors or 0) + (other.visitors or 0), self.views + other.views)


NOTHING = Tally(0, 0)
DayTally = tuple[date, int, int]
"""A day with its visitors and its views."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What Postgres has of the periods that end with `through`, or hold it: the days up to it, and no later ones."""

    through: date
    """The last closed day."""
    day: Tally
    """That day."""
    week: Tally
    """Its week. The visitors are those of the union, not a sum, and may know later days already."""
    last_week: Tally
    """The week before it."""
    month: Tally
    last_month: Tally
    year: Tally

    def encode(self) -> str:
        """Return the text that Redis keeps beside `through`.

        >>> Sums(date(2026, 1, 31), *[Tally(None, 7), Tally(1, 2)] * 3).encode()
        '2026-01-31 - 7 1 2 - 7 1 2 - 7 1 2'
        """
        tallies = (self.day, self.week, self.last_week, self.month, self.last_month, self.year)
        numbers = (number for tally in tallies for number in tally)
        return " ".join([self.through.isoformat(), *("-" if number is None else str(number) for number in numbers)])

    @classmethod
    def decode(cls, text: str) -> "Sums | None":
        """Read what `encode` wrote; None for anything else, as a newer version may write."""
        through, *numbers = text.split(" ")
        try:
            read = [None if number == "-" else int(number) for number in numbers]
            pairs = zip(read[::2], read[1::2], strict=True)
            day, week, last_week, month, last_month, year = (Tally(visitors, views or 0) for visitors, views in pairs)
            return cls(date.fromisoformat(through), day, week, last_week, month, last_month, year)
        except ValueError:
            return None


class Spans(NamedTuple):
    """The numbers of the days around a day; without that day itself, which is added as it grows."""

    yesterday: Tally
    last_week: Tally
    month: Tally
    last_month: Tally
    year: Tally


def spans_of(today: date, sums: Sums, open_days: Iterable[DayTally], last_week_open: int) -> Spans | None:
    """Return the numbers of `today`, without its own; None where the sums are of a day that is not before it.

    `open_days` are the days after `sums.through`, but for today; later ones are left out. `last_week_open` are the
    visitors of last week's union while that week is not closed.
    """
    through = sums.through
    if through >= today:  # a clock was ahead: the next rollup reads the sums of this day
        return None
    days = [(day, Tally(visitors, views)) for day, visitors, views in open_days if through < day < today]
    month, week = today.replace(day=1), week_of(today)
    last_month, last_week = (month - DAY).replace(day=1), week - WEEK

    def summed(since: date, before: date, closed: Tally) -> Tally:
        for day, tally in days:
            if since <= day < before:
                closed = closed.plus(tally)
        return closed

    closed_month = through.replace(day=1)
    week_closed = {week: sums.last_week, last_week: sums.week}.get(week_of(through), NOTHING)
    week_views = summed(last_week, week, NOTHING).views + week_closed.views
    return Spans(
        yesterday=summed(today - DAY, today, sums.day if through == today - DAY else NOTHING),
        last_week=Tally(max(week_closed.visitors or 0, last_week_open) or week_closed.visitors, week_views),
        month=summed(month, today, sums.month if closed_month == month else NOTHING),
        last_month=summed(
            last_month, month, {month: sums.last_month, last_month: sums.month}.get(closed_month, NOTHING)
        ),
        year=summed(today.replace(month=1, day=1), today, sums.year if through.year == today.year else NOTHING),
    )
