"""What `make scale` prints, and the table of README.md."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill
from typing import Any

from footfall.errors import Stop
from tests.scale.bounds import bounds
from tests.scale.check import FACTOR, Run
from tests.scale.model import BUSY, Cost, Costs, Load, Needs, Thing, needs, of_size
from tests.support.project import PROJECT

README = PROJECT / "README.md"
SHOWN = (Load(1e9, 1_000), Load(10e9, 10_000), Load(100e9, 100_000))
"""What README.md shows."""
WIDTH = 120
SHOWN_US = 5_000
"""A part of a run that took less is not shown."""
AFTER = "Take these figures for an order of magnitude."
"""What follows the figures in README.md."""
TABLE_HEAD = "| views a day, on so many portals |"


def rows(need: Needs) -> dict[str, str]:
    """Return what a load takes, by what people call it."""
    return {
        "beacons a second at the busiest moment": f"{need.beacons_per_s:,.0f}",
        "calls to Redis for a beacon": f"{need.calls_per_beacon:.2f}",
        "worker cores, full / workers, half full": f"{need.worker_cores:,.1f} / {need.workers:,}",
        "memory of each worker": _bytes(need.worker_bytes),
        "Redis cores, full / primaries, half full": f"{need.redis_cores:,.1f} / {need.redis_servers:,}",
        "memory of Redis, all together": _bytes(need.redis_bytes),
        "PostgreSQL: rows of days / of pages a second": f"{need.rows_per_s:,.0f} / {need.page_rows_per_s:,.0f}",
        "PostgreSQL: transactions a second": f"{need.transactions_per_s:,.1f}",
        "PostgreSQL cores, full": f"{need.postgres_cores:,.2f}",
        "PostgreSQL's log (WAL): a second / a day": f"{_bytes(need.wal_per_s)} / {_bytes(need.wal_per_day)}",
        "PostgreSQL: growth a day": _bytes(need.postgres_day_bytes),
        "PostgreSQL connections": f"{need.postgres_connections:,}",
        "network of the beacons": f"{need.network_bits_per_s / 1e6:,.0f} Mbit/s",
    }


def prices(costs: Costs, load: Load) -> Iterator[str]:
    """Yield what each thing costs here, for a terminal."""
    yield "What each thing takes here: microseconds of a core in each program, calls, bytes of PostgreSQL's log."
    yield ""
    yield f"  {'':<58}{'worker':>10}{'Redis':>9}{'PostgreSQL':>12}{'calls':>8}{'log':>9}"
    visitors = load.visitors_per_site
    for name, cost in (
        (f"a changed site of {visitors:,.0f} visitors and one page, copied", of_size(costs.copies, visitors)),
        *costs.of.items(),
        *(
            (f"more, for a beacon where {per_s:,.0f} come in a second", cost)
            for per_s, cost in sorted(costs.wakes.items())
        ),
    ):
        yield f"  {name:<58}{_numbers(cost)}"


def _numbers(cost: Cost, unit: float = 1.0, places: int = 1) -> str:
    cpu = (f"{number / unit:>{width},.{places}f}" for number, width in zip(_cpu(cost), (10, 9, 12), strict=True))
    return f"{''.join(cpu)}{cost.redis_calls:>8,.2f}{cost.wal_bytes:>9,.0f}"


def _cpu(cost: Cost) -> tuple[float, float, float]:
    return cost.worker_us, cost.redis_us, cost.postgres_us


def answer(costs: Costs, load: Load, workers: int | None) -> Iterator[str]:
    """Yield what a load takes and what breaks first, for a terminal."""
    need = needs(costs, load, workers)
    yield (
        f"{load.views_a_day:,.0f} views a day at {load.sites:,} sites, {load.pings_per_view:g} pings a view,"
        f" {load.views_per_visitor:g} views a visitor and day, {load.pages:,} pages a site; the busiest moment has"
        f" {load.peak:g} times the average."
    )
    yield ""
    for name, value in rows(need).items():
        yield f"  {name:<42} {value}"
    yield ""
    yield f"What breaks first (1.00 is full; processors are full at {BUSY:.0%}, or answers are late):"
    yield ""
    for bound in bounds(need, load, workers):
        yield f"  {bound.used:>8.2f}  {bound.name}: {bound.what}"
        if bound.used > 1:
            yield f"            {bound.advice}"


def check(run: Run) -> Iterator[str]:
    """Yield predictions beside measurements."""
    yield f"The model beside a worker with {run.sites:,} sites and {run.per_s:,.0f} beacons a second:"
    yield ""
    yield f"  {'':<26} {'predicted':>12} {'measured':>12} {'ratio':>7}"
    for each in run.compared:
        wrong = "" if each.holds else f"  off by more than {FACTOR:g}"
        numbers = f"{each.predicted:>12,.2f} {each.measured:>12,.2f} {each.ratio:>7.2f}"
        yield f"  {each.name:<26} {numbers} {each.unit}{wrong}"
    yield ""
    yield "  of the predicted seconds of CPU:                    worker    Redis  PostgreSQL"
    for name, cost in run.parts.items():
        if max(_cpu(cost)) >= SHOWN_US:
            seconds = (f"{us / 1e6:>{width}.2f}" for us, width in zip(_cpu(cost), (10, 9, 12), strict=True))
            yield f"    {name:<46}{''.join(seconds)}"
    yield ""
    worker = run.worker
    yield f"  ready after {worker.ready_s:.1f} s, with the stores' own start; memory {_bytes(worker.memory_bytes)}"
    for route, (size, took_s, held_s) in worker.answers.items():
        late = f"meanwhile other answers were late by {held_s:.2f} s at most"
        yield f"  {route:<9} {_bytes(size):>9} in {took_s:.2f} s; {late}"


def table(costs: Costs) -> str:
    """Return the table of README.md."""
    found = [rows(needs(costs, load)) for load in SHOWN]
    first = [_breaks_first(needs(costs, load), load) for load in SHOWN]
    lines = [
        f"{TABLE_HEAD} {' | '.join(f'{load.views_a_day / 1e9:g} billion, {load.sites:,}' for load in SHOWN)} |",
        f"|---|{'--:|' * len(SHOWN)}",
        *(f"| {name} | {' | '.join(column[name] for column in found)} |" for name in found[0]),
        f"| fullest parts, beside workers and primaries; above 100% it does not fit | {' | '.join(first)} |",
    ]
    return "\n".join(lines)


def _breaks_first(need: Needs, load: Load) -> str:
    """Return what does not fit, at least the two fullest parts, beside those of which more servers are the answer."""
    found = [bound for bound in bounds(need, load) if not bound.is_more_of_same]
    shown = max(2, sum(bound.used > 1 for bound in found))
    return "; ".join(f"{bound.name} ({bound.used:,.0%})" for bound in found[:shown])


def chapter(found: Mapping[str, Any], costs: Costs) -> str:
    """Return what README.md shows of a run: the table, and on what it was measured."""
    checked = " and ".join(f"{run['sites']:,}" for run in found.get("checks", ()))
    off = [max(one, 1 / one) for run in found.get("checks", ()) for one in _ratios(run)]
    words = conditions(found["machine"], found["additions_ms"])
    at_once = costs.of[Thing.BEACON].worker_us + costs.of[Thing.CALL].worker_us
    few_per_s = min(costs.wakes)
    with_pauses = at_once + costs.wakes[few_per_s].worker_us
    words += f" There a beacon took {at_once / 1000:.2f} ms of a worker without pauses between beacons"
    words += f" and {with_pauses / 1000:.2f} ms where {few_per_s:.0f} came in a second."
    if off:
        words += f" Compared with a worker of {checked} portals, the model was off by {max(off):.2f} times at most."
    return f"{table(costs)}\n\n{fill(words, WIDTH)}"


def _ratios(run: Mapping[str, Any]) -> Iterator[float]:
    for each in run["compared"]:
        if not (each["predicted"] and each["measured"]):
            raise Stop(
                f"The last run of {run['sites']:,} sites found nothing to compare for {each['name']}: run it again.", 1
            )
        yield each["predicted"] / each["measured"]


def with_chapter(readme: str, found: Mapping[str, Any], costs: Costs) -> str:
    """Return README.md with the chapter's figures in the place of the former ones; Stop where it has no such place."""
    before, head, rest = readme.partition(TABLE_HEAD)
    _, after_head, after = rest.partition(f"\n\n{AFTER}")
    if not (head and after_head):
        raise Stop(
            f"README.md has no table `{TABLE_HEAD}` with `{AFTER}` after it; tests/scale/report.py looks for both.", 1
        )
    return f"{before}{chapter(found, costs)}{after_head}{after}"


def write_readme(found: Mapping[str, Any], costs: Costs) -> None:
    """Write the chapter's figures into README.md."""
    README.write_text(with_chapter(README.read_text("utf-8"), found, costs), "utf-8")


def conditions(machine: Mapping[str, Any], additions_ms: Sequence[int]) -> str:
    """Return on what it was measured."""
    return (
        f"Measured on {machine['date']}, on {machine['hardware']},"
        f" {machine['busy_percent']} % busy with other things when it began; a million additions in Python took"
        f" {' and '.join(map(str, additions_ms))} ms of CPU."
    )


def _bytes(number: float) -> str:
    """Return a size as people write it.

    >>> _bytes(999), _bytes(1_500_000), _bytes(2.5e13)
    ('999 B', '1.5 MB', '25.0 TB')
    """
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1000
    raise AssertionError
