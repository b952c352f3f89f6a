"""One spool file: its tables, its lock, its rows, and whether it holds everything that it should.

A file is in rollback journal mode: a batch is in the file itself, not in a log beside it, before its page is answered.
So one damaged byte costs the batch it stands in, and never what was written after it. A table counts the batches and
adds up their checksums, in the same transaction. So a file that lacks batches is noticed, whatever took them away.
Former versions kept a write-ahead log beside the file (`-wal`) and no such table; their files are read too.
"""

import fcntl
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from footfall.model.batch import Batch
from footfall.model.site_id import SiteId
from footfall.stores.spool_pages import PAGE_SCHEMA, FoundPages, PageRow, examine_pages, salvaged_pages
from footfall.stores.spool_salvage import BATCH_HEAD, PAGE_BYTES, row_checksum, salvaged_records, wal_is_cut

PRIMARY_CODE = 0xFF
"""Part of an SQLite error code; the rest are details."""
SUFFIX = ".spool"
BLOCK_BYTES = 512
"""The unit of st_blocks (stat(2))."""
SET_ASIDE = ".damaged"
"""Suffix of a file that was not whole: what could be read of it was taken over, and an operator may look at it."""
LOCK_FILE = "lock"
COMPANIONS = ("-wal", "-journal")
"""What SQLite keeps beside a file, as endings of its whole name."""
JOURNAL_BYTES = 1 << 20
"""What the journal keeps of the disk: on a full one, dropping batches needs it."""
NAMES = ("site", "day", "log", "seq", "views", "seen_ms", "visitors", "gone", "beacons", "checksum")
"""Columns, in the order of Batch's fields; files that a former version left behind have the same."""
STORED = ("log", "seq", "site", "day", "views", "seen_ms", "visitors", "gone", "beacons", "checksum")
"""Columns in the order of a stored row: those of the primary key come first."""
PLACES = tuple(STORED.index(name) for name in NAMES)
COLUMNS = ", ".join(NAMES)
SEQ = NAMES.index("seq")
LOG = NAMES.index("log")
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
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS content (
    one                 INTEGER PRIMARY KEY CHECK (one = 1),
    batches             INTEGER NOT NULL,  -- rows of the table batch
    negative            INTEGER NOT NULL,  -- minus as many: a byte of the count itself may be damaged
    checksums           INTEGER NOT NULL,  -- sum of the rows' checksums
    page_views          INTEGER NOT NULL,  -- sum of the views in the table page
    negative_page_views INTEGER NOT NULL   -- minus as many
);
INSERT OR IGNORE INTO content VALUES (1, 0, 0, 0, 0, 0);
CREATE TRIGGER IF NOT EXISTS batch_added AFTER INSERT ON batch BEGIN
    UPDATE content SET batches = batches + 1, negative = negative - 1, checksums = checksums + NEW.checksum;
END;
CREATE TRIGGER IF NOT EXISTS batch_dropped AFTER DELETE ON batch BEGIN
    UPDATE content SET batches = batches - 1, negative = negative + 1, checksums = checksums - OLD.checksum;
END;
"""
RECOUNT = """
UPDATE content SET (batches, negative, checksums) = (SELECT count(*), -count(*), coalesce(sum(checksum), 0) FROM batch)
"""


NO_PAGES = FoundPages([], None, "")


@dataclass(frozen=True, slots=True)
class Examined:
    """What is in a file whose worker has ended."""

    sound: int
    """Batches that can be read."""
    lost: int
    """Batches that the file should hold and that cannot be read, as far as it is known."""
    trouble: str
    """Why the file is not whole; empty if it is."""
    pages: FoundPages
    is_former: bool
    """Whether a former version wrote it: it does not say how many batches it should hold."""
    has_structure: bool
    """Whether SQLite can read all rows, so that only their content may be damaged."""


def create(path: Path) -> sqlite3.Connection:
    """Create and lock a file."""
    file = locked(path, create=True)
    try:
        file.execute("PRAGMA journal_mode = PERSIST")  # a log beside the file would end at its first damaged byte
        file.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
        file.execute("PRAGMA synchronous = FULL")
        file.executescript(f"BEGIN; {SCHEMA} {PAGE_SCHEMA} COMMIT;")
    except sqlite3.Error:
        file.close()
        raise
    return file


def locked(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open and lock a file; raises sqlite3.Error, for which `is_busy` says whether its worker lives."""
    mode = "rwc" if create else "rw"
    file = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=0, check_same_thread=False)
    file.text_factory = _text
    try:
        file.execute("PRAGMA locking_mode = EXCLUSIVE")
        file.execute("BEGIN EXCLUSIVE")
        file.execute("COMMIT")
    except sqlite3.Error:
        file.close()
        raise
    return file


