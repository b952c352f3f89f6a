"""Figures that hold on a busy machine, so that each part stands by itself: bytes, instructions, costs of one call.

`RESULTS.json` has those of the last `make bench ARGS=--update`.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from footfall.errors import Stop
from tests.bench import goals, machine, rates, tried
from tests.bench.goals import Row, figure
from tests.bench.kept_ids import DAYS, IDS, KEPT
from tests.bench.memory import LIBRARIES, WORKERS
from tests.bench.storage import CHANGES, VISITORS
from tests.bench.tabs import TABS

FILE = Path(__file__).with_name("RESULTS.json")
PARTS = ("instructions", "rates", "storage", "kept_ids", "memory", "tabs")
TOLERANCE = 1.05
"""A ratio of instructions that is higher than the committed one by more fails the bench."""
HEADING = "## Counted, not timed"
INTRODUCTION = """\
Each part is measured by itself (`make bench ARGS="--only storage"`), and `make bench ARGS=--update` writes it here and
in `RESULTS.json`. Bytes and instructions do not depend on how busy the machine is. Of times, the least of some rounds
stands here, in microseconds of Redis' own clock or beside a bare round trip of the same moment; on a busy machine those
of rollups still wander, by a factor of five between some runs.

Rates come from instructions, from what the empty server gets done of them in a second of its own CPU time, and from its
time in the kernel, which is taken for both servers. They are of the average of a day; the median of nine rounds stands
here. `make scale` says what so many views take with everything: CPU time, calls, rows and bytes.

Memory is read three seconds after the start, on Linux. The files of libraries, some 20 MB of each resident process, are
in memory once for all of them. The floor of a worker is an interpreter that imports its libraries one after the other.

For tabs, 100 sites and 500 connections are measured, which ping as much sooner as makes the pings of all tabs. CPU
seconds are those that the processes counted for themselves; on a machine with other work they wander, since cores and
caches are shared.

