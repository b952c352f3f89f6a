"""Batches that wait for Redis, on this host's disk: one locked SQLite file per worker start.

A worker holds an exclusive lock on its file while it lives. A file whose lock is free belonged to a worker that has
ended; any worker may adopt it. Every write is on the disk (fsync) before it is answered. One thread does all of it,
off the event loop. `spool_file.py` has the file itself.

A file that is not whole is never half read and forgotten: it is left alone while it changes, since it may still be
being copied; then what can be read of it is taken over, and the file is kept aside under a name that says so.
"""

import asyncio
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

from footfall.errors import StoreUnavailable
from footfall.model.batch import Batch
from footfall.model.pages import packed
from footfall.model.site_id import SiteId
from footfall.stores.spool_file import (
    COLUMNS,
    LOG,
    RECOUNT,
    SEQ,
    SET_ASIDE,
    SUFFIX,
    Examined,
    PageRow,
    Row,
    batch_of,
    beside,
    create,
    disk_bytes,
    examine,
    insert,
    insert_pages,
    is_busy,
    is_damage,
    is_sound,
    locked,
    page_rows,
    read_pages,
    remove,
    row_of,
    salvaged_rows,
    set_aside,
    sound_rows,
    used_bytes,
)
from footfall.stores.spool_salvage import PAGE_BYTES

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

PAGES_ANY = 2**31
QUIET_S = 30.0
"""A file that does not prove itself whole is left alone until it has not changed for this time."""
PROBE_BYTES = 64 * 1024
"""Room that the disk must have for the check: that of a few full batches."""
LOCK_FILE = "lock"


