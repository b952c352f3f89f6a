"""Portals that are forgotten in part, retired, renamed and merged, on real stores, with a worker that goes on."""

import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from footfall.cli.day_imports import write_days
from footfall.cli.site_history import forget_days, merge_sites, rename_site, retire_site
from footfall.errors import Stop
from footfall.model.imported import ImportedDay
from footfall.model.site_id import SiteId
from footfall.settings.settings import Settings
from footfall.stores.postgres_store import open_postgres
from tests.support.footfall import HOST, SITE, VIETNAM, FakeClock, Footfall, running, settings_for

NOW = datetime.now(VIETNAM)
OLD = NOW.date() - timedelta(400)
OTHER, NEW = SiteId("xa-cu"), SiteId("xa-moi")


@pytest.fixture
def stores(redis_url: str, postgres_url: str, tmp_path: Path) -> tuple[str, str, Path]:
    """What every Settings of a test has in common."""
    return redis_url, postgres_url, tmp_path


def sites(stores: tuple[str, str, Path], *ids: str) -> Settings:
    """Settings with these sites."""
    return settings_for(*stores, sites={each: {"name": each, "hosts": [HOST]} for each in ids})


@asynccontextmanager
async def counted(settings: Settings) -> AsyncIterator[Footfall]:
    """A worker whose counts are in Postgres at its end, as when it is reloaded."""
    async with running(settings, clock=FakeClock(NOW)) as footfall:
        yield footfall
        await footfall.services.copy()


