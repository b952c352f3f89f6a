"""The report of a site in a terminal or in a file: what `footfall report` prints, and `footfall report-token` makes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from footfall.cli.rollup import open_rollup
from footfall.cli.terminal import complain, progress_bar, say, show
from footfall.display.counts_cache import unknown_counts
from footfall.display.export import csv_pieces, json_pieces
from footfall.display.report import Asked, Report, read_figures, read_report
from footfall.display.report_journals import corrections, happened, imports, page_changes
from footfall.display.report_page import View, change, counted, report_page
from footfall.display.report_words import days_name, languages_of_report, moment_name, period_name
from footfall.display.saved_counts import read_saved_counts
from footfall.errors import Stop, StoreUnavailable
from footfall.model.clocks import WALL_CLOCK
from footfall.model.periods import local_day
from footfall.model.report_period import By, asked_days
from footfall.plain_text import one_line
from footfall.settings.settings import Settings, Site
from footfall.stores.history import History, open_history
from footfall.stores.postgres_store import open_postgres
from footfall.stores.report_tokens import open_report_tokens

BAR_WIDTH = 36
PERIODS_SHOWN = 400
ENGLISH = "en"
"""The commands speak English; a page speaks the language of its site."""


@dataclass(frozen=True, slots=True)
class ReportChoices:
    """What `footfall report` is asked for; None for a bound that the report chooses."""

    first: date | None = None
    last: date | None = None
    by: By = By.DAY
    as_csv: bool = False
    as_json: bool = False
    page: Path | None = None


async def make_report(settings: Settings, site: Site, choices: ReportChoices) -> None:
    """Print the report, or write it to a file; what Redis alone has is copied to Postgres before."""
    with progress_bar(2, "reading") as progress:
        try:
            async with open_rollup(settings) as (rollup, _):
                await rollup.roll_up(site)
        except StoreUnavailable as error:
            if error.store == "postgres":
                raise
            complain(f"the newest numbers are missing: {error}")
        progress(1)
        async with open_history(settings.postgres_url.get_secret_value()) as history:
            asked = await _asked(settings, site, history, choices)
            if choices.as_csv:
                pieces = [piece async for piece in csv_pieces(asked, read_figures(history, asked), ",", has_bom=False)]
                report = None
            else:
                pieces, report = [], await read_report(history, asked)
        progress(1)
    if report is None:
        say("".join(pieces).replace("\r\n", "\n"), end="")
    elif choices.as_json:
        say("".join(json_pieces(report)), end="")
    elif choices.page is not None:
        _write(choices.page, report_page(report, View(languages_of_report(site)[0], has_links=False)))
    else:
        show(screen(report))


async def make_token(settings: Settings, site: Site) -> None:
    """Print a new token of the report of a site, once; the one before opens nothing any more."""
    async with open_report_tokens(settings.postgres_url.get_secret_value()) as tokens:
        token = await tokens.make(site.id)
    say(token)
    complain(
        f"this token opens the report of {site.id} and is shown only now; a new one replaces it, and --revoke ends it"
    )
    if site.reports != "token":
        complain(f'the report does not ask for it yet: set reports = "token" in [sites.{site.id}]')


async def revoke_token(settings: Settings, site: Site) -> None:
    """Remove the token of the report of a site, and print what was done."""
    async with open_report_tokens(settings.postgres_url.get_secret_value()) as tokens:
        was_there = await tokens.revoke(site.id)
    say(f"The token of {site.id} opens nothing any more." if was_there else f"{site.id} has no token.")


def screen(report: Report) -> RenderableType:
    """Return the report as a person reads it in a terminal."""
    return Group(*_parts(report))


async def _asked(settings: Settings, site: Site, history: History, choices: ReportChoices) -> Asked:
    at_s = WALL_CLOCK()
    try:
        since = await history.since(site.id)
        days = asked_days(choices.by, choices.first, choices.last, local_day(at_s, site.zone), since)
    except ValueError as error:
        raise Stop(str(error)) from None
    async with open_postgres(settings.postgres_url.get_secret_value()) as postgres:
        reading = await read_saved_counts(postgres, site, at_s)
    now = unknown_counts(site, settings).with_reading(reading, site.zone)
    return Asked(site, days, choices.by, at_s, now)


def _parts(report: Report) -> Iterator[RenderableType]:
    asked = report.asked
    since = f", counted since {report.since}" if report.since else ""
    yield Text(f"{one_line(asked.site.name)} ({asked.site.id})", style="bold")
    yield Text(f"{days_name(asked.days, ENGLISH)}, by {asked.by}{since}")
    yield Text("")
    if not report.figures:
        yield Text("There are no numbers in these days.")
    else:
        yield _table(report)
    yield Text("")
    yield from (Text(one_line(sentence)) for sentence in _sentences(report))


def _table(report: Report) -> Table:
    by, figures = report.asked.by, report.figures
    table = Table(by.value, box=None, pad_edge=False, header_style="bold", show_footer=True)
    table.columns[0].footer = "sum of the days"
    table.add_column("visitors", justify="right", footer=_visitors(report.sum.visitors, exact=report.sum.exact))
    table.add_column("views", justify="right", footer=f"{report.sum.views:,d}")
    table.add_column("")
    highest = max(1, *(figure.visitors for figure in figures))
    for figure in figures[-PERIODS_SHOWN:]:
        bar = Bar(
            highest, 0, figure.visitors, width=BAR_WIDTH, color="default" if report.is_finished(figure) else "cyan"
        )
        visitors = _visitors(figure.visitors, exact=figure.exact)
        table.add_row(period_name(figure.days, by, ENGLISH), visitors, f"{figure.views:,d}", bar)
    return table


def _sentences(report: Report) -> Iterator[str]:
    total, before = report.sum, report.sum_before
    if len(report.figures) > PERIODS_SHOWN:
        yield f"Only the last {PERIODS_SHOWN} are shown; --csv has all."
    yield f"Visitors {change(total.visitors, before and before.visitors, report.before, ENGLISH)}"
    yield f"Views    {change(total.views, before and before.views, report.before, ENGLISH)}"
    if any(not report.is_finished(figure) for figure in report.figures):
        yield "The last period is not finished. ≈ marks estimates, with a standard error of 0.81 %."
    if report.peak and report.peak_at:
        yield f"Most online at once: {report.peak.online:,d}, {moment_name(report.peak_at, ENGLISH)}"
    for page in (report.pages.pages if report.pages else [])[:10]:
        yield f"{page.views:>12,d}  {page.page}"
    for row in happened(report, ENGLISH):
        yield f"{row['at']}: {row['what']}"
    for row in imports(report, ENGLISH):
        yield f"{row['at']}: journal of days: {row['what']}: {row['days']}"
    for row in page_changes(report, ENGLISH):
        yield f"{row['at']}: {row['what']}"
    for row in corrections(report, ENGLISH):
        yield f"{row['at']}: the total was corrected by {row['amount']}: {row['reason']}"


def _visitors(number: int, *, exact: bool) -> str:
    return counted(number, ENGLISH, exact=exact)


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise Stop(f"{path} cannot be written: {error.strerror}", 1) from None
    say(f"{path} has the report; a browser opens and prints it.")