def is_busy(error: Exception) -> bool:
    """Whether another process holds the file's lock. Errors that Python itself raises have no code."""
    return getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE == sqlite3.SQLITE_BUSY


def is_damage(error: Exception) -> bool:
    """Whether SQLite found the file damaged."""
    code = getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def insert(file: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Insert rows; a seq that the file has already changes nothing."""
    marks = ", ".join("?" * len(NAMES))
    file.executemany(f"INSERT OR IGNORE INTO batch ({COLUMNS}) VALUES ({marks})", rows)  # noqa: S608 (own names)


@contextmanager
def reserved(folder: Path, *, wait: bool) -> Iterator[None]:
    """Keep other workers from adopting a file before its worker has locked it, or while it is being removed.

    Raises BlockingIOError where another worker does so and `wait` is false.
    """
    with (folder / LOCK_FILE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def used_bytes(file: sqlite3.Connection) -> int:
    """Return the bytes of a file that are in use."""
    pages = file.execute("PRAGMA page_count").fetchone()[0] - file.execute("PRAGMA freelist_count").fetchone()[0]
    return int(pages) * PAGE_BYTES


def disk_bytes(folder: Path) -> int:
    """Return what the files of a folder take of the disk; a file that another worker removes meanwhile is none."""
    taken = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            taken += path.lstat().st_blocks * BLOCK_BYTES
    return taken


def examine(file: sqlite3.Connection | None, path: Path) -> Examined:
    """Compare what a locked file should hold with what can be read of it; None is a file that SQLite cannot open."""
    if not path.stat().st_size and not _wal_of(path).exists():
        # Its worker ended before it made the tables.
        return Examined(0, 0, "", NO_PAGES, is_former=True, has_structure=True)
    trouble = ""
    sound = damaged = checksums = 0
    content: tuple[int, int] | None = None
    try:
        if file is None:
            trouble = "is no database"
        elif not file.execute("SELECT 1 FROM sqlite_master WHERE name = 'batch'").fetchone():
            trouble = "has no table; its -wal file is missing or damaged"
        else:
            content = _content(file)
            for row in file.execute(f"SELECT {COLUMNS} FROM batch"):  # noqa: S608 (own names)
                is_whole = is_sound(row)
                sound, damaged = sound + is_whole, damaged + (not is_whole)
                checksums += row[-1] if isinstance(row[-1], int) else 0
            if content is None:
                trouble = _trouble_of_former(file, path)
    except Exception as error:  # noqa: BLE001 - whatever a damaged file raises, it is not whole
        trouble = f"cannot be read: {error}"
    has_structure = not trouble
    if content is not None and not trouble:
        has_structure = content[0] == sound + damaged
        if content != (sound + damaged, checksums):
            trouble = f"should hold {content[0]} batches and has {sound + damaged}, or others"
    if damaged and not trouble:
        trouble = f"{damaged} of its batches are damaged"
    pages = _pages_of(file)
    lost = max(damaged, content[0] - sound if content else 0)
    return Examined(sound, lost, trouble or pages.trouble, pages, content is None, has_structure)


def sound_rows(file: sqlite3.Connection) -> Iterator[Row]:
    """Read the rows of a file that are as they were written."""
    for row in file.execute(f"SELECT {COLUMNS} FROM batch ORDER BY log, seq"):  # noqa: S608 (own names)
        if is_sound(row):
            yield row


def salvaged_rows(path: Path) -> Iterator[Row]:
    """Read the rows of a damaged file that are as they were written, from its bytes alone.

    A row may come several times, and one that was deleted may come back: sent again, it changes nothing.
    """
    for record in salvaged_records(BATCH_HEAD, *_parts_of(path), _is_sound_record):
        yield _row_of(record)


def salvaged_page_rows(path: Path) -> Iterator[PageRow]:
    """Read the views of pages of a damaged file from its bytes alone, as `salvaged_rows` does the batches."""
    return salvaged_pages(*_parts_of(path))


def set_aside(path: Path) -> Path:
    """Rename a file and what is beside it, so that no worker reads it again; return the new path.

    Rename it while it is open: SQLite then leaves the log beside it as it is.
    """
    aside = path.with_suffix(SET_ASIDE)
    for companion in COMPANIONS:
        with suppress(FileNotFoundError):
            beside(path, companion).rename(beside(aside, companion))
    return path.rename(aside)


def remove(path: Path) -> None:
    """Remove a file and what SQLite kept beside it."""
    path.unlink()
    for companion in COMPANIONS:
        beside(path, companion).unlink(missing_ok=True)


def beside(path: Path, companion: str) -> Path:
    """Return the path of what SQLite keeps beside a file."""
    return path.with_name(path.name + companion)


def row_of(batch: Batch) -> Row:
    """Return the row of a batch."""
    values = (batch.site_id, batch.day.isoformat(), *batch[2 : len(NAMES) - 1])
    return (*values, row_checksum(values))


def batch_of(row: Row) -> Batch:
    """Return the batch of a sound row."""
    return Batch(SiteId(row[0]), date.fromisoformat(row[1]), *row[2:-1])


def is_sound(row: Row) -> bool:
    """Whether a row is as it was written."""
    return bool(row[-1] == row_checksum(row[:-1]))


def _content(file: sqlite3.Connection) -> tuple[int, int] | None:
    """Return how many batches a file should hold and the sum of their checksums; None for a former version's."""
    if not file.execute("SELECT 1 FROM sqlite_master WHERE name = 'content'").fetchone():
        return None
    batches, negative, checksums = file.execute("SELECT batches, negative, checksums FROM content").fetchone()
    if batches != -negative:
        raise ValueError("its count of batches is damaged")
    return int(batches), int(checksums)


def _trouble_of_former(file: sqlite3.Connection, path: Path) -> str:
    wal = _wal_of(path)
    if wal.exists() and wal_is_cut(wal):
        return "its -wal file is damaged: SQLite reads only what stands before the damage"
    (found,) = file.execute("PRAGMA quick_check(1)").fetchone()
    return "" if found == "ok" else str(found)


def _pages_of(file: sqlite3.Connection | None) -> FoundPages:
    if file is None:
        return FoundPages([], None, "is no database")
    try:
        return examine_pages(file)
    except Exception as error:  # noqa: BLE001 - whatever a damaged file raises, it is not whole
        return FoundPages([], None, f"the views of its pages cannot be read: {error}")


def _parts_of(path: Path) -> tuple[Path, Path, Path]:
    """Return the paths of a file, of its log and of its journal."""
    wal, journal = COMPANIONS
    return path, beside(path, wal), beside(path, journal)


def _wal_of(path: Path) -> Path:
    return beside(path, COMPANIONS[0])


def _row_of(record: Row) -> Row:
    return tuple(record[place] for place in PLACES)


def _is_sound_record(record: Row) -> bool:
    return is_sound(_row_of(record))


def _text(raw: bytes) -> str:
    """Decode a text; a damaged one becomes another text, and the row's checksum tells."""
    return raw.decode(errors="replace")
