"""Spool files whose workers have ended: what they hold is taken over into the file of a worker that lives.

A file that is not whole is never half read and forgotten: it is left alone while it changes, since it may still be
being copied; then what can be read of it is taken over, and the file is kept aside under a name that says so.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from footfall.model.site_id import SiteId
from footfall.stores.spool_file import (
    LOG,
    SEQ,
    SET_ASIDE,
    SUFFIX,
    Examined,
    Row,
    batch_of,
    beside,
    examine,
    insert,
    is_busy,
    locked,
    remove,
    salvaged_page_rows,
    salvaged_rows,
    set_aside,
    sound_rows,
)
from footfall.stores.spool_pages import PageRow, highest, insert_pages, lost_views

logger = logging.getLogger(__name__)

PAGES_ANY = 2**31
QUIET_S = 30.0
"""A file that does not prove itself whole is left alone until it has not changed for this time."""


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
    lost_batches: int
    lost_page_views: int
    """As far as the file says how many it should hold."""


class Orphans:
    """The files of a folder that no worker holds."""

    def __init__(self, folder: Path, max_pages: int, monotonic: Callable[[], float]) -> None:
        self._folder = folder
        self._max_pages = max_pages
        self._monotonic = monotonic
        self._reported: set[Path] = set()
        """Files that could not be taken over; each is logged once."""
        self._states: dict[Path, tuple[object, float]] = {}
        """State of each file of another worker, and since when it has that state: it may still be being copied."""
        self._waiting: set[Path] = set()
        """Files that do not prove themselves whole and have not been quiet for long enough."""
        self._damaged: list[DamagedFile] = []
        self.troubles: tuple[str, ...] = ()
        """Files in the folder that an operator should look at, as sentences."""

    def take_damaged(self) -> list[DamagedFile]:
        """Return the files that were set aside since the last call."""
        damaged, self._damaged = self._damaged, []
        return damaged

    def take_over(self, file: sqlite3.Connection, own: Path) -> list[SpooledLog]:
        """Take all of them over into `file`, whose path is `own`; return the logs that they hold."""
        adopted: list[SpooledLog] = []
        troubles: list[str] = []
        found = [path for path in sorted(self._folder.glob(f"*{SUFFIX}")) if path != own]
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
        return adopted

    def salvage(
        self, file: sqlite3.Connection, path: Path, found: Examined, orphan: sqlite3.Connection | None = None
    ) -> list[SpooledLog]:
        """Take over what can be read of a file that is not whole, and keep the file aside."""
        known: set[tuple[str, int]] = set()

        def noted(rows: Iterable[Row]) -> Iterator[Row]:
            for row in rows:
                known.add((row[LOG], row[SEQ]))
                yield row

        pages: list[PageRow] = found.pages.rows
        if found.pages.trouble:
            pages = highest([*pages, *salvaged_page_rows(path)])
        logs = self._move(file, noted(sound_rows(orphan) if orphan else salvaged_rows(path)), pages)
        aside = set_aside(path)
        lost = max(0, found.lost - max(0, len(known) - found.sound))
        lost_page_views = lost_views(found.pages.views, (row for row in pages if row[0] in logs))
        sites = frozenset(log.site_id for log in logs.values())
        self._damaged.append(DamagedFile(aside.name, sites, lost, lost_page_views))
        logger.error(
            "A spool file was damaged or incomplete: what can be read of it is taken over, and the file is kept."
            " Check the disk of the data folder. file=%s kept_as=%s batches=%d lost=%s page_views_lost=%s why=%s",
            path.name,
            aside.name,
            len(known),
            "unknown" if found.is_former and not lost else lost,
            "unknown" if found.pages.views is None and found.pages.trouble else lost_page_views,
            found.trouble,
        )
        return list(logs.values())

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
            return self.salvage(file, path, found, orphan if found.has_structure else None)
        logs = self._move(file, sound_rows(orphan), found.pages.rows) if found.sound else {}
        remove(path)
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

        # A move from one file to another needs no new disk space: a full spool must not stay behind for ever.
        file.execute(f"PRAGMA max_page_count = {PAGES_ANY}")
        try:
            with file:
                insert(file, noted())
                # A log without a batch has no site and no day.
                insert_pages(file, (page for page in pages if page[0] in logs))
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


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
