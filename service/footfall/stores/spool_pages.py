"""Views of pages in a spool file: per log the views of each page so far, apart from the batches, and twice.

No row joins a visitor with a page, so what a batch brought to its pages cannot stand in the batch's own row. Here a row
is what a log has of a page so far: a damaged one would cost more than a batch. So every row stands in two tables, with
a checksum. Damage costs views of a page only where it hits both rows, and the file knows how many views it should hold.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from footfall.model.batch import Batch
from footfall.model.pages import unpacked
from footfall.stores.spool_salvage import PAGE_HEAD, Record, row_checksum, salvaged_records

PageRow = tuple[str, str, int, int]
"""Log, page, views so far, checksum."""
TABLES = ("page", "page_copy")
PAGE_SCHEMA = """
-- `seq` would tell the batch of a page.
CREATE TABLE IF NOT EXISTS page (
    log      TEXT    NOT NULL,
    page     TEXT    NOT NULL,
    views    INTEGER NOT NULL,  -- of the log so far
    checksum INTEGER NOT NULL,
    PRIMARY KEY (log, page)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS page_copy (
    log      TEXT    NOT NULL,
    page     TEXT    NOT NULL,
    views    INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (log, page)
) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS page_added AFTER INSERT ON page BEGIN
    UPDATE content SET page_views = page_views + NEW.views, negative_page_views = negative_page_views - NEW.views;
END;
CREATE TRIGGER IF NOT EXISTS page_raised AFTER UPDATE ON page BEGIN
    UPDATE content SET page_views = page_views + NEW.views - OLD.views,
        negative_page_views = negative_page_views - NEW.views + OLD.views;
END;
CREATE TRIGGER IF NOT EXISTS page_dropped AFTER DELETE ON page BEGIN
    UPDATE content SET page_views = page_views - OLD.views, negative_page_views = negative_page_views + OLD.views;
END;
"""
RECOUNT = """
UPDATE content SET (page_views, negative_page_views)
    = (SELECT coalesce(sum(views), 0), -coalesce(sum(views), 0) FROM page)
"""


@dataclass(frozen=True, slots=True)
class FoundPages:
    """What a file has of the views of pages."""

    rows: list[PageRow]
    """Those that are as they were written, each once."""
    views: int | None
    """How many views the file should hold; None where it does not say, as those of former versions."""
    trouble: str
    """Why they are not whole; empty if they are."""


def page_rows(batches: Iterable[Batch]) -> list[PageRow]:
    """Return the rows of the pages that batches touch, in an order that says nothing of the batches."""
    so_far: dict[tuple[str, str], int] = {}
    for batch in batches:
        for page, views in unpacked(batch.pages).items():
            so_far[batch.log_id, page] = max(views, so_far.get((batch.log_id, page), 0))
    return [(*key, views, row_checksum((*key, views))) for key, views in sorted(so_far.items())]


def insert_pages(file: sqlite3.Connection, rows: Iterable[PageRow]) -> None:
    """Insert views of pages so far; of a page that the file has already, the higher number stays."""
    rows = list(rows)
    for table in TABLES:
        file.executemany(
            f"INSERT INTO {table} VALUES (?, ?, ?, ?) ON CONFLICT (log, page)"  # noqa: S608 (own names)
            " DO UPDATE SET views = excluded.views, checksum = excluded.checksum WHERE excluded.views > views",
            rows,
        )


def read_pages(file: sqlite3.Connection, log_id: str) -> list[PageRow] | None:
    """Read the pages of a log; None where some are damaged, so that `mend_pages` is needed. Raises sqlite3.Error."""
    query = "SELECT log, page, views, checksum FROM {} WHERE log = ?"
    rows, copies = (file.execute(query.format(table), (log_id,)).fetchall() for table in TABLES)
    return rows if rows == copies and all(map(is_sound_page, rows)) else None


def mend_pages(file: sqlite3.Connection) -> int:
    """Write again, in both tables, what can be read in one of them; return how many views are lost."""
    found = examine_pages(file)
    for table in TABLES:
        file.execute(f"DELETE FROM {table}")  # noqa: S608 (own names)
    insert_pages(file, found.rows)
    file.execute(RECOUNT)
    return lost_views(found.views, found.rows)


def drop_pages(file: sqlite3.Connection, log_id: str) -> int:
    """Drop the pages of a log that has no batch any more; return how many views they had."""
    ending = "FROM {} WHERE log = ?1 AND NOT EXISTS (SELECT 1 FROM batch WHERE log = ?1)"
    (views,) = file.execute(f"SELECT coalesce(sum(views), 0) {ending.format(TABLES[0])}", (log_id,)).fetchone()
    for table in TABLES:
        file.execute(f"DELETE {ending.format(table)}", (log_id,))
    return int(views)


def examine_pages(file: sqlite3.Connection) -> FoundPages:
    """Read all pages of a file, whatever its damage; what its damage hides is missing, and there is a trouble then."""
    found = [_read(file, table) for table in TABLES]
    rows, views = highest(row for table in found for row in table.rows), sum(row[2] for row in found[0].rows)
    is_former = not file.execute("SELECT 1 FROM pragma_table_info('content') WHERE name = 'page_views'").fetchone()
    if is_former:
        trouble = found[0].trouble if "page" in _tables(file) else ""
        return FoundPages(rows, None, trouble or _structure(file))
    trouble = found[0].trouble or found[1].trouble
    if not trouble and found[0].rows != found[1].rows:
        trouble = "one of its tables of pages lacks what the other one has"
    counted, negative = file.execute("SELECT page_views, negative_page_views FROM content").fetchone() or (0, None)
    if counted != -(negative or 0):
        return FoundPages(rows, None if trouble else views, trouble or "its number of views of pages is damaged")
    if not trouble and counted != views:
        trouble = f"should hold {counted} views of pages and has {views}"
    return FoundPages(rows, counted, trouble)


def salvaged_pages(main: Path, wal: Path, journal: Path) -> Iterator[PageRow]:
    """Read the rows of pages of a damaged file that are as they were written, from its bytes alone.

    Older numbers of a page may come too, and those of logs that were deleted.
    """
    for record in salvaged_records(PAGE_HEAD, main, wal, journal, is_sound_page):
        log_id, page, views, checksum = record
        yield log_id, page, views, checksum


def highest(rows: Iterable[PageRow]) -> list[PageRow]:
    """Return of each log and page the row with the most views, in order."""
    kept: dict[tuple[str, str], PageRow] = {}
    for row in rows:
        if (before := kept.get(row[:2])) is None or before[2] < row[2]:
            kept[row[:2]] = row
    return sorted(kept.values())


def lost_views(expected: int | None, rows: Iterable[PageRow]) -> int:
    """Return how many of the views that a file should hold its rows do not have; 0 where that is not known."""
    return max(0, (expected or 0) - sum(row[2] for row in rows))


def is_sound_page(row: Record) -> bool:
    """Whether a row is as it was written."""
    return bool(row[-1] == row_checksum(row[:-1]))


def _read(file: sqlite3.Connection, table: str) -> FoundPages:
    rows, damaged, trouble = list[PageRow](), 0, ""
    try:
        for row in file.execute(f"SELECT log, page, views, checksum FROM {table} ORDER BY log, page"):  # noqa: S608
            if is_sound_page(row):
                rows.append(row)
            else:
                damaged += 1
    except Exception as error:  # noqa: BLE001 - whatever a damaged file raises, it is not whole
        trouble = f"the views of its pages cannot be read: {error}"
    if damaged and not trouble:
        trouble = f"the views of {damaged} of its pages are damaged"
    return FoundPages(rows, None, trouble)


def _tables(file: sqlite3.Connection) -> set[str]:
    return {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _structure(file: sqlite3.Connection) -> str:
    """Return what SQLite finds wrong in a file; empty for nothing."""
    (found,) = file.execute("PRAGMA quick_check(1)").fetchone()
    return "" if found == "ok" else str(found)
