"""Footfall: the visitor counter behind a portal's footer."""

from pathlib import Path

__version__ = "0.1.0"


def sql_folder() -> Path:
    """Return the folder of the numbered migrations: `footfall/sql` in a wheel, `sql` beside `service` in a checkout."""
    packaged = Path(__file__).parent / "sql"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "sql"
