"""A file of starting numbers: a line for each page with its views, as old counters and spreadsheets write them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from footfall.imports.table_file import (
    VIEWS_MAX,
    Unreadable,
    looks_like_a_number,
    read_content,
    rows_of,
    whole_number,
)
from footfall.ingest.pages import normalise_page
from footfall.settings.settings import Site


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
    content = read_content(file)
    views: dict[str, int] = {}
    unreadable: list[Unreadable] = []
    lines = 0
    for number, row in rows_of(content, file, _fits):
        if lines == 0 and not unreadable and len(row) == 2 and not looks_like_a_number(row[1]):
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


def _fits(row: Sequence[str]) -> bool:
    return len(row) == 2 and looks_like_a_number(row[1])


def _page_and_views(row: Sequence[str], site: Site) -> tuple[str, int]:
    """Return what a row says; raises ValueError with the reason why it says nothing."""
    if len(row) != 2:
        raise ValueError(f"a line has two columns, a page and its views; here it has {len(row)}")
    name, number = row
    views = whole_number(number, "views")
    page = normalise_page(name, site)
    if page is None:
        raise ValueError(f"{name[:80]!r} is not a page of {site.id}: a path, or a URL of its hosts")
    return page, views
