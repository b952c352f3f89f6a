"""What a killed worker of the first version left behind: a file, and beside it a log that has nearly everything."""

import sqlite3
from contextlib import closing
from pathlib import Path

from footfall.model.batch import Batch
from footfall.stores.spool_file import NAMES, row_of

FORMER_SCHEMA = """
CREATE TABLE batch (
    site TEXT NOT NULL, day TEXT NOT NULL, log TEXT NOT NULL, seq INTEGER NOT NULL, views INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL, visitors BLOB NOT NULL, gone BLOB NOT NULL, beacons INTEGER NOT NULL,
    checksum INTEGER NOT NULL, PRIMARY KEY (log, seq)
) WITHOUT ROWID
"""


def former_files(folder: Path, batches: list[Batch]) -> dict[str, bytes]:
    """Return the two files that a killed worker of the first version left behind, by their endings."""
    path = folder / "former.spool"
    file = sqlite3.connect(path)
    file.execute("PRAGMA journal_mode = WAL")
    file.execute(FORMER_SCHEMA)
    for one in batches:
        with file:
            file.execute(f"INSERT INTO batch ({', '.join(NAMES)}) VALUES ({', '.join('?' * 10)})", row_of(one))
    files = {ending: (folder / f"former{ending}").read_bytes() for ending in (".spool", ".spool-wal")}
    file.close()
    path.unlink()
    return files


def without_second_table(content: bytes, path: Path) -> bytes:
    """Return a file as the version before wrote it: its pages in one table, and no number of their views."""
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as file, file:
        file.executescript("""
            DROP TABLE page_copy;
            DROP TRIGGER page_added;
            DROP TRIGGER page_raised;
            DROP TRIGGER page_dropped;
            ALTER TABLE content DROP COLUMN page_views;
            ALTER TABLE content DROP COLUMN negative_page_views;
            VACUUM;
        """)
    former = path.read_bytes()
    path.unlink()
    return former
