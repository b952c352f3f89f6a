"""Runs many faults, a few at a time, each in a process of its own, and prints the table."""

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.chaos.matrix import FAULTS
from tests.chaos.run import Row
from tests.support.project import PROJECT

HEADINGS = ("fault", "", "sent", "acked", "refused", "unknown", "counted", "difference", "seed", "versions")
RUN_MAX_S = 400
END_MAX_S = 60


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a fault."""

    fault: str
    seed: int
    quick: bool = False

    @property
    def command(self) -> str:
        """Return the command that repeats the run."""
        return f"make chaos FAULT={self.fault} SEED={self.seed}" + (" ARGS=--quick" if self.quick else "")


async def play_all(jobs: Sequence[Job], lanes: int) -> list[Row]:
    """Run all jobs; those that measure time or memory come last, one by one."""
    together = [job for job in jobs if not FAULTS[job.fault].alone]
    alone = [job for job in jobs if FAULTS[job.fault].alone]
    gate = asyncio.Semaphore(lanes)

    async def play_in_lane(job: Job) -> Row:
        async with gate:
            return await play(job)

    rows = dict(zip(together, await asyncio.gather(*map(play_in_lane, together)), strict=True))
    for job in alone:
        rows[job] = await play(job)
    return [rows[job] for job in jobs]


async def play(job: Job) -> Row:
    """Run one job in a process of its own; return a row even where the process fails."""
    command = [sys.executable, "-m", "tests.chaos", "--row", "--fault", job.fault, "--seed", str(job.seed)]
    process = await asyncio.create_subprocess_exec(
        *command, *(["--quick"] if job.quick else []), cwd=PROJECT, stdout=asyncio.subprocess.PIPE
    )
    reading = asyncio.ensure_future(process.communicate())
    done, _ = await asyncio.wait([reading], timeout=RUN_MAX_S)
    if not done:
        process.send_signal(signal.SIGINT)  # it ends its servers first
        done, _ = await asyncio.wait([reading], timeout=END_MAX_S)
    if not done:
        process.kill()
    output, _ = await reading
    title = FAULTS[job.fault].title
    lines = output.decode(errors="replace").splitlines()
    if process.returncode or not lines:
        row = Row(job.fault, title, job.seed, problems=[f"the run ended with status {process.returncode}"])
    else:
        row = Row(**json.loads(lines[-1]))
    mark = "ok" if row.good else f"FAILED: {[*row.problems, ''][0]}"
    print(f"{row.fault:>4} {row.title:<32} seed {row.seed:<6} {row.took_s:5.0f} s  {mark}", flush=True)
    return row


def print_table(jobs: Sequence[Job], rows: Sequence[Row]) -> int:
    """Print the result and how to repeat it; return the exit status."""
    table = Table(*HEADINGS)
    for row in sorted(rows, key=lambda row: list(FAULTS).index(row.fault)):
        numbers = (row.sent, row.acked, row.refused, row.unknown, row.counted)
        difference = str(row.difference) if row.good else f"[red]{row.difference} FAILED[/]"
        table.add_row(row.fault, row.title, *[f"{n:,}" for n in numbers], difference, str(row.seed), row.versions)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    print("Beacons sent, acked (200, 202), refused, unknown (no answer); page views counted, and their difference")
    print("to those that were acked. Versions of Footfall, Valkey and PostgreSQL.")
    failed = [(job, row) for job, row in zip(jobs, rows, strict=True) if not row.good]
    for job, row in failed:
        print(f"\n{row.fault} with seed {row.seed}; repeat it: {job.command}")
        for problem in row.problems:
            print(f"  {problem}")
        for line in row.lines:
            print(f"    | {line}", end="")
    return 1 if failed else 0
