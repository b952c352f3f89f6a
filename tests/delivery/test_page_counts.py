"""Views of pages on their way: set and never added, durable with their day, confirmed as they were, and bounded."""

from pathlib import Path

import pytest

from footfall.errors import StoreUnavailable
from footfall.model.batch import Batch
from footfall.model.batch_log import BatchLog
from footfall.model.pages import packed, unpacked
from footfall.model.periods import week_end, week_of
from footfall.model.retention import Retention
from footfall.stores.spool_store import open_spool
from tests.support.footfall import SITE, VIETNAM
from tests.support.storage import LOG, TODAY, RawRedis, Stores, batch, period_of, ready_site, save_one

PAGES = f"ff1:{{{SITE}}}:day:{TODAY}:pages"
WINDOW_S = 300


def with_pages(counted: Batch, **views: int) -> Batch:
    """The batch with views of pages that its log has so far, by the last part of their path."""
    return counted._replace(pages=packed({f"/{name}": number for name, number in views.items()}))


async def views_of(redis: RawRedis, page: str) -> int:
    """The views that Redis has of a page today, of all logs."""
    entry = (await redis.hget(PAGES, page) or b"").decode()
    return sum(int(log.partition("=")[2]) for log in entry.split())


async def test_a_batch_that_fails_in_the_middle_counts_no_page_twice(redis_url: str, redis: RawRedis) -> None:
    """A script does not roll back, and the same batch comes again: numbers are set, and never added."""
    log = BatchLog(SITE, TODAY, LOG)
    async with ready_site(redis_url) as store:
        now_ms = int(await store.clock_s() * 1000)
        first = log.append(1, b"a" * 16, b"", now_ms, 1, {"/a": 1})
        await redis.set(f"ff1:{{{SITE}}}:online", "not a sorted set")
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
                await store.record(SITE, period_of(TODAY), WINDOW_S, first)
        await redis.delete(f"ff1:{{{SITE}}}:online")
        await store.record(SITE, period_of(TODAY), WINDOW_S, first)
        assert await views_of(redis, "/a") == 1
        await store.record(SITE, period_of(TODAY), WINDOW_S, log.append(2, b"", b"", now_ms, 2, {"/a": 2, "/b": 1}))
        assert (await views_of(redis, "/a"), await views_of(redis, "/b")) == (3, 1)


async def test_lost_batches_lose_no_view_of_a_page_while_their_worker_lives(redis_url: str, redis: RawRedis) -> None:
    """The batch after them carries the views of every page, seen again or not."""
    log = BatchLog(SITE, TODAY, LOG)
    async with ready_site(redis_url) as store:
        log.append(1, b"a" * 16, b"", 0, 1, {"/lost": 1, "/a": 1})
        following = log.with_all_pages(log.append(1, b"", b"", 0, 1, {"/a": 1}))
        await store.record(SITE, period_of(TODAY), WINDOW_S, following, skip_gap=True)
        assert (await views_of(redis, "/a"), await views_of(redis, "/lost")) == (2, 1)


async def test_a_late_copy_of_a_batch_takes_nothing_from_a_page(redis_url: str, redis: RawRedis) -> None:
    """Two logs of a day stand beside each other, and a lower number changes nothing."""
    async with ready_site(redis_url) as store:
        for counted in (
            with_pages(batch(1, [1]), a=1),
            with_pages(batch(2, [2]), a=5),
            with_pages(batch(1, [1]), a=1),
            with_pages(batch(1, [3], log="b"), a=2),
        ):
            await store.record(SITE, period_of(TODAY), WINDOW_S, counted)
        assert await redis.hget(PAGES, "/a") == f"{LOG}=5 b=2".encode()


async def test_a_day_is_durable_with_its_pages_or_not_at_all(stores: Stores) -> None:
    """What is durable is forgotten by its worker: a page that is saved later may never be."""
    worker = await stores.worker()
    await worker.roll_up_all_days()
    await worker.count(with_pages(batch(1, [1], day=TODAY), a=1))
    await stores.sql.execute("ALTER TABLE footfall.page_day ADD CONSTRAINT no_room CHECK (page <> '/a')")
    with pytest.raises(StoreUnavailable):
        await worker.rollup.roll_up(worker.site)
    assert await worker.postgres.durable([(SITE, TODAY, LOG)]) == [0]
    await stores.sql.execute("ALTER TABLE footfall.page_day DROP CONSTRAINT no_room")
    await worker.rollup.roll_up(worker.site)
    assert await worker.postgres.durable([(SITE, TODAY, LOG)]) == [1]
    assert await stores.sql.fetchval("SELECT views FROM footfall.page_total WHERE page = '/a'") == 1


