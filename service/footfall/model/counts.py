"""The numbers of a site: as a store counts them, and as a page is shown them. Pure.

Tuples, as every value that is made per batch: a frozen dataclass takes almost three times as long to make.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, cached_property, lru_cache
from operator import attrgetter
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
        raised, names = self, list[str]()
        if any((now or 0) < (before or 0) for now, before in zip(_guarded(self), _guarded(shown), strict=True)):
            raised, names = self._raised_to(shown)
        if raised.spans is not shown.spans:  # the same object for as long as the closed days are the same
            raised, of_spans = raised.spans_not_below(shown)
            names += of_spans
        if raised.peak != shown.peak and self.history == shown.history:
            is_past = shown.peak is not None and shown.peak.at_ms <= self.at_ms  # else of a clock that was ahead
            if is_past and (peak := higher(raised.peak, shown.peak)) is not raised.peak:
                raised = raised._replace(peak=peak)
        return raised, names

    def _raised_to(self, shown: "Reading") -> tuple["Reading", list[str]]:
        """Raise the numbers that never fall to what was shown in the same period."""
        floors: dict[str, Any] = {}
        for period, guarded in _NEVER_FALL_WITHIN.items():
            if getattr(self, period) == getattr(shown, period):
                known = ((name, getattr(shown, name)) for name in guarded)
                floors |= {name: floor for name, floor in known if floor and (getattr(self, name) or 0) < floor}
        for today, total in _TODAY_IN_TOTAL.items():  # the total may be of another history, and yet today is part of it
            if floors.get(today, 0) > floors.get(total, getattr(self, total)):
                floors[total] = floors[today]
        still_exact = tuple(name for name in self.exact if f"{name}_visitors" not in floors)
        return self._replace(**floors, exact=still_exact), list(floors)

    def around(self, *, is_views: bool) -> tuple[int | None, ...]:
        """Return the numbers of `SPANS` in one measure, with today's part in them; None where they are unknown."""
        if self.spans is None:
            return (None,) * len(SPANS)
        today = self.today_views if is_views else self.today_visitors
        closed = [tally.views if is_views else tally.visitors for tally in self.spans]
        yesterday, last_week, month, last_month, year = closed
        return yesterday, last_week, _plus(month, today), last_month, _plus(year, today)

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
_TODAY_IN_TOTAL: Mapping[str, str] = {"today_visitors": "total_visitors", "today_views": "total_views"}
NEVER_FALLING = tuple(name for names in _NEVER_FALL_WITHIN.values() for name in names)
_guarded = attrgetter(*NEVER_FALLING)

Pairs = tuple[tuple[str, str], ...]
"""Names and texts, as a value that can be the key of what was prepared for it."""


@dataclass(frozen=True)
class Form:
    """What no reading changes of a site's counts, and so the form of their JSON."""

    site: SiteId
    measure: str
    poll_after_s: int
    ping_after_s: int
    language: str
    visitor_id: str
    labels: Pairs = ()
    """The site's own names of numbers."""
    definitions: int = DEFINITIONS
    show: tuple[str, ...] = SHOWN
    words: tuple[tuple[str, Pairs], ...] = ()
    """By language: the names of numbers."""

    @cached_property
    def json(self) -> str:
        """The object with `%s` for each field that a reading changes, in the order of `Counts.as_json`.

        `labels`, `words` and `show` stand in it only where the site sets some.
        """
        own: dict[str, Any] = vars(self) | {
            "labels": dict(self.labels),
            "words": {language: dict(names) for language, names in self.words},
        }
        left_out = {name for name in ("labels", "words") if not own[name]} | ({"show"} if self.show == SHOWN else set())
        fields = [
            f'"{name}":{_json(own[name]).replace("%", "%%") if name in own else "%s"}'
            for name in _JSON_FIELDS
            if name not in left_out
        ]
        return f"{{{','.join(fields)}}}"


_JSON_FIELDS = (
    *("site", "online", "today", "week", "total", "views_today", "measure", "day_of", "week_of", "revision", "as_of"),
    *("stale", "poll_after_s", "ping_after_s", "language", "visitor_id", "labels", "yesterday", "last_week", "month"),
    *("last_month", "year", "views_month", "views_total", "peak_online", "peak_online_at", "definitions", "show"),
    *("words", "exact"),
)


