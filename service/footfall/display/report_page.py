"""A report as a page: numbers, chart, table, pages, corrections, events and definitions; no script, prints on A4."""

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from markupsafe import Markup

from footfall import __version__
from footfall.display.labels import format_number, labels_of
from footfall.display.report import Report
from footfall.display.report_chart import MEASURES, Curve, Measure
from footfall.display.report_journals import MINUS, corrections, happened, imports, page_changes
from footfall.display.report_words import (
    TEMPLATES,
    WORDS,
    day_name,
    days_name,
    moment_name,
    percent,
    period_name,
)
from footfall.model.counts import DEFINITIONS, NUMBERS
from footfall.model.report_period import DAY, By, Days
from footfall.stores.history import LISTED_MAX, Figure, Sum

if TYPE_CHECKING:
    from jinja2 import Environment

STYLE = (TEMPLATES / "report.css").read_text(encoding="utf-8")
STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
"""For the policy of the page, which allows this style and no other."""
OTHER = "(other)"
DEMO = "demo"
"""What the journal calls days that were made up."""
OTHER_LANGUAGE: Mapping[str, str] = {"vi": "en", "en": "vi"}
NO_BREAK = "\u00a0"


@dataclass(frozen=True, slots=True)
class View:
    """How a page shows a report: in which language, which measure, and whether its reader can leave it."""

    language: str
    show: Measure = "visitors"
    has_links: bool = True
    has_all_sites: bool = False
    can_leave: bool = False
    """Whether a cookie opened the report, which its reader can take back."""
    program: str = __version__


class Choice(NamedTuple):
    """A link to the same report with another choice, or the choice that is shown."""

    name: str
    href: str
    is_chosen: bool


def report_page(report: Report, view: View) -> str:
    """Return the page of a site's report."""
    return _environment().get_template("report.html").render(_fields(report, view))


def render(template: str, language: str, **fields: Any) -> str:
    """Return a page of a template beside this one."""
    common = {"language": language, "w": WORDS[language], "style": Markup(STYLE)}  # noqa: S704 - our own file
    return _environment().get_template(template).render(common | fields)


def counted(number: int, language: str, *, exact: bool) -> str:
    """Return visitors as a table shows them: an estimate is marked."""
    return format_number(number, language) if exact else f"≈{NO_BREAK}{format_number(number, language)}"


def change(now: int, before: int | None, before_days: Days, language: str) -> str:
    """Return how a number compares with that of the days before."""
    words, name = WORDS[language], days_name(before_days, language)
    if before is None:
        return words["before_none"].format(before=name)
    if before == 0:
        return words["before_zero"].format(before=name)
    return f"{part_of(now, before, language)} {words['before'].format(before=name)}"


def part_of(now: int, before: int | None, language: str) -> str:
    """Return by which part a number grew or fell; empty where that is not known.

    >>> part_of(90, 100, "vi"), part_of(90, 0, "vi")
    ('−10,0 %', '')
    """
    return percent((now - before) / before, language, sign=True).replace("-", MINUS) if before else ""


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - 2 MB in each worker, for pages

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _fields(report: Report, view: View) -> dict[str, Any]:
    asked, language = report.asked, view.language
    site, words, labels = asked.site, WORDS[language], labels_of(asked.site, language)
    title = f"{site.name}: {words[view.show]} {words[f'by_{asked.by}']}"
    curve = Curve(title, asked.days, asked.by, view.show, asked.closed_through)
    pages = report.pages
    return {
        "language": language,
        "other_language": OTHER_LANGUAGE[language],
        "w": words,
        "style": Markup(STYLE),  # noqa: S704 - our own file
        "site": site,
        "days": asked.days,
        "by": asked.by.value,
        "show": view.show,
        "can_leave": view.can_leave,
        "period": days_name(asked.days, language),
        "since": report.since and day_name(report.since, language),
        "made_at": moment_name(report.made_at, language),
        "links": _links(report, view) if view.has_links else None,
        "cards": list(_cards(report, language)),
        "is_stale": asked.now.stale,
        "now": [(labels[name], format_number(getattr(asked.now, name), language)) for name in NUMBERS],
        "charts": curve.charts(report.figures, language),
        "is_line": curve.is_line(report.figures),
        "rows": [_row(report, figure, language) for figure in report.figures],
        "sum": {
            "visitors": counted(report.sum.visitors, language, exact=report.sum.exact),
            "views": format_number(report.sum.views, language),
            "counted": format_number(report.sum.counted, language),
        },
        "pages": None if pages is None else [_page(report, *page, language) for page in pages.pages],
        "pages_cut": words["pages_cut"].format(months=", ".join(f"{month:%m/%Y}" for month in pages.cut_months))
        if pages and pages.cut_months
        else "",
        "corrections": corrections(report, language),
        "page_changes": page_changes(report, language),
        "is_cut": {
            name: words["listed_max"].format(number=LISTED_MAX) if len(listed) == LISTED_MAX else ""
            for name, listed in (
                ("corrections", report.corrections),
                ("page_changes", report.page_changes),
                ("imports", report.imports),
                ("events", report.events),
            )
        },
        "is_demo": any(one.what == DEMO for one in report.imports),
        "imports": imports(report, language),
        "happened": list(happened(report, language)),
        "zone": words["definition_zone"].format(zone=site.time_zone),
        "version": words["definitions_version"].format(version=DEFINITIONS, program=view.program),
    }


