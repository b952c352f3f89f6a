"""The state of a day, of which Redis and Postgres each hold a copy. Pure.

A day state is a sketch of visitor ids, the ids themselves while they are few, and, per batch log, the seq up to which
it is applied with the views up to there. Two copies meet in one way only, the merge: union of the sketches and of the
ids, and per log the higher seq with its views. Where one copy lacks ids that its sketch has seen, the union lacks them
too, and the sketch alone goes on. The merge is idempotent, commutative and associative: it may be repeated, and come
late or in any order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from footfall.model.peak import Peak
from footfall.model.sums import Sums


@dataclass(frozen=True, slots=True)
class DayState:
    """One copy of a day: `logs` maps a log's id to (seq, views)."""

    day: date
    visitors: int
    """Exact, or the estimate of the sketch with a standard error of 0.81 %."""
    sketch: bytes | None
    """None where it was dropped (a confirmed day older than 35 days) or is damaged."""
    logs: Mapping[str, tuple[int, int]]
    damaged: bool = False
    """The saved sketch failed its checks and was left out; the numbers stay."""
    peak: Peak | None = None
    """The most visitors that were online at once on this day."""
    ids: bytes | None = None
    """The ids of all its visitors, 16 bytes each, in order; None where they are not kept."""
    exact: bool = False
    """Whether `visitors` is the exact number."""

    @classmethod
    def empty(cls, day: date) -> "DayState":
        """Return a day without visitors."""
        return cls(day, 0, None, {}, ids=b"", exact=True)

    @property
    def views(self) -> int:
        """The day's page views: the sum over its logs."""
        return sum(views for _, views in self.logs.values())

    def seq_of(self, log_id: str) -> int:
        """Return the seq up to which a log is applied; 0 for an unknown log."""
        return self.logs.get(log_id, (0, 0))[0]


@dataclass(frozen=True, slots=True)
class Closed:
    """What Postgres has of all days up to and including `through`; a later reading replaces an earlier one."""

    read_at_us: int
    """Postgres' clock, microseconds since the epoch."""
    through: date
    visitors: int
    views: int
    adjustments: int
    revision: str
    today: date = date.max
    """The reader's day: a `through` that is not before it comes from a clock that was ahead; `date.max` = not known."""
    sums: Sums | None = None
    """Of the periods around `through`."""
    peak: Peak | None = None
    """The highest of all days that have come."""
    exact: bool = False
    """Whether `visitors` sums exact numbers only."""