class Counts(NamedTuple):
    """The object that `/seen` and `/counts` answer with."""

    form: Form
    day_of: date | None
    week_of: date | None
    revision: str | None
    as_of: str | None
    """The moment of the reading, in the site's zone, to the millisecond (ISO 8601)."""
    stale: bool
    online: int | None
    today: int | None
    week: int | None
    total: int | None
    views_today: int | None
    yesterday: int | None = None
    last_week: int | None = None
    month: int | None = None
    last_month: int | None = None
    year: int | None = None
    views_month: int | None = None
    views_total: int | None = None
    peak_online: int | None = None
    peak_online_at: str | None = None
    exact: tuple[str, ...] = ()
    """Names of the numbers that are exact now, in their order; the others are estimates."""

    def with_reading(self, reading: Reading, zone: ZoneInfo) -> "Counts":
        """Return the same site's counts with the numbers of `reading`; its moment is given in `zone`."""
        is_views = self.form.measure == "views"
        today_views, peak, spans = reading.today_views, reading.peak, reading.spans
        numbers = (  # in the order of NUMBERS
            reading.online,
            today_views if is_views else reading.today_visitors,
            reading.week_views if is_views else reading.week_visitors,
            reading.adjustments + (reading.total_views if is_views else reading.total_visitors),
            today_views,
            *reading.around(is_views=is_views),
            None if spans is None else spans.month.views + today_views,
            reading.total_views,
            None if peak is None else peak.online,
        )
        values = (  # in the order of the fields: `_replace` takes ten times as long
            self.form,
            reading.day_of,
            reading.week_of,
            reading.revision,
            _moment(reading.at_ms, zone),
            False,
            *numbers,
            None if peak is None else _moment(peak.at_ms, zone),
            _known_exactly(is_views, reading.exact, tuple([number is None for number in numbers])),
        )
        return Counts._make(values)

    def as_json(self) -> bytes:
        """Encode for the answer."""
        numbers = ["null" if number is None else number for number in self[FIRST_NUMBER : FIRST_NUMBER + len(NUMBERS)]]
        changing = (
            *numbers[:5],
            _json_of_day(self.day_of),
            _json_of_day(self.week_of),
            _json(self.revision),
            _json(self.as_of),
            "true" if self.stale else "false",
            *numbers[5:],
            _json(self.peak_online_at),
            _json_of_names(self.exact),
        )
        return (self.form.json % changing).encode()


FIRST_NUMBER = Counts._fields.index(NUMBERS[0])
"""The numbers stand there in the order of `NUMBERS`."""


def _plus(closed: int | None, today: int) -> int | None:
    return None if closed is None else closed + today


def _moment(at_ms: int, zone: ZoneInfo) -> str:
    until_second, offset = _second(at_ms // 1000, zone)
    return f"{until_second}{at_ms % 1000:03d}{offset}"


@lru_cache(maxsize=1024)
def _second(at_s: int, zone: ZoneInfo) -> tuple[str, str]:
    """Return what stands before and after the milliseconds; kept, because many answers are of one second."""
    text = datetime.fromtimestamp(at_s, zone).isoformat(timespec="milliseconds")
    until_second, _, rest = text.partition(".")
    return f"{until_second}.", rest[3:]


@lru_cache(maxsize=1024)
def _known_exactly(is_views: bool, exact: tuple[str, ...], unknown: tuple[bool, ...]) -> tuple[str, ...]:
    """Return the names of the numbers that are exact and not unknown, in their order."""
    of_all = NUMBERS if is_views else (*ALWAYS_EXACT, *exact)
    return tuple(name for name, is_unknown in zip(NUMBERS, unknown, strict=True) if name in of_all and not is_unknown)


# Made once: json.dumps with options makes one per call.
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@lru_cache(maxsize=64)
def _json_of_day(day: date | None) -> str:
    return _json(day and day.isoformat())


@cache
def _json_of_names(names: tuple[str, ...]) -> str:
    return _json(names)
