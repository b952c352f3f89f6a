"""The spool folder of another host: it is checked as a whole, on a copy, before a worker of this host may adopt it."""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from footfall.stores.spool_file import COMPANIONS, SUFFIX, beside, examine, locked

SQLITE_LOCK_AT = 0x40000002
SQLITE_LOCK_BYTES = 510
"""Where SQLite locks a file: https://www.sqlite.org/src/file/src/os.h, SHARED_FIRST and SHARED_SIZE."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A spool file of the folder."""

    name: str
    batches: int
    trouble: str
    """Why it is not whole, or cannot be taken; empty if it can."""


class ForeignFolder:
    """A folder that was brought from another host, and a copy of its spool files beside this host's spool."""

    def __init__(self, source: Path, spool: Path, copy: Path) -> None:
        self._source = source
        self._spool = spool
        self._copy = copy
        self._files = sorted(source.glob(f"*{SUFFIX}"))

    def look(self) -> list[FoundFile]:
        """Copy the spool files, and say of each whether it is whole."""
        return [self._look_at(path) for path in self._files] + self._left_alone()

    def move_in(self) -> None:
        """Give the copies to the workers of this host; the folder itself stays as it is."""
        owner = self._spool.stat()
        for path in self._files:
            # The file itself comes last: a worker looks for it, and finds what belongs to it beside it.
            for ending in (*COMPANIONS, ""):
                copy = self._copy / "again" / f"{path.name}{ending}"
                _copy(beside(path, ending), copy)
                if copy.exists():
                    if os.geteuid() == 0:
                        os.chown(copy, owner.st_uid, owner.st_gid)
                    copy.rename(self._spool / copy.name)

    def _look_at(self, path: Path) -> FoundFile:
        if (self._spool / path.name).exists():
            return FoundFile(path.name, 0, "has the name of a file in this host's spool")
        if _is_locked(path):
            return FoundFile(path.name, 0, "belongs to a worker that runs")
        before = _state_of(path)
        copy = self._copy / path.name
        for ending in ("", *COMPANIONS):
            _copy(beside(path, ending), beside(copy, ending))
        file: sqlite3.Connection | None = None
        try:
            file = locked(copy, create=False)
        except sqlite3.Error:
            file = None  # no database any more
        if file is None:
            found = examine(None, copy)
        else:
            with closing(file):
                found = examine(file, copy)
        trouble = "changes while it is read" if _state_of(path) != before else found.trouble
        return FoundFile(path.name, found.sound, trouble)

    def _left_alone(self) -> list[FoundFile]:
        """Return what stands in the folder without the file that it belongs to."""
        known = {f"{path.name}{ending}" for path in self._files for ending in ("", *COMPANIONS)}
        strays = [path.name for path in self._source.glob(f"*{SUFFIX}*") if path.name not in known]
        return [FoundFile(name, 0, "stands there without its file, or is half of a copy") for name in sorted(strays)]


@contextmanager
def foreign_folder(source: Path, spool: Path) -> Iterator[ForeignFolder]:
    """Yield the folder `source`; its copy, on the disk of this host's `spool`, is removed at the end."""
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy = spool / f"incoming-{os.getpid()}"
    (copy / "again").mkdir(mode=0o700, parents=True)
    try:
        yield ForeignFolder(source, spool, copy)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _copy(source: Path, copy: Path) -> None:
    """Copy a file, if there is one, to the disk."""
    if not source.exists():
        return
    shutil.copyfile(source, copy)
    copy.chmod(0o600)
    with copy.open("rb") as file:
        os.fsync(file.fileno())


def _is_locked(path: Path) -> bool:
    """Whether a worker holds a file. SQLite itself would change a file of a former version by opening it."""
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, SQLITE_LOCK_BYTES, SQLITE_LOCK_AT)
        except OSError:
            return True
    return False


def _state_of(path: Path) -> list[tuple[int, int] | None]:
    states: list[tuple[int, int] | None] = []
    for ending in ("", *COMPANIONS):
        found = beside(path, ending)
        states.append((found.stat().st_size, found.stat().st_mtime_ns) if found.exists() else None)
    return states
