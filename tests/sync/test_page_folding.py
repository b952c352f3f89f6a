"""Old days of pages become months: no view is lost or counted twice, whatever comes late, at once, or is killed."""

import asyncio
import json
import random
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta

import asyncpg
import pytest

from footfall import sql_folder
from footfall.embedded.servers import Postgres
from footfall.errors import StoreUnavailable
from footfall.model.pages import packed
from footfall.stores.migrations import migrate
from footfall.stores.page_journal import open_page_journal
from footfall.stores.store_pair import StorePair
from footfall.sync import page_folding
from footfall.sync.page_folding import PageFolding
from tests.support.footfall import SITE
from tests.support.storage import Stores, Worker, batch

OLD = date(2020, 1, 30)
AFTER = date(2020, 4, 1)
COPY = """
    INSERT INTO footfall.page_day AS kept (site, page, day, views, logs)
    VALUES ($1, $2, $3, footfall.sum_of_views($4), $4)
    ON CONFLICT (site, page, day) DO UPDATE SET
        views = footfall.sum_of_views(footfall.most_views(kept.logs, EXCLUDED.logs)),
        logs = footfall.most_views(kept.logs, EXCLUDED.logs)
"""


async def copy(stores: Stores, page: str, day: date, /, **views: int) -> None:
    """Copy what logs have of a page so far, as a rollup does."""
    await stores.sql.execute(COPY, SITE, page, day, json.dumps(views))


def folding_of(worker: Worker, *others: Worker) -> PageFolding:
    """The step of a worker, for its site and those of others."""
    sites, stores = [each.site for each in (worker, *others)], StorePair(worker.redis, worker.postgres)
    return PageFolding(sites, stores, worker.metrics, worker.clock)


async def numbers(stores: Stores, table: str) -> dict[str, int]:
    """Add up the views of each page in a table."""
    rows = await stores.sql.fetch(f"SELECT page, sum(views)::bigint AS views FROM footfall.{table} GROUP BY page")
    return {row["page"]: row["views"] for row in rows}


async def fold_all(worker: Worker, before: date = AFTER, at_most: int = 100) -> None:
    """Fold until nothing is left; a bound for a fold that would not end."""
    for _ in range(100):
        if await worker.postgres.fold_pages(SITE, before, at_most) == 0:
            return
    pytest.fail("the fold does not end")


async def test_each_page_has_its_number_before_during_and_after(stores: Stores, worker: Worker) -> None:
    """Copies come late, repeated and in any order between the chunks: every number is that of a plain ledger."""
    generator = random.Random(14)
    ledger: Counter[tuple[str, date, str]] = Counter()
    expected: Counter[str] = Counter()
    for _ in range(40):
        for _ in range(8):
            key = (
                generator.choice(["/a", "/b", "/c", "(other)"]),
                OLD + timedelta(days=generator.randrange(40)),
                generator.choice(["x", "y"]),
            )
            ledger[key] += generator.randrange(3)
            page, day, log = generator.choice([key, *ledger])  # an older one is a copy that comes again
            await copy(stores, key[0], key[1], **{key[2]: ledger[key]})
            await copy(stores, page, day, **{log: generator.randint(0, ledger[page, day, log])})
        await worker.postgres.fold_pages(SITE, AFTER, generator.randint(1, 3))
        expected.clear()
        for (page, _, _), views in ledger.items():
            expected[page] += views
        by_day, by_month = await numbers(stores, "page_day"), await numbers(stores, "page_month")
        assert Counter(by_day) + Counter(by_month) == +expected
        assert +Counter(await numbers(stores, "page_total")) == +expected
    await fold_all(worker)
    assert await numbers(stores, "page_day") == {}
    months: Counter[tuple[str, date]] = Counter()
    for (page, day, _), views in ledger.items():
        months[page, day.replace(day=1)] += views
    rows = await stores.sql.fetch("SELECT page, month, views FROM footfall.page_month")
    assert {(row["page"], row["month"]): row["views"] for row in rows} == months
    assert +Counter(await numbers(stores, "page_total")) == +expected


async def test_only_whole_months_fold_and_no_young_day(stores: Stores, worker: Worker) -> None:
    """A month of which half is folded could not be listed by day nor as a month; and a clock may be years ahead."""
    today = await stores.sql.fetchval("SELECT CURRENT_DATE")
    days = [OLD, date(2020, 2, 1), date(2020, 2, 10), today - timedelta(days=30), today]
    for day in days:
        await copy(stores, "/a", day, x=1)
    await fold_all(worker, date(2020, 2, 11))
    assert await stores.sql.fetchval("SELECT count(*) FROM footfall.page_day") == 4
    await fold_all(worker, date(2099, 1, 1))
    rows = await stores.sql.fetch("SELECT day FROM footfall.page_day ORDER BY day")
    assert [row["day"] for row in rows] == days[3:]
    assert await numbers(stores, "page_total") == {"/a": 5}


