"""Reports: the history of a site for people, spreadsheets and programs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from footfall.display.export import csv_pieces, json_pieces
from footfall.display.report import Report, read_figures, read_report
from footfall.display.report_chart import MEASURES
from footfall.display.report_page import View, report_page
from footfall.display.report_words import LANGUAGES, languages_of_report
from footfall.display.sites_page import sites_csv, sites_json, sites_page
from footfall.display.sites_report import SitesReport, read_sites_report
from footfall.errors import Reason, Refused, StoreUnavailable
from footfall.http.choices import chosen
from footfall.http.report_answers import HTML_TYPE, as_page, reply
from footfall.http.report_form import BY_COOKIE
from footfall.http.report_query import read_asked, read_asked_sites, read_csv_form
from footfall.http.responses import Reply
from footfall.http.services import SERVICES
from footfall.settings.settings import Site

CSV_TYPE, JSON_TYPE = "text/csv; charset=utf-8; header=present", "application/json"
AT_ONCE = 2
WAITING_MAX = 16
"""Reports that wait in a worker. Each takes PostgreSQL's time, so more of them would wait in vain."""
ACCESS: web.AppKey[Callable[[web.Request, Site], Awaitable[None]]] = web.AppKey("access")
"""Raises Refused where the sender of a request may not read the report of a site; without it, everyone may."""


class Places:
    """How many reports are made at once; raises Refused(BUSY) where too many wait already."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a place, and hold it."""
        if self._waiting >= WAITING_MAX:
            raise Refused(Reason.BUSY)
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        except StoreUnavailable:
            sentence = "The history cannot be read now; try again later."
            raise Refused(Reason.NOT_READY, sentence=sentence) from None
        finally:
            self._free.release()


PLACES = web.AppKey("places", Places)


def add_reports(app: web.Application) -> None:
    """Add the routes of the reports of one site."""
    app[PLACES] = Places()
    app.router.add_get("/reports/{site:[a-z0-9-]+}", as_page(get_page))
    app.router.add_get("/reports/{site:[a-z0-9-]+}.csv", get_csv)
    app.router.add_get("/reports/{site:[a-z0-9-]+}.json", get_json)


async def get_page(request: web.Request) -> Reply:
    """Return the report of a site as a page."""
    site = await site_to_report(request)
    view = View(
        chosen(request, "lang", languages_of_report(site)),
        chosen(request, "show", MEASURES),
        has_all_sites=ACCESS not in request.app,
        can_leave=request.get(BY_COOKIE, False),
    )
    report = await _read(request, site)
    # In a thread, because ten years of days take longer than a beacon should wait.
    page = await asyncio.to_thread(report_page, report, view)
    return await reply(request, HTML_TYPE, [page])


async def get_csv(request: web.Request) -> Reply:
    """Return the periods of a site as CSV.

    The whole answer is made before its first byte is sent: a client that reads slowly holds no connection to
    PostgreSQL, and none gets half a table for a whole one.
    """
    site, form = await site_to_report(request), read_csv_form(request)
    async with request.app[PLACES].one():
        asked = await read_asked(request, site)
        figures = read_figures(request.app[SERVICES].history, asked)
        pieces = [piece async for piece in csv_pieces(asked, figures, form.separator, has_bom=form.has_bom)]
    name = f"{site.id}-{asked.days.first}-{asked.days.last}-{asked.by}.csv"
    return await reply(request, CSV_TYPE, pieces, {"Content-Disposition": f'attachment; filename="{name}"'})


async def get_json(request: web.Request) -> Reply:
    """Return the report of a site as JSON."""
    report = await _read(request, await site_to_report(request))
    return await reply(request, JSON_TYPE, json_pieces(report))


async def site_to_report(request: web.Request) -> Site:
    """Return the site whose report the request asks for; raises Refused where there is none for its sender."""
    site = request.app[SERVICES].settings.sites.get(request.match_info["site"])
    if site is None:
        raise Refused(Reason.UNKNOWN_SITE)
    if (check := request.app.get(ACCESS)) is not None:
        await check(request, site)
    return site


async def _read(request: web.Request, site: Site) -> Report:
    async with request.app[PLACES].one():
        return await read_report(request.app[SERVICES].history, await read_asked(request, site))


def add_sites_reports(app: web.Application) -> None:
    """Add the routes of the reports about all sites, or those of a group: for operators alone."""
    app.router.add_get("/reports", as_page(get_sites_page))
    app.router.add_get("/reports.csv", get_sites_csv)
    app.router.add_get("/reports.json", get_sites_json)


async def get_sites_page(request: web.Request) -> Reply:
    """Return the sums of the sites as a page."""
    view = View(
        chosen(request, "lang", LANGUAGES),
        chosen(request, "show", MEASURES),
        can_leave=request.get(BY_COOKIE, False),
    )
    page = await asyncio.to_thread(sites_page, await _read_sites(request), view)
    return await reply(request, HTML_TYPE, [page])


async def get_sites_csv(request: web.Request) -> Reply:
    """Return the sums of the sites as CSV."""
    form, report = read_csv_form(request), await _read_sites(request)
    name = f"{report.group or 'all'}-{report.days.first}-{report.days.last}.csv"
    pieces = sites_csv(report, form.separator, has_bom=form.has_bom)
    return await reply(request, CSV_TYPE, pieces, {"Content-Disposition": f'attachment; filename="{name}"'})


async def get_sites_json(request: web.Request) -> Reply:
    """Return the sums of the sites as JSON."""
    return await reply(request, JSON_TYPE, sites_json(await _read_sites(request)))


async def _read_sites(request: web.Request) -> SitesReport:
    async with request.app[PLACES].one():
        history = request.app[SERVICES].sites_history
        return await read_sites_report(history, await read_asked_sites(request))
