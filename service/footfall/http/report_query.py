"""What a request asks of a report: the days, the periods, the language, the form of a CSV."""

import asyncio
from datetime import UTC, date, datetime
from typing import NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from footfall.display.report import Asked
from footfall.display.sites_report import AskedSites
from footfall.errors import Reason, Refused
from footfall.http.choices import chosen
from footfall.http.services import SERVICES
from footfall.model.periods import local_day
from footfall.model.report_period import By, Days, asked_days
from footfall.settings.settings import Site

SEPARATORS = {",": ",", ";": ";", "tab": "\t"}
KEPT = ("from", "to", "by", "show", "group", "lang")
"""What of a query an address of a report has; nothing else comes along."""
DAYS_BY_MONTH = 400
DAYS_OF_ALL_SITES = 190
"""More days of all sites are shown by month or year only: a thousand sites would be too many rows."""


class CsvForm(NamedTuple):
    """How a CSV is written: what stands between two cells, and whether it begins with a mark for Excel."""

    separator: str
    has_bom: bool


class Wanted(NamedTuple):
    """The days and the periods that a query names; None where it leaves them to the report."""

    first: date | None
    last: date | None
    by: By | None

    def days(self, today: date, since: date | None, by_month_from: int = DAYS_BY_MONTH) -> tuple[Days, By]:
        """Return the days and periods of the report; raises Refused(BAD_FIELD) with a sentence.

        More days than `by_month_from` are shown by month, where the query does not choose.
        """
        try:
            days = asked_days(self.by or By.DAY, self.first, self.last, today, since)
        except ValueError as error:
            raise Refused(Reason.BAD_FIELD, sentence=f"{error}.") from None
        return days, self.by or (By.MONTH if days.number > by_month_from else By.DAY)


def read_wanted(request: web.Request) -> Wanted:
    """Return what a query asks for; raises Refused(BAD_FIELD) with a sentence."""
    return Wanted(_date(request, "from"), _date(request, "to"), _by(request))


async def read_asked(request: web.Request, site: Site) -> Asked:
    """Return what a report of `site` is about, with what is live; raises Refused(BAD_FIELD) and StoreUnavailable."""
    services = request.app[SERVICES]
    wanted = read_wanted(request)
    at_s = services.periods.clock()
    since = await services.history.since(site.id)
    days, by = wanted.days(local_day(at_s, site.zone), since)
    now = (await services.counts_cache.counts(site)).counts
    return Asked(site, days, by, at_s, now, services.counts_cache.reading(site))


async def read_asked_sites(request: web.Request) -> AskedSites:
    """Return which sites a report is about, and of which days; raises Refused(BAD_FIELD) and StoreUnavailable.

    The days end with those of the first site: nearly always all sites are in one time zone.
    """
    services = request.app[SERVICES]
    group = request.query.get("group", "")
    sites = [site for site in services.settings.sites.values() if not group or site.group == group]
    if not sites:
        groups = ", ".join(sorted({site.group for site in services.settings.sites.values()} - {""})) or "none"
        raise Refused(Reason.BAD_FIELD, sentence=f"no site has this group; there are: {groups}.")
    zone, at_s = sites[0].zone, services.periods.clock()
    since = await services.sites_history.since([site.id for site in sites])
    wanted = read_wanted(request)
    days, by = wanted.days(local_day(at_s, zone), min(since.values(), default=None), DAYS_OF_ALL_SITES)
    if by in (By.DAY, By.WEEK) and days.number > DAYS_OF_ALL_SITES:
        sentence = f"more than {DAYS_OF_ALL_SITES} days of all sites can be shown by month or by year only."
        raise Refused(Reason.BAD_FIELD, sentence=sentence)
    await asyncio.gather(*(services.counts_cache.counts(site) for site in sites))
    live = {site.id: services.counts_cache.reading(site) for site in sites}
    return AskedSites(sites, days, by, group, datetime.fromtimestamp(at_s, UTC).astimezone(zone), live)


def address_of_report(request: web.Request, language: str = "") -> str:
    """Return the address of the report that a request asks for, relative to its own, in another language if given."""
    query = {name: request.query[name] for name in KEPT if name in request.query}
    if language:
        query["lang"] = language
    page = request.match_info.get("site") or "reports"
    return f"{page}?{urlencode(query)}" if query else page


def read_csv_form(request: web.Request) -> CsvForm:
    """Return the form of a CSV; raises Refused(BAD_FIELD) with a sentence."""
    separator = chosen(request, "sep", tuple(SEPARATORS))
    return CsvForm(SEPARATORS[separator], has_bom=chosen(request, "bom", ("0", "1")) == "1")


def _date(request: web.Request, name: str) -> date | None:
    if not (text := request.query.get(name, "")):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Refused(Reason.BAD_FIELD, sentence=f"{name} must be a day, such as 2026-11-30.") from None


def _by(request: web.Request) -> By | None:
    if not (text := request.query.get("by", "")):
        return None
    try:
        return By(text)
    except ValueError:
        raise Refused(Reason.BAD_FIELD, sentence=f"by must be one of these: {', '.join(By)}.") from None
