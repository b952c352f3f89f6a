"""A file of days: a line for each day with its visitors and its views, as another counter or a spreadsheet has them.

Columns are found by their headings: our own, Vietnamese ones, and those of Matomo's exports of its visits. A file
without a heading has the columns day, visitors, views.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from footfall.errors import Stop
from footfall.imports.table_file import (
    VIEWS_MAX,
    Unreadable,
    looks_like_a_number,
    read_content,
    rows_of,
    whole_number,
)
from footfall.model.imported import ImportedDay

HEADINGS: Mapping[str, Sequence[str]] = {
    "day": ("day", "date", "ngày"),
    "visitors": (
        *("visitors", "unique visitors", "nb_uniq_visitors", "unique_visitors", "daily unique visitors"),
        *("khách", "người truy cập", "khách truy cập", "số khách"),
    ),
    "views": (
        *("views", "pageviews", "page views", "nb_pageviews", "unique pageviews", "lượt xem", "lượt xem trang"),
        *("actions", "nb_actions"),
    ),
}
"""What a column may be called, the best name first: Matomo's actions are pages, downloads and searches together."""
FORMS = (
    re.compile(r"(?P<year>\d{4})[-/.]?(?P<month>\d{2})[-/.]?(?P<day>\d{2})"),
    re.compile(r"(?P<day>\d{1,2})[-/.](?P<month>\d{1,2})[-/.](?P<year>\d{4})"),
)
"""2026-01-31, 20260131, and as Vietnam writes it 31/01/2026."""
MIDNIGHT = re.compile(r"[T ]00:00(?::00)?(?:Z|\.0+Z?)?$")


@dataclass(frozen=True, slots=True)
class DayFile:
    """What a file says, the earliest day first."""

    days: Sequence[ImportedDay]
    unreadable: Sequence[Unreadable]


def read_day_file(file: Path) -> DayFile:
    """Return the days that a CSV file lists; raises Stop where the file is none."""
    columns: Sequence[int] = (0, 1, 2)
    days: dict[date, ImportedDay] = {}
    unreadable: list[Unreadable] = []
    is_first = True
    for number, row in rows_of(read_content(file), file, lambda row: len(row) >= 3):
        if is_first and not any(map(looks_like_a_number, row)):
            columns, is_first = _columns(row, file), False
            continue
        is_first = False
        try:
            day = _day_of(row, columns)
            if day.day in days:
                raise ValueError(f"{day.day} is in the file already, and a day has one line")
        except ValueError as error:
            unreadable.append(Unreadable(number, str(error)))
        else:
            days[day.day] = day
    return DayFile(sorted(days.values(), key=lambda day: day.day), unreadable)


def day_from(text: str) -> date:
    """Return the day that a cell names, the day before the month; raises ValueError with a reason.

    >>> day_from("31/01/2026"), day_from("2026-01-31 00:00:00")
    (datetime.date(2026, 1, 31), datetime.date(2026, 1, 31))
    """
    for form in FORMS:
        if match := form.fullmatch(MIDNIGHT.sub("", text)):
            try:
                return date(*(int(match[name]) for name in ("year", "month", "day")))
            except ValueError:
                break
    raise ValueError(f"{text[:40]!r} is not a day: write 2026-01-31, or 31/01/2026")


def _columns(heading: Sequence[str], file: Path) -> Sequence[int]:
    names = [unicodedata.normalize("NFC", cell).casefold().strip() for cell in heading]
    found = {
        what: next((names.index(name) for name in accepted if name in names), None)
        for what, accepted in HEADINGS.items()
    }
    if missing := [what for what, column in found.items() if column is None]:
        raise Stop(
            f"{file}: no column is called {' or '.join(missing)}; its heading has {', '.join(heading)[:200]}. Name the"
            " columns day, visitors and views"
        )
    return [column for column in found.values() if column is not None]


def _day_of(row: Sequence[str], columns: Sequence[int]) -> ImportedDay:
    if len(row) <= max(columns):
        raise ValueError(f"a line has a day, its visitors and its views; here it has {len(row)} columns")
    name, visitors, views = (row[column] for column in columns)
    day = ImportedDay(day_from(name), whole_number(visitors, "visitors"), whole_number(views, "views"))
    if max(day.visitors, day.views) > VIEWS_MAX:
        raise ValueError("the number is more than a page can show, 2^53 - 1")
    if day.visitors > 0 and day.views == 0:
        raise ValueError(f"{day.visitors:,d} visitors without a view: are the columns day, visitors, views?")
    return day
