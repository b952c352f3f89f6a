"""The report of a quarter, of three portals and their sum, as it is handed in: paper and tables say the same."""

import csv
import io
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal

import asyncpg
import pytest
import pytest_asyncio
from playwright.async_api import Page

from footfall import __version__
from footfall.display.chart import WIDE, axis
from footfall.display.report_words import axis_name, period_name
from footfall.model.counts import DEFINITIONS
from footfall.model.report_period import By, Days
from tests.browser.conftest import NewContext
from tests.browser.test_demo import LOW_CONTRAST
from tests.browser.test_reports import OVERFLOW
from tests.support.footfall import VIETNAM, FakeClock, Footfall, running, settings_for
from tests.support.history import Owner, add_days

pytestmark = pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext is not installed")

GROUP = "ninh-binh"
SITES = {
    "tinh": {"name": "Cổng thông tin điện tử tỉnh", "hosts": ["a.example.vn"], "group": GROUP},
    "so-y-te": {"name": "Sở Y tế", "hosts": ["b.example.vn"], "group": GROUP},
    "xa": {"name": "Xã Sông Mây", "hosts": ["c.example.vn"], "group": GROUP},
    "of-others": {"name": "Cổng của nhóm khác", "hosts": ["d.example.vn"]},
}
GROUPED = [site for site in SITES if SITES[site].get("group") == GROUP]
QUARTER, BEFORE = Days(date(2054, 7, 1), date(2054, 9, 30)), Days(date(2054, 4, 1), date(2054, 6, 30))
MADE_AT = datetime(2054, 10, 5, 8, 30, tzinfo=VIETNAM)
FIGURE = re.compile(r"\d[\d.]*(?:,\d+)?(?:/\d+)*")
"""A number or a date as it is printed in Vietnamese: 1.234.567 or 12,3 or 30/09/2054."""

Row = dict[str, str]


def history_of(place: int) -> Iterator[tuple[date, int, int]]:
    """Yield the days of a portal: large, small and tiny, with a weekly rhythm and, in August, some days missing."""
    day = BEFORE.first if place != 2 else date(2054, 5, 10)
    while day <= QUARTER.last:
        visitors = (350_000, 1234, 3)[place % 3] * (10 - day.weekday()) // 10 + day.day % 7
        if not (place == 1 and date(2054, 8, 11) <= day <= date(2054, 8, 13)):
            yield day, visitors, visitors * 3 + day.month
        day += timedelta(days=1)


@pytest_asyncio.fixture(loop_scope="session")
async def footfall(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Footfall]:
    """A worker some days after the quarter, with four portals."""
    async with running(settings_for(redis_url, postgres_url, tmp_path, sites=SITES), clock=FakeClock(MADE_AT)) as made:
        owner: Owner = await asyncpg.connect(postgres_url)
        for place, site in enumerate(SITES):
            await add_days(owner, history_of(place), site=site, exact=site == "xa")
        await owner.close()
        yield made


async def table(footfall: Footfall, path: str, days: Days, by: By = By.DAY, **query: str) -> list[Row]:
    """Read a table that is handed in with the report."""
    asked = {"from": str(days.first), "to": str(days.last), "by": str(by), **query}
    text = await (await footfall.ops.get(path, params=asked)).text()
    return list(csv.DictReader(io.StringIO(text)))


async def printed(page: Page, folder: Path, url: str) -> str:
    """Print a page with the print dialogue's defaults; return the text of the PDF."""
    await page.goto(url)
    pdf = folder / "report.pdf"
    pdf.write_bytes(await page.pdf(prefer_css_page_size=True))
    text = subprocess.run(["pdftotext", "-layout", pdf, "-"], check=True, capture_output=True, timeout=60).stdout
    return text.decode()


def within(row: Row, days: Days) -> bool:
    """Return whether a day is one of `days`."""
    return days.first <= date.fromisoformat(row["from"]) <= days.last


def total(rows: Iterable[Row], name: str) -> int:
    """Add up a column."""
    return sum(int(row[name]) for row in rows)


def dotted(number: int) -> str:
    """Write a number as the report does."""
    return f"{number:,d}".replace(",", ".")


def change(now: int, before: int) -> str:
    """Write by which part a number changed."""
    return f"{abs(100 * (now - before) / before):.1f}".replace(".", ",")


def figures_of(texts: Iterable[str]) -> Counter[str]:
    """Count the numbers and dates in texts."""
    return Counter(figure.rstrip(".") for text in texts for figure in FIGURE.findall(text))


