"""A report for spreadsheets and programs: CSV and JSON, piece by piece; `static/openapi.yaml` explains the columns."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from footfall.display.report import Asked, Report
from footfall.model.counts import DEFINITIONS, NUMBERS
from footfall.model.report_period import Days
from footfall.stores.history import Figure, Import, PageChange, Sum
from footfall.stores.postgres_store import Adjustment

BOM = "\ufeff"
"""Excel takes a file for UTF-8 only where it begins with this mark."""
COLUMNS = (
    *("site", "name", "from", "to", "visitors", "views", "visitors_are"),
    *("exact", "finished", "days_counted", "days_imported", "definitions"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
ROWS_IN_A_PIECE = 200


def cell(value: object) -> object:
    """Return a value that no spreadsheet takes for a formula; numbers stay numbers.

    >>> cell("=HYPERLINK(1)"), cell(-5), cell(None)
    ("'=HYPERLINK(1)", -5, '')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


async def csv_pieces(
    asked: Asked, figures: AsyncIterator[Figure], separator: str, *, has_bom: bool
) -> AsyncIterator[str]:
    """Yield the periods as CSV, a line each, oldest first."""
    yield (BOM if has_bom else "") + csv_text([COLUMNS], separator)
    closed_through = asked.closed_through
    rows: list[Sequence[object]] = []
    async for figure in figures:
        rows.append(
            (
                asked.site.id,
                asked.site.name,
                *figure.days,
                figure.visitors,
                figure.views,
                visitors_are(figure),
                figure.exact,
                figure.days.last <= closed_through,
                figure.counted,
                figure.imported,
                DEFINITIONS,
            )
        )
        if len(rows) == ROWS_IN_A_PIECE:
            yield csv_text(rows, separator)
            rows = []
    yield csv_text(rows, separator)


def visitors_are(figure: Figure) -> str:
    """Return what the visitors of a period are: those of a day, the union of a week, or the sum over days."""
    if figure.is_union:
        return "union"
    return "day" if figure.days.number == 1 else "sum"


def json_pieces(report: Report) -> Iterator[str]:
    """Yield the report as one JSON value; the periods come last, a line each."""
    head = json.dumps(_fields(report), ensure_ascii=False)
    yield f'{head[:-1]}, "periods": ['
    for number, figure in enumerate(report.figures):
        period = json.dumps(_period(figure, finished=report.is_finished(figure)), ensure_ascii=False)
        yield f"{',' if number else ''}\n{period}"
    yield "\n]}\n"


def _fields(report: Report) -> dict[str, Any]:
    asked = report.asked
    zone = asked.site.zone
    pages = report.pages
    return {
        "site": asked.site.id,
        "name": asked.site.name,
        "by": asked.by.value,
        **days_fields(asked.days),
        "time_zone": asked.site.time_zone,
        "definitions": DEFINITIONS,
        "made_at": report.made_at.isoformat(timespec="seconds"),
        "since": report.since and report.since.isoformat(),
        "now": {name: getattr(asked.now, name) for name in NUMBERS},
        "measure": asked.site.measure,
        "sum": sum_fields(report.sum),
        "before": {**days_fields(report.before), **sum_fields(report.sum_before)},
        "busiest": report.busiest and {**report.busiest._asdict(), "day": report.busiest.day.isoformat()},
        "peak_online": report.peak and report.peak.online,
        "peak_online_at": report.peak_at and report.peak_at.isoformat(timespec="seconds"),
        "pages": None if pages is None else [page._asdict() for page in pages.pages],
        "pages_lack_months": None if pages is None else [f"{month:%Y-%m}" for month in pages.cut_months],
        "corrections": [
            {
                "id": entry.id,
                "amount": entry.amount,
                "reason": entry.reason,
                **_made(entry, zone),
            }
            for entry in report.corrections
        ],
        "page_imports": [
            {"id": one.id, "pages": one.pages, "views": one.views, **_made(one, zone)}
            for one in report.page_changes
            if one.id is not None
        ],
        "page_moves": [
            {"page": one.page, "target": one.target, **_made(one, zone)}
            for one in report.page_changes
            if one.id is None
        ],
        "imports": [
            {
                "what": one.what,
                **_made(one, zone),
                **days_fields(Days(one.first, one.last)),
                "days": one.days,
                "views": one.views,
            }
            for one in report.imports
        ],
        "events": [
            {
                "kind": event.kind,
                "detail": event.detail,
                "at": _moment(event.at, zone),
                "began": event.began and _moment(event.began, zone),
                "ended": (event.ended and not event.goes_on(report.made_at) and _moment(event.ended, zone)) or None,
                "running": event.goes_on(report.made_at),
            }
            for event in report.events
        ],
        "gaps": [days_fields(gap) for gap in report.gaps],
    }


def _made(entry: Adjustment | Import | PageChange, zone: ZoneInfo) -> dict[str, str]:
    return {"made_by": entry.made_by, "made_at": _moment(entry.made_at, zone)}


def _moment(at: datetime, zone: ZoneInfo) -> str:
    return at.astimezone(zone).isoformat(timespec="seconds")


def _period(figure: Figure, *, finished: bool) -> dict[str, Any]:
    return {
        **days_fields(figure.days),
        "visitors": figure.visitors,
        "views": figure.views,
        "visitors_are": visitors_are(figure),
        "exact": figure.exact,
        "finished": finished,
        "days_counted": figure.counted,
        "days_imported": figure.imported,
    }


def sum_fields(total: Sum | None) -> dict[str, Any]:
    """Return the numbers of a sum; all unknown where there is none."""
    names = {"visitors": "visitors", "views": "views", "exact": "exact", "counted": "days_counted"}
    return {name: total and getattr(total, field) for field, name in names.items()}


def days_fields(days: Days) -> dict[str, str]:
    """Return the first and the last day."""
    return {"from": days.first.isoformat(), "to": days.last.isoformat()}


def csv_text(rows: Iterable[Iterable[object]], separator: str) -> str:
    """Return rows as CSV; no cell is a formula."""
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\r\n").writerows(
        [cell(value) for value in row] for row in rows
    )
    return text.getvalue()
