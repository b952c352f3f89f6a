"""What a request asks of a report: the days, the periods, the language, the form of a CSV."""

from datetime import date
from typing import NamedTuple

from aiohttp import web

from footfall.display.report import Asked
from footfall.errors import Reason, Refused, StoreUnavailable
from footfall.http.services import SERVICES, Services
from footfall.model.periods import local_day
from footfall.model.report_period import By, Days, asked_days
from footfall.settings.settings import Site

SEPARATORS = {",": ",", ";": ";", "tab": "\t"}
DAYS_BY_MONTH = 400
"""More days than these are shown by month, where the query does not choose."""


class CsvForm(NamedTuple):
    """How a CSV is written: what stands between two cells, and whether it begins with a mark for Excel."""

    separator: str
    has_bom: bool


class Wanted(NamedTuple):
    """The days and the periods that a query names; None where it leaves them to the report."""

    first: date | None
    last: date | None
    by: By | None

    def days(self, today: date, since: date | None) -> tuple[Days, By]:
        """Return the days and periods of the report; raises Refused(BAD_FIELD) with a sentence."""
        try:
            days = asked_days(self.by or By.DAY, self.first, self.last, today, since)
        except ValueError as error:
            raise Refused(Reason.BAD_FIELD, sentence=f"{error}.") from None
        return days, self.by or (By.MONTH if days.number > DAYS_BY_MONTH else By.DAY)


def read_wanted(request: web.Request) -> Wanted:
    """Return what a query asks for; raises Refused(BAD_FIELD) with a sentence."""
    return Wanted(_date(request, "from"), _date(request, "to"), _by(request))


async def read_asked(request: web.Request, site: Site) -> Asked:
    """Return what a report of `site` is about, with what is live; raises Refused(BAD_FIELD | NOT_READY)."""
    services = request.app[SERVICES]
    wanted = read_wanted(request)
    at_s = services.periods.clock()
    since = await _since(services, site)
    days, by = wanted.days(local_day(at_s, site.zone), since)
    now = (await services.counts_cache.counts(site)).counts
    return Asked(site, days, by, at_s, now, services.counts_cache.reading(site))


def read_csv_form(request: web.Request) -> CsvForm:
    """Return the form of a CSV; raises Refused(BAD_FIELD) with a sentence."""
    separator = request.query.get("sep", ",")
    bom = request.query.get("bom", "0")
    if separator not in SEPARATORS:
        raise Refused(Reason.BAD_FIELD, sentence=f"sep must be one of these: {' '.join(SEPARATORS)}.")
    if bom not in ("0", "1"):
        raise Refused(Reason.BAD_FIELD, sentence="bom must be 0 or 1.")
    return CsvForm(SEPARATORS[separator], bom == "1")


async def _since(services: Services, site: Site) -> date | None:
    try:
        return await services.history.since(site.id)
    except StoreUnavailable:
        raise Refused(Reason.NOT_READY, sentence="The history cannot be read now; try again later.") from None


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
