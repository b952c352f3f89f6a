"""Days from before Footfall at the command line: what is written, what is left alone, and what is said."""

from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest
from redis.asyncio import Redis

from footfall.cli.adjustments import Correction, add_adjustment
from footfall.cli.day_imports import DayChoices, correction_of, import_days, write_days
from footfall.errors import Stop
from footfall.model.day_state import DayState
from footfall.model.imported import ImportedDay
from footfall.settings.settings import Settings, Site
from footfall.stores.postgres_store import Adjustment
from tests.support.footfall import SITE, VIETNAM, Footfall

TODAY = datetime.now(VIETNAM).date()
OLD = TODAY - timedelta(400)
ONCE = DayChoices()

Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def owner(footfall: Footfall, postgres_url: str) -> AsyncIterator[Owner]:
    """A connection to the database of that worker."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


def days_file(folder: Path, *days: tuple[date, int, int]) -> Path:
    """Write a file of days."""
    file = folder / "days.csv"
    file.write_text("day,visitors,views\n" + "".join(f"{day},{visitors},{views}\n" for day, visitors, views in days))
    return file


async def total_of(footfall: Footfall) -> tuple[int, int]:
    """Read the total and the views of all time, as a page shows them after its next rollup."""
    await footfall.services.rollup.step()
    footfall.clock.advance(60)  # a worker shows what it has for some seconds
    counts = await footfall.counts()
    return counts["total"], counts["views_total"]


async def test_imported_days_are_in_the_total_after_the_next_rollup(
    footfall: Footfall, settings: Settings, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counting goes on meanwhile, and the numbers of today and this week are those of Footfall alone."""
    assert (await footfall.see(page="/"))["total"] == 1
    file = days_file(tmp_path, (OLD, 100, 250), (OLD + timedelta(1), 7, 9))
    await import_days(settings, site, file, DayChoices(is_dry_run=True))
    assert capsys.readouterr().out.endswith("with 107 visitors and 259 views; would be written: 2 days\n")
    assert await total_of(footfall) == (1, 1)
    await import_days(settings, site, file, ONCE)
    assert capsys.readouterr().out.endswith("; written: 2 days\n")
    assert await total_of(footfall) == (108, 260)
    counts = await footfall.see(page="/", address="203.0.113.8")
    assert (counts["today"], counts["week"], counts["total"]) == (2, 2, 109)
    await import_days(settings, site, file, ONCE)
    assert capsys.readouterr().out.endswith("written: 0 days, as all of them are imported already\n")
    assert await total_of(footfall) == (109, 261)


async def test_a_later_import_of_a_day_replaces_the_earlier_one_also_by_less(
    footfall: Footfall, settings: Settings, site: Site, tmp_path: Path, owner: Owner
) -> None:
    """A corrected file is imported again: nothing of its first version stays, and the journal has both."""
    await footfall.see()
    await import_days(settings, site, days_file(tmp_path, (OLD, 100, 250), (OLD + timedelta(1), 7, 9)), ONCE)
    await import_days(settings, site, days_file(tmp_path, (OLD, 60, 90)), ONCE)
    assert await total_of(footfall) == (68, 100)
    journal = await owner.fetch("SELECT day, visitors, views FROM footfall.day_journal ORDER BY entry")
    assert [tuple(row) for row in journal] == [(OLD, 100, 250), (OLD + timedelta(1), 7, 9), (OLD, 60, 90)]
    rows = await owner.fetch("SELECT day, visitors, views, imported FROM footfall.report_day ORDER BY day")
    assert [tuple(row) for row in rows] == [
        (OLD, 60, 90, True),
        (OLD + timedelta(1), 7, 9, True),
        (TODAY, 1, 1, False),
    ]


async def test_a_day_of_this_week_can_be_imported_and_lowered(
    footfall: Footfall, settings: Settings, site: Site, tmp_path: Path, redis_url: str, owner: Owner
) -> None:
    """Redis needs all days of the week that were counted. It gets no imported one, which a merge would only raise."""
    await footfall.see()
    day = TODAY - timedelta(
        2
    )  # of this week from Wednesday on; yesterday is not closed in the first two hours of a day
    for visitors in (50, 20):
        await import_days(settings, site, days_file(tmp_path, (day, visitors, visitors)), ONCE)
        await footfall.services.rollup.roll_up(site, all_days=True)
        assert await total_of(footfall) == (visitors + 1, visitors + 1)
    async with Redis.from_url(redis_url) as redis:
        assert await redis.smembers(f"ff1:{{{SITE}}}:days") == {str(TODAY).encode()}
        await redis.delete(f"ff1:{{{SITE}}}:ready")
    assert (await footfall.see(address="203.0.113.8"))["total"] == 22
    assert await total_of(footfall) == (22, 22)


