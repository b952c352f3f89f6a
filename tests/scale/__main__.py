"""`make scale`: measures costs here, checks a model against a real run, and prints what so many views a day take."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from footfall.errors import Stop
from tests.bench import machine
from tests.scale import affinity, check, costs, report
from tests.scale.model import Cost, Costs, Load, Thing
from tests.support.nginx import find_nginx

SAVED = Path(".footfall/scale.json")
RESULTS = Path(__file__).with_name("RESULTS.json")
STARTED = time.monotonic()
USUAL = Load(1e9, 10_000)
RATES = {1_000: 200.0, 10_000: 200.0}
"""Beacons a second of a check: a machine with other work carries them too."""
SECONDS = 30.0


def main() -> None:
    """Parse the command line; measure, check, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument("--views", type=float, default=USUAL.views_a_day, help="views a day (default: 1e9)")
    parser.add_argument("--sites", type=float, default=USUAL.sites, help="sites among which they are divided evenly")
    parser.add_argument("--workers", type=int, help="how many there are; default: as many as it takes")
    parser.add_argument("--peak", type=float, default=USUAL.peak, help="busiest moment by the average (default: 3)")
    parser.add_argument("--pings", type=float, default=USUAL.pings_per_view, help="pings for each view (default: 0.5)")
    parser.add_argument("--visitor", type=float, default=USUAL.views_per_visitor, help="views of a visitor in a day")
    parser.add_argument("--rollup", type=float, default=USUAL.rollup_every_s, help="FOOTFALL_ROLLUP_EVERY_S")
    parser.add_argument("--spread", type=int, default=USUAL.workers_per_site, help="workers that a site reaches")
    parser.add_argument("--pages", type=int, default=USUAL.pages, help="pages of a site (default: 300)")
    parser.add_argument("--saved", action="store_true", help="measure nothing; use the costs of the last run")
    parser.add_argument("--check", type=int, action="append", help="sites of a real run (default: 1000; 0: none)")
    parser.add_argument("--affinity", action="store_true", help="compare four hosts behind nginx, by site and in turn")
    parser.add_argument("--results", action="store_true", help="write the last run into README.md and RESULTS.json")
    chosen = parser.parse_args()
    load = Load(
        chosen.views,
        int(chosen.sites),
        chosen.peak,
        chosen.pings,
        chosen.visitor,
        chosen.rollup,
        chosen.spread,
        chosen.pages,
    )
    numbers = asdict(load)
    del numbers["pings_per_view"]
    if min(numbers.values()) <= 0:
        parser.error("views, sites, peak, views of a visitor, rollup, spread and pages are above 0")
    try:
        if chosen.results:
            write_results()
            return
        good = asyncio.run(run(load, chosen))
    except KeyboardInterrupt:
        say("stopped")
        sys.exit(1)
    except Stop as stop:
        print(f"scale: {stop}", file=sys.stderr)
        sys.exit(stop.status)
    sys.exit(0 if good else 1)


async def run(load: Load, chosen: argparse.Namespace) -> bool:
    """Measure or read the costs, check them, print; return whether each prediction held."""
    if chosen.affinity:
        if find_nginx() is None:
            raise Stop("nginx is not installed: `apt install nginx-light` on Debian.")
        sys.stdout.write("\n".join([*await affinity.measure(say), ""]))
        return True
    if chosen.saved:
        found = saved(SAVED)
    else:
        found = {"machine": machine.describe(), "additions_ms": [additions_cpu_ms()]}
        found["costs"] = asdict(await costs.measure(costs.Effort(), say))
        found["additions_ms"].append(additions_cpu_ms())
    of_machine = costs_of(found)
    save(found)
    runs = [
        await check.run(of_machine, sites, RATES.get(sites, 200.0), SECONDS, say)
        for sites in chosen.check or ([] if chosen.saved else [1000])
        if sites
    ]
    found["checks"] = [asdict(each) for each in runs] or found.get("checks", [])
    save(found)
    lines = [report.conditions(found["machine"], found["additions_ms"]), ""]
    for each in runs:
        lines += [*report.check(each), ""]
    lines += [*report.prices(of_machine, load), ""]
    sys.stdout.write("\n".join([*lines, *report.answer(of_machine, load, chosen.workers), ""]))
    return all(compared.holds for each in runs for compared in each.compared)


def saved(file: Path) -> dict[str, Any]:
    """Return what a run has saved; raises Stop where none has."""
    if not file.exists():
        raise Stop("Nothing is measured yet: make scale measures.")
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def save(found: Mapping[str, Any]) -> None:
    """Keep a run for `--saved` and `--results`."""
    SAVED.parent.mkdir(exist_ok=True)
    SAVED.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def costs_of(found: dict[str, Any]) -> Costs:
    """Return the costs of a run as they were measured: JSON has numbers as names."""
    values = dict(found["costs"])
    values["of"] = {Thing(name): Cost(**cost) for name, cost in values["of"].items()}
    values["wakes"] = {float(per_s): Cost(**cost) for per_s, cost in values["wakes"].items()}
    values["copies"] = {int(visitors): Cost(**cost) for visitors, cost in values["copies"].items()}
    for name, value in values.items():
        if name not in {"of", "wakes", "copies"} and isinstance(value, dict):
            values[name] = {int(visitors): number for visitors, number in value.items()}
    return Costs(**values)


def write_results() -> None:
    """Keep the last run for later readers, and write README's table from it."""
    found = saved(SAVED)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    report.write_readme(found, costs_of(found))


def additions_cpu_ms() -> int:
    """Return the CPU time of a million additions in Python: where others use the machine too, a core is slower."""
    spent_s, total = time.process_time(), 0
    for number in range(1_000_000):
        total += number
    return round((time.process_time() - spent_s) * 1000)


def say(what: str) -> None:
    """Report what is being measured."""
    sys.stderr.write(f"scale: {time.monotonic() - STARTED:4.0f} s  {what}\n")


if __name__ == "__main__":
    main()
