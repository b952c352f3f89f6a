"""The rows in which figures are shown, and their goals."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

SIGNS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {">=": operator.ge, "<=": operator.le, "=": operator.eq}
)


def figure(found: Mapping[str, Any], path: str) -> float | None:
    """Return the figure at a dotted path of `bench.json`; None where it was not measured.

    >>> figure({"seen": {"64": {"ratio": 0.9}}}, "seen.64.ratio")
    0.9
    >>> figure({"nginx": None}, "nginx.hit_ratio")
    """
    at: Any = found
    for name in path.split("."):
        if not isinstance(at, Mapping) or name not in at:
            return None
        at = at[name]
    return at if isinstance(at, int | float) else None


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on one figure."""

    path: str
    sign: str
    bound: float
    where: str = ""
    """Which of the figures in its row the goal is for, in words."""

    def mark(self, found: Mapping[str, Any]) -> str:
        """Return the goal and whether it is met.

        >>> Goal("idle_round_trips", "=", 1).mark({"idle_round_trips": 1.0})
        '= 1: met'
        """
        measured = figure(found, self.path)
        verdict = "not measured" if measured is None else "met" if SIGNS[self.sign](measured, self.bound) else "missed"
        return f"{self.sign} {self.bound:g}{self.where}: {verdict}"


@dataclass(frozen=True, slots=True)
class Row:
    """Figures that belong side by side, their format, and the goal for one of them."""

    name: str
    paths: tuple[str, ...]
    form: str = "{:,.0f}"
    goal: Goal | None = None

    def cells(self, found: Mapping[str, Any]) -> tuple[str, str, str]:
        """Return name, figures and goal, in words."""
        values = [figure(found, path) for path in self.paths]
        shown = " / ".join("not measured" if value is None else self.form.format(value) for value in values)
        if values.count(None) == len(values):
            shown = "not measured"
        return self.name, shown, self.goal.mark(found) if self.goal else ""


AT_64 = " at 64"
THROUGHPUT = Goal("seen.64.ratio", ">=", 0.85, AT_64)
P99 = Goal("seen.64.p99_ratio", "<=", 1.3, AT_64)
ROUND_TRIPS = Goal("seen.64.round_trips_per_beacon", "<=", 0.1, AT_64)
IDLE_ROUND_TRIPS = Goal("idle_round_trips", "=", 1)
READS = Goal("counts.ratio", ">=", 0.9)
KNOWN_READS = Goal("counts.ratio_304", ">=", 0.9)
SUSTAINED_P99 = Goal("sustained.p99_ms", "<=", 50, " for p99")
UNANSWERED = Goal("sustained.unanswered", "=", 0)
LOST = Goal("sustained.lost", "=", 0)
TWICE = Goal("sustained.counted_twice", "=", 0)
MEMORY = Goal("sustained.rss_growth_mb", "<=", 5)
SAME_BEACON = Goal("growth.beacon_spread", "<=", 1.5)
ROLLUP = Goal("growth.by_sites.1000.rollup_of_all_ms_per_site", "<=", 2)
SAME_ROLLUP = Goal("growth.rollup_growth", "<=", 1.5)
PAGES_READ = Goal("storage.pages.read_ratio", "<=", 2)
IDLE_MEMORY = Goal("memory.by_workers.1.private_mb", "<=", 60)
IDLE_RESIDENT = Goal("memory.by_workers.1.resident_mb", "<=", 60)
MANY_SITES_MEMORY = Goal("memory.many_sites.viewed.private_mb", "<=", 100)
MANY_SITES_RESIDENT = Goal("memory.many_sites.viewed.resident_mb", "<=", 100)
SAME_WITH_PAGE = Goal("instructions.page_growth", "<=", 1.1)
INSTRUCTIONS = MappingProxyType(
    {
        case: Goal(f"instructions.{case}.ratio", "<=", bound)
        for case, bound in {
            "seen": 1.1,
            "new_connection": 1.1,
            "counts": 1.05,
            "counts_304": 1.05,
            "many_sites": 1.6,
            "robot": 1.05,
            "refused": 1.05,
        }.items()
    }
)