async def test_a_late_view_of_a_renamed_page_counts_where_it_is_shown(stores: Stores, worker: Worker) -> None:
    """The move of a page goes on after its days are folded."""
    await copy(stores, "/old", OLD, x=5)
    await fold_all(worker)
    async with open_page_journal(stores.postgres_url) as journal:
        assert await journal.move(SITE, "/old", "/new") == 5
        for _ in range(2):
            await copy(stores, "/old", OLD, x=7, y=1)
        assert await journal.top(SITE, 9) == [("/new", 8)]
        assert [tuple(row) for row in await stores.sql.fetch("SELECT page, views FROM footfall.report_page_month")] == [
            ("/new", 8)
        ]
        assert await journal.move(SITE, "/old", "/old") == 8


async def test_a_list_of_days_has_folded_months_as_a_whole(stores: Stores, worker: Worker) -> None:
    """Where a month lies in the range only in part, it is left out and named."""
    for day in (OLD, date(2020, 2, 1), date(2020, 2, 29), date(2020, 4, 2)):
        await copy(stores, "/a", day, x=1)
    await fold_all(worker)
    async with open_page_journal(stores.postgres_url) as journal:
        assert await journal.top_of_days(SITE, date(2020, 1, 1), date(2020, 4, 2), 9) == [("/a", 4)]
        assert await journal.top_of_days(SITE, date(2020, 1, 31), date(2020, 2, 29), 9) == [("/a", 2)]
        assert await journal.cut_months(SITE, date(2020, 1, 31), date(2020, 4, 2)) == [date(2020, 1, 1)]


async def test_two_workers_at_once_and_a_late_copy_between(stores: Stores, worker: Worker) -> None:
    """The second one leaves it to the first; a copy of a row that is being folded waits, and adds what is new."""
    await copy(stores, "/a", OLD, x=5)
    first = await asyncpg.connect(stores.postgres_url)
    try:
        transaction = first.transaction()
        await transaction.start()
        assert await first.fetchval("SELECT footfall.fold_pages($1, $2, 9)", SITE, AFTER) == 1
        assert await worker.postgres.fold_pages(SITE, AFTER, 9) is None
        late = asyncio.create_task(copy(stores, "/a", OLD, x=6))
        await asyncio.sleep(0.1)
        assert not late.done()
        await transaction.commit()
        await late
    finally:
        await first.close()
    assert await numbers(stores, "page_total") == await numbers(stores, "page_month") == {"/a": 6}
    assert await numbers(stores, "page_day") == {}


async def test_a_fold_that_is_killed_has_done_nothing(stores: Stores, worker: Worker) -> None:
    """Its session ends in the middle; the next one does it from the start."""
    await copy(stores, "/a", OLD, x=5)
    first = await asyncpg.connect(stores.postgres_url)
    await first.execute("BEGIN")
    assert await first.fetchval("SELECT footfall.fold_pages($1, $2, 9)", SITE, AFTER) == 1
    await stores.sql.fetch("SELECT pg_terminate_backend($1, 5000)", first.get_server_pid())
    assert await numbers(stores, "page_day") == await numbers(stores, "page_total") == {"/a": 5}
    assert await numbers(stores, "page_month") == {}
    await fold_all(worker)
    assert await numbers(stores, "page_month") == await numbers(stores, "page_total") == {"/a": 5}


