"""The numbers of a site: as a store counts them, and as a page is shown them. Pure.

Tuples, as every value that is made per batch: a frozen dataclass takes almost three times as long to make.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from footfall.model.peak import Peak, higher
from footfall.model.retention import DAY, WEEK
from footfall.model.site_id import SiteId
from footfall.model.sums import NOTHING, Spans, Tally

SPANS = ("yesterday", "last_week", "month", "last_month", "year")
"""Names of the numbers that follow the site's measure and are made of days that are over, and of today."""
NUMBERS = ("online", "today", "week", "total", "views_today", *SPANS, "views_month", "views_total", "peak_online")
"""Names of the numbers in JSON, in the metric's label `period`, and in the settings' `labels`."""
SHOWN = NUMBERS[:4]
"""What the block shows where a site does not choose."""
DEFINITIONS = 2
"""Rises when the meaning of a number changes; `deploy/NUMBERS.md` says what changed."""
ALWAYS_EXACT = ("online", "views_today", "views_month", "views_total", "peak_online")
"""The numbers that no estimate is ever a part of."""


class Reading(NamedTuple):
    """What a store holds for a site at one moment; views are exact, visitors where `exact` says so.

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
    """Changes with every adjustment; the part before `-` names the history."""
    at_ms: int
    """The store's own clock, milliseconds since the epoch."""
    spans: Spans | None = None
    """The numbers around today, without today's own; `None` where the closed days are not known with their sums."""
    peak: Peak | None = None
    """The most visitors that were online at once; `None` before the first one."""
    exact: tuple[str, ...] = ()
    """Which of today, week and total are no estimates where visitors are counted."""

    @property
    def history(self) -> str:
        """The part of the revision that names the installation, and what was changed of its past days."""
        return self.revision.partition("-")[0]

    def not_below(self, shown: "Reading") -> tuple["Reading", list[str]]:
        """Return this reading, raised to `shown` where it is lower within the same period, and the names raised."""
        floors: dict[str, Any] = {}
        for period, guarded in _NEVER_FALL_WITHIN.items():
            if getattr(self, period) == getattr(shown, period):
                known = ((name, getattr(shown, name)) for name in guarded)
                floors |= {name: floor for name, floor in known if floor and (getattr(self, name) or 0) < floor}
        raised = self._replace(**floors) if floors else self
        names = list(floors)
        still_exact = tuple(name for name in self.exact if f"{name}_visitors" not in floors)
        raised = raised._replace(exact=still_exact) if floors else self
        if raised.spans is not shown.spans:  # the same object for as long as the closed days are the same
            raised, of_spans = raised.spans_not_below(shown)
            names += of_spans
        if raised.peak != shown.peak and self.history == shown.history:
            is_past = shown.peak is not None and shown.peak.at_ms <= self.at_ms  # else of a clock that was ahead
            raised = raised._replace(peak=higher(raised.peak, shown.peak)) if is_past else raised
        return raised, names

    def span(self, name: str) -> Tally | None:
        """Return the number of that name with today's part in it; None where it is unknown."""
        if self.spans is None:
            return None
        closed: Tally = getattr(self.spans, name)
        return closed.plus(Tally(self.today_visitors, self.today_views)) if name in _HOLD_TODAY else closed

    def spans_not_below(self, shown: "Reading") -> tuple["Reading", list[str]]:
        """Raise the spans to what was shown of them; what was shown of a day, week or month that ended stays true.

        Unless its days were changed: imported again, or forgotten.
        """
        if self.history.partition(".")[2] != shown.history.partition(".")[2]:
            return self, []
        if self.spans is None:
            return self._replace(spans=shown.spans) if self.day_of == shown.day_of else self, []
        raised: dict[str, Tally] = {}
        for name, floor in self._floors(shown):
            own, closed = self.span(name), getattr(self.spans, name)
            if own is None or floor is None:
                continue
            lacking = Tally(max(0, (floor.visitors or 0) - (own.visitors or 0)), max(0, floor.views - own.views))
            if lacking != NOTHING:
                known = closed if not lacking.visitors else closed._replace(visitors=closed.visitors or 0)
                raised[name] = known.plus(lacking)
        return (self._replace(spans=self.spans._replace(**raised)), list(raised)) if raised else (self, [])

    def _floors(self, shown: "Reading") -> Iterator[tuple[str, Tally | None]]:
        """Yield what was shown of each span, where it is of the same days as this reading's."""
        month, shown_month = self.day_of.replace(day=1), shown.day_of.replace(day=1)
        if self.day_of == shown.day_of:
            yield "yesterday", shown.span("yesterday")
        elif self.day_of == shown.day_of + DAY:
            yield "yesterday", Tally(shown.today_visitors, shown.today_views)
        if self.week_of == shown.week_of:
            yield "last_week", shown.span("last_week")
        elif self.week_of == shown.week_of + WEEK:
            yield "last_week", Tally(shown.week_visitors, shown.week_views)
        if month == shown_month:
            yield "month", shown.span("month")
            yield "last_month", shown.span("last_month")
        elif (month - DAY).replace(day=1) == shown_month:
            yield "last_month", shown.span("month")
        if self.day_of.year == shown.day_of.year:
            yield "year", shown.span("year")


