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
    moment_us: int = 0
    """By Redis' clock."""
    all_days: bool = False
    """Whether it is of all days; another worker may have looked at them a moment ago, between the same servers."""
    closed: tuple[str, str] = ("", "")
    """Through which day the days are closed in Redis, and the revision of the total; both empty for none."""
    is_recent: bool = False
    """Another worker rolls the site up now, or did a moment ago: this one has looked at nothing."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a worker leaves to the others: a rollup that another worker made a moment ago serves for all of them."""

    worker: str
    """Its id, in hex."""
    recent_s: float
    """How long a rollup of another worker serves."""
    servers: str
    """Of which Redis and Postgres a look at all days counts, in hex: each of them may have lost something before."""
    all_recent_s: float
    """How long another worker's look at all days serves."""

    def looked_at_all(self, moment_us: int) -> str:
        """Return what Redis remembers of a look at all days that Postgres has committed."""
        return f"{self.worker}:{self.servers}:{moment_us}"


@dataclass(frozen=True, slots=True)
class SiteCopy:
    """A snapshot on its way to Postgres."""

    site_id: SiteId
    snapshot: Snapshot
    retention: Retention
    is_due: bool = True
    """Whether Postgres is to look for sketches, ids and salts of this site whose time is over."""
