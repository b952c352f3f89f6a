"""Batches that wait for Redis, on this host's disk: one locked SQLite file per worker start.

A worker holds an exclusive lock on its file while it lives. A file whose lock is free belonged to a worker that has
ended; any worker may adopt it. Every write is on the disk (fsync) before it is answered. One thread does all of it,
off the event loop. `spool_file.py` has the file itself, `spool_orphans.py` the files that ended workers left.
"""

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

from footfall.errors import StoreUnavailable
from footfall.model.batch import Batch
from footfall.model.pages import packed
from footfall.stores.spool_file import (
    COLUMNS,
    RECOUNT,
    SEQ,
    SUFFIX,
    Examined,
    batch_of,
    beside,
    create,
    disk_bytes,
    insert,
    is_damage,
    is_sound,
    remove,
    reserved,
    row_of,
    used_bytes,
)
from footfall.stores.spool_orphans import DamagedFile, Orphans, SpooledLog
from footfall.stores.spool_pages import FoundPages, drop_pages, insert_pages, mend_pages, page_rows, read_pages
from footfall.stores.spool_salvage import PAGE_BYTES

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

FULL = "has reached its size"
PROBE_BYTES = 64 * 1024
"""Room that the disk must have for the check: that of a few full batches."""


class Spool:
    """Batches on this host's disk, until Postgres has them."""

    def __init__(
        self, folder: Path, name: str, max_bytes: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._names = (f"{name}{number or ''}" for number in count())
        self._path = folder / f"{next(self._names)}{SUFFIX}"
        self._max_pages = max(16, max_bytes // PAGE_BYTES)
        self._orphans = Orphans(folder, self._max_pages, monotonic)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._file: sqlite3.Connection | None = None
        self._is_closed = False
        self.refused_open = False
        """Whether the log has a line that the file could not be opened."""
        self._damaged = self._lost_page_views = 0
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
            raise StoreUnavailable("spool", FULL)
        batches = list(batches)
        rows, pages = [row_of(batch) for batch in batches], page_rows(batches)

        def write(file: sqlite3.Connection) -> None:
            insert(file, rows)
            insert_pages(file, pages)

        await self._run(lambda file: self._changed(file, lambda: write(file)))

    async def read(self, log_id: str, after: int, limit: int) -> list[Batch]:
        """Return up to `limit` batches of a log with seqs above `after`, in order; a damaged one is dropped.

        The first and the last one carry the views of every page that the spool has of the log, whose batches it does
        not know: those after the first may be damaged before they are sent, and later ones come behind the last.
        """
        return await self._run(lambda file: self._read(file, log_id, after, limit))

    async def delete(self, log_id: str, last_seq: int) -> None:
        """Drop the batches of a log up to `last_seq`, which Postgres has."""

        def drop(file: sqlite3.Connection) -> None:
            file.execute("DELETE FROM batch WHERE log = ? AND seq <= ?", (log_id, last_seq))
            drop_pages(file, log_id)  # its last batch carries them: once that one is durable, so are they

        await self._run(lambda file: self._changed(file, lambda: drop(file)))

    async def adopt(self) -> list[SpooledLog]:
        """Take over the files of workers that have ended; return what they hold."""
        return await self._run(self._adopt)

    def take_damaged(self) -> int:
        """Return how many batches were found damaged since the last call."""
        damaged, self._damaged = self._damaged, 0
        return damaged

    def take_lost_page_views(self) -> int:
        """Return how many views of pages the damage of files cost since the last call, at most, as far as known."""
        lost, self._lost_page_views = self._lost_page_views, 0
        return lost

    def take_damaged_files(self) -> list[DamagedFile]:
        """Return the files that were set aside since the last call."""
        files, self._damaged_files = self._damaged_files, []
        return files

    async def check(self) -> None:
        """Raise StoreUnavailable where no write would succeed now."""
        if self.full:
            raise StoreUnavailable("spool", FULL)
        await self._run(self._check)

    def open(self) -> sqlite3.Connection:
        """Create and lock this worker's file (blocking); where the disk refuses now, a later call tries again."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with reserved(self._folder, wait=True):
            file = create(self._path)
        file.execute(f"PRAGMA max_page_count = {self._max_pages}")
        self._measure(file)
        self._file = file
        if self.refused_open:
            self.refused_open = False
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
        if not self.refused_open:
            self.refused_open = True
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
        why = "was damaged while it was in use"
        found = Examined(0, 0, why, FoundPages([], None, why), is_former=True, has_structure=False)
        with reserved(self._folder, wait=True):
            self._orphans.salvage(file, old, found)
        self._note_damaged_files()
        self._measure(file)

    def _read(self, file: sqlite3.Connection, log_id: str, after: int, limit: int) -> list[Batch]:
        query = f"SELECT {COLUMNS} FROM batch WHERE log = ? AND seq > ? ORDER BY seq LIMIT ?"  # noqa: S608 (own names)
        while True:
            rows = file.execute(query, (log_id, after, limit)).fetchall()
            damaged = [(log_id, row[SEQ]) for row in rows if not is_sound(row)]
            if not damaged:
                return self._with_pages(file, [batch_of(row) for row in rows])
            self._drop(file, damaged)
            self._damaged += len(damaged)
            logger.error(
                "Batches on the disk were damaged and are dropped; the others stay. Check the disk of the data folder."
                " file=%s batches=%d",
                self._path.name,
                len(damaged),
            )

    def _with_pages(self, file: sqlite3.Connection, batches: list[Batch]) -> list[Batch]:
        if not batches:
            return []
        rows = read_pages(file, batches[0].log_id)
        if rows is None:
            self._mend_pages(file)
            rows = read_pages(file, batches[0].log_id) or []
        pages = packed({page: views for _, page, views, _ in rows})
        carrying = {0, len(batches) - 1}
        return [batch._replace(pages=pages) if at in carrying else batch for at, batch in enumerate(batches)]

    def _mend_pages(self, file: sqlite3.Connection) -> None:
        lost = 0

        def mend() -> None:
            nonlocal lost
            lost = mend_pages(file)

        self._changed(file, mend)
        self._lost_page_views += lost
        logger.error(
            "Views of pages on the disk were damaged and are mended from their copy, where that is whole."
            " Check the disk of the data folder. file=%s page_views_lost=%d",
            self._path.name,
            lost,
        )

    def _drop(self, file: sqlite3.Connection, keys: list[tuple[str, int]]) -> None:
        def drop() -> None:
            file.executemany("DELETE FROM batch WHERE log = ? AND seq = ?", keys)
            file.execute(RECOUNT)  # the checksum that was added for a damaged batch may not be the one it has now
            # No batch is left that would carry them: Redis may lack what the dropped ones brought.
            self._lost_page_views += sum(drop_pages(file, log_id) for log_id in {log_id for log_id, _ in keys})

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
        with suppress(BlockingIOError), reserved(self._folder, wait=False):
            adopted = self._orphans.take_over(file, self._path)
            self.troubles = self._orphans.troubles
        self._note_damaged_files()
        self._measure(file)
        return adopted

    def _note_damaged_files(self) -> None:
        for found in self._orphans.take_damaged():
            self._damaged += found.lost_batches
            self._lost_page_views += found.lost_page_views
            self._damaged_files.append(found)

    def _close(self) -> None:
        if self._file is None:
            return
        empty = False
        with suppress(sqlite3.Error):
            empty = self._file.execute("SELECT 1 FROM batch LIMIT 1").fetchone() is None
        with suppress(OSError), reserved(self._folder, wait=True):
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