_HOLD_TODAY = frozenset({"month", "year"})
_NEVER_FALL_WITHIN: Mapping[str, tuple[str, ...]] = {
    "day_of": ("today_visitors", "today_views"),
    "week_of": ("week_visitors", "week_views"),
    "history": ("total_visitors", "total_views"),
}
"""By the field that names a period: the numbers that never fall within it."""
NEVER_FALLING = tuple(name for names in _NEVER_FALL_WITHIN.values() for name in names)


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
    yesterday: int | None = None
    last_week: int | None = None
    month: int | None = None
    last_month: int | None = None
    year: int | None = None
    views_month: int | None = None
    views_total: int | None = None
    peak_online: int | None = None
    peak_online_at: datetime | None = None
    definitions: int = DEFINITIONS
    show: tuple[str, ...] = SHOWN
    words: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    exact: tuple[str, ...] = ()
    """Names of the numbers that are exact now, in their order; the others are estimates."""

    def with_reading(self, reading: Reading, zone: ZoneInfo) -> "Counts":
        """Return the same site's counts with the numbers of `reading`; its moment is given in `zone`."""
        is_views = self.measure == "views"
        yesterday, last_week, month, last_month, year = map(reading.span, SPANS)
        numbers: dict[str, Any] = {  # in the order of NUMBERS
            "online": reading.online,
            "today": reading.today_views if is_views else reading.today_visitors,
            "week": reading.week_views if is_views else reading.week_visitors,
            "total": reading.adjustments + (reading.total_views if is_views else reading.total_visitors),
            "views_today": reading.today_views,
            "yesterday": yesterday and (yesterday.views if is_views else yesterday.visitors),
            "last_week": last_week and (last_week.views if is_views else last_week.visitors),
            "month": month and (month.views if is_views else month.visitors),
            "last_month": last_month and (last_month.views if is_views else last_month.visitors),
            "year": year and (year.views if is_views else year.visitors),
            "views_month": month and month.views,
            "views_total": reading.total_views,
            "peak_online": reading.peak and reading.peak.online,
        }
        exact = _no_estimates(is_views, reading.exact)
        return self._replace(
            **numbers,
            day_of=reading.day_of,
            week_of=reading.week_of,
            revision=reading.revision,
            as_of=_moment(reading.at_ms, zone),
            stale=False,
            peak_online_at=reading.peak and _kept_moment(reading.peak.at_ms, zone),
            exact=tuple([name for name, number in numbers.items() if number is not None and name in exact]),
        )

    def as_json(self) -> bytes:
        """Encode for the answer; `labels`, `words` and `show` only where the site sets some."""
        fields: dict[str, Any] = self._asdict()
        fields["day_of"] = self.day_of and self.day_of.isoformat()
        fields["week_of"] = self.week_of and self.week_of.isoformat()
        for moment in ("as_of", "peak_online_at"):
            at = fields[moment]
            fields[moment] = at and at.isoformat(timespec="milliseconds")
        if self.labels:
            fields["labels"] = dict(self.labels)
        else:
            del fields["labels"]
        if not self.words:
            del fields["words"]
        if self.show == SHOWN:
            del fields["show"]
        return _ENCODER.encode(fields).encode()


def _moment(at_ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, zone)


@lru_cache(maxsize=64)
def _no_estimates(is_views: bool, exact: tuple[str, ...]) -> frozenset[str]:
    """Return the names of numbers that are exact, unknown ones among them."""
    return frozenset(NUMBERS) if is_views else frozenset((*ALWAYS_EXACT, *exact))


@lru_cache(maxsize=1024)
def _kept_moment(at_ms: int, zone: ZoneInfo) -> datetime:
    """Return a moment that many answers share."""
    return _moment(at_ms, zone)


# Made once: json.dumps with options makes one per call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
