"""A table as old counters and spreadsheets write it: CSV with its delimiter, its encoding and its numbers."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from footfall.errors import Stop

VIEWS_MAX = 2**53 - 1
"""JavaScript stores larger whole numbers only in steps of two."""
DELIMITERS = (";", "\t", ",")
ROWS_TRIED = 100
"""Rows from which the delimiter is found."""
ENCODINGS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
GROUPED = re.compile(r"[0-9]{1,3}(?:[.,' \u00a0\u202f][0-9]{3})+")
DIGITS = re.compile(r"[0-9]{1,16}")

Row = tuple[int, list[str]]
"""A row that is not blank, after the number of its first line, without empty cells at its end."""


class Unreadable(NamedTuple):
    """A line that was not understood, by its number in the file, and why."""

    line: int
    why: str


def read_content(file: Path) -> bytes:
    """Return the bytes of a file; raises Stop where it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise Stop(f"{file} cannot be read: {error.strerror}") from error


def rows_of(content: bytes, file: Path, fits: Callable[[Sequence[str]], bool]) -> Iterator[Row]:
    """Yield the rows of a table in UTF-8 or UTF-16, by the delimiter with which most rows fit.

    Raises Stop where it has another encoding.
    """
    text = _text(content, file)

    def fitting(delimiter: str) -> tuple[int, int]:
        rows = [row for _, row in islice(_rows(text, delimiter), ROWS_TRIED)]
        return sum(map(fits, rows)), sum(len(row) > 1 for row in rows)

    return _rows(text, max(DELIMITERS, key=fitting))


def looks_like_a_number(cell: str) -> bool:
    """Return whether a cell begins like a number: that of a heading does not."""
    return bool(re.match(r"[-+]?[0-9]", cell))


def whole_number(cell: str, what: str) -> int:
    """Return a number, which may have separators between its thousands; raises ValueError with a reason.

    >>> whole_number("1.373.876", "views")
    1373876
    """
    if GROUPED.fullmatch(cell):
        cell = re.sub(r"[^0-9]", "", cell)
    if not DIGITS.fullmatch(cell):
        raise ValueError(f"{cell[:40]!r} is not a number of {what}: a whole number, not below 0")
    return int(cell)


def _text(content: bytes, file: Path) -> str:
    encoding = next((name for mark, name in ENCODINGS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Stop(f"{file} is not in UTF-8 (line {line}): save it as CSV in UTF-8") from None


def _rows(text: str, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    while True:
        number = reader.line_num + 1
        try:
            row = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:  # a cell of more than 128 KB
            row = [str(error)]
        while row and not row[-1]:
            row.pop()
        if row:
            yield number, row
