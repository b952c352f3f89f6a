"""Footfall with a clock that a file moves: `python -m tests.replay.moved_clock`, then the arguments of `footfall`.

The file that CLOCK_FILE names holds one number, by how many seconds this process and its workers add to the time of the
machine. A worker runs this module again before it imports the program, as its parent's main module.
"""

import mmap
import os
import struct
import time
from pathlib import Path

CLOCK_FILE = "SEED_WEEK_CLOCK"
NUMBER = struct.Struct("=d")


def set_ahead(file: Path, seconds: float) -> None:
    """Let the processes that read the file be so many seconds ahead of the machine."""
    with file.open("r+b" if file.exists() else "w+b") as held:
        held.write(NUMBER.pack(seconds))


def _move(file: Path) -> None:
    """Let `time.time` follow the file; this must come before any module of the program takes the function."""
    machine_time = time.time
    with file.open("rb") as held:
        ahead = mmap.mmap(held.fileno(), NUMBER.size, access=mmap.ACCESS_READ)
    time.time = lambda: machine_time() + NUMBER.unpack(ahead)[0]


if __name__ in ("__main__", "__mp_main__"):
    _move(Path(os.environ[CLOCK_FILE]))

if __name__ == "__main__":
    from footfall.cli.commands import main

    main()