async def test_days_that_footfall_counted_are_never_touched(
    footfall: Footfall,
    settings: Settings,
    site: Site,
    tmp_path: Path,
    owner: Owner,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two counters that ran side by side for a while would count those days twice."""
    live = OLD + timedelta(1)
    await owner.execute(
        "INSERT INTO footfall.site_day (site, day, visitors, views, logs) VALUES ($1, $2, 3, 4, $3)",
        SITE,
        live,
        '{"a1": [1, 4]}',
    )
    file = days_file(tmp_path, (OLD, 10, 20), (live, 10, 20), (live + timedelta(5), 10, 20), (TODAY, 10, 20))
    await import_days(settings, site, file, ONCE)
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"footfall: {day} is left out: {why}"
        for day, why in [
            (live, f"Footfall itself has counted since {live}, and no import touches that"),
            (live + timedelta(5), f"Footfall itself has counted since {live}, and no import touches that"),
            (TODAY, "it is not over, or was over less than two hours ago"),
        ]
    ]
    assert f"portal: 1 days from {OLD} to {OLD} with 10 visitors and 20 views; written: 1 days" in said.out
    rows = await owner.fetch("SELECT day, visitors FROM footfall.site_day ORDER BY day")
    assert [tuple(row) for row in rows] == [(OLD, 10), (live, 3)]


async def test_a_day_that_redis_alone_has_was_counted_live(
    footfall: Footfall, settings: Settings, site: Site, tmp_path: Path, owner: Owner
) -> None:
    """The command copies what Redis has before it looks which day was the first."""
    first = TODAY - timedelta(3)
    counted = DayState(first, 1, None, {"a1": (1, 1)}, ids=bytes(16), exact=True)
    assert await footfall.services.stores.redis.merge(SITE, [counted])
    await import_days(settings, site, days_file(tmp_path, (first - timedelta(1), 5, 5), (first, 5, 5)), ONCE)
    rows = await owner.fetch("SELECT day, visitors FROM footfall.site_day ORDER BY day")
    assert [tuple(row) for row in rows] == [(first - timedelta(1), 5), (first, 1)]


async def test_pages_of_a_day_are_replaced_with_it_also_where_they_are_folded(
    footfall: Footfall, settings: Settings, site: Site, owner: Owner
) -> None:
    """Old days fold into months; what an import said of a page is taken back there as well."""
    other = OLD.replace(day=2 if OLD.day != 2 else 3)

    async def imported(day: date, **pages: int) -> None:
        views = {f"/{name}": count for name, count in pages.items()}
        await write_days(settings, site, "log", [ImportedDay(day, 1, 20, exact=True, pages=views)])

    async def totals() -> dict[str, int]:
        rows = await owner.fetch("SELECT page, views FROM footfall.page_total WHERE views > 0 ORDER BY page")
        return {row["page"]: row["views"] for row in rows}

    await imported(OLD, a=12, b=8)
    await imported(other, a=5)
    assert await totals() == {"/a": 17, "/b": 8}
    await imported(OLD, a=11, c=9)
    assert await totals() == {"/a": 16, "/c": 9}
    assert await owner.fetchval("SELECT footfall.fold_pages('portal', $1, 1000)", TODAY) > 0
    assert await owner.fetchval("SELECT count(*) FROM footfall.page_day") == 0
    await imported(OLD, a=1)
    assert await totals() == {"/a": 6}
    await imported(OLD, a=1)
    assert await owner.fetchval("SELECT count(*) FROM footfall.day_journal") == 4
    assert await owner.fetchval("SELECT sum(views) FROM footfall.page_month") == 6
    assert await owner.fetchval("SELECT exact FROM footfall.site_day WHERE day = $1", OLD)


async def test_a_total_that_holds_the_old_number_already_is_said_with_what_corrects_it(
    footfall: Footfall, settings: Settings, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old counter's number was added at the start, and its days come later: they are in it already."""
    old = Correction("old-counter", 1000, "số liệu cũ", "an")
    await add_adjustment(settings, site, old, is_forced=False)
    capsys.readouterr()
    await import_days(settings, site, days_file(tmp_path, (OLD, 300, 900)), ONCE)
    *_, command = capsys.readouterr().out.splitlines()
    assert command.startswith("footfall adjust portal --add -300 --reason ")
    assert await total_of(footfall) == (1300, 900)
    name = command.rpartition(" ")[2]
    await add_adjustment(settings, site, Correction(name, -300, "as proposed", "an"), is_forced=False)
    assert await total_of(footfall) == (1000, 900)
    capsys.readouterr()
    await import_days(settings, site, days_file(tmp_path, (OLD, 300, 900)), ONCE)
    assert "footfall adjust" not in capsys.readouterr().out
    await import_days(settings, site, days_file(tmp_path, (OLD, 200, 900), (OLD + timedelta(1), 5, 5)), ONCE)
    assert "footfall adjust portal --add 95 " in capsys.readouterr().out


def test_no_more_is_taken_out_than_the_old_number_brought() -> None:
    """Imported days may be more than the number that was added: then the days alone are the total."""
    at = datetime(2026, 1, 1, tzinfo=VIETNAM)
    old, small = Adjustment("old", 100, "", "", at), Adjustment("x", 5, "", "", at)
    taken = Adjustment("imported-days-7", -60, "", "", at)
    assert correction_of([], 50) is None
    assert correction_of([Adjustment("x", -5, "", "", at)], 50) is None
    assert correction_of([small, old], 50) == (old, -50)
    assert correction_of([old], 500) == (old, -100)
    assert correction_of([old, taken], 60) is None
    assert correction_of([old, taken], 90) == (old, -30)


async def test_lines_that_are_not_understood_stop_an_import(
    footfall: Footfall, settings: Settings, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of a file is a wrong total; who wants it says so."""
    file = tmp_path / "days.csv"
    file.write_text(f"day,visitors,views\n{OLD},1,2\nsum,1,2\n")
    with pytest.raises(Stop, match=r"1 lines of .* were not understood; nothing was imported"):
        await import_days(settings, site, file, ONCE)
    assert capsys.readouterr().err.startswith("footfall: line 3: 'sum' is not a day")
    await import_days(settings, site, file, DayChoices(skips_unreadable=True))
    assert await total_of(footfall) == (1, 2)
