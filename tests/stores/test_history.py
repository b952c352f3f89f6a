"""The history as a report reads it: each number is that of the rows, and no statement reads a whole table."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime

import asyncpg
import pytest

from footfall import sql_folder
from footfall.model.peak import Peak
from footfall.model.report_period import By, Days
from footfall.model.site_id import SiteId
from footfall.stores import history as queries
from footfall.stores.history import Busiest, Figure, History, Sum, open_history
from footfall.stores.migrations import migrate
from footfall.stores.page_journal import TOP_OF_DAYS, PageViews
from tests.support.footfall import SITE
from tests.support.history import Owner, add_days, add_peak, add_week, every_day

MONDAY = date(2026, 11, 23)
NOVEMBER = Days(date(2026, 11, 1), date(2026, 11, 30))


@pytest.fixture
async def owner(postgres_url: str) -> AsyncIterator[Owner]:
    """A connection to a migrated database."""
    await migrate(postgres_url, sql_folder())
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.fixture
async def history(owner: Owner, postgres_url: str) -> AsyncIterator[History]:
    """The history in that database."""
    async with open_history(postgres_url) as history:
        yield history


async def figures(history: History, days: Days, by: By) -> list[Figure]:
    return [figure async for figure in history.figures(SITE, days, by)]


async def test_periods_are_sums_of_their_days_and_cut_to_what_was_asked(owner: Owner, history: History) -> None:
    """A quarter that begins in the middle of a week has no visitor of the days before it."""
    await add_days(owner, every_day(date(2026, 10, 25), date(2026, 12, 3)), exact=True)
    await add_days(owner, every_day(date(2026, 11, 1), date(2026, 11, 30), 999), site="other")
    first = Days(date(2026, 10, 30), date(2026, 10, 31))
    whole = Days(date(2026, 10, 30), date(2026, 12, 1))
    assert await figures(history, first, By.DAY) == [Figure(Days(day, day), 10, 30, 1, exact=True) for day in first]
    assert await figures(history, whole, By.MONTH) == [
        Figure(first, 20, 60, 2, exact=True),
        Figure(NOVEMBER, 300, 900, 30, exact=True),
        Figure(Days(date(2026, 12, 1), date(2026, 12, 1)), 10, 30, 1, exact=True),
    ]
    assert await figures(history, whole, By.YEAR) == [Figure(whole, 330, 990, 33, exact=True)]
    assert await history.sum(SITE, whole) == Sum(33, True, 330, 990)
    assert await history.since(SITE) == date(2026, 10, 25)


async def test_a_week_has_its_union_only_where_it_is_whole(owner: Owner, history: History) -> None:
    """A part of a week has no union; the sum of its days is a number of another kind."""
    sunday = date(2026, 11, 29)
    await add_days(owner, [*every_day(MONDAY, date(2026, 11, 28)), (sunday, 40, 30)])
    await add_week(owner, MONDAY, 45, exact=True)
    assert await figures(history, Days(MONDAY, sunday), By.WEEK) == [
        Figure(Days(MONDAY, sunday), 45, 210, 7, exact=True, is_union=True)
    ]
    cut = Days(date(2026, 11, 24), sunday)
    assert await figures(history, cut, By.WEEK) == [Figure(cut, 90, 180, 6, exact=False)]
    assert await figures(history, Days(MONDAY, sunday), By.MONTH) == [
        Figure(Days(MONDAY, sunday), 100, 210, 7, exact=False)
    ]


async def test_a_union_is_never_below_a_day_of_its_week(owner: Owner, history: History) -> None:
    """A batch that waited on a disk is in its day before it is in the union."""
    await add_days(owner, [(MONDAY, 50, 60)])
    await add_week(owner, MONDAY, 45, exact=True)
    week = Days(MONDAY, date(2026, 11, 29))
    assert await figures(history, week, By.WEEK) == [Figure(week, 50, 60, 1, exact=False, is_union=True)]
    assert await history.union(SITE, MONDAY) == 45
    assert await history.union(SITE, date(2026, 11, 16)) is None


async def test_no_history_is_no_numbers(history: History) -> None:
    """A new portal: nothing is known, which is not the same as zero visitors."""
    assert await history.since(SITE) is None
    assert await figures(history, NOVEMBER, By.DAY) == []
    assert await history.sum(SITE, NOVEMBER) == Sum(0, True, 0, 0)
    assert (await history.most_online(SITE, NOVEMBER), await history.busiest(SITE, NOVEMBER)) == (None, None)
    assert await history.counted_days(SITE, NOVEMBER) == []
    pages = await history.top_pages(SITE, NOVEMBER, 20)
    assert pages is not None
    assert pages.pages == []


async def test_sums_beyond_what_a_page_can_show_are_held_to_it(owner: Owner, history: History) -> None:
    """Rows that were forged by hand must not stop the report of the site with an overflow."""
    await add_days(owner, [(MONDAY, 2**53 - 1, 2**53 - 1), (date(2026, 11, 24), 2**53 - 1, 2**53 - 1)])
    (figure,) = await figures(history, NOVEMBER, By.MONTH)
    assert (figure.visitors, figure.views) == (2**53 - 1, 2**53 - 1)


async def test_the_peak_and_the_busiest_day_are_those_of_the_period(owner: Owner, history: History) -> None:
    """Last year's record is not this quarter's."""
    await add_days(owner, [(date(2026, 10, 31), 900, 1), (MONDAY, 7, 9), (date(2026, 11, 24), 7, 8)])
    at = datetime(2026, 11, 24, 3, tzinfo=UTC)
    await add_peak(owner, date(2026, 10, 31), 99, at)
    await add_peak(owner, date(2026, 11, 24), 5, at)
    assert await history.busiest(SITE, NOVEMBER) == Busiest(MONDAY, 7, 9)
    assert await history.most_online(SITE, NOVEMBER) == Peak(5, round(at.timestamp() * 1000))
    assert await history.counted_days(SITE, NOVEMBER) == [MONDAY, date(2026, 11, 24)]


async def test_top_pages_take_whole_months_of_what_was_folded(owner: Owner, history: History) -> None:
    """Of folded months only the whole is known, and the report says which ones it lacks."""
    await owner.execute(
        "INSERT INTO footfall.page_day (site, page, day, views, logs) VALUES ($1, '/a', $2, 5, '{\"a\": 5}')",
        SITE,
        MONDAY,
    )
    await owner.execute(
        "INSERT INTO footfall.page_month (site, page, month, views)"
        " VALUES ($1, '/b', '2025-01-01', 70), ($1, '/b', '2025-02-01', 7)",
        SITE,
    )
    found = await history.top_pages(SITE, Days(date(2025, 1, 15), date(2026, 11, 30)), 20)
    assert found is not None
    assert found.pages == [PageViews("/b", 7), PageViews("/a", 5)]
    assert found.cut_months == [date(2025, 1, 1)]


async def test_pages_that_take_too_long_are_left_out_and_nothing_else(
    owner: Owner, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A portal with millions of rows of pages still has a report; the list of its pages says that it is too long."""
    await add_days(owner, [(MONDAY, 1, 1)])
    slow = f"SELECT * FROM ({TOP_OF_DAYS}) AS top WHERE (SELECT pg_sleep(5)) IS NOT NULL"
    monkeypatch.setattr("footfall.stores.history.TOP_OF_DAYS", slow)
    monkeypatch.setattr(queries, "PAGES_MAX_MS", 20)
    assert await history.top_pages(SITE, NOVEMBER, 20) is None
    assert await history.since(SITE) == MONDAY