async def fetch(stores: tuple[str, str, Path], query: str, *arguments: object) -> list[tuple[Any, ...]]:
    """Ask Postgres."""
    connection = await asyncpg.connect(stores[1])
    try:
        return [tuple(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


async def assert_sums(stores: tuple[str, str, Path]) -> None:
    """Check that the months of reports are the sums of the days, for each site that has any."""
    days = "SELECT site, date_trunc('month', day)::date, count(*), sum(visitors), sum(views) FROM footfall.site_day"
    months = "SELECT site, month, days, visitors, views FROM footfall.site_month"
    assert sorted(await fetch(stores, months)) == sorted(await fetch(stores, f"{days} GROUP BY 1, 2"))


async def total_of(footfall: Footfall, site: str) -> tuple[int, int]:
    """Read the total and today's number, as a page shows them."""
    await footfall.services.rollup.step()
    footfall.clock.advance(60)
    counts = await footfall.counts(site)
    return counts["total"], counts["today"]


async def test_forgotten_days_are_gone_and_the_totals_stay(
    stores: tuple[str, str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Data that is not needed any more is removed; a footer must not fall by it."""
    settings = sites(stores, SITE)
    site = settings.sites[SITE]
    days = [ImportedDay(OLD + timedelta(back), 10, 25, exact=True, pages={"/a": 20, "/b": 5}) for back in (0, 1, 40)]
    async with counted(settings) as footfall:
        assert (await footfall.see(page="/a"))["total"] == 1
        await write_days(settings, site, "log", days)
        assert await total_of(footfall, SITE) == (31, 1)
        with pytest.raises(Stop, match=r"is too late: days from .* on are still in use"):
            await forget_days(settings, site, NOW.date())
        capsys.readouterr()
        for _ in range(2):
            await forget_days(settings, site, OLD + timedelta(2))
        assert capsys.readouterr().out.startswith(f"portal: 2 days before {OLD + timedelta(2)} are forgotten, with 20 ")
        assert await total_of(footfall, SITE) == (31, 1)
    rows = await fetch(stores, "SELECT day FROM footfall.site_day ORDER BY day")
    assert rows == [(OLD + timedelta(40),), (NOW.date(),)]
    pages = await fetch(stores, "SELECT page, views FROM footfall.page_total ORDER BY page")
    assert pages == [("/a", 61), ("/b", 15)]
    assert await fetch(stores, "SELECT amount FROM footfall.adjustment") == [(20,)]
    await assert_sums(stores)


async def test_a_site_is_retired_after_its_export_and_its_sentence(
    stores: tuple[str, str, Path], tmp_path: Path
) -> None:
    """Everything of it is in files before anything is removed; another site keeps what it has."""
    both, one = sites(stores, SITE, OTHER), sites(stores, SITE)
    folder = tmp_path / "export"
    async with counted(both) as footfall:
        await footfall.see(page="/a")
        await footfall.see(site=OTHER, page="/tin/1")
        await footfall.services.stores.postgres.adjust(OTHER, "old", 7, "=old counter")
        with pytest.raises(Stop, match="xa-cu is in the settings: its workers would begin it again"):
            await retire_site(both, OTHER, folder, "")
        with pytest.raises(Stop, match="Redis has of xa-cu what PostgreSQL does not have yet"):
            await retire_site(one, OTHER, folder, "")
    with pytest.raises(Stop, match="type the same command with --yes 'remove xa-cu with 1 days'"):
        await retire_site(one, OTHER, folder, "yes")
    assert await fetch(stores, "SELECT count(*) FROM footfall.site_day") == [(2,)]
    await retire_site(one, OTHER, folder, "remove xa-cu with 1 days")
    with (folder / "site_day.csv").open(newline="") as file:
        (day,) = csv.DictReader(file)
    assert (day["site"], day["visitors"], day["views"], "sketch" in day) == (OTHER, "1", "1", False)
    assert "'=old counter" in (folder / "adjustment.csv").read_text()
    assert not (folder / "salt.csv").exists()
    assert await fetch(stores, "SELECT DISTINCT site FROM footfall.site_day") == [(SITE,)]
    await assert_sums(stores)
    async with counted(both) as footfall:
        assert (await footfall.see(page="/a"))["total"] == 1
        assert (await footfall.see(site=OTHER, address="203.0.113.9"))["total"] == 1


async def test_a_renamed_site_goes_on_with_the_same_visitors(stores: tuple[str, str, Path]) -> None:
    """The key of the week comes along: whoever was counted today is not counted again under the new id."""
    async with counted(sites(stores, OTHER)) as footfall:
        for address in ("203.0.113.1", "203.0.113.2"):
            await footfall.see(site=OTHER, address=address, page="/a")
        await footfall.services.stores.postgres.adjust(OTHER, "old", 100, "old counter")
    settings = sites(stores, NEW)
    with pytest.raises(Stop, match="PostgreSQL has no days of nothing"):
        await rename_site(settings, SiteId("nothing"), settings.sites[NEW])
    await rename_site(settings, OTHER, settings.sites[NEW])
    async with counted(settings) as footfall:
        counts = await footfall.see(site=NEW, address="203.0.113.2", page="/a")
        assert (counts["total"], counts["today"], counts["views_today"]) == (102, 2, 3)
    assert await fetch(stores, "SELECT site, page, views FROM footfall.page_total") == [(NEW, "/a", 3)]
    await assert_sums(stores)
    async with counted(sites(stores, NEW, OTHER)) as footfall:
        await footfall.see(site=OTHER)
    with pytest.raises(Stop, match="merge-sites xa-cu xa-moi --into xa-moi"):
        await rename_site(settings, OTHER, settings.sites[NEW])


async def test_merged_sites_are_one_by_union_or_by_sum(
    stores: tuple[str, str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two communes become one: their days, pages and corrections are together, and the new portal counts on."""
    both, one = sites(stores, SITE, OTHER), sites(stores, SITE)
    async with counted(both) as footfall:
        for number in range(1, 4):
            await footfall.see(address=f"203.0.113.{number}", page="/a")
            await footfall.see(site=OTHER, address=f"203.0.113.{number}", page="/b" if number > 1 else "/a")
        await footfall.services.stores.postgres.adjust(OTHER, "old", 100, "old counter")
        for site, visitors in ((SITE, 10), (OTHER, 5)):
            days = [ImportedDay(OLD, visitors, 2 * visitors, exact=True, pages={"/a": visitors})]
            if site == OTHER:
                days.append(ImportedDay(OLD + timedelta(1), 3, 4))
            await write_days(both, both.sites[site], "log", days)
        assert await total_of(footfall, SITE) == (13, 3)
    capsys.readouterr()
    async with counted(one) as footfall:
        await merge_sites(one, [OTHER, SITE], one.sites[SITE])
        assert "Days of both: 1 by the union of their sketches, 1 by the sum" in capsys.readouterr().out
        assert await total_of(footfall, SITE) == (3 + 3 + 10 + 5 + 3 + 100, 6)
        counts = await footfall.see(address="203.0.113.3", page="/a")
        assert (counts["today"], counts["views_today"]) == (6, 7)
        await merge_sites(one, [OTHER], one.sites[SITE])
        assert "PostgreSQL has no days of it" in capsys.readouterr().out
    columns = "site, day, visitors, views, exact, footfall.is_imported(logs)"
    rows = await fetch(stores, f"SELECT {columns} FROM footfall.site_day")
    assert sorted(rows) == [
        (SITE, OLD, 15, 30, False, True),
        (SITE, OLD + timedelta(1), 3, 4, False, True),
        (SITE, NOW.date(), 6, 7, True, False),
    ]
    pages = await fetch(stores, "SELECT page, views FROM footfall.page_total ORDER BY page")
    assert pages == [("/a", 3 + 1 + 10 + 5 + 1), ("/b", 2)]
    assert await fetch(stores, "SELECT site, id FROM footfall.adjustment") == [(SITE, "xa-cu: old")]
    assert await fetch(stores, "SELECT count(*) FROM footfall.day_journal WHERE what = 'merged from xa-cu'") == [(1,)]
    await assert_sums(stores)


async def test_what_is_merged_survives_a_redis_that_is_lost(stores: tuple[str, str, Path], redis: Any) -> None:
    """The union is in Postgres before the source is removed from it."""
    both, one = sites(stores, SITE, OTHER), sites(stores, SITE)
    async with counted(both) as footfall:
        await footfall.see(address="203.0.113.1")
        await footfall.see(site=OTHER, address="203.0.113.2")
    await merge_sites(one, [OTHER], one.sites[SITE])
    await redis.flushall()
    async with counted(one) as footfall:
        assert (await footfall.see(address="203.0.113.1"))["total"] == 2
    async with open_postgres(stores[1]) as postgres:
        assert await postgres.days(OTHER, [date.today()]) == []  # noqa: DTZ011
