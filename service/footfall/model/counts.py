"""The numbers of a site: as Redis counts them, and as a page is shown them.

Tuples, as all that is made for every batch: a frozen dataclass takes almost three times as long to make.
"""

import json
from collections.abc import Mapping
from datetime import date, datetime
from typing import NamedTuple


class Reading(NamedTuple):
    """What a store holds for a site at one moment; views are exact, visitors are estimates.

    `None` is unknown: without Redis nobody knows who is online, nor the union of a week.
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
    at_ms: int
    """The store's own clock, milliseconds since the epoch."""


class Counts(NamedTuple):
    """The object that `/seen` and `/counts` answer with."""

    site: str
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

    def as_json(self) -> bytes:
        """Encode for the answer; `labels` only where the site sets some."""
        fields: dict[str, object] = {
            "site": self.site,
            "online": self.online,
            "today": self.today,
            "week": self.week,
            "total": self.total,
            "views_today": self.views_today,
            "measure": self.measure,
            "day_of": self.day_of and self.day_of.isoformat(),
            "week_of": self.week_of and self.week_of.isoformat(),
            "revision": self.revision,
            "as_of": self.as_of and self.as_of.isoformat(timespec="milliseconds"),
            "stale": self.stale,
            "poll_after_s": self.poll_after_s,
            "ping_after_s": self.ping_after_s,
            "language": self.language,
            "visitor_id": self.visitor_id,
        }
        if self.labels:
            fields["labels"] = dict(self.labels)
        return _ENCODER.encode(fields).encode()


# Made once: json.dumps with options makes one per call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