@dataclass(frozen=True, slots=True)
class SpooledLog:
    """What the spool holds of one log: its last seq, and its views up to there."""

    site_id: SiteId
    day: date
    log_id: str
    last_seq: int
    views: int


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file that was not whole: what could be read of it was taken over, and the file is kept under `kept_as`."""

    kept_as: str
    site_ids: frozenset[SiteId]
    """Sites whose batches were read from it; it may have held those of others."""


class Spool:
    """Batches on this host's disk, until Postgres has them."""

    def __init__(
        self, folder: Path, name: str, max_bytes: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._names = (f"{name}{number or ''}" for number in count())
        self._path = folder / f"{next(self._names)}{SUFFIX}"
        self._max_pages = max(16, max_bytes // PAGE_BYTES)
        self._monotonic = monotonic
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._file: sqlite3.Connection | None = None
        self._is_closed = False
        self._refused_open = False
        """Whether the log has a line that the file could not be opened."""
        self._reported: set[Path] = set()
        """Files that could not be adopted; each is logged once."""
        self._states: dict[Path, tuple[object, float]] = {}
        """State of each file of another worker, and since when it has that state: it may still be being copied."""
        self._waiting: set[Path] = set()
        """Files that do not prove themselves whole and have not been quiet for long enough."""
        self._damaged = 0
        self._damaged_files: list[DamagedFile] = []
        self.used_bytes = 0
        self.folder_bytes = 0
        """What the folder takes of the disk: files of all workers, their journals, and files that are kept damaged."""
        self.troubles: tuple[str, ...] = ()
        """Files in the folder that an operator should look at, as sentences."""

    @property
    def used_ratio(self) -> float:
        """Return how much of its size the spool has used, 0 to 1."""
        return self.used_bytes / (self._max_pages * PAGE_BYTES)

    @property
    def full(self) -> bool:
        """Whether the spool has all but reached its size."""
        return self.used_bytes >= (self._max_pages - 1) * PAGE_BYTES

    async def write(self, batches: Iterable[Batch]) -> None:
        """Write batches; they are on the disk when this returns. The same seq again changes nothing.

        Raises StoreUnavailable when the spool has reached its size, or the disk refuses.
        """
        if self.full:
            raise StoreUnavailable("spool", "has reached its size")
        batches = list(batches)
        rows, pages = [row_of(batch) for batch in batches], page_rows(batches)

        def write(file: sqlite3.Connection) -> None:
            insert(file, rows)
            insert_pages(file, pages)

        await self._run(lambda file: self._changed(file, lambda: write(file)))

    async def read(self, log_id: str, after: int, limit: int) -> list[Batch]:
        """Return up to `limit` batches of a log with seqs above `after`, in order; a damaged one is dropped.

        The last one carries the views of every page that the spool has of the log: it does not know their batches.
        """
        return await self._run(lambda file: self._read(file, log_id, after, limit))

    async def delete(self, log_id: str, last_seq: int) -> None:
        """Drop the batches of a log up to `last_seq`, which Postgres has."""

        def drop(file: sqlite3.Connection) -> None:
            file.execute("DELETE FROM batch WHERE log = ? AND seq <= ?", (log_id, last_seq))
            # Its last batch carries the pages: once that one is durable, so are they.
            file.execute(
                "DELETE FROM page WHERE log = ?1 AND NOT EXISTS (SELECT 1 FROM batch WHERE log = ?1)", (log_id,)
            )

        await self._run(lambda file: self._changed(file, lambda: drop(file)))

    async def adopt(self) -> list[SpooledLog]:
        """Take over the files of workers that have ended; return what they hold."""
        return await self._run(self._adopt)

    def take_damaged(self) -> int:
        """Return how many batches were found damaged since the last call."""
        damaged, self._damaged = self._damaged, 0
        return damaged

    def take_damaged_files(self) -> list[DamagedFile]:
        """Return the files that were set aside since the last call."""
        files, self._damaged_files = self._damaged_files, []
        return files

    async def check(self) -> None:
        """Raise StoreUnavailable where no write would succeed now."""
        await self._run(self._check)

    def open(self) -> sqlite3.Connection:
        """Create and lock this worker's file (blocking); where the disk refuses now, a later call tries again."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _reserved(self._folder, wait=True):
            file = create(self._path)
        file.execute(f"PRAGMA max_page_count = {self._max_pages}")
        self._measure(file)
        self._file = file
        if self._refused_open:
            self._refused_open = False
            logger.info("The spool can be opened again. folder=%s", self._folder)
        return file

    def try_to_open(self) -> None:
        """Open the file (blocking), or log once that the disk refuses."""
        try:
            self.open()
        except (sqlite3.Error, OSError) as error:
            self._note_refused_open(error)

    async def close(self) -> None:
        """Unlock the file; an empty one is removed. Later calls raise StoreUnavailable."""
        self._is_closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def _run(self, act: Callable[[sqlite3.Connection], Result]) -> Result:
        if self._is_closed:
            raise StoreUnavailable("spool", "is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._act, act)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable("spool", f"{type(error).__name__}: {error}") from error

    def _act(self, act: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `act` on the file, which a full disk may have refused to open until now."""
        try:
            file = self._file or self.open()
        except (sqlite3.Error, OSError) as error:
            self._note_refused_open(error)
            raise StoreUnavailable("spool", f"the folder {self._folder} cannot be written: {error}") from error
        try:
            return act(file)
        except sqlite3.Error as error:
            if is_damage(error):
                self._begin_anew(file)
            raise

    def _check(self, file: sqlite3.Connection) -> None:
        file.execute("PRAGMA user_version = 1")  # written, even if nothing changes
        # The file may have room within itself on a disk that has none.
        with TemporaryFile(dir=self._folder) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())

    def _note_refused_open(self, error: Exception) -> None:
        if not self._refused_open:
            self._refused_open = True
            logger.error(
                "The spool cannot be opened: while Redis is away beacons get 503. It is tried again."
                " folder=%s error=%s",
                self._folder,
                error,
            )

    def _begin_anew(self, damaged: sqlite3.Connection) -> None:
        """Give up this worker's own file, which is damaged, and take what can be read of it over into a new one."""
        old, self._path = self._path, self._folder / f"{next(self._names)}{SUFFIX}"
        damaged.close()
        self._file = None
        file = self.open()
        with _reserved(self._folder, wait=True):
            found = Examined(0, 0, "was damaged while it was in use", is_former=True, has_structure=False)
            self._salvage(file, old, found)

    def _read(self, file: sqlite3.Connection, log_id: str, after: int, limit: int) -> list[Batch]:
        query = f"SELECT {COLUMNS} FROM batch WHERE log = ? AND seq > ? ORDER BY seq LIMIT ?"  # noqa: S608 (own names)
        while True:
            rows = file.execute(query, (log_id, after, limit)).fetchall()
            damaged = [(log_id, row[SEQ]) for row in rows if not is_sound(row)]
            if not damaged:
                batches = [batch_of(row) for row in rows]
                return [*batches[:-1], self._with_pages(file, batches[-1])] if batches else []
            self._drop(file, damaged)
            self._damaged += len(damaged)
            logger.error(
                "Batches on the disk were damaged and are dropped; the others stay. Check the disk of the data folder."
                " file=%s batches=%d",
                self._path.name,
                len(damaged),
            )

    def _with_pages(self, file: sqlite3.Connection, batch: Batch) -> Batch:
        pages, damaged = read_pages(file, batch.log_id)
        if damaged:
            logger.error(
                "Views of pages on the disk were damaged and are dropped. Check the disk of the data folder."
                " file=%s pages=%d",
                self._path.name,
                damaged,
            )
        return batch._replace(pages=packed({page: views for _, page, views, _ in pages}))

    def _drop(self, file: sqlite3.Connection, keys: list[tuple[str, int]]) -> None:
        def drop() -> None:
            file.executemany("DELETE FROM batch WHERE log = ? AND seq = ?", keys)
            file.execute(RECOUNT)  # the checksum that was added for a damaged batch may not be the one it has now

        self._changed(file, drop)

    def _changed(self, file: sqlite3.Connection, act: Callable[[], object]) -> None:
        with file:
            act()
        self._measure(file)

    def _measure(self, file: sqlite3.Connection) -> None:
        self.used_bytes = used_bytes(file)
        self.folder_bytes = disk_bytes(self._folder)

    def _adopt(self, file: sqlite3.Connection) -> list[SpooledLog]:
        adopted: list[SpooledLog] = []
        troubles: list[str] = []
        with suppress(BlockingIOError), _reserved(self._folder, wait=False):
            found = [path for path in sorted(self._folder.glob(f"*{SUFFIX}")) if path != self._path]
            self._states = {path: self._state_since(path) for path in found}
            self._waiting.clear()
            for path in found:
                try:
                    adopted += self._take_over(file, path)
                    if path in self._waiting:
                        troubles.append(f"the file {path.name} is not whole, or may still be being copied: it waits")
                except Exception as error:  # noqa: BLE001 - one file must not stop the others, whatever is in it
                    if not is_busy(error):  # busy: its worker lives
                        self._report(path, error)
                        troubles.append(f"the file {path.name} cannot be taken over: {error}")
            troubles += [
                f"the file {path.name} was damaged and is kept; what could be read of it counts. Remove it after a look"
                for path in sorted(self._folder.glob(f"*{SET_ASIDE}"))
            ]
            self.troubles = tuple(troubles)
        self._measure(file)
        return adopted

    def _take_over(self, file: sqlite3.Connection, path: Path) -> list[SpooledLog]:
        if beside(path, "-wal").exists() and not self._is_quiet(path):
            return []  # SQLite, when it closes a file of a former version, removes the log beside it
        orphan: sqlite3.Connection | None = None
        try:
            orphan = locked(path, create=False)
        except sqlite3.Error as error:
            if is_busy(error):
                raise
        if orphan is None:
            return self._take_over_locked(file, None, path)
        with closing(orphan):
            return self._take_over_locked(file, orphan, path)

    def _take_over_locked(
        self, file: sqlite3.Connection, orphan: sqlite3.Connection | None, path: Path
    ) -> list[SpooledLog]:
        found = examine(orphan, path)
        # Only a file that counts its batches proves that it is whole, and only one with structure that it was whole.
        if (found.is_former or not found.has_structure) and not self._is_quiet(path):
            self._waiting.add(path)
            return []
        if orphan is None or found.trouble:
            return self._salvage(file, path, found, orphan if found.has_structure else None)
        logs = self._move(file, sound_rows(orphan), read_pages(orphan)[0]) if found.sound else {}
        remove(path)
        return list(logs.values())

    def _salvage(
        self, file: sqlite3.Connection, path: Path, found: Examined, orphan: sqlite3.Connection | None = None
    ) -> list[SpooledLog]:
        """Take over what can be read of a file that is not whole, and keep the file aside."""
        known: set[tuple[str, int]] = set()

        def noted(rows: Iterable[Row]) -> Iterator[Row]:
            for row in rows:
                known.add((row[LOG], row[SEQ]))
                yield row

        logs = self._move(
            file,
            noted(sound_rows(orphan) if orphan else salvaged_rows(path)),
            read_pages(orphan)[0] if orphan else (),
        )
        aside = set_aside(path)
        lost = max(0, found.lost - max(0, len(known) - found.sound))
        self._damaged += lost
        self._damaged_files.append(DamagedFile(aside.name, frozenset(log.site_id for log in logs.values())))
        logger.error(
            "A spool file was damaged or incomplete: what can be read of it is taken over, and the file is kept."
            " Check the disk of the data folder. file=%s kept_as=%s batches=%d lost=%s why=%s",
            path.name,
            aside.name,
            len(known),
            "unknown" if found.is_former and not lost else lost,
            found.trouble,
        )
        return list(logs.values())

    def _move(self, file: sqlite3.Connection, rows: Iterable[Row], pages: Iterable[PageRow]) -> dict[str, SpooledLog]:
        """Insert the rows of another file; return the logs that they belong to."""
        logs: dict[str, SpooledLog] = {}

        def noted() -> Iterator[Row]:
            for row in rows:
                batch = batch_of(row)
                if (before := logs.get(batch.log_id)) is None or before.last_seq < batch.seq:
                    logs[batch.log_id] = SpooledLog(batch.site_id, batch.day, batch.log_id, batch.seq, batch.views)
                yield row

        def move() -> None:
            insert(file, noted())
            insert_pages(file, (page for page in pages if page[0] in logs))

        # A move from one file to another needs no new disk space: a full spool must not stay behind for ever.
        file.execute(f"PRAGMA max_page_count = {PAGES_ANY}")
        try:
            self._changed(file, move)
        finally:
            file.execute(f"PRAGMA max_page_count = {self._max_pages}")
        return logs

    def _state_since(self, path: Path) -> tuple[object, float]:
        state = tuple(_state(beside(path, companion)) for companion in ("", "-wal", "-journal"))
        now_s = self._monotonic()
        before, since_s = self._states.get(path, (None, now_s))
        return state, since_s if before == state else now_s

    def _is_quiet(self, path: Path) -> bool:
        """Whether a file, and what is beside it, has not changed for a while."""
        return self._monotonic() - self._states[path][1] >= QUIET_S

    def _report(self, path: Path, error: Exception) -> None:
        if path not in self._reported:
            self._reported.add(path)
            logger.error("A spool file cannot be taken over; it is kept. file=%s error=%s", path.name, error)

    def _close(self) -> None:
        if self._file is None:
            return
        empty = False
        with suppress(sqlite3.Error):
            empty = self._file.execute("SELECT 1 FROM batch LIMIT 1").fetchone() is None
        with suppress(OSError), _reserved(self._folder, wait=True):
            self._file.close()
            if empty:
                remove(self._path)
            else:
                beside(self._path, "-journal").unlink(missing_ok=True)
        self._file.close()  # the folder may have been removed
        self._file = None


@asynccontextmanager
async def open_spool(
    folder: Path, name: str, max_bytes: int, monotonic: Callable[[], float] = time.monotonic
) -> AsyncIterator[Spool]:
    """Yield this worker's spool; where the disk refuses, a spool that tries again at each call, after one log line."""
    spool = Spool(folder, name, max_bytes, monotonic)
    spool.try_to_open()
    try:
        yield spool
    finally:
        await spool.close()


@contextmanager
def _reserved(folder: Path, *, wait: bool) -> Iterator[None]:
    """Keep other workers from adopting a file before its worker has locked it, or while it is being removed."""
    with (folder / LOCK_FILE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
