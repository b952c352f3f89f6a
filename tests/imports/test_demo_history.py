"""The made year of the demo portal: believable, always the same, and marked for what it is."""

from datetime import date

import asyncpg

from footfall import sql_folder
from footfall.imports.demo_history import PAGES, demo_days, import_demo_history
from footfall.stores.migrations import migrate
from tests.support.footfall import SITE

THROUGH = date(2026, 11, 29)


def test_the_year_is_believable_and_always_the_same() -> None:
    """A visitor of the demo sees weeks, a season and a trend, and a test sees the same numbers as the visitor."""
    days = list(demo_days(THROUGH))
    assert days == list(demo_days(THROUGH))
    assert (len(days), days[-1].day) == (365, THROUGH)
    assert all(0 < day.visitors < day.views == sum(day.pages.values()) for day in days)
    weekdays = [day.visitors for day in days if day.day.weekday() < 5]
    sundays = [day.visitors for day in days if day.day.weekday() == 6]
    assert sum(sundays) / len(sundays) < 0.5 * sum(weekdays) / len(weekdays)
    assert all(set(day.pages) == set(PAGES) for day in days)


async def test_it_is_imported_once_and_marked(postgres_url: str) -> None:
    """A second start adds nothing, also after the day has turned; the journal and an event say that it is made."""
    await migrate(postgres_url, sql_folder())
    assert await import_demo_history(postgres_url, SITE, THROUGH) == 365
    assert await import_demo_history(postgres_url, SITE, date(2026, 12, 3)) == 0
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval("SELECT count(*) FROM footfall.report_day WHERE imported") == 365
    assert await connection.fetchval("SELECT DISTINCT what FROM footfall.day_journal") == "demo"
    assert await connection.fetchval("SELECT kind FROM footfall.event") == "demo_history"
    pages, views = await connection.fetchval("SELECT sum(views) FROM footfall.page_total"), "SELECT sum(views) FROM {}"
    assert pages == await connection.fetchval(views.format("footfall.site_day"))
    await connection.close()
