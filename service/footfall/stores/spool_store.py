"""Batches that wait for Redis, on this host's disk: one locked SQLite file per worker start.

A worker holds an exclusive lock on its file while it lives. A file whose lock is free belonged to a worker that has
ended; any worker may adopt it. Every write is on the disk (fsync) before it is answered. One thread does all of it,
off the event loop.
"""

import asyncio
import fcntl
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from footfall.errors import StoreUnavailable
from footfall.model.batch import Batch
from footfall.model.site_id import SiteId

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

PAGE_BYTES = 4096
PAGES_ANY = 2**31
PRIMARY_CODE = 0xFF
"""Part of an SQLite error code; the rest are details."""
NAMES = ("site", "day", "log", "seq", "views", "seen_ms", "visitors", "gone", "beacons", "checksum")
"""Columns, in the order of Batch's fields; files that a former version left behind have the same."""
COLUMNS = ", ".join(NAMES)
SEQ = NAMES.index("seq")
Row = tuple[Any, ...]
SCHEMA = """
CREATE TABLE IF NOT EXISTS batch (
    site     TEXT    NOT NULL,
    day      TEXT    NOT NULL,  -- the site's calendar day, ISO
    log      TEXT    NOT NULL,
    seq      INTEGER NOT NULL,
    views    INTEGER NOT NULL,  -- of the log so far
    seen_ms  INTEGER NOT NULL,
    visitors BLOB    NOT NULL,  -- 16 bytes each
    gone     BLOB    NOT NULL,
    beacons  INTEGER NOT NULL,
    checksum INTEGER NOT NULL,  -- of all of the above: SQLite notices only damage that breaks its own structure
    PRIMARY KEY (log, seq)
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class SpooledLog:
    """What the spool holds of one log: its last seq, and its views up to there."""

    site_id: SiteId
    day: date
    log_id: str
    last_seq: int
    views: int


class Spool:
    """Batches on this host's disk, until Postgres has them."""

    def __init__(self, folder: Path, name: str, max_bytes: int) -> None:
        self._folder = folder
        self._path = folder / f"{name}.spool"
        self._max_pages = max(16, max_bytes // PAGE_BYTES)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._file: sqlite3.Connection | None = None
        self._reported: set[Path] = set()
        """Files that could not be adopted; each is logged once."""
        self._damaged = 0
        self.used_bytes = 0

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
        rows = [_row(batch) for batch in batches]
        await self._run(lambda file: self._insert(file, rows))

    async def read(self, log_id: str, after: int, limit: int) -> list[Batch]:
        """Return up to `limit` batches of a log with seqs above `after`, in order; a damaged one is dropped."""
        return await self._run(lambda file: self._read(file, log_id, after, limit))

    async def delete(self, log_id: str, last_seq: int) -> None:
        """Drop the batches of a log up to `last_seq`, which Postgres has."""
        await self._run(
            lambda file: self._changed(
                file, lambda: file.execute("DELETE FROM batch WHERE log = ? AND seq <= ?", (log_id, last_seq))
            )
        )

    async def adopt(self) -> list[SpooledLog]:
        """Take over the files of workers that have ended; return what they hold."""
        return await self._run(self._adopt)

    def take_damaged(self) -> int:
        """Return how many batches were found damaged since the last call."""
        damaged, self._damaged = self._damaged, 0
        return damaged

    async def check(self) -> None:
        """Raise StoreUnavailable where no write would succeed now."""
        await self._run(lambda file: file.execute("PRAGMA user_version = 1"))  # written, even if nothing changes

    def open(self) -> None:
        """Create and lock this worker's file (blocking; called once, before the loop is busy)."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _reserved(self._folder, wait=True):
            self._file = _locked(self._path, create=True)
        self._file.execute(SCHEMA)
        self._file.execute(f"PRAGMA max_page_count = {self._max_pages}")
        self.used_bytes = _used_bytes(self._file)

    async def close(self) -> None:
        """Unlock the file; an empty one is removed."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def _run(self, act: Callable[[sqlite3.Connection], Result]) -> Result:
        if self._file is None:
            raise StoreUnavailable("spool", f"the folder {self._folder} cannot be written")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, act, self._file)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable("spool", f"{type(error).__name__}: {error}") from error

    def _read(self, file: sqlite3.Connection, log_id: str, after: int, limit: int) -> list[Batch]:
        query = f"SELECT {COLUMNS} FROM batch WHERE log = ? AND seq > ? ORDER BY seq LIMIT ?"  # noqa: S608 (own names)
        while True:
            rows = file.execute(query, (log_id, after, limit)).fetchall()
            damaged = [(log_id, row[SEQ]) for row in rows if not _is_sound(row)]
            if not damaged:
                return [Batch(SiteId(row[0]), date.fromisoformat(row[1]), *row[2:-1]) for row in rows]
            self._drop(file, damaged)
            self._note_damaged(len(damaged), self._path)

    def _drop(self, file: sqlite3.Connection, keys: list[tuple[str, int]]) -> None:
        self._changed(file, lambda: file.executemany("DELETE FROM batch WHERE log = ? AND seq = ?", keys))

    def _note_damaged(self, batches: int, path: Path) -> None:
        self._damaged += batches
        logger.error(
            "Batches on the disk were damaged and are dropped; the others go on. Check the disk of the data folder."
            " file=%s batches=%d",
            path.name,
            batches,
        )

    def _insert(self, file: sqlite3.Connection, rows: Iterable[Row]) -> None:
        marks = ", ".join("?" * len(NAMES))
        statement = f"INSERT OR IGNORE INTO batch ({COLUMNS}) VALUES ({marks})"  # noqa: S608 (own names)
        self._changed(file, lambda: file.executemany(statement, rows))

    def _changed(self, file: sqlite3.Connection, act: Callable[[], object]) -> None:
        with file:
            act()
        self.used_bytes = _used_bytes(file)

    def _adopt(self, file: sqlite3.Connection) -> list[SpooledLog]:
        adopted: list[SpooledLog] = []
        with suppress(BlockingIOError), _reserved(self._folder, wait=False):
            for path in sorted(self._folder.glob("*.spool")):
                if path == self._path:
                    continue
                try:
                    adopted += self._take_over(file, path)
                except sqlite3.Error as error:
                    if error.sqlite_errorcode & PRIMARY_CODE != sqlite3.SQLITE_BUSY:  # busy: its worker lives
                        self._report(path, error)
        return adopted

    def _take_over(self, file: sqlite3.Connection, path: Path) -> list[SpooledLog]:
        with closing(_locked(path, create=False)) as orphan:
            orphan.execute(SCHEMA)  # its worker may have ended before it made the table
            logs: dict[str, SpooledLog] = {}
            damaged = 0

            def sound() -> Iterator[Row]:
                nonlocal damaged
                for row in orphan.execute(f"SELECT {COLUMNS} FROM batch ORDER BY log, seq"):  # noqa: S608 (own names)
                    if _is_sound(row):
                        site_id, day, log_id, seq, views, *_ = row
                        logs[log_id] = SpooledLog(SiteId(site_id), date.fromisoformat(day), log_id, seq, views)
                        yield row
                    else:
                        damaged += 1

            # A move from one file to another needs no new disk space: a full spool must not stay behind for ever.
            file.execute(f"PRAGMA max_page_count = {PAGES_ANY}")
            try:
                self._insert(file, sound())
            finally:
                file.execute(f"PRAGMA max_page_count = {self._max_pages}")
        if damaged:
            self._note_damaged(damaged, path)
        path.unlink()
        return list(logs.values())

    def _report(self, path: Path, error: sqlite3.Error) -> None:
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
                self._path.unlink()
        self._file.close()  # the folder may have been removed
        self._file = None