async def test_corrections_and_events_come_newest_first(owner: Owner, history: History) -> None:
    """A report that is cut after 200 of them has the newest."""
    for number, at in enumerate(datetime(2026, 11, day, tzinfo=UTC) for day in (1, 3, 2)):
        await owner.execute(
            "INSERT INTO footfall.adjustment (site, id, amount, reason, made_at) VALUES ($1, $2, $3, 'why', $4)",
            SITE,
            f"c{number}",
            number,
            at,
        )
        await owner.execute(
            "INSERT INTO footfall.event (site, kind, detail, at) VALUES ($1, 'salt_lost', $2, $3)",
            SITE,
            f"e{number}",
            at,
        )
    assert [entry.id for entry in await history.corrections(SITE)] == ["c1", "c2", "c0"]
    since, before = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)
    assert [event.detail for event in await history.events(SITE, since, before)] == ["e2", "e0"]


STATEMENTS = {
    "periods": (queries.PERIODS, (*NOVEMBER, "week")),
    "sum": (queries.SUM, tuple(NOVEMBER)),
    "since": (queries.SINCE, ()),
    "counted_days": (queries.COUNTED_DAYS, tuple(NOVEMBER)),
    "most_online": (queries.MOST_ONLINE, tuple(NOVEMBER)),
    "busiest": (queries.BUSIEST, tuple(NOVEMBER)),
    "top_pages": (TOP_OF_DAYS, (*NOVEMBER, 20)),
    "corrections": (queries.CORRECTIONS, (200,)),
    "events": (queries.EVENTS, (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), 200)),
}


async def test_every_statement_finds_its_rows_by_an_index(owner: Owner) -> None:
    """Among 300 portals the report of one must not read the rows of all."""
    days = [(date(2026, 11, 1 + n), 10 + n, 30) for n in range(30)]
    for number in range(300):
        await add_days(owner, days, site=f"site-{number}")
    await owner.execute(
        """
        INSERT INTO footfall.site_week (site, week, visitors, views)
        SELECT 'site-' || n, DATE '2026-11-02' + 7 * w, 1, 1 FROM generate_series(0, 299) n, generate_series(0, 3) w;
        INSERT INTO footfall.page_day (site, page, day, views, logs)
        SELECT 'site-' || n, '/' || p, DATE '2026-11-01' + p, 1, '{"a": 1}'
        FROM generate_series(0, 299) n, generate_series(0, 20) p;
        INSERT INTO footfall.page_month (site, page, month, views)
        SELECT 'site-' || n, '/' || p, '2025-01-01', 1 FROM generate_series(0, 299) n, generate_series(0, 20) p;
        INSERT INTO footfall.page_alias (site, page, target)
        SELECT 'site-' || n, '/' || p, '/new' FROM generate_series(0, 299) n, generate_series(0, 9) p;
        INSERT INTO footfall.adjustment (site, id, amount, reason)
        SELECT 'site-' || n, m, 1, 'why' FROM generate_series(0, 299) n, generate_series(0, 9) m;
        INSERT INTO footfall.event (site, kind, detail)
        SELECT 'site-' || n, 'kind', m FROM generate_series(0, 299) n, generate_series(0, 9) m;
        """
    )
    await owner.execute("ANALYZE")
    for name, (statement, arguments) in STATEMENTS.items():
        (row,) = await owner.fetch(f"EXPLAIN (FORMAT JSON) {statement}", SiteId("site-7"), *arguments)
        plan = json.dumps(json.loads(row[0]))
        assert '"Seq Scan"' not in plan, (name, plan)
        assert "Index" in plan, (name, plan)
