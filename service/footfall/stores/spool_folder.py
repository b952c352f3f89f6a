"""A spool folder as an operator looks at it: its files are read on a copy, and their workers are not disturbed.

The folder of another host is checked as a whole before a worker of this host may adopt it.
"""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import mkdtemp

from footfall.model.batch import Batch
from footfall.model.site_id import SiteId
from footfall.stores.spool_file import (
    COMPANIONS,
    SET_ASIDE,
    SUFFIX,
    Examined,
    batch_of,
    beside,
    examine,
    locked,
    salvaged_rows,
    sound_rows,
)

INCOMING = "incoming-"
"""Beginning of the name of a folder for copies, within the spool."""
SQLITE_LOCK_AT = 0x40000002
SQLITE_LOCK_BYTES = 510
"""Where SQLite locks a file: https://www.sqlite.org/src/file/src/os.h, SHARED_FIRST and SHARED_SIZE."""


@dataclass(frozen=True, slots=True)
class FoundLog:
    """What a file holds of a log and can be read."""

    site_id: SiteId
    day: date
    log_id: str
    beacons: Mapping[int, int]
    """Beacons of each batch, by its seq."""
    views: int
    """Views of the log up to the last of these batches."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A spool file of the folder."""

    name: str
    batches: int
    trouble: str
    """Why it is not whole, or cannot be taken; empty if it can."""
    logs: tuple[FoundLog, ...] = ()
    is_held: bool = False
    """A worker that runs has it open, so what it holds cannot be read."""


class SpoolFolder:
    """A folder of spool files, and a copy of them beside this host's spool."""

    def __init__(self, source: Path, spool: Path, copy: Path) -> None:
        self._source = source
        self._spool = spool
        self._copy = copy
        self._files = sorted(source.glob(f"*{SUFFIX}"))

    def look(self) -> list[FoundFile]:
        """Copy the spool files, and say of each whether it is whole and what it holds."""
        return [self._look_at(path) for path in self._files] + self._left_alone()

    def look_before_adopting(self) -> list[FoundFile]:
        """Look, and name as trouble what would replace a file of this host."""
        return [
            replace(file, trouble="has the name of a file in this host's spool")
            if (self._spool / file.name).exists()
            else file
            for file in self.look()
        ]

    def set_aside(self) -> list[str]:
        """Return the names of damaged files of which a worker has taken over what could be read."""
        return sorted(path.name for path in self._source.glob(f"*{SET_ASIDE}"))

    def move_in(self) -> None:
        """Give the copies to the workers of this host; the folder itself stays as it is.

        A file of this host that has the same name stays: its worker may be writing to it.
        """
        owner = self._spool.stat()
        for path in self._files:
            if (self._spool / path.name).exists():
                continue
            # The file itself comes last: a worker looks for it, and finds what belongs to it beside it.
            for ending in (*COMPANIONS, ""):
                copy = self._copy / "again" / f"{path.name}{ending}"
                _copy(beside(path, ending), copy)
                if copy.exists():
                    if os.geteuid() == 0:
                        os.chown(copy, owner.st_uid, owner.st_gid)
                    copy.rename(self._spool / copy.name)

    def _look_at(self, path: Path) -> FoundFile:
        try:
            if _is_locked(path):
                return FoundFile(path.name, 0, "belongs to a worker that runs", is_held=True)
            before = _state_of(path)
            copy = self._copy / path.name
            for ending in ("", *COMPANIONS):
                _copy(beside(path, ending), beside(copy, ending))
        except FileNotFoundError:
            return FoundFile(path.name, 0, "disappeared while it was read: a worker took it over")
        found, logs = _read(copy)
        trouble = "changes while it is read" if _state_of(path) != before else found.trouble
        return FoundFile(path.name, found.sound, trouble, logs)

    def _left_alone(self) -> list[FoundFile]:
        """Return what stands in the folder without the file that it belongs to."""
        known = {f"{path.name}{ending}" for path in self._files for ending in ("", *COMPANIONS)}
        strays = [path.name for path in self._source.glob(f"*{SUFFIX}*") if path.name not in known]
        return [FoundFile(name, 0, "stands there without its file, or is half of a copy") for name in sorted(strays)]


