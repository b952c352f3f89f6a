"""From instructions of a request to requests a second: by what a core of this machine does in a second.

A fixed program is counted by callgrind, and timed by its own CPU time. What it shares with a server is its kind of
work: JSON, hashing, strings and dictionaries in Python. Instructions of the kernel, such as those of sockets, are in
neither number, so the rates are of a core that does nothing else: more than a core that also sends and receives.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from footfall.errors import Stop
from tests.bench import work
from tests.bench.goals import figure
from tests.bench.instructions import instructions_in

CASES = ("seen", "seen_page", "many_sites", "counts")
A_DAY_S = 86_400
BILLION_PER_S = 1e9 / A_DAY_S
COUNTED_LOOPS, LOOPS = 50, 5_000
"""Of the program, under valgrind, and timed: some hundredths of a second."""
ROUNDS = 25
TIMEOUT_S = 300
PROGRAM = Path(work.__file__)


async def measure(instructions: Mapping[str, Any]) -> dict[str, Any]:
    """Return instructions a second of a core, and rates by case from the `instructions` of both servers for a request.

    Raises Stop where these are missing.
    """
    if figure(instructions, "seen.ours") is None:
        raise Stop("No instructions are counted yet: make bench ARGS='--only instructions' counts them.")
    per_loop = (await _counted(3 * COUNTED_LOOPS) - await _counted(COUNTED_LOOPS)) / (2 * COUNTED_LOOPS)
    per_s = sorted(per_loop * LOOPS / _cpu_s() for _ in range(ROUNDS))
    median = statistics.median(per_s)
    return {
        "billion_instructions_per_s": {
            name: round(found / 1e9, 2)
            for name, found in (("least", per_s[0]), ("median", median), ("most", per_s[-1]))
        },
        "requests": {case: rates(instructions[case], median) for case in CASES},
    }


def rates(of_case: Mapping[str, float], per_s: float) -> dict[str, float]:
    """Return requests a second of a core of both servers, and the cores that a billion of them in a day take.

    >>> rates({"ours": 400_000, "empty": 200_000}, 4e9)
    {'ours_per_s': 10000, 'empty_per_s': 20000, 'billion_cores': 1.16, 'billion_cores_empty': 0.58}
    """
    ours, empty = (per_s / of_case[server] for server in ("ours", "empty"))
    return {
        "ours_per_s": round(ours),
        "empty_per_s": round(empty),
        "billion_cores": round(BILLION_PER_S / ours, 2),
        "billion_cores_empty": round(BILLION_PER_S / empty, 2),
    }


def _cpu_s() -> float:
    started = time.process_time()
    work.work(LOOPS)
    return time.process_time() - started


async def _counted(loops: int) -> int:
    """Return the instructions of a process that does the work."""
    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as folder:
        out = Path(folder) / "callgrind"
        process = await asyncio.create_subprocess_exec(
            *(
                "valgrind",
                "--tool=callgrind",
                f"--callgrind-out-file={out}",
                sys.executable,
                "-IS",
                str(PROGRAM),
                str(loops),
            ),
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, complaint = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise Stop("valgrind did not end in time.", 1) from None
        if process.returncode:
            raise Stop(f"valgrind failed:\n{complaint.decode()}", 1)
        return instructions_in(out.read_text("utf-8"))
