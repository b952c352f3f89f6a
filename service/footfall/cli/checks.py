"""A line of the report of `footfall doctor`."""

from dataclasses import dataclass
from enum import StrEnum


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
