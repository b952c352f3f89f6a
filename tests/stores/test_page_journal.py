"""Starting numbers and renamed pages: whatever comes in which order, each total is the sum of what was counted."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import date, timedelta

import asyncpg
import pytest

from footfall import sql_folder
from footfall.errors import StoreUnavailable
from footfall.model.site_id import SiteId
from footfall.stores.migrations import migrate
from footfall.stores.page_journal import Changed, PageJournal, open_page_journal
from tests.support.patience import PATIENCE_S

SITE, OTHER = SiteId("portal"), SiteId("library")
DAY = date(2026, 11, 23)
COPY = """
    INSERT INTO footfall.page_day AS kept (site, page, day, views, logs)
    VALUES ($1, $2, $3, footfall.sum_of_views($4), $4)
    ON CONFLICT (site, page, day) DO UPDATE SET
        views = footfall.sum_of_views(footfall.most_views(kept.logs, EXCLUDED.logs)),
        logs = footfall.most_views(kept.logs, EXCLUDED.logs)
"""


@pytest.fixture
async def owner(postgres_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A connection to a migrated database."""
    await migrate(postgres_url, sql_folder())
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.fixture
async def journal(owner: object, postgres_url: str) -> AsyncIterator[PageJournal]:
    """The journal of that database."""
    async with open_page_journal(postgres_url) as journal:
        yield journal


async def copy(
    owner: "asyncpg.Connection[asyncpg.Record]", page: str, views: int, day: date = DAY, log: str = "a1"
) -> None:
    """Copy the views that a log has of a page so far, as a rollup does."""
    await owner.execute(COPY, SITE, page, day, json.dumps({log: views}))


