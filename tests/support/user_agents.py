"""How often robots pass for people and people for robots, on user agents that we did not collect.

python -m tests.support.user_agents         prints the rates, as tests/README.md shows them
python -m tests.support.user_agents --all   and every user agent that is judged wrongly

The package device-detector brings the examples of Matomo's DeviceDetector, sorted by hand into browsers and bots.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from footfall.ingest.robots import Robots

CORPUS = "device_detector"


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of a kind were judged, and which of them wrongly."""

    of: int
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        return f"{len(self.wrong):,} of {self.of:,} ({len(self.wrong) / self.of:.1%})"


@dataclass(frozen=True, slots=True)
class Rates:
    """Both errors."""

    people: Rate
    """People who are taken for robots."""
    robots: Rate
    """Robots that pass for people."""

    def rows(self) -> list[str]:
        """Return the lines of the table in tests/README.md."""
        return [
            f"| browsers of people that are taken for robots | {self.people} |",
            f"| robots that pass for people | {self.robots} |",
        ]


@cache
def measure() -> Rates:
    """Judge every user agent of the corpus once."""
    browsers, bots = set(), set()
    for example in _examples():
        user_agent = str(example["user_agent"])
        if "bot" in example:
            bots.add(user_agent)
        elif (example.get("client") or {}).get("type") == "browser" and user_agent.strip():
            browsers.add(user_agent)
    is_robot = Robots().is_robot
    return Rates(
        people=Rate(len(browsers), tuple(sorted(agent for agent in browsers if is_robot(agent)))),
        robots=Rate(len(bots), tuple(sorted(agent for agent in bots if not is_robot(agent)))),
    )


def _examples() -> Iterator[dict[str, Any]]:
    found = find_spec(CORPUS)  # finds the folder without running the package
    assert found is not None
    assert found.submodule_search_locations is not None
    folder = Path(found.submodule_search_locations[0]) / "tests" / "fixtures" / "upstream"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for file in sorted(folder.glob("*.yml")):
        for example in yaml.load(file.read_bytes(), loader):  # noqa: S506 (both are safe loaders)
            if "user_agent" in example:
                yield example


if __name__ == "__main__":
    rates = measure()
    print(*rates.rows(), sep="\n")
    if "--all" in sys.argv:
        print(*("taken for a robot: " + agent for agent in rates.people.wrong), sep="\n")
        print(*("not known as a robot: " + agent for agent in rates.robots.wrong), sep="\n")
