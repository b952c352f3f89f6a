"""A file of starting numbers: a line for each page with its views, as old counters and spreadsheets write them."""

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from footfall.errors import Stop
from footfall.ingest.pages import normalise_page
from footfall.settings.settings import Site

VIEWS_MAX = 2**53 - 1
"""JavaScript stores larger whole numbers only in steps of two."""
DELIMITERS = (";", "\t", ",")
ROWS_TRIED = 100
"""Rows from which the delimiter is found."""
ENCODINGS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
GROUPED = re.compile(r"[0-9]{1,3}(?:[.,' \u00a0\u202f][0-9]{3})+")
DIGITS = re.compile(r"[0-9]{1,16}")


class Unreadable(NamedTuple):
    """A line that was not understood, by its number in the file, and why."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class PageFile:
    """What a file says. `id` is the same for the same content."""

    id: str
    views: Mapping[str, int]
    """By canonical page; where several lines name one page, their sum."""
    lines: int
    """Lines that were read, without blank lines and the heading."""
    unreadable: Sequence[Unreadable]


def read_page_file(file: Path, site: Site) -> PageFile:
    """Return the views of pages of `site` that a CSV file lists; raises Stop where the file is none.

    Two columns, page and views, separated by a semicolon, a comma or a tab, in UTF-8 or UTF-16; a first line whose
    views are no number is a heading. Numbers may have separators between their thousands: 1.373.876.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise Stop(f"{file} cannot be read: {error.strerror}") from error
    text = _text(content, file)
    views: dict[str, int] = {}
    unreadable: list[Unreadable] = []
    lines = 0
    for number, row in _rows(text, _delimiter(text)):
        if lines == 0 and not unreadable and len(row) == 2 and not _looks_like_a_number(row[1]):
            lines = -1  # the heading
            continue
        lines = max(lines, 0)
        try:
            page, count = _page_and_views(row, site)
            if (total := views.get(page, 0) + count) > VIEWS_MAX:
                raise ValueError("the views are more than a page can show, 2^53 - 1")
        except ValueError as error:
            unreadable.append(Unreadable(number, str(error)))
            continue
        views[page] = total
        lines += 1
    return PageFile(hashlib.sha256(content).hexdigest()[:12], views, max(lines, 0), unreadable)


def _text(content: bytes, file: Path) -> str:
    encoding = next((name for mark, name in ENCODINGS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Stop(f"{file} is not in UTF-8 (line {line}): save it as CSV in UTF-8") from None


def _delimiter(text: str) -> str:
    """Return the delimiter with which most of the first rows are a page and a number."""

    def fitting(delimiter: str) -> tuple[int, int]:
        pairs = [row for _, row in islice(_rows(text, delimiter), ROWS_TRIED) if len(row) == 2]
        return sum(_looks_like_a_number(views) for _, views in pairs), len(pairs)

    return max(DELIMITERS, key=fitting)


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank, with the number of its first line and without empty cells at its end."""
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


def _looks_like_a_number(cell: str) -> bool:
    return bool(re.match(r"[-+]?[0-9]", cell))


def _page_and_views(row: Sequence[str], site: Site) -> tuple[str, int]:
    """Return what a row says; raises ValueError with the reason why it says nothing."""
    if len(row) != 2:
        raise ValueError(f"a line has two columns, a page and its views; here it has {len(row)}")
    name, number = row
    if GROUPED.fullmatch(number):
        number = re.sub(r"[^0-9]", "", number)
    if not DIGITS.fullmatch(number):
        raise ValueError(f"{number[:40]!r} is not a number of views: a whole number, not below 0")
    page = normalise_page(name, site)
    if page is None:
        raise ValueError(f"{name[:80]!r} is not a page of {site.id}: a path, or a URL of its hosts")
    return page, int(number)
