"""The numbers of a site: as a store counts them, and as a page is shown them. Pure.

Tuples, as every value that is made per batch: a frozen dataclass takes almost three times as long to make.
"""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from footfall.model.site_id import SiteId

NUMBERS = ("online", "today", "week", "total", "views_today")
"""Names of the numbers in JSON, in the metric's label `period`, and in the settings' `labels`."""


class Reading(NamedTuple):
    """What a store holds for a site at one moment; views are exact, visitors are estimates.

    `None` is unknown: without Redis neither who is online nor the union of a week is known. The record script answers
    the fields after `week_of` in this order.
    """

    day_of: date
    week_of: date
    online: int | None
    today_visitors: int
    today_views: int
    week_visitors: int | None
    week_views: int
    total_visitors: int
    """Sum over the days of each day's distinct visitors, without adjustments."""
    total_views: int
    """Page views of all days, without adjustments."""
    adjustments: int
    revision: str
    """Changes with every adjustment; the part before `-` names the installation."""
    at_ms: int
    """The store's own clock, milliseconds since the epoch."""

    @property
    def installation(self) -> str:
        """The part of the revision that names the installation."""
        return self.revision.partition("-")[0]

    def not_below(self, shown: "Reading") -> tuple["Reading", list[str]]:
        """Return this reading, raised to `shown` where it is lower within the same period, and the names raised."""
        floors: dict[str, Any] = {}
        for period, names in _NEVER_FALL_WITHIN.items():
            if getattr(self, period) == getattr(shown, period):
                known = ((name, getattr(shown, name)) for name in names)
                floors |= {name: floor for name, floor in known if floor and (getattr(self, name) or 0) < floor}
        return (self._replace(**floors), list(floors)) if floors else (self, [])


_NEVER_FALL_WITHIN: Mapping[str, tuple[str, ...]] = {
    "day_of": ("today_visitors", "today_views"),
    "week_of": ("week_visitors", "week_views"),
    "installation": ("total_visitors", "total_views"),
}
"""By the field that names a period: the numbers that never fall within it."""


class Counts(NamedTuple):
    """The object that `/seen` and `/counts` answer with."""

    site: SiteId
    online: int | None
    today: int | None
    week: int | None
    total: int | None
    views_today: int | None
    measure: str
    day_of: date | None
    week_of: date | None
    revision: str | None
    as_of: datetime | None
    stale: bool
    poll_after_s: int
    ping_after_s: int
    language: str
    visitor_id: str
    labels: Mapping[str, str]

    def with_reading(self, reading: Reading, zone: ZoneInfo) -> "Counts":
        """Return the same site's counts with the numbers of `reading`; its moment is given in `zone`."""
        is_views = self.measure == "views"
        return self._replace(
            online=reading.online,
            today=reading.today_views if is_views else reading.today_visitors,
            week=reading.week_views if is_views else reading.week_visitors,
            total=reading.adjustments + (reading.total_views if is_views else reading.total_visitors),
            views_today=reading.today_views,
            day_of=reading.day_of,
            week_of=reading.week_of,
            revision=reading.revision,
            as_of=datetime.fromtimestamp(reading.at_ms / 1000, UTC).astimezone(zone),
            stale=False,
        )

    def as_json(self) -> bytes:
        """Encode for the answer; `labels` only where the site sets some."""
        fields: dict[str, object] = self._asdict()
        fields["day_of"] = self.day_of and self.day_of.isoformat()
        fields["week_of"] = self.week_of and self.week_of.isoformat()
        fields["as_of"] = self.as_of and self.as_of.isoformat(timespec="milliseconds")
        if self.labels:
            fields["labels"] = dict(self.labels)
        else:
            del fields["labels"]
        return _ENCODER.encode(fields).encode()


# Made once: json.dumps with options makes one per call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
