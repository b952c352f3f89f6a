"""From instructions of a request to requests a second of a core, by what a core of this machine does in a second.

The empty server runs, without valgrind, and gets beacons on 64 connections, as when its instructions are counted. Those
by its CPU time in user code are instructions a second; its time in the kernel, for the same requests and answers, is
taken for that of both servers.
"""

import json
import os
import statistics
import sys
from collections.abc import Mapping
from typing import Any

import psutil

from footfall.errors import Stop
from tests.bench import traffic
from tests.bench.goals import figure
from tests.bench.servers import Server
from tests.support.own_footfall import running
from tests.support.raw_http import send_all

CASES = ("seen", "seen_page", "many_sites", "counts")
BILLION_PER_S = 1e9 / 86_400
CONNECTIONS = 64
REQUESTS, ROUNDS = 5_000, 9
"""Some tenths of a second each: the system counts CPU time in hundredths."""
ANSWER = {"body": "x" * 750, "headers": {"Content-Type": "application/json", "Cache-Control": "no-store"}}
"""As long as the numbers of a site."""


async def measure(instructions: Mapping[str, Any], requests: int = REQUESTS) -> dict[str, Any]:
    """Return instructions a second of a core, and rates by case from the `instructions` of both servers for a request.

    Raises Stop where these are missing.
    """
    if figure(instructions, "seen.empty") is None:
        raise Stop("No instructions are counted yet: make bench ARGS='--only instructions' counts them.")
    answers = json.dumps({"/seen": ANSWER, "/counts": ANSWER})
    command = (sys.executable, "-m", "tests.bench.baseline", answers)
    async with running(*command, environ=dict(os.environ)) as url:
        [process] = [child for child in psutil.Process().children() if "tests.bench.baseline" in child.cmdline()]
        port = Server(url, [process]).port
        await send_all(port, traffic.beacons()[:requests], CONNECTIONS)  # warms up
        rounds = [await _spent_s(process, port, requests) for _ in range(ROUNDS)]
    per_s = sorted(instructions["seen"]["empty"] / user_s for user_s, _ in rounds)
    median, kernel_s = statistics.median(per_s), statistics.median(system_s for _, system_s in rounds)
    return {
        "billion_instructions_per_s": {
            name: round(found / 1e9, 2)
            for name, found in (("least", per_s[0]), ("median", median), ("most", per_s[-1]))
        },
        "kernel_us": round(kernel_s * 1e6, 1),
        "requests": {case: rates(instructions[case], median, kernel_s) for case in CASES},
    }


async def _spent_s(process: psutil.Process, port: int, requests: int) -> tuple[float, float]:
    """Send beacons; return the seconds in user code and in the kernel for one of them."""
    before = process.cpu_times()
    await send_all(port, traffic.beacons()[:requests], CONNECTIONS)
    now = process.cpu_times()
    return max(0.01, now.user - before.user) / requests, (now.system - before.system) / requests


def rates(of_case: Mapping[str, float], per_s: float, kernel_s: float) -> dict[str, float]:
    """Return requests a second of a core of both servers, and the cores that a billion of them in a day take.

    >>> rates({"ours": 300_000, "empty": 200_000}, 4e9, 25e-6)
    {'ours_per_s': 10000, 'empty_per_s': 13333, 'billion_cores': 1.16, 'billion_cores_empty': 0.87}
    """
    ours, empty = (1 / (of_case[server] / per_s + kernel_s) for server in ("ours", "empty"))
    return {
        "ours_per_s": round(ours),
        "empty_per_s": round(empty),
        "billion_cores": round(BILLION_PER_S / ours, 2),
        "billion_cores_empty": round(BILLION_PER_S / empty, 2),
    }