@contextmanager
def spool_folder(source: Path, spool: Path) -> Iterator[SpoolFolder]:
    """Yield the folder `source`; its copy, on the disk of this host's `spool`, is removed at the end."""
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _folder_for_copies(spool) as copy:
        (copy / "again").mkdir()
        yield SpoolFolder(source, spool, copy)


@contextmanager
def _folder_for_copies(spool: Path) -> Iterator[Path]:
    """Make a folder and remove it at the end, and those of commands that were killed before they could.

    The folder is locked while its command lives. Process ids tell nothing: several containers may share the volume.
    """
    for abandoned in spool.glob(f"{INCOMING}*"):
        if (lock := _lock(abandoned, wait=False)) is not None:
            shutil.rmtree(abandoned, ignore_errors=True)
            os.close(lock)
    copy, lock = _new_folder(spool)
    try:
        yield copy
    finally:
        shutil.rmtree(copy, ignore_errors=True)
        os.close(lock)


def _new_folder(spool: Path) -> tuple[Path, int]:
    while True:
        copy = Path(mkdtemp(prefix=INCOMING, dir=spool))
        if (lock := _lock(copy, wait=True)) is not None:
            if copy.exists():
                return copy, lock
            os.close(lock)  # before it was locked, another command took it for abandoned


def _lock(folder: Path, *, wait: bool) -> int | None:
    """Lock a folder until the returned descriptor is closed; None where another command, or account, has it."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(opened)
        return None
    return opened


def _copy(source: Path, copy: Path) -> None:
    """Copy a file, if there is one, to the disk."""
    if not source.exists():
        return
    shutil.copyfile(source, copy)
    copy.chmod(0o600)
    with copy.open("rb") as file:
        os.fsync(file.fileno())


def _read(copy: Path) -> tuple[Examined, tuple[FoundLog, ...]]:
    """Examine the copy of a file, and return what can be read of it."""
    try:
        file = locked(copy, create=False)
    except sqlite3.Error:  # no database any more
        found = examine(None, copy)
        return found, _logs_of(map(batch_of, salvaged_rows(copy)))
    with closing(file):
        found = examine(file, copy)
        if not found.sound:
            return found, ()
        return found, _logs_of(map(batch_of, sound_rows(file) if found.has_structure else salvaged_rows(copy)))


def _logs_of(batches: Iterable[Batch]) -> tuple[FoundLog, ...]:
    """Gather batches by their logs; a batch may come twice."""
    beacons: dict[tuple[SiteId, date, str], dict[int, int]] = {}
    views: dict[str, int] = {}
    for batch in batches:
        beacons.setdefault((batch.site_id, batch.day, batch.log_id), {})[batch.seq] = batch.beacons
        views[batch.log_id] = max(batch.views, views.get(batch.log_id, 0))
    return tuple(FoundLog(*key, of_log, views[key[-1]]) for key, of_log in sorted(beacons.items()))


def _is_locked(path: Path) -> bool:
    """Whether a worker holds a file. SQLite itself would change a file of a former version by opening it.

    A worker's lock is exclusive, so asking for a shared one tells; that works on a volume mounted for reading, too.
    """
    with path.open("rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, SQLITE_LOCK_BYTES, SQLITE_LOCK_AT)
        except OSError:
            return True
    return False


def _state_of(path: Path) -> list[tuple[int, int] | None]:
    states: list[tuple[int, int] | None] = []
    for ending in ("", *COMPANIONS):
        found = beside(path, ending)
        states.append((found.stat().st_size, found.stat().st_mtime_ns) if found.exists() else None)
    return states