async def test_a_worker_folds_once_a_day_within_bounds(
    stores: Stores, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Years that were never folded do not become one long step; a site that is done has its turn tomorrow."""
    monkeypatch.setattr(page_folding, "CHUNK", 1)
    monkeypatch.setattr(page_folding, "CHUNKS_MAX", 2)
    for name in "abc":
        await copy(stores, f"/{name}", OLD, x=1)
    folding = folding_of(worker)
    left = []
    for _ in range(3):
        await folding.step()
        left.append(len(await numbers(stores, "page_day")))
    assert left == [1, 0, 0]
    await copy(stores, "/new", OLD, x=1)
    await folding.step()
    assert await numbers(stores, "page_day") == {"/new": 1}
    worker.clock.advance(86400)
    await folding.step()
    assert await numbers(stores, "page_day") == {}
    assert await numbers(stores, "page_total") == {"/a": 1, "/b": 1, "/c": 1, "/new": 1}


async def test_what_redis_still_has_is_not_folded(stores: Stores, worker: Worker) -> None:
    """A day that is not confirmed yet changes again soon: its pages stay by day."""
    await copy(stores, "/a", OLD, x=1)
    await copy(stores, "/a", date(2020, 3, 1), x=1)
    await worker.restore.merge_day(worker.site, date(2020, 2, 3))
    await worker.count(batch(1, [1], day=date(2020, 2, 3)))
    await folding_of(worker).step()
    rows = await stores.sql.fetch("SELECT day FROM footfall.page_day")
    assert [row["day"] for row in rows] == [date(2020, 3, 1)]


async def test_a_late_batch_of_a_folded_day_goes_all_the_way(stores: Stores, worker: Worker) -> None:
    """A spool that comes back after years carries the views of its log so far, of which most are in the month."""
    await worker.restore.merge_day(worker.site, OLD)
    await worker.count(batch(1, [1], day=OLD)._replace(pages=packed({"/a": 4})))
    await worker.roll_up_all_days()
    await fold_all(worker)
    assert await numbers(stores, "page_day") == {}
    for _ in range(2):
        await worker.count(batch(2, [2], day=OLD)._replace(pages=packed({"/a": 6})))
        await worker.roll_up_all_days()
        assert await numbers(stores, "page_month") == await numbers(stores, "page_total") == {"/a": 6}


async def test_while_postgres_refuses_nothing_is_lost(
    stores: Stores, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """The rights of an older version lack the function: an operator reads so, and it goes on once it is there."""
    await copy(stores, "/a", OLD, x=1)
    await stores.sql.execute("ALTER FUNCTION footfall.fold_pages RENAME TO away")
    folding = folding_of(worker)
    since_s = worker.clock()
    for _ in range(2):
        await folding.step()
        worker.clock.advance(60)
    assert worker.metric("footfall_sites_not_folded") == 1
    [failure] = folding.failures()
    assert (failure.since_s, failure.site_ids) == (since_s, [SITE])
    assert "footfall migrate" in failure.why
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    with pytest.raises(StoreUnavailable, match="footfall migrate"):
        await worker.postgres.fold_pages(SITE, AFTER, 1)
    await stores.sql.execute("ALTER FUNCTION footfall.away RENAME TO fold_pages")
    await folding.step()
    assert await numbers(stores, "page_month") == {"/a": 1}
    assert (folding.failures(), worker.metric("footfall_sites_not_folded")) == ([], 0)


async def test_a_site_whose_rows_are_held_holds_up_no_other(stores: Stores, worker: Worker) -> None:
    """An operator's session may hold the rows of a site for hours."""
    other = await stores.worker(sites=["library"])
    assert await other.opener.open(other.site)
    await copy(stores, "/a", OLD, x=1)
    await stores.sql.execute(
        "INSERT INTO footfall.page_day SELECT 'library', '/b', day, views, logs FROM footfall.page_day"
    )
    session = await asyncpg.connect(stores.postgres_url)
    folding = PageFolding(
        [worker.site, other.site], StorePair(worker.redis, worker.postgres), worker.metrics, worker.clock
    )
    try:
        transaction = session.transaction()
        await transaction.start()
        await session.execute("SELECT FROM footfall.page_day WHERE site = $1 FOR UPDATE", SITE)
        await folding.step()
        assert await numbers(stores, "page_day") == {"/a": 1}
        assert folding.failures() == [], "for a moment it is no failure"
        worker.clock.advance(60)
        assert [failure.site_ids for failure in folding.failures()] == [[SITE]]
        await transaction.rollback()
    finally:
        await session.close()
    await folding.step()
    assert await numbers(stores, "page_day") == {}
    assert await numbers(stores, "page_total") == {"/a": 1, "/b": 1}


async def test_a_store_that_is_away_is_no_failure_of_the_fold(stores: Stores, own_postgres: Postgres) -> None:
    """The rollup reports that PostgreSQL is away; one outage is one problem."""
    own = replace(stores, postgres_url=own_postgres.url)
    await migrate(own_postgres.url, sql_folder())
    worker = await own.worker()
    assert await worker.opener.open(worker.site)
    own_postgres.kill()
    folding = folding_of(worker)
    await folding.step()
    assert (folding.failures(), worker.metric("footfall_sites_not_folded")) == ([], 0)
    await own_postgres.start()
