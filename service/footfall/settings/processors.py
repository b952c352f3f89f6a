"""How many processors this process may use: those it may run on, held to the limit of its control groups."""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def usable_processors(groups: Path = CONTROL_GROUPS, own: Path = OWN_GROUPS) -> int:
    """Return the number of processors for as many busy processes; at least 1.

    A container with a limit of 1.5 processors sees all of its host's, and with a process for each of them all of them
    stand still for most of every period.
    """
    return max(1, min([_available(), *(math.ceil(limit) for limit in _limits(groups, own))]))


def _available() -> int:
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _limits(groups: Path, own: Path) -> Iterator[float]:
    """Yield the limits of this process' groups and of those above them, in processors."""
    with suppress(OSError):
        for line in own.read_text().splitlines():
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if controllers and "cpu" not in controllers.split(","):
                continue
            root = groups / controllers  # of version 1; version 2 names no controllers
            group = root / path.lstrip("/")
            # A container may not see the path that its host knows: its own group is the root then.
            for folder in (group, *group.parents):
                yield from _limit_of(folder)
                if folder == root:
                    break


def _limit_of(folder: Path) -> Iterator[float]:
    with suppress(OSError, ValueError):  # "max" is no limit
        quota, period = (folder / "cpu.max").read_text().split()
        yield int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        if quota_us > 0:
            yield quota_us / int((folder / "cpu.cfs_period_us").read_text())