async def totals(owner: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """Read the total of each page."""
    rows = await owner.fetch("SELECT page, views FROM footfall.page_total WHERE site = $1 AND views > 0", SITE)
    return {row["page"]: row["views"] for row in rows}


async def imported(journal: PageJournal, views: dict[str, int], name: str = "old", site: SiteId = SITE) -> Changed:
    """Import starting numbers."""
    return await journal.import_views(site, name, views, progress=lambda _: None)


async def test_starting_numbers_count_once(journal: PageJournal, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """An operator who is not sure whether the command ran types it again."""
    await copy(owner, "/a", 7)
    assert await imported(journal, {"/a": 100, "/b": 5}) == Changed(2, 105)
    assert await imported(journal, {"/a": 100, "/b": 5}) == Changed(0, 0)
    assert await totals(owner) == {"/a": 107, "/b": 5}
    await copy(owner, "/a", 9)
    assert await imported(journal, {"/a": 1}, "second counter") == Changed(1, 1)
    assert await totals(owner) == {"/a": 110, "/b": 5}
    assert [entry[:3] for entry in await journal.imports(SITE)] == [("old", 2, 105), ("second counter", 1, 1)]


async def test_the_same_import_with_other_numbers_replaces_them(
    journal: PageJournal, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A corrected file takes the place of the wrong one, also where a page is no longer in it."""
    await copy(owner, "/a", 7)
    await imported(journal, {"/a": 100, "/b": 5, "/c": 1})
    dry = await journal.import_views(SITE, "old", {"/a": 90, "/c": 2}, progress=lambda _: None, is_dry_run=True)
    assert (dry, await totals(owner)) == (Changed(3, -14), {"/a": 107, "/b": 5, "/c": 1})
    assert await imported(journal, {"/a": 90, "/c": 2}) == Changed(3, -14)
    assert await totals(owner) == {"/a": 97, "/c": 2}


async def test_two_who_import_the_same_file_at_once_import_it_once(
    journal: PageJournal, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Two operators, or one whose first terminal seemed to hang."""
    views = {f"/{number}": number + 1 for number in range(2500)}
    changed = await asyncio.gather(imported(journal, views), imported(journal, views))
    assert sorted(changed) == [Changed(0, 0), Changed(2500, sum(views.values()))]
    assert await totals(owner) == views


async def test_a_renamed_page_takes_its_views_along_past_and_late_ones(
    journal: PageJournal, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A batch of a worker that was cut off, or a bookmark, still brings views under the old name."""
    await copy(owner, "/old", 5)
    await copy(owner, "/new", 1)
    await imported(journal, {"/old": 100})
    assert await journal.move(SITE, "/old", "/new") == 106
    await copy(owner, "/old", 8)
    await copy(owner, "/old", 2, DAY + timedelta(1), "b2")
    await imported(journal, {"/old": 110})
    assert await totals(owner) == {"/new": 121}
    rows = await owner.fetch("SELECT day, page, views FROM footfall.report_page_day ORDER BY day")
    assert [tuple(row) for row in rows] == [(DAY, "/new", 9), (DAY + timedelta(1), "/new", 2)]
    assert await journal.top_of_days(SITE, DAY, DAY, 5) == [("/new", 9)]


async def test_a_move_can_be_corrected_and_taken_back(
    journal: PageJournal, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Its rows keep their name, so a mistyped address costs nothing."""
    for page, views in (("/a", 1), ("/b", 10), ("/c", 100)):
        await copy(owner, page, views)
    await journal.move(SITE, "/a", "/b")
    assert await totals(owner) == {"/b": 11, "/c": 100}
    await journal.move(SITE, "/a", "/c")
    assert await totals(owner) == {"/b": 10, "/c": 101}
    await journal.move(SITE, "/c", "/b")
    assert await totals(owner) == {"/b": 111}
    await journal.move(SITE, "/b", "/a")  # renamed back to the first name
    assert await totals(owner) == {"/a": 111}
    await journal.move(SITE, "/b", "/b")
    assert await totals(owner) == {"/a": 101, "/b": 10}
    assert await owner.fetchval("SELECT count(*) FROM footfall.page_move") == 5


@pytest.mark.parametrize("seed", range(3))
async def test_every_total_is_the_sum_of_what_is_shown_there(
    journal: PageJournal, owner: "asyncpg.Connection[asyncpg.Record]", seed: int
) -> None:
    """Copies, imports and moves in any order: no view is lost, none is shown twice."""
    draw = random.Random(seed)
    pages = [f"/{letter}" for letter in "abcdef"]
    shown = {page: page for page in pages}
    days: dict[tuple[str, date, str], int] = {}
    starts: dict[tuple[str, str], int] = {}
    for _ in range(60):
        page = draw.choice(pages)
        match draw.choice(("copy", "import", "move")):
            case "copy":
                key = page, DAY + timedelta(draw.randrange(3)), draw.choice(("a1", "b2"))
                views = draw.randrange(50)
                days[key] = max(days.get(key, 0), views)
                await copy(owner, page, views, *key[1:])
            case "import":
                name, views = draw.choice(("one", "two")), draw.randrange(50)
                starts = {key: value for key, value in starts.items() if key[0] != name} | {(name, page): views}
                await imported(journal, {page: views}, name)
            case "move":
                target = draw.choice(pages)
                final = shown[target] if shown[target] != page else target
                shown[target] = target if final == target else shown[target]
                if page == target:
                    shown[page] = page
                else:
                    shown = {known: final if at == page else at for known, at in shown.items()} | {page: final}
                await journal.move(SITE, page, target)
        expected: Counter[str] = Counter()
        for (name, _, _), views in days.items():
            expected[shown[name]] += views
        for (_, name), views in starts.items():
            expected[shown[name]] += views
        assert await totals(owner) == {page: views for page, views in expected.items() if views}


async def test_a_copy_that_is_under_way_is_moved_too(
    journal: PageJournal, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Its transaction began before the move and ends after it was typed."""
    await copy(owner, "/old", 1)
    transaction = owner.transaction()
    await transaction.start()
    await copy(owner, "/old", 5)
    moving = asyncio.create_task(journal.move(SITE, "/old", "/new"))
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'footfall.page_day'::regclass AND NOT granted"
    async with asyncio.timeout(PATIENCE_S):
        while not await owner.fetchval(waiting):  # noqa: ASYNC110 (a lock that is waited for has no event)
            await asyncio.sleep(0.01)
    await transaction.commit()
    assert await moving == 5
    assert await totals(owner) == {"/new": 5}


@pytest.mark.parametrize("page", ["", "a", "javascript:alert(1)", "/a b", "/a\nb", "/" + "a" * 2000])
async def test_what_is_no_page_is_in_no_journal(journal: PageJournal, page: str) -> None:
    """A stolen password of the service can call the function of the command, too."""
    for change in (imported(journal, {page: 1}), journal.move(SITE, "/a", page), journal.move(SITE, page, "/a")):
        with pytest.raises(StoreUnavailable, match="refuses a value"):
            await change


async def test_sites_do_not_meet(journal: PageJournal, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Every portal has a page /."""
    await imported(journal, {"/": 5})
    await imported(journal, {"/": 7, "/a": 1}, site=OTHER)
    await journal.move(OTHER, "/", "/a")
    assert await totals(owner) == {"/": 5}
    assert await journal.top(OTHER, 5) == [("/a", 8)]


async def test_a_folded_month_counts_as_a_whole_or_is_named(
    journal: PageJournal, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Half of a month cannot be known, and a list must not pretend."""
    await owner.execute(
        "INSERT INTO footfall.page_month VALUES ('portal', '/a', '2025-01-01', 31), ('portal', '/a', '2025-02-01', 28)"
    )
    await copy(owner, "/a", 3, date(2025, 3, 1))
    assert await journal.top_of_days(SITE, date(2025, 1, 1), date(2025, 3, 1), 5) == [("/a", 62)]
    assert await journal.cut_months(SITE, date(2025, 1, 1), date(2025, 3, 1)) == []
    assert await journal.top_of_days(SITE, date(2025, 1, 2), date(2025, 2, 28), 5) == [("/a", 28)]
    assert await journal.cut_months(SITE, date(2025, 1, 2), date(2025, 2, 28)) == [date(2025, 1, 1)]
    assert await journal.cut_months(SITE, date(2025, 2, 1), date(2025, 2, 27)) == [date(2025, 2, 1)]
    assert await journal.cut_months(SITE, date.min, date.max) == []
