"""A report about many sites as a page, a table and a value."""

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

from footfall.display.export import BOM, csv_text, days_fields, sum_fields
from footfall.display.labels import format_number
from footfall.display.report_chart import MEASURES, Curve
from footfall.display.report_page import (
    OTHER_LANGUAGE,
    Choice,
    View,
    counted,
    part_of,
    period_choices,
    render,
    sum_cards,
)
from footfall.display.report_words import WORDS, day_name, days_name, moment_name, period_name
from footfall.display.sites_report import Group, SiteRow, SitesReport
from footfall.model.counts import DEFINITIONS
from footfall.model.report_period import DAY, By
from footfall.stores.history import Figure, Sum

COLUMNS = (
    *("site", "name", "group", "from", "to", "visitors", "views", "exact", "days_counted", "since"),
    *("visitors_before", "views_before", "has_imported_days", "definitions"),
)


def sites_page(report: SitesReport, view: View) -> str:
    """Return the page of a report about many sites."""
    language, words = view.language, WORDS[view.language]
    about = f"{words['group']} {report.group}" if report.group else words["all_sites"]
    title = f"{about}: {words[view.show]} {words[f'by_{report.by}']}"
    curve = Curve(title, report.days, report.by, view.show, report.today - DAY)
    return render(
        "sites.html",
        language,
        days=report.days,
        by=report.by.value,
        show=view.show,
        group=report.group,
        can_leave=view.can_leave,
        period=days_name(report.days, language),
        made_at=moment_name(report.made_at, language),
        links=_links(report, view),
        other_language=OTHER_LANGUAGE[language],
        cards=list(_cards(report, language)),
        charts=curve.charts(report.figures, language),
        is_line=curve.is_line(report.figures),
        periods=[_period(figure, report, language) for figure in report.figures],
        rows=[_row(row, report, view) for row in report.rows],
        is_demo=report.is_demo,
        has_imported=any(row.imported for row in report.rows),
        zone=words["definition_zone"].format(zone=", ".join(sorted({row.site.time_zone for row in report.rows}))),
        groups=[_group(group, view) for group in report.groups] if not report.group else [],
        sum=_numbers(report.sum, language),
        sum_change=part_of(report.sum.visitors, report.sum_before and report.sum_before.visitors, language),
        version=words["definitions_version"].format(version=DEFINITIONS, program=view.program),
    )


def sites_csv(report: SitesReport, separator: str, *, has_bom: bool) -> Iterator[str]:
    """Yield the sites as CSV, a line each."""
    yield (BOM if has_bom else "") + csv_text([COLUMNS], separator)
    rows = [
        (
            *(row.site.id, row.site.name, row.site.group, *report.days, row.sum.visitors, row.sum.views),
            *(row.sum.exact, row.sum.counted, row.since),
            *(row.before and row.before.visitors, row.before and row.before.views, row.imported, DEFINITIONS),
        )
        for row in report.rows
    ]
    yield csv_text(rows, separator)


def sites_json(report: SitesReport) -> Iterator[str]:
    """Yield the report as one JSON value."""
    value = {
        **days_fields(report.days),
        "by": report.by.value,
        "group": report.group or None,
        "definitions": DEFINITIONS,
        "made_at": report.made_at.isoformat(timespec="seconds"),
        "sum": sum_fields(report.sum),
        "before": {**days_fields(report.before), **sum_fields(report.sum_before)},
        "groups": [
            {"group": group.name or None, "sites": group.sites, **sum_fields(group.sum)} for group in report.groups
        ],
        "sites": [_site_fields(row) for row in report.rows],
        "periods": [
            {**days_fields(figure.days), "visitors": figure.visitors, "views": figure.views, "exact": figure.exact}
            for figure in report.figures
        ],
    }
    yield json.dumps(value, ensure_ascii=False) + "\n"


def _site_fields(row: SiteRow) -> dict[str, Any]:
    return {
        "site": row.site.id,
        "name": row.site.name,
        "group": row.site.group or None,
        "since": row.since and row.since.isoformat(),
        **sum_fields(row.sum),
        "visitors_before": row.before and row.before.visitors,
        "views_before": row.before and row.before.views,
        "has_imported_days": row.imported,
    }


def _cards(report: SitesReport, language: str) -> Iterator[dict[str, str]]:
    words = WORDS[language]
    yield from sum_cards(report.sum, report.sum_before, report.before, language)
    with_numbers = sum(1 for row in report.rows if row.sum.counted)
    yield {
        "name": words["sites"],
        "number": format_number(len(report.rows), language),
        "aside": words["sites_with_numbers"].format(number=format_number(with_numbers, language)),
    }


def _numbers(total: Sum, language: str) -> dict[str, str]:
    visitors = counted(total.visitors, language, exact=total.exact)
    return {"visitors": visitors, "views": format_number(total.views, language)}


def _period(figure: Figure, report: SitesReport, language: str) -> dict[str, Any]:
    total = Sum(figure.counted, figure.exact, figure.visitors, figure.views)
    is_open = figure.days.last >= report.today
    return {"name": period_name(figure.days, report.by, language), "is_open": is_open, **_numbers(total, language)}


def _row(row: SiteRow, report: SitesReport, view: View) -> dict[str, Any]:
    language = view.language
    query = {"from": report.days.first, "to": report.days.last, "by": report.by.value, "lang": language}
    return {
        "name": row.site.name,
        "href": f"reports/{row.site.id}?{urlencode(query)}",
        "group": row.site.group,
        "since": day_name(row.since, language) if row.since else WORDS[language]["since_none"],
        "counted": f"{format_number(row.sum.counted, language)} / {format_number(report.days.number, language)}",
        "imported": row.imported,
        "change": part_of(row.sum.visitors, row.before and row.before.visitors, language),
        **_numbers(row.sum, language),
    }


def _group(group: Group, view: View) -> dict[str, str]:
    language = view.language
    name = group.name or WORDS[language]["no_group"]
    href = f"?{urlencode({'group': group.name, 'lang': language})}" if group.name else ""
    return {"name": name, "href": href, "sites": format_number(group.sites, language), **_numbers(group.sum, language)}


def _links(report: SitesReport, view: View) -> dict[str, Any]:
    language, words, days = view.language, WORDS[view.language], report.days
    form = {"from": days.first.isoformat(), "to": days.last.isoformat(), "by": report.by.value, "group": report.group}

    def href(**other: str) -> str:
        return f"?{urlencode({**form, 'show': view.show, 'lang': language, **other})}"

    charts: Sequence[Choice] = [
        *(Choice(words[measure], href(show=measure), measure == view.show) for measure in MEASURES),
        *(Choice(words[f"by_{by}"], href(by=by.value), by is report.by) for by in By),
    ]
    since = min((row.since for row in report.rows if row.since), default=None)
    return {
        "periods": period_choices(report.today, since, days, language, href),
        "charts": charts,
        "csv": f"reports.csv?{urlencode(form)}",
        "excel": f"reports.csv?{urlencode(form | {'sep': ';', 'bom': '1'})}",
        "json": f"reports.json?{urlencode(form)}",
        "language": href(lang=OTHER_LANGUAGE[language]),
        "all_sites": f"?lang={language}" if report.group else "",
    }