@asynccontextmanager
async def open_spool(folder: Path, name: str, max_bytes: int) -> AsyncIterator[Spool]:
    """Yield this worker's spool; where the disk refuses, a spool that refuses to store, after one log line."""
    spool = Spool(folder, name, max_bytes)
    try:
        spool.open()
    except (sqlite3.Error, OSError) as error:
        logger.error(
            "The spool cannot be opened: while Redis is away beacons get 503. folder=%s error=%s",
            folder,
            error,
        )
    try:
        yield spool
    finally:
        await spool.close()


@contextmanager
def _reserved(folder: Path, *, wait: bool) -> Iterator[None]:
    """Keep other workers from adopting a file before its worker has locked it, or while it is being removed."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def _locked(path: Path, *, create: bool) -> sqlite3.Connection:
    mode = "rwc" if create else "rw"
    file = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=0, check_same_thread=False)
    try:
        file.execute("PRAGMA locking_mode = EXCLUSIVE")
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")
        file.execute("BEGIN EXCLUSIVE")
        file.execute("COMMIT")
    except sqlite3.Error:
        file.close()
        raise
    return file


def _used_bytes(file: sqlite3.Connection) -> int:
    pages = file.execute("PRAGMA page_count").fetchone()[0] - file.execute("PRAGMA freelist_count").fetchone()[0]
    return int(pages) * PAGE_BYTES


def _row(batch: Batch) -> Row:
    values = (batch.site_id, batch.day.isoformat(), *batch[2:])
    return (*values, _checksum(values))


def _checksum(values: Row) -> int:
    total = 0
    for value in values:
        total = crc32(value if isinstance(value, bytes) else repr(value).encode(), total)
    return total


def _is_sound(row: Row) -> bool:
    return bool(row[-1] == _checksum(row[:-1]))