Instructions are those of a worker without its background steps, which cost by the second; valgrind's callgrind counts
them. Rounds of 64 requests come at once, each on its own connection, to a server that rests. Where a ratio is above the
one here by more than 5 %, `make bench` fails.
"""


CASES = {
    "seen": "a beacon on a kept connection",
    "seen_page": "a beacon with a page",
    "seen_view": "a beacon with a page and the id of its view, as the script sends it",
    "new_connection": "a beacon on a new connection",
    "many_sites": "a beacon of 1,000 sites at once",
    "robot": "a robot's beacon",
    "refused": "a beacon that is refused: another origin",
    "counts": "`GET /counts`, 200",
    "counts_304": "`GET /counts`, 304",
}

FAMILIES = {
    "framework": "framework: aiohttp, the handler",
    "connection": "connection: its place, the watch over its client",
    "parse": "parse: the body, and what the head says of the sender",
    "address": "address: the client behind proxies",
    "admission": "admission: origin, limits, opt-out, robots, the page's form, what was refused",
    "hash": "hash: the visitor id",
    "record": "record: the batch, its script call, its numbers and their JSON",
    "answer": "answer: head and body as one write, the views of a page",
    "measure": "measure: the time of the request, as a histogram",
}


def _visitors(name: str) -> tuple[str, ...]:
    return tuple(f"storage.by_visitors.{number}.{name}" for number in VISITORS)


def _workers(name: str) -> tuple[str, ...]:
    return tuple(f"memory.by_workers.{number}.{name}" for number in WORKERS)


def _tabs(name: str) -> tuple[str, ...]:
    return tuple(f"tabs.by_tabs.{number}.{name}" for number in TABS)


def _many_sites(name: str) -> tuple[str, ...]:
    return tuple(f"memory.many_sites.{when}.{name}" for when in ("idle", "viewed"))


def _floor(name: str) -> tuple[str, ...]:
    return f"memory.floor.{name}.resident_mb", f"memory.floor.{name}.private_mb"


def _of_one_worker() -> tuple[str, ...]:
    return "memory.by_workers.1.resident_mb", "memory.by_workers.1.private_mb"


def _changes(name: str) -> tuple[str, ...]:
    return tuple(f"storage.pages.by_changes.{number}.{name}" for number in CHANGES)


def _kept_ids(what: str, *names: str) -> Iterator[Row]:
    """Yield a row for each day and number of new visitors."""
    for day, ids in product(DAYS, IDS):
        paths = tuple(f"kept_ids.{day}.{ids}.{what}.{name}" for name in names)
        yield Row(f"recording {ids} new visitor{'s' * (ids > 1)}, at {day:,} visitors on that day", paths)


SECTIONS: dict[str, tuple[Row, ...]] = {
    "Instructions of a request, 64 at once, ours by the empty server's": (
        *(
            Row(name, (f"instructions.{case}.ratio",), "{:.3f}", goals.INSTRUCTIONS.get(case))
            for case, name in CASES.items()
        ),
        Row("a beacon with a page by one without", ("instructions.page_growth",), "{:.3f}", goals.SAME_WITH_PAGE),
    ),
    "Instructions of a request: Footfall's / the empty server's": tuple(
        Row(name, (f"instructions.{case}.ours", f"instructions.{case}.empty")) for case, name in CASES.items()
    ),
    "Requests a second of a core that does nothing else, by instructions: Footfall / the empty server": (
        Row(
            "billions of instructions a second, in the slowest / median / fastest round",
            tuple(f"rates.billion_instructions_per_s.{which}" for which in ("least", "median", "most")),
            "{:.2f}",
        ),
        Row("microseconds of the kernel for a request", ("rates.kernel_us",)),
        *(
            Row(CASES[case], (f"rates.requests.{case}.ours_per_s", f"rates.requests.{case}.empty_per_s"))
            for case in rates.CASES
        ),
        *(
            Row(
                f"cores for a billion in a day: {CASES[case]}",
                (f"rates.requests.{case}.billion_cores", f"rates.requests.{case}.billion_cores_empty"),
                "{:.2f}",
            )
            for case in rates.CASES
        ),
    ),
    "Instructions by family of functions: a beacon kept / with page / with id / on a new connection / of 1,000 sites"
    " / a robot's / refused / `GET /counts` 200 / 304": tuple(
        Row(words, tuple(f"instructions.{case}.families.{family}" for case in CASES))
        for family, words in FAMILIES.items()
    ),
    "Bytes of a site after its first day, at 63 / 495 / 4,096 / 4,097 visitors": (
        Row("Redis, all its keys, the visitors all online still", _visitors("redis")),
        Row("of them: who is online", _visitors("redis_online")),
        Row("of them: the ids of day and week", _visitors("redis_ids")),
        Row("PostgreSQL, all its rows", _visitors("postgres")),
    ),
    "Redis' own microseconds of a call, ids kept / not kept (`exact_up_to = 0`)": tuple(_kept_ids("us", *KEPT)),
    "Redis' instructions of the same, and of a PFADD of as many ids": tuple(_kept_ids("instructions", *KEPT, "pfadd")),
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
    "Memory in MB, nothing happens, with 1 / 2 / 4 workers": (
        Row("a worker, what it has for itself", _workers("private_mb"), "{:.0f}", goals.IDLE_MEMORY),
        Row("the same and its part of what processes share (PSS)", _workers("share_mb"), "{:.0f}"),
        Row(
            "a worker, resident (RSS): pages of libraries in full",
            _workers("resident_mb"),
            "{:.0f}",
            goals.IDLE_RESIDENT,
        ),
        Row("all processes of Footfall together, by their parts", _workers("all_mb"), "{:.0f}"),
    ),
    "Memory in MB of a worker of 1,000 sites: nothing happens / each has had a view": (
        Row("what it has for itself", _many_sites("private_mb"), "{:.0f}", goals.MANY_SITES_MEMORY),
        Row("resident (RSS)", _many_sites("resident_mb"), "{:.0f}", goals.MANY_SITES_RESIDENT),
    ),
    "Memory in MB of an interpreter that imports a worker's libraries and nothing of Footfall: resident / for itself": (
        *(Row(words, _floor(name), "{:.0f}") for name, (_, words) in LIBRARIES.items()),
        Row("a worker: all of these, its own modules, and what it has opened", _of_one_worker(), "{:.0f}"),
    ),
    "1,000 visible tabs for an hour, where each site has 10 / 100 of them, through nginx with TLS": (
        Row("Footfall's CPU seconds", _tabs("footfall_cpu_s")),
        Row("Redis' CPU seconds", _tabs("redis_cpu_s")),
        Row("PostgreSQL's CPU seconds", _tabs("postgres_cpu_s")),
        Row("nginx' CPU seconds", _tabs("nginx_cpu_s")),
        Row("PostgreSQL's log (WAL) in MB", _tabs("wal_mb"), "{:.1f}"),
        Row("pings a second meanwhile, of 100 sites", _tabs("pings_per_s")),
        Row("cores for 100,000 such tabs, all programs together", _tabs("cores_for_100000"), "{:.2f}"),
        Row(
            "nginx' CPU seconds where each ping comes on a new connection",
            ("tabs.new_connections.nginx_cpu_s",),
        ),
        Row("bytes of HTTP of one tab, sent / received", ("tabs.bytes_sent_per_hour", "tabs.bytes_received_per_hour")),
        Row("nginx' memory for one connection, in bytes", ("tabs.nginx_bytes_per_connection",)),
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


def regressions(found: Mapping[str, Any], committed: Mapping[str, Any]) -> list[str]:
    """Say which requests take more instructions by the empty server's than the committed figures allow."""
    said: list[str] = []
    for case, name in CASES.items():
        path = f"instructions.{case}.ratio"
        before, now = figure(committed, path), figure(found, path)
        if before is not None and now is not None and now > before * TOLERANCE:
            said.append(f"{name} takes {now:.3f} times what the empty server takes, and took {before:.3f} times that")
    return said


def save(found: Mapping[str, Any]) -> None:
    """Write the parts that were measured into RESULTS.json; the others stay. Raises Stop where there are none."""
    newly = {part: found[part] for part in PARTS if found.get(part)}
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
    yield from tried.lines(found)
