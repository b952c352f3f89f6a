"""Figures that are counted, not timed, or of one call at a time: they hold on a busy machine, and each part by itself.

`RESULTS.json` has those of the last `make bench ARGS=--update`.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from footfall.errors import Stop
from tests.bench import goals, machine
from tests.bench.goals import Row
from tests.bench.storage import CHANGES, DAYS, IDS, VISITORS

FILE = Path(__file__).with_name("RESULTS.json")
PARTS = ("storage",)
HEADING = "## Counted, not timed"
INTRODUCTION = """\
Each part is measured by itself (`make bench ARGS="--only storage"`), and `make bench ARGS=--update` writes it here and
in `RESULTS.json`. Bytes do not depend on how busy the machine is. Of times, the least of some rounds stands here, in
microseconds of Redis' own clock or beside a bare round trip of the same moment.
"""


def _visitors(name: str) -> tuple[str, ...]:
    return tuple(f"storage.by_visitors.{number}.{name}" for number in VISITORS)


def _changes(name: str) -> tuple[str, ...]:
    return tuple(f"storage.pages.by_changes.{number}.{name}" for number in CHANGES)


SECTIONS: dict[str, tuple[Row, ...]] = {
    "Bytes of a site after its first day, at 63 / 495 / 4,096 / 4,097 visitors": (
        Row("Redis, all its keys, the visitors all online still", _visitors("redis")),
        Row("of them: who is online", _visitors("redis_online")),
        Row("PostgreSQL, all its rows", _visitors("postgres")),
    ),
    "Redis' own microseconds a call, at 63 / 20,000 visitors on that day": tuple(
        Row(f"recording {ids} new visitor{'s' * (ids > 1)}", tuple(f"storage.record_us.{day}.{ids}" for day in DAYS))
        for ids in IDS
    ),
    "A site of 10,000 pages, each viewed on that day": (
        Row("Redis, bytes: all its keys / of its pages", ("storage.pages.redis", "storage.pages.redis_pages")),
        Row("PostgreSQL, bytes of all its rows", ("storage.pages.postgres",)),
        Row("the rollup of all pages: in bare round trips", ("storage.pages.first_rollup_pings",)),
        Row("the same: bytes of log (WAL)", ("storage.pages.first_rollup_wal",)),
        Row("a rollup where 0 / 100 / 1,000 pages changed, in bare round trips", _changes("rollup_pings")),
        Row("bytes of log (WAL) of six such rollups, a minute's", _changes("wal_per_minute")),
        Row(
            "reading 50 pages by reading the site's numbers", ("storage.pages.read_ratio",), "{:.2f}", goals.PAGES_READ
        ),
    ),
}


def stamped(found: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a part with the day and the commit of their measurement."""
    described = machine.describe()
    return found | {"measured": {name: described[name] for name in ("date", "commit", "hardware")}}


def saved() -> dict[str, Any]:
    """Return the committed figures, by part."""
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    return found


def save(found: Mapping[str, Any]) -> None:
    """Commit to the parts that were measured; the others stay. Raises Stop where there are none."""
    newly = {part: found[part] for part in PARTS if part in found}
    if not newly:
        raise Stop(f"Nothing is counted yet: make bench ARGS='--only {PARTS[0]}' counts.")
    FILE.write_text(json.dumps(saved() | newly, indent=1) + "\n", "utf-8")


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the section of RESULTS.md."""
    yield HEADING
    yield ""
    yield INTRODUCTION
    for part in PARTS:
        if part in found:
            measured = found[part]["measured"]
            yield f"- `{part}`: {measured['date']}, at commit {measured['commit']}, on {measured['hardware']}."
    yield ""
    yield "| figure | measured | goal |"
    yield "|---|---|---|"
    for section, rows in SECTIONS.items():
        yield f"| **{section}** |  |  |"
        for row in rows:
            yield f"| {' | '.join(row.cells(found))} |"
