"""Where the workers of one parent share their metrics, as their parent sees it: a folder, and a slot in it for each."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from footfall.errors import Stop
from footfall.metrics.reports import report_file

MEMORY = Path("/dev/shm")  # noqa: S108
"""A folder in memory, on Linux: a write to a mapped file on a disk may wait for the disk."""


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """Make the folder of the slots' files, for one parent, and remove it at the end."""
    place = MEMORY if sys.platform == "linux" and MEMORY.is_dir() else None
    try:
        folder = tempfile.TemporaryDirectory(prefix="footfall-metrics-", dir=place, ignore_cleanup_errors=True)
    except OSError as error:
        raise Stop(f"The workers have no folder to share their metrics in: {error}; set TMPDIR.") from error
    with folder as name:
        yield Path(name)


def free_slot(folder: Path, slot: int) -> None:
    """Drop the gauges and the report of a worker that has ended; its counters stay."""
    report_file(folder, slot).unlink(missing_ok=True)
    mark_process_dead(slot, path=str(folder))  # type: ignore[no-untyped-call]