def line_of(text: str, start: str) -> list[str]:
    """Return the numbers and dates of the printed line that begins so, after its beginning."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return FIGURE.findall(line.strip().removeprefix(start))


def chart_of(numbers: list[tuple[date, int]], by: By) -> Iterator[str]:
    """Yield what stands along the axes of a chart."""
    yield from map(dotted, axis(max(number for _, number in numbers)))
    every = -(-len(numbers) // WIDE.labels_max)
    for first, _ in numbers[::every]:
        yield axis_name(Days(first, first), by, "vi")


def by_period(rows: Iterable[Row], by: By) -> dict[Days, list[Row]]:
    """Return the days of each period; the quarter cuts the first and the last one."""
    periods: dict[Days, list[Row]] = defaultdict(list)
    for row in rows:
        start = by.start(date.fromisoformat(row["from"]))
        periods[Days(max(start, QUARTER.first), min(by.end(start), QUARTER.last))].append(row)
    return dict(sorted(periods.items()))


@pytest.mark.parametrize("by", [By.MONTH, By.WEEK])
async def test_each_figure_on_paper_is_recomputed_from_the_tables(
    new_context: NewContext, footfall: Footfall, tmp_path: Path, by: By
) -> None:
    """A ministry adds up what it gets: no figure may stand there that the tables do not give, and none may lack."""
    since = Days(date(2054, 1, 1), QUARTER.last)
    days_of = {site: await table(footfall, f"/reports/{site}.csv", since) for site in GROUPED}
    now, earlier = (
        {site: [row for row in rows if within(row, days)] for site, rows in days_of.items()}
        for days in (QUARTER, BEFORE)
    )
    all_days = [row for rows in now.values() for row in rows]
    sums = [dotted(total(all_days, "visitors")), dotted(total(all_days, "views"))]
    page = await (await new_context()).new_page()
    query = f"?group={GROUP}&from={QUARTER.first}&to={QUARTER.last}&by={by}&lang=vi"
    text = await printed(page, tmp_path, str(footfall.ops.make_url("/reports")) + query)

    quarter = "01/07/2054 – 30/09/2054"
    expected = [quarter, "08:30 05/10/2054", *sums, 2 * "01/04/2054 – 30/06/2054:", "3", "3 cổng có số liệu"]
    periods = {days: (total(rows, "visitors"), total(rows, "views")) for days, rows in by_period(all_days, by).items()}
    expected += chart_of([(days.first, visitors) for days, (visitors, _) in periods.items()], by)
    for days, figures in periods.items():
        name = period_name(days, by, "vi")
        assert line_of(text, name) == [dotted(figure) for figure in figures]
        expected += [name, *map(dotted, figures)]
    for site, rows in now.items():
        first = date.fromisoformat(days_of[site][0]["from"])
        line = [f"{first:%d/%m/%Y}", str(len(rows)), "92", dotted(total(rows, "visitors"))]
        if first <= BEFORE.first:
            line.append(change(total(rows, "visitors"), total(earlier[site], "visitors")))
        line.append(dotted(total(rows, "views")))
        assert line_of(text, str(SITES[site]["name"])[:22]) == line
        expected += line
    assert line_of(text, "Tổng ") == line_of(text, "Cộng các ngày") == sums
    expected += [*sums, *sums, "0,81", "0,81", str(DEFINITIONS), __version__]
    pages = text.count("\f")
    expected += [f"{number}/{pages}" for number in range(1, pages + 1)]
    assert figures_of([text]) == figures_of(expected)

    handed_in = {row["site"]: row for row in await table(footfall, "/reports.csv", QUARTER, by, group=GROUP)}
    for site, rows in now.items():
        for name in ("visitors", "views"):
            assert int(handed_in[site][name]) == total(rows, name)
            if handed_in[site][f"{name}_before"]:
                assert int(handed_in[site][f"{name}_before"]) == total(earlier[site], name)


async def test_the_quarter_of_one_portal_on_paper_is_its_table(
    new_context: NewContext, footfall: Footfall, tmp_path: Path
) -> None:
    """The report of a portal goes along with the sum, with its weeks as they stand in its table."""
    page = await (await new_context()).new_page()
    query = f"?from={QUARTER.first}&to={QUARTER.last}&by=week&lang=vi"
    text = await printed(page, tmp_path, str(footfall.ops.make_url("/reports/so-y-te")) + query)
    rows = await table(footfall, "/reports/so-y-te.csv", QUARTER, By.WEEK)
    days = await table(footfall, "/reports/so-y-te.csv", QUARTER)
    earlier = await table(footfall, "/reports/so-y-te.csv", BEFORE)
    for row in rows:
        period = Days(date.fromisoformat(row["from"]), date.fromisoformat(row["to"]))
        figures = [dotted(int(row[name])) for name in ("visitors", "views")]
        assert line_of(text, period_name(period, By.WEEK, "vi")) == figures
    sums = [total(days, "visitors"), total(days, "views")]
    assert line_of(text, "Cộng các ngày") == [dotted(number) for number in sums]
    assert sums == [total(rows, "visitors"), total(rows, "views")]
    assert line_of(text, "Số ngày có số liệu:") == [f"{len(days)}."] == ["89."]
    assert "11/08/2054 – 13/08/2054" in text
    busiest = max(days, key=lambda row: int(row["visitors"]))
    cards = figures_of(text.split("Hiện nay")[0].splitlines())
    changes = [change(total(days, name), total(earlier, name)) for name in ("visitors", "views")]
    assert figures_of([*map(dotted, sums), *changes, dotted(int(busiest["visitors"]))]) <= cards


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_on_a_phone_the_page_of_a_group_stays_and_every_text_has_contrast(
    new_context: NewContext, footfall: Footfall, scheme: Literal["light", "dark"]
) -> None:
    """Its tables are wider than those of one portal: they move, and not the page."""
    page = await (await new_context(viewport={"width": 320, "height": 800}, color_scheme=scheme)).new_page()
    query = f"?group={GROUP}&from={QUARTER.first}&to={QUARTER.last}&by=week"
    for language in ("vi", "en"):
        await page.goto(str(footfall.ops.make_url("/reports")) + f"{query}&lang={language}")
        assert await page.evaluate(OVERFLOW) <= 0
        assert await page.evaluate(LOW_CONTRAST) == []
