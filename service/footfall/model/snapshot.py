"""One atomic look at what Redis holds of a site. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from footfall.model.day_state import DayState
from footfall.model.pages import PageDay
from footfall.model.retention import Retention
from footfall.model.site_id import SiteId


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A site's unconfirmed days (or all days), its salts, and which days are in Redis."""

    days: Sequence[DayState]
    changes: Mapping[date, str]
    """Value of each unconfirmed day's `dirty` field, to be confirmed by value."""
    present: Sequence[date]
    """All days in Redis, in order."""
    salts: Mapping[date, bytes]
    """By week, its Monday."""
    pages: Sequence[PageDay] = ()
    """Of its days, the pages that Postgres has not confirmed (or all pages)."""
    weeks: Mapping[date, int] = field(default_factory=dict)
    """Visitors of the union of each week, by its Monday."""
    exact_weeks: Collection[date] = ()
    """Those of them whose number is exact."""


@dataclass(frozen=True, slots=True)
class SiteCopy:
    """A snapshot on its way to Postgres."""

    site_id: SiteId
    snapshot: Snapshot
    retention: Retention
    is_due: bool = True
    """Whether Postgres is to look for sketches, ids and salts of this site whose time is over."""
