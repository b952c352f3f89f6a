"""`make bench`: one run, everything as ratios side by side; a table for people, `.footfall/bench.json` for machines."""

import argparse
import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from footfall.errors import Stop
from tests.bench import (
    closedloop,
    counted,
    figures,
    growth,
    instructions,
    kept_ids,
    machine,
    memory,
    nginx,
    rates,
    results,
    storage,
    sustained,
    tabs,
)
from tests.bench.servers import Footfall, footfall, start_s
from tests.bench.wrk import find_wrk
from tests.support.nginx import find_nginx

RESULT = Path(".footfall/bench.json")
TIMED = ("requests", "nginx", "sites", "workers", "sustained", "growth")
PARTS = (*TIMED, *counted.PARTS)
STARTED = time.monotonic()


async def measure(parts: tuple[str, ...], seconds: float, repeats: int, sustained_s: float) -> dict[str, Any]:
    """Run the chosen parts and return the figures; on a signal it stops its servers first."""
    itself = asyncio.current_task()
    assert itself is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, itself.cancel)
    found: dict[str, Any] = {"machine": machine.describe()}
    if "requests" in parts or "nginx" in parts:
        async with footfall() as service:
            if "requests" in parts:
                found |= await requests(service, seconds, repeats)
            if "nginx" in parts:
                found["nginx"] = await behind_nginx(service, seconds, repeats)
    if "sites" in parts:
        say(f"beacons of {closedloop.MANY_SITES:,} sites")
        found["many_sites"] = await closedloop.many_sites(seconds, repeats)
    if "workers" in parts:
        say("one worker and two")
        found["workers"] = await closedloop.workers(seconds, repeats)
    if "sustained" in parts:
        say(f"{sustained.BEACONS_PER_S:,} beacons a second, open loop, for {sustained_s:g} s")
        found["sustained"] = await sustained.measure(sustained_s)
    if "growth" in parts:
        say("growth by sites and visitors")
        found["growth"] = await growth.measure()
    found |= await measure_counted(parts)
    found["machine"]["additions_ms"].append(machine.additions_ms())
    return found


async def measure_counted(parts: tuple[str, ...]) -> dict[str, Any]:
    """Run those of the chosen parts that need no quiet machine."""
    found: dict[str, Any] = {}
    if "instructions" in parts:
        found |= await instructions_of_requests()
    if "rates" in parts:
        say("instructions a second of a core")
        found["rates"] = counted.stamped(await rates.measure((found or counted.saved()).get("instructions", {})))
    if "storage" in parts:
        say("bytes in both stores, and a site of many pages")
        found["storage"] = counted.stamped(await storage.measure())
    if "kept_ids" in parts:
        say("what the ids of small sites cost in Redis")
        found["kept_ids"] = counted.stamped(await kept_ids.measure())
    if "memory" in parts:
        found |= await memory_of_processes()
    if "tabs" in parts:
        found |= await open_tabs()
    return found


async def requests(service: Footfall, seconds: float, repeats: int) -> dict[str, Any]:
    """Measure start, memory, reads and beacons of one worker."""
    say("the start")
    found: dict[str, Any] = {
        "first_start_s": round(service.first_start_s, 2),
        "start_s": round(await start_s(service), 2),
        "rss_idle_mb": round(service.rss_mb(), 1),
    }
    say("reads beside constant bytes")  # before any beacon counts: their ETag must not change
    found["counts"] = await closedloop.counts(service, seconds, repeats)
    say("beacons beside an empty POST")
    found["seen"] = await closedloop.seen(service, seconds, repeats)
    found["idle_round_trips"] = await closedloop.idle_round_trips(service)
    found["rss_loaded_mb"] = round(service.rss_mb(), 1)
    return found


async def behind_nginx(service: Footfall, seconds: float, repeats: int) -> dict[str, Any] | None:
    """Measure through nginx where it is installed; else print how to get it."""
    if find_nginx() is None:
        say("nginx is not installed, so nothing is measured through it: `apt install nginx-light` on Debian")
        return None
    say("polls and beacons through nginx")
    return await nginx.measure(service, seconds, repeats)


async def instructions_of_requests() -> dict[str, Any]:
    """Count instructions where valgrind is installed; else print how to get it."""
    say("instructions of a request, under valgrind: some minutes")
    counts = await instructions.measure()
    if counts is None:
        say("valgrind is not installed, so no instructions are counted: `apt install valgrind` on Debian")
        return {}
    return {"instructions": counted.stamped(counts)}


async def memory_of_processes() -> dict[str, Any]:
    """Read what the processes hold in memory, on Linux."""
    say("memory of 1, 2 and 4 workers, and of one with 1,000 sites")
    read = await memory.measure()
    if read is None:
        say("this system does not say what memory processes share, so none is read")
        return {}
    return {"memory": counted.stamped(read)}


async def open_tabs() -> dict[str, Any]:
    """Measure tabs through nginx where it is installed."""
    if find_nginx() is None:
        say("nginx is not installed, so no tabs are measured through it: `apt install nginx-light` on Debian")
        return {}
    say(f"{tabs.CONNECTIONS:,} connections that stand for open tabs")
    return {"tabs": counted.stamped(await tabs.measure())}


def say(what: str) -> None:
    """Report what is being measured."""
    print(f"bench: {time.monotonic() - STARTED:4.0f} s  {what}", file=sys.stderr, flush=True)


def main() -> None:
    """Parse the command line, measure, show and save."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of each closed-loop run")
    parser.add_argument("--repeats", type=int, default=9, help="pairs of runs per figure; the median is shown")
    parser.add_argument("--sustained", type=float, default=60, help="seconds of the open-loop run")
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part; the others stay as saved")
    parser.add_argument("--results", action="store_true", help="write tests/bench/RESULTS.md from what was saved")
    parser.add_argument("--update", action="store_true", help="write its counted figures, and RESULTS.json, only")
    chosen = parser.parse_args()
    saved = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    try:
        if chosen.results or chosen.update:
            results.write(saved, timed=chosen.results, newly_counted=chosen.update)
            return
        parts = tuple(chosen.only or PARTS)
        if set(parts) & set(TIMED):
            find_wrk()
        found = asyncio.run(measure(parts, chosen.seconds, chosen.repeats, chosen.sustained))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("stopped; nothing is saved")
        sys.exit(1)
    except Stop as stop:
        print(f"bench: {stop}", file=sys.stderr)
        sys.exit(stop.status)
    if chosen.only and saved:  # other moments, other conditions: RESULTS.md takes no figures from such a mixture
        again = sorted({*saved.get("again", ()), *parts} - set(counted.PARTS))
        found = saved | found | {"machine": saved["machine"]} | ({"again": again} if again else {})
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    Console(width=None if sys.stdout.isatty() else 140).print(figures.table(found))
    say(f"saved as {RESULT}")
    if worse := counted.regressions(found, counted.saved()) if "instructions" in parts else []:
        for line in worse:
            say(line)
        say("that is worse by more than 5 %; if it is meant: make bench ARGS=--update")
        sys.exit(1)


if __name__ == "__main__":
    main()