async def test_a_page_that_changes_during_a_rollup_is_copied_by_the_next_one(stores: Stores) -> None:
    """A page is confirmed by the value of its last change; a late confirmation of an older one confirms nothing."""
    worker = await stores.worker()
    await worker.roll_up_all_days()
    await worker.count(with_pages(batch(1, [1]), a=1, b=1))
    snapshot = await worker.redis.snapshot(SITE, [], all_days=False)
    assert snapshot is not None
    await worker.count(with_pages(batch(2, [2]), a=2))
    await worker.redis.confirm_pages(SITE, snapshot.pages)
    later = await worker.redis.snapshot(SITE, [], all_days=False)
    assert later is not None
    assert [(page.page, page.views) for page in later.pages] == [("/a", 2)]
    everything = await worker.redis.snapshot(SITE, [], all_days=True)
    assert everything is not None
    assert sorted((page.page, page.views) for page in everything.pages) == [("/a", 2), ("/b", 1)]


async def test_totals_follow_rollups_that_overlap(stores: Stores) -> None:
    """Snapshots of a page come in any order and again: its total grows by the difference, once."""
    worker = await stores.worker()
    await worker.roll_up_all_days()
    snapshots = []
    for counted in (
        with_pages(batch(1, [1]), a=1),
        with_pages(batch(2, [1]), a=4),
        with_pages(batch(1, [1], log="b"), a=2, b=1),
    ):
        await worker.count(counted)
        snapshots.append(await worker.redis.snapshot(SITE, [], all_days=True))
    retention = Retention.at(worker.clock(), VIETNAM)
    for at in (1, 0, 2, 1, 2):
        snapshot = snapshots[at]
        assert snapshot is not None
        await save_one(worker.postgres, SITE, snapshot, retention)
    assert await stores.sql.fetchval("SELECT views FROM footfall.page_day WHERE page = '/a'") == 6
    totals = await stores.sql.fetch("SELECT page, views FROM footfall.page_total ORDER BY page")
    assert [tuple(row) for row in totals] == [("/a", 6), ("/b", 1)]


async def test_the_spool_has_the_views_of_pages_apart_from_its_batches(tmp_path: Path) -> None:
    """No row joins a visitor with a page; first and last batch of a read carry the pages, also in another worker."""
    batches = [with_pages(batch(seq, [seq]), a=seq, **{f"p{seq}": 1}) for seq in (1, 2, 3)]
    async with open_spool(tmp_path, "first", 1 << 22) as spool:
        await spool.write(batches)
        found = await spool.read(LOG, 0, 3)
        pages = {"/a": 3, "/p1": 1, "/p2": 1, "/p3": 1}
        assert [unpacked(each.pages) for each in found] == [pages, {}, pages]
    async with open_spool(tmp_path, "second", 1 << 22) as spool:
        assert [log.last_seq for log in await spool.adopt()] == [3]
        assert unpacked((await spool.read(LOG, 2, 9))[0].pages) == {"/a": 3, "/p1": 1, "/p2": 1, "/p3": 1}
        await spool.delete(LOG, 2)
        assert unpacked((await spool.read(LOG, 0, 9))[0].pages)["/a"] == 3
        await spool.delete(LOG, 3)
        await spool.write([batch(4, [4])])
        assert [each.pages for each in await spool.read(LOG, 0, 9)] == [b""]


async def test_pages_expire_with_their_day_and_not_before_postgres_has_them(stores: Stores) -> None:
    """Also where a program that knew no pages has confirmed the day."""
    worker = await stores.worker()
    await worker.roll_up_all_days()
    await worker.count(with_pages(batch(1, [1]), a=1))
    worker.clock.advance(3 * 86400)
    snapshot = await worker.redis.snapshot(SITE, [], all_days=False)
    assert snapshot is not None
    closed = (await save_one(worker.postgres, SITE, snapshot, Retention.at(worker.clock(), VIETNAM))).closed
    ends = {TODAY: int(week_end(week_of(TODAY), VIETNAM))}
    await worker.redis.confirm(SITE, snapshot.changes, closed, ends)
    assert [await stores.redis.ttl(PAGES), await stores.redis.ttl(PAGES.removesuffix("pages") + "logs")] == [-1, -1]
    await worker.rollup.roll_up(worker.site)
    assert await stores.redis.ttl(PAGES) > 0
