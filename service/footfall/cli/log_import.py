"""What `footfall import log` does: reads the logs of a web server as if each page view had been a beacon."""

import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from footfall.cli.day_imports import LINES_SHOWN, write_days
from footfall.cli.terminal import complain, progress_bar, say
from footfall.errors import Stop
from footfall.imports.log_days import LogDays
from footfall.imports.log_requests import OpenLog, Request, Unread, open_log
from footfall.settings.settings import Settings, Site

LINES_AT_ONCE = 10_000
"""Lines between two steps of the progress bar."""


@dataclass(slots=True)
class Reading:
    """What was read so far."""

    lines: int = 0
    views: int = 0
    unread: int = 0
    shown: list[Unread] = field(default_factory=list)
    """The first lines that were not understood."""

    def note(self, unread: Unread) -> None:
        """Note a line that was not understood."""
        self.unread += 1
        self.shown += [unread] if len(self.shown) < LINES_SHOWN else []


async def import_log(
    settings: Settings, site: Site, paths: Sequence[Path], format_name: str, *, is_dry_run: bool
) -> None:
    """Import the finished days of some logs, all of them at once; print what was read, and what was not and why.

    Raises Stop where a file cannot be read, or is in an unknown format; nothing is imported then.
    """
    started_s = time.monotonic()
    logs = [open_log(path, format_name) for path in paths]
    with closing(LogDays(settings, site)) as days:
        reading = _read(logs, days)
        say_reading(reading, days, time.monotonic() - started_s)
        if reading.lines and not reading.views:
            raise Stop(f"no line is a page view of {site.id}; nothing was imported", 1)
        await write_days(settings, site, "log", days, is_dry_run=is_dry_run)
    say(f"Memory at its highest: {_peak_mib():,.0f} MiB")


def _read(logs: Sequence[OpenLog], days: LogDays) -> Reading:
    reading = Reading()
    with progress_bar(sum(log.path.stat().st_size for log in logs), "reading") as progress:
        for log in logs:
            behind = 0
            for number, read in log.requests():
                reading.lines += 1
                if isinstance(read, Request):
                    try:
                        reading.views += days.add(read)
                    except ValueError:
                        reading.note(Unread(log.path, number, f"{read.time[:40]!r} is no time"))
                else:
                    reading.note(read)
                if reading.lines % LINES_AT_ONCE == 0:
                    progress(log.bytes_read - behind)
                    behind = log.bytes_read
            progress(log.path.stat().st_size - behind)
    return reading


def say_reading(reading: Reading, days: LogDays, seconds: float) -> None:
    """Print what the lines were, and which were not understood."""
    for file, line, why in reading.shown:
        complain(f"{file} line {line}: {why}")
    if (more := reading.unread - len(reading.shown)) > 0:
        complain(f"and {more:,d} lines more that were not understood")
    say(
        f"{reading.lines:,d} lines in {seconds:,.1f} s, {reading.lines / max(seconds, 0.001):,.0f} lines/s:"
        f" {reading.views:,d} page views, {reading.unread:,d} lines not understood"
    )
    for reason, requests in Counter(days.left_out).most_common():
        say(f"  left out {requests:>10,d}  {reason}")
    if days.lacks_agents:
        say("These lines do not say the browser: robots are counted as well, and each address is one visitor.")


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024