def sum_cards(total: Sum, before: Sum | None, days_before: Days, language: str) -> Iterator[dict[str, str]]:
    """Yield the visitors and the views of a period, each with its change since the period before."""
    words = WORDS[language]
    yield {
        "name": words["visitors"],
        "number": counted(total.visitors, language, exact=total.exact),
        "aside": change(total.visitors, before and before.visitors, days_before, language),
    }
    yield {
        "name": words["views"],
        "number": format_number(total.views, language),
        "aside": change(total.views, before and before.views, days_before, language),
    }


def _cards(report: Report, language: str) -> Iterator[dict[str, str]]:
    words = WORDS[language]
    yield from sum_cards(report.sum, report.sum_before, report.before, language)
    busiest = report.busiest
    yield {
        "name": words["busiest"],
        "number": format_number(busiest and busiest.visitors, language),
        "aside": day_name(busiest.day, language) if busiest else words["none"],
    }
    at = report.peak_at
    yield {
        "name": words["peak"],
        "number": format_number(report.peak and report.peak.online, language),
        "aside": moment_name(at, language) if at else words["unknown"],
    }


def _row(report: Report, figure: Figure, language: str) -> dict[str, Any]:
    is_sum = report.asked.by is By.WEEK and not figure.is_union and figure.days.number > 1
    visitors = counted(figure.visitors, language, exact=figure.exact)
    return {
        "name": period_name(figure.days, report.asked.by, language),
        "visitors": f"{visitors} †" if is_sum else visitors,
        "views": format_number(figure.views, language),
        "is_open": not report.is_finished(figure),
        "imported": figure.imported,
    }


def _page(report: Report, page: str, views: int, language: str) -> dict[str, str]:
    share = views / report.sum.views if report.sum.views >= views else 0.0
    return {
        "page": WORDS[language]["pages_other"] if page == OTHER else page,
        "views": format_number(views, language),
        "share": percent(share, language) if share else "",
    }


def _links(report: Report, view: View) -> dict[str, Any]:
    asked, language, words = report.asked, view.language, WORDS[view.language]
    days = asked.days

    def href(path: str = "", **other: str) -> str:
        query = {
            "from": days.first.isoformat(),
            "to": days.last.isoformat(),
            "by": asked.by.value,
            "show": view.show,
            "lang": language,
        }
        return f"{path}?{urlencode(query | other)}"

    form = {"from": days.first.isoformat(), "to": days.last.isoformat(), "by": asked.by.value}
    charts = [Choice(words[measure], href(show=measure), measure == view.show) for measure in MEASURES]
    charts += [Choice(words[f"by_{by}"], href(by=by.value), by is asked.by) for by in By]
    return {
        "periods": period_choices(asked.today, report.since, days, language, href),
        "charts": charts,
        "csv": f"{asked.site.id}.csv?{urlencode(form)}",
        "excel": f"{asked.site.id}.csv?{urlencode(form | {'sep': ';', 'bom': '1'})}",
        "json": f"{asked.site.id}.json?{urlencode(form)}",
        "language": href(lang=OTHER_LANGUAGE[language]),
        "all_sites": f"../reports?lang={language}" if view.has_all_sites else "",
    }


def period_choices(
    today: date, since: date | None, chosen: Days, language: str, href: Callable[..., str]
) -> list[Choice]:
    """Return links to the periods that are asked for most; `href` makes an address of `from`, `to` and `by`."""
    choices: list[Choice] = []
    for name, first, last, by in _periods(today, since):
        is_chosen = chosen == (first, last) and not any(choice.is_chosen for choice in choices)
        query = {"from": first.isoformat(), "to": last.isoformat(), "by": by.value}
        choices.append(Choice(WORDS[language][name], href(**query), is_chosen))
    return choices


def _periods(today: date, since: date | None) -> Iterator[tuple[str, date, date, By]]:
    month = today.replace(day=1)
    last_month = (month - DAY).replace(day=1)
    quarter = month.replace(month=month.month - (month.month - 1) % 3)
    last_quarter = (quarter - DAY).replace(day=1, month=(quarter - DAY).month - 2)
    year = today.replace(month=1, day=1)
    yield "last_30", today - 29 * DAY, today, By.DAY
    yield "this_month", month, today, By.DAY
    yield "last_month", last_month, month - DAY, By.DAY
    yield "this_quarter", quarter, today, By.WEEK
    yield "last_quarter", last_quarter, quarter - DAY, By.WEEK
    yield "this_year", year, today, By.MONTH
    yield "last_year", year.replace(year=year.year - 1), year - DAY, By.MONTH
    if since is not None and since < year:
        yield "all_time", since, today, By.MONTH
