"""RESULTS.md, the figures of the last whole run: `python -m tests.bench --results` writes it again.

Its section of counted figures is of `RESULTS.json`, and newer often; `--update` writes both.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from footfall.errors import Stop
from tests.bench import counted, tabs
from tests.bench.figures import SECTIONS, conditions
from tests.bench.goals import figure
from tests.support.project import PROJECT

FILE = PROJECT / "tests" / "bench" / "RESULTS.md"
HEAD = """\
# What a beacon costs

These are the figures of the last whole run of `make bench`. `make bench ARGS=--results` writes this page again.

A beacon stands beside an aiohttp handler that reads the same request and answers the same bytes, on the same core, in
the same run. Ratios carry over to other machines, absolute numbers do not: `make bench` measures yours. It needs `wrk`,
and measures through nginx too where nginx is installed.
"""

PARTS = ("machine", "seen", "counts", "many_sites", "workers", "sustained", "growth")
ROLLUPS_A_DAY = 8_640
SKETCH_DAYS = 35
REDIS_DAYS = 10
"""A day stays in Redis until two days after its week is over, at the longest."""
COMMON_VISITORS = "100000"


def write(found: Mapping[str, Any], *, timed: bool, newly_counted: bool) -> None:
    """Write RESULTS.md again, of it the timed figures or not, after saving the newly counted figures or not.

    Raises Stop where the figures are not there, or the timed ones are not of one whole run.
    """
    if newly_counted:
        counted.save(found)
        tabs.write_table(counted.saved()["tabs"])
    head = "\n".join((HEAD, *lines(found), "")) if timed else FILE.read_text("utf-8").partition(counted.HEADING)[0]
    FILE.write_text("\n".join((head.rstrip("\n"), "", *counted.lines(counted.saved()), "")), "utf-8")


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield when and on what it was measured, the table, and what follows; raises Stop as `page` does."""
    missing = [part for part in PARTS if part not in found]
    if missing:
        raise Stop(f"The last bench lacks {', '.join(missing)}: `make bench` measures everything.")
    if "again" in found:
        raise Stop(
            f"Measured again since the last whole bench: {', '.join(found['again'])}. `make bench` measures all."
        )
    if {"date", "commit"} <= found["machine"].keys():
        yield f"Measured on {found['machine']['date']}, at commit {found['machine']['commit']}."
        yield ""
    yield conditions(found)
    yield ""
    yield "| figure | measured | goal |"
    yield "|---|---|---|"
    for section, rows in SECTIONS.items():
        yield f"| **{section}** |  |  |"
        for row in rows:
            yield f"| {' | '.join(row.cells(found))} |"
    yield ""
    yield "## Sizing"
    yield ""
    for rule in sizing(found):
        yield f"- {rule}"


def sizing(found: Mapping[str, Any]) -> Iterator[str]:
    """Rules of thumb, with the numbers of this run."""

    def at(path: str) -> float:
        return figure(found, path) or 0.0

    def site(name: str) -> float:
        return at(f"growth.by_visitors.{COMMON_VISITORS}.{name}")

    on_redis = site("redis_bytes_per_site") + (REDIS_DAYS - 1) * site("redis_bytes_per_day")
    wal = site("wal_bytes_per_rollup") * ROLLUPS_A_DAY
    cpu_s = at("seen.64.cpu_s_per_million")
    in_instructions = figure(counted.saved(), "instructions.seen_page.ratio")
    yield (
        f"**Processor.** A worker takes {at('seen.64.rps'):,.0f} beacons a second on a core of its own: plan for half "
        f"of it at the busiest moment. A million beacons cost {cpu_s:.0f} CPU seconds of Footfall and "
        f"{at('seen.64.redis_cpu_s_per_million'):.0f} of Redis."
    )
    yield (
        f"**Beside the empty server.** With 64 connections a beacon took {cpu_s:.0f} microseconds of CPU time and an "
        f"empty request {at('seen.64.baseline_cpu_s_per_million'):.0f}; with 256 it was "
        f"{at('seen.256.cpu_s_per_million'):.0f} and {at('seen.256.baseline_cpu_s_per_million'):.0f}. In instructions "
        f"they differ less, {in_instructions:.2f} with a page: the rest is how fast the processor takes them, which "
        "changes with what else it has in its caches."
    )
    yield (
        f"**A worker's memory.** {at('rss_idle_mb'):.0f} MB idle, {at('rss_loaded_mb'):.0f} MB under load; more while "
        "PostgreSQL is away, by at most `FOOTFALL_KEEP_MAX_BYTES`, and by its tables of networks "
        "([Limits](../../deploy/README.md#limits-and-connections))."
    )
    yield (
        f"**Redis.** At most {on_redis / 1000:,.0f} KB per site, however many visitors it has (ten days of sketches), "
        f"and {at('growth.redis_bytes_per_1000_online') / 1000:,.0f} KB per 1,000 visitors online."
    )
    yield (
        f"**PostgreSQL.** {site('postgres_row_bytes') * SKETCH_DAYS / 1000:,.0f} KB per site for the days that have "
        f"their sketch, and {site('postgres_old_row_bytes'):,.0f} bytes for every older day. A site that is busy all "
        f"day writes {wal / 1e6:,.0f} MB of log (WAL); `FOOTFALL_ROLLUP_EVERY_S=60` makes it a sixth."
    )
    yield (
        "**Many sites.** Sites where nothing happens cost no call. Those that changed are copied up to 200 in a "
        "transaction, once an interval (`FOOTFALL_ROLLUP_EVERY_S`), however many workers there are."
    )
    yield (
        "**A billion views a day** are 11,600 a second, here with 3,000 reads a second. This machine carried "
        f"{at('sustained.carried'):.0%} of that with a p99 within 50 ms, with the load generator on it, and the empty "
        f"server, one process, {at('sustained.baseline_carried'):.0%}. In the minute at the full rate Footfall kept "
        f"{at('sustained.cpu_share'):.1f} cores busy, Redis {at('sustained.redis_cpu_share'):.1f}, and the load "
        f"generator {at('sustained.generator_cpu_share'):.1f}. That rate is the average of such a day; its busiest "
        "hour has two or three times as much: `make scale` says what that takes, and what breaks first."
    )
