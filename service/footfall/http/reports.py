"""Reports: the history of a site for people, spreadsheets and programs."""

from collections.abc import Iterable
from types import MappingProxyType

from aiohttp import web

from footfall.display.export import csv_pieces, json_pieces
from footfall.display.report import read_figures, read_report
from footfall.errors import Reason, Refused, StoreUnavailable
from footfall.http.report_query import read_asked, read_csv_form
from footfall.http.responses import HEADERS, Reply, lines
from footfall.http.services import SERVICES
from footfall.settings.settings import Site

REPORT_HEADERS = MappingProxyType(
    {
        **HEADERS,
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
        "X-Robots-Tag": "noindex, nofollow",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
)
"""No cache keeps a report, no search engine lists it, and no page of a stranger embeds or reads it."""
CSV_TYPE, JSON_TYPE = "text/csv; charset=utf-8; header=present", "application/json"


def add_reports(app: web.Application) -> None:
    """Add the routes of reports."""
    app.router.add_get("/reports/{site:[a-z0-9-]+}.csv", get_csv)
    app.router.add_get("/reports/{site:[a-z0-9-]+}.json", get_json)


async def get_csv(request: web.Request) -> Reply:
    """Return the periods of a site as CSV.

    The whole answer is made before its first byte is sent: a client that reads slowly holds no connection to
    PostgreSQL, and none gets half a table for a whole one.
    """
    site, form = _site(request), read_csv_form(request)
    asked = await read_asked(request, site)
    try:
        figures = read_figures(request.app[SERVICES].history, asked)
        pieces = [piece async for piece in csv_pieces(asked, figures, form.separator, has_bom=form.has_bom)]
    except StoreUnavailable:
        raise _unreadable() from None
    name = f"{site.id}-{asked.days.first}-{asked.days.last}-{asked.by}.csv"
    return _reply(CSV_TYPE, pieces, {"Content-Disposition": f'attachment; filename="{name}"'})


async def get_json(request: web.Request) -> Reply:
    """Return the report of a site as JSON."""
    asked = await read_asked(request, _site(request))
    try:
        report = await read_report(request.app[SERVICES].history, asked)
    except StoreUnavailable:
        raise _unreadable() from None
    return _reply(JSON_TYPE, json_pieces(report))


def _site(request: web.Request) -> Site:
    site = request.app[SERVICES].settings.sites.get(request.match_info["site"])
    if site is None:
        raise Refused(Reason.UNKNOWN_SITE)
    return site


def _unreadable() -> Refused:
    return Refused(Reason.NOT_READY, sentence="The history cannot be read now; try again later.")


def _reply(content_type: str, pieces: Iterable[str], headers: dict[str, str] | None = None) -> Reply:
    head = lines({"Content-Type": content_type, **(headers or {})}, REPORT_HEADERS)
    return Reply(200, head, "".join(pieces).encode())
