"""The rows in which people see a bench: in the terminal, and in RESULTS.md."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from tests.bench import counted, goals
from tests.bench.closedloop import CONNECTIONS
from tests.bench.goals import Row, figure
from tests.bench.growth import SITES, VISITORS


def _seen(name: str) -> tuple[str, ...]:
    return tuple(f"seen.{connections}.{name}" for connections in CONNECTIONS)


def _growth(name: str) -> tuple[str, ...]:
    return tuple(f"growth.by_visitors.{visitors}.{name}" for visitors in VISITORS)


def _of(part: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{part}.{name}" for name in names)


SECTIONS: dict[str, tuple[Row, ...]] = {
    "`POST /seen` beside an empty POST, at 16 / 64 / 256 connections": (
        Row("throughput, ours by the empty one's", _seen("ratio"), "{:.2f}", goals.THROUGHPUT),
        Row("p50, ours by the empty one's", _seen("p50_ratio"), "{:.2f}"),
        Row("p99", _seen("p99_ratio"), "{:.2f}", goals.P99),
        Row("p99.9", _seen("p999_ratio"), "{:.2f}"),
        Row("beacons a second on one core", _seen("rps")),
        Row("p99, in microseconds", _seen("p99_us")),
        Row("Footfall's CPU seconds per million beacons", _seen("cpu_s_per_million")),
        Row("the empty server's", _seen("baseline_cpu_s_per_million")),
        Row("throughput per CPU second, ours by the empty one's", _seen("cpu_ratio"), "{:.2f}"),
        Row("round trips to Redis per beacon", _seen("round_trips_per_beacon"), "{:.3f}", goals.ROUND_TRIPS),
        Row("round trips of a beacon that comes alone", ("idle_round_trips",), "{:g}", goals.IDLE_ROUND_TRIPS),
        Row("commands in Redis per beacon, within scripts too", _seen("redis_commands_per_beacon"), "{:.2f}"),
        Row("Redis' CPU seconds per million beacons", _seen("redis_cpu_s_per_million"), "{:.1f}"),
        Row("failed requests", _seen("errors")),
    ),
    "`GET /counts` beside constant bytes, at 64 connections": (
        Row("throughput, ours by theirs", ("counts.ratio",), "{:.2f}", goals.READS),
        Row("the same where the reader knows the numbers (304)", ("counts.ratio_304",), "{:.2f}", goals.KNOWN_READS),
        Row("p99, ours by theirs: 200 / 304", _of("counts", "p99_ratio", "p99_ratio_304"), "{:.2f}"),
        Row("reads a second on one core: 200 / 304", _of("counts", "rps", "rps_304")),
        Row("throughput per CPU second, ours by theirs", _of("counts", "cpu_ratio", "cpu_ratio_304"), "{:.2f}"),
    ),
    "`POST /seen` for 1,000 sites at once, of no page, at 64 connections": (
        Row("throughput, ours by the empty one's", ("many_sites.ratio",), "{:.2f}"),
        Row("p99, ours by the empty one's", ("many_sites.p99_ratio",), "{:.2f}"),
        Row("beacons a second on one core", ("many_sites.rps",)),
        Row("Footfall's CPU seconds per million beacons", ("many_sites.cpu_s_per_million",)),
        Row("script calls in Redis per beacon", ("many_sites.round_trips_per_beacon",), "{:.3f}"),
    ),
    "1 / 2 workers on one socket, nothing pinned": (
        Row("beacons a second", _of("workers", "1.rps", "2.rps")),
        Row("scaling", ("workers.scaling",), "{:.2f}"),
        Row("CPU seconds per million beacons", _of("workers", "1.cpu_s_per_million", "2.cpu_s_per_million")),
    ),
    "A billion views a day, open loop, everything on this machine": (
        Row("beacons / reads a second", _of("sustained", "beacons_per_s", "reads_per_s")),
        Row("workers", ("sustained.workers",)),
        Row(
            "p50 / p99 / p99.9 from the intended time, in ms",
            _of("sustained", "p50_ms", "p99_ms", "p999_ms"),
            "{:.1f}",
            goals.SUSTAINED_P99,
        ),
        Row("p99 of the empty server under the same load", ("sustained.baseline_p99_ms",), "{:.1f}"),
        Row(
            "part of these rates carried with p99 <= 50 ms: Footfall / the empty server, one process",
            _of("sustained", "carried", "baseline_carried"),
            "{:.0%}",
        ),
        Row(
            "requests without an answer, in the shorter runs before too",
            ("sustained.unanswered",),
            goal=goals.UNANSWERED,
        ),
        Row("views answered 200 or 202 that PostgreSQL lacks", ("sustained.lost",), goal=goals.LOST),
        Row("views that PostgreSQL has and nobody sent", ("sustained.counted_twice",), goal=goals.TWICE),
        Row("memory, last third less first, in MB", ("sustained.rss_growth_mb",), "{:.1f}", goals.MEMORY),
        Row(
            "cores in use: Footfall / Redis / load generator",
            _of("sustained", "cpu_share", "redis_cpu_share", "generator_cpu_share"),
            "{:.2f}",
        ),
    ),
    "Growth, one call at a time, in bare PINGs to Redis of the same moment": (
        *(
            Row(f"{what}, at 1 / 100 / 1,000 sites", tuple(f"growth.by_sites.{sites}.{name}" for sites in SITES), form)
            for what, name, form in (
                ("a beacon", "beacon_pings", "{:.1f}"),
                ("a refresh", "refresh_pings", "{:.1f}"),
                ("a rollup, per changed site", "rollup_pings_per_changed_site", "{:.0f}"),
                ("a rollup where all sites changed, per site", "rollup_of_all_pings_per_site", "{:.0f}"),
            )
        ),
        Row(
            "the same at 1,000 sites, in ms of the quickest of seven",
            ("growth.by_sites.1000.rollup_of_all_ms_per_site",),
            "{:.2f}",
            goals.ROLLUP,
        ),
        Row("a beacon, at 1,000 / 10,000 / ... / 10,000,000 visitors", _growth("beacon_pings"), "{:.1f}"),
        Row("a refresh", _growth("refresh_pings"), "{:.1f}"),
        Row("a rollup", _growth("rollup_pings_per_changed_site"), "{:.0f}"),
        Row("the dearest beacon by the cheapest", ("growth.beacon_spread",), "{:.2f}", goals.SAME_BEACON),
        Row("the rollup at 1,000 sites by that at 100", ("growth.rollup_growth",), "{:.2f}", goals.SAME_ROLLUP),
    ),
    "Bytes, at 1,000 / 10,000 / ... / 10,000,000 visitors a day": (
        Row("Redis, a site with one day", _growth("redis_bytes_per_site")),
        Row("Redis, each further day", _growth("redis_bytes_per_day")),
        Row("Redis, 1,000 visitors online", ("growth.redis_bytes_per_1000_online",)),
        Row("PostgreSQL, a day's row", _growth("postgres_row_bytes")),
        Row("the same after 35 days, without its sketch", _growth("postgres_old_row_bytes")),
        Row("PostgreSQL, log (WAL) of a rollup", _growth("wal_bytes_per_rollup")),
    ),
    "Start and memory of a worker": (
        Row("seconds to ready, stores running / on an empty folder", ("start_s", "first_start_s"), "{:.1f}"),
        Row("resident memory in MB, idle / after the load", ("rss_idle_mb", "rss_loaded_mb"), "{:.0f}"),
    ),
    "Through nginx with deploy/nginx.conf, on Footfall's core": (
        Row("polls a second, through it / direct", _of("nginx", "polls_per_s", "polls_per_s_direct")),
        Row("polls that its cache answers", ("nginx.hit_ratio",), "{:.3%}"),
        Row("polls a second that reach Footfall", ("nginx.reached_per_s",), "{:.1f}"),
        Row("beacons a second, through it / direct", _of("nginx", "beacons_per_s", "beacons_per_s_direct")),
        Row("failed requests", ("nginx.errors",)),
    ),
}


def table(found: Mapping[str, Any]) -> Table:
    """Return the figures as a table for a terminal; what was not measured is left out."""
    drawn = Table("figure", "measured", "goal", caption=conditions(found), caption_justify="left")
    for section, rows in (SECTIONS | counted.SECTIONS).items():
        if all(figure(found, path) is None for row in rows for path in row.paths):
            continue
        drawn.add_section()
        drawn.add_row(f"[bold]{section.replace('`', '')}[/]")
        for row in rows:
            name, shown, mark = row.cells(found)
            colour = "red" if mark.endswith("missed") else "green" if mark.endswith(": met") else "none"
            drawn.add_row(f"  {name}", shown, f"[{colour}]{mark}[/]" if mark else "")
    return drawn


def conditions(found: Mapping[str, Any]) -> str:
    """Return on what machine the bench ran, and how."""
    versions = ", ".join(f"{name} {version}" for name, version in found["machine"]["versions"].items())
    machine = found["machine"]
    before_ms, after_ms = machine["additions_ms"]
    return (
        f"{versions}, on {machine['hardware']}, {machine['busy_percent']} % busy with other things when it began. "
        f"A million additions in Python took {before_ms} ms at the beginning and {after_ms} ms at the end. "
        f"{machine['cores']} Limits are off, and there is no TLS."
    )
