"""A line of the report of `footfall doctor`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from footfall.log_throttle import NAMES_MAX


class Level(StrEnum):
    """The result of a check; WARN is for a finding that an operator may leave on purpose."""

    OK = " ok "
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report: what was checked, what was found, and what to do about it."""

    what: str
    found: str
    level: Level = Level.OK

    def __str__(self) -> str:
        return f"{self.level}  {self.what}: {' '.join(self.found.split())}"


def of_many_sites(checks: Sequence[Check], what: str) -> Iterator[Check]:
    """Yield one line for all sites of which the same was found, where there are more than a few; else a line for each.

    >>> [str(check) for check in of_many_sites([Check(f"site {n}", "Asia/Ho_Chi_Minh") for n in range(333)], "zone")]
    [' ok   zone of 333 sites: Asia/Ho_Chi_Minh']
    """
    if len(checks) <= NAMES_MAX:
        yield from checks
        return
    alike: dict[tuple[Level, str], list[Check]] = {}
    for check in checks:
        alike.setdefault((check.level, check.found), []).append(check)
    groups = sorted(alike.values(), key=lambda group: group[0].level is Level.OK)
    for group in groups[:NAMES_MAX]:
        yield group[0] if len(group) == 1 else Check(f"{what} of {len(group)} sites", group[0].found, group[0].level)
    if left := sum(map(len, groups[NAMES_MAX:])):
        yield Check(f"{what} of {left} sites more", "differs from all of these", groups[NAMES_MAX][0].level)
