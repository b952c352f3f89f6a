"""How long each part of a site's state is needed, as days of the site's zone. Pure."""

from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from footfall.model.periods import CLOSING_DELAY, local_day, week_of

DAY = timedelta(days=1)
WEEK = timedelta(days=7)
SKETCHES_RETAINED = timedelta(days=35)
"""Sketches of older days are dropped from Postgres; their numbers stay for ever."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What both stores need at one moment. A week is named by its Monday."""

    today: date
    """The current day."""
    week: date
    """The current week."""
    needed_from: date
    """First day that has to be in Redis: of the week of the first day that is not closed, whose number is the union."""
    closed_through: date
    """Last closed day: two hours after its end its number moves from Redis to Postgres."""
    salts_from: date
    """Oldest week whose salt may exist: last week's lives until two hours after the week's end."""
    sketches_from: date
    """Oldest day whose sketch Postgres retains."""

    @classmethod
    def at(cls, at_s: float, zone: ZoneInfo) -> "Retention":
        """Return what is needed at a moment (seconds since the epoch).

        >>> retention = Retention.at(1767207600.0, ZoneInfo("Asia/Ho_Chi_Minh"))  # 02:00 on New Year's Day
        >>> str(retention.week), str(retention.needed_from), str(retention.closed_through)
        ('2025-12-29', '2025-12-29', '2025-12-31')
        """
        today, still_open = local_day(at_s, zone), local_day(at_s - CLOSING_DELAY.total_seconds(), zone)
        return cls(
            today=today,
            week=week_of(today),
            needed_from=week_of(still_open),
            closed_through=still_open - DAY,
            salts_from=week_of(still_open),
            sketches_from=today - SKETCHES_RETAINED,
        )

    @property
    def shared_weeks(self) -> tuple[date, date]:
        """The weeks whose salts workers share: the current one, and the next one, a week ahead."""
        return self.week, self.week + WEEK

    @property
    def weeks(self) -> list[date]:
        """The weeks of which Redis may have the salt or the union: from the oldest sketches to the next week."""
        since = week_of(self.sketches_from)
        return [since + n * WEEK for n in range((self.week - since).days // 7 + 2)]
