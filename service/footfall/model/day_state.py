"""The state of a day, of which Redis and Postgres each hold a copy. Pure.

A day state is a sketch of visitor ids and, per log, how far it is applied and the views it brought so far.
Two copies meet in one way only, the join: union of the sketches, and per log the higher number with its views.
The join is idempotent, commutative and associative: it may be repeated and come late or in any order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class DayState:
    """One copy of a day: `logs` maps a log's id to (number, views)."""

    day: date
    visitors: int
    """Estimate of the sketch, standard error 0.81 %."""
    sketch: bytes | None
    """None where it was dropped (a confirmed day older than 35 days) or is damaged."""
    logs: Mapping[str, tuple[int, int]]
    damaged: bool = False
    """The saved sketch did not pass its checks and was left out; the numbers are kept."""

    @property
    def views(self) -> int:
        """The day's page views: the sum over its logs."""
        return sum(views for _, views in self.logs.values())


@dataclass(frozen=True, slots=True)
class Closed:
    """What Postgres says of all days up to and including `through`; a later reading replaces an earlier one."""

    read_at_us: int
    through: date
    visitors: int
    views: int
    adjustments: int
    revision: str

    def as_arguments(self) -> tuple[str | int, ...]:
        """In the order in which the Redis scripts take them."""
        return (
            self.read_at_us,
            self.through.isoformat(),
            self.visitors,
            self.views,
            self.adjustments,
            self.revision,
        )
