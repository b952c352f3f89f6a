"""Views whose answer was lost, and which their page sends again: at this worker or another, each counts once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from footfall import sql_folder
from footfall.delivery.pending import StoredIn, View
from footfall.embedded.servers import Valkey
from footfall.errors import Reason, Refused, StoreUnavailable
from footfall.http.services import Services
from footfall.model.batch import Answer
from footfall.settings.settings import Settings
from footfall.stores.migrations import migrate
from tests.support.delivery import away, metric, open_worker, views
from tests.support.footfall import SITE, settings_for
from tests.support.storage import OTHER_LOG, TODAY, RawRedis, batch, period_of, plain_redis, ready_site

WINDOW_S = 300
VIEWS_MAX = 100_000
ID, OTHER_ID = b"view-1..", b"view-2.."


@pytest.fixture
async def settings(redis_url: str, postgres_url: str, tmp_path: Path) -> Settings:
    """Of a site that is opened."""
    await migrate(postgres_url, sql_folder())
    return settings_for(redis_url, postgres_url, tmp_path)


@pytest.fixture
async def workers(settings: Settings) -> AsyncIterator[Sequence[Services]]:
    """Two workers on the same stores."""
    async with open_worker(settings) as one, open_worker(settings) as other:
        yield one, other


async def see(services: Services, view: View, visitor: int = 1) -> StoredIn:
    """Record a view, and return where it is stored."""
    site = services.settings.sites[SITE]
    return await services.recorder.record(site, TODAY, visitor.to_bytes(16, "big"), None, view)


async def page_views(services: Services, *pages: str) -> list[int | None]:
    """The views of some pages."""
    found = await services.page_views.views(services.settings.sites[SITE], pages)
    return [found[page] for page in pages]


async def test_a_view_that_another_worker_has_counted_counts_once(workers: Sequence[Services]) -> None:
    """The page cannot choose its worker, and the first one may be dead by now."""
    one, other = workers
    assert await see(one, View("/a", ID)) is StoredIn.REDIS
    for _ in range(2):
        assert await see(other, View("/a", ID, is_repeat=True)) is StoredIn.REDIS
    assert await views(other) == 1
    assert metric(other, "footfall_repeated_views_total") == 2
    await see(other, View("/a", OTHER_ID, is_repeat=True))  # its request was lost, not its answer
    assert await views(one) == 2
    assert await page_views(one, "/a") == [2]


async def test_a_view_that_arrives_after_its_repeat_counts_once(workers: Sequence[Services]) -> None:
    """A worker that stood still reads the first request only when another one has counted the second."""
    one, other = workers
    await see(other, View("/a", ID, is_repeat=True))
    assert await see(one, View("/a", ID)) is StoredIn.REDIS
    assert (await views(one), await page_views(one, "/a")) == (1, [1])


async def test_what_shares_a_batch_with_a_repeat_counts(workers: Sequence[Services]) -> None:
    """The rest of a refused batch takes its seq, and the next batches go on from there."""
    one, other = workers
    await see(one, View("/a", ID))
    sent = [View("/a", ID, is_repeat=True), View("/a", OTHER_ID), View("/b"), View("/b", b"view-3..")]
    stored = await asyncio.gather(*(see(other, view, visitor) for visitor, view in enumerate(sent)))
    assert set(stored) == {StoredIn.REDIS}
    await see(other, View("/b", b"view-4.."))
    assert (await views(one), await page_views(one, "/a", "/b")) == (5, [2, 3])
    reading = await one.recorder.read(one.settings.sites[SITE])
    assert reading.today_visitors == 4


async def test_a_repeat_waits_for_the_first_time_at_the_same_worker(workers: Sequence[Services]) -> None:
    """The first request may still be on its way to Redis."""
    one, _ = workers
    view = View("/a", ID)
    stored = await asyncio.gather(see(one, view), see(one, view._replace(is_repeat=True)))
    assert (list(stored), await views(one)) == ([StoredIn.REDIS] * 2, 1)
    assert metric(one, "footfall_repeated_views_total") == 1


async def test_while_redis_is_away_a_repeat_waits_unless_this_worker_has_it(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """Another worker may have it on its disk, and the disks do not know each other."""
    await migrate(postgres_url, sql_folder())
    settings = settings_for(own_valkey.url, postgres_url, tmp_path, redis_timeout_s=0.2)
    async with open_worker(settings) as one, open_worker(settings) as other:
        own_valkey.suspend()
        try:
            assert await see(one, View("/a", ID)) is StoredIn.DISK
            assert await see(one, View("/a", ID, is_repeat=True)) is StoredIn.DISK
            assert await see(other, View("/b")) is StoredIn.DISK
            assert away(other)
            with pytest.raises(Refused) as refused:
                await see(other, View("/a", ID, is_repeat=True))
        finally:
            own_valkey.resume()
        assert (refused.value.reason, refused.value.status) == (Reason.NOT_READY, 503)
        for worker in (one, other):
            await worker.reconciler.quick_step()
            await worker.recorder.settle()
        assert await see(other, View("/a", ID, is_repeat=True)) is StoredIn.REDIS
        assert await views(one) == 2


async def test_ids_cost_no_call_of_their_own(settings: Settings, redis_url: str) -> None:
    """What is remembered after the count, in another call, is forgotten by a worker that dies between the two."""
    async with open_worker(settings) as services, plain_redis(redis_url) as redis:
        await see(services, View("/a"))
        before = await calls(redis)
        await see(services, View("/a", ID))
        assert await calls(redis) == before + 1
        assert await views_known(redis) == {ID}


async def calls(redis: RawRedis) -> int:
    """Script calls so far."""
    return int((await redis.info("commandstats"))["cmdstat_evalsha"]["calls"])


async def views_known(redis: RawRedis) -> set[bytes]:
    """All ids of views, whose keys must have an end."""
    known: set[bytes] = set()
    async for key in redis.scan_iter(f"ff1:{{{SITE}}}:views:*"):
        assert 0 < await redis.pttl(key) <= 240_000
        known |= await redis.smembers(key)
    return known


async def test_a_batch_that_is_sent_again_is_not_refused_for_its_own_ids(redis_url: str, redis: RawRedis) -> None:
    """A script does not roll back: the ids may be there although the batch has not counted."""
    async with ready_site(redis_url) as store:
        first = batch(1, [1])._replace(view_ids=ID)
        await store.record(SITE, period_of(TODAY), WINDOW_S, first)
        await redis.delete(f"ff1:{{{SITE}}}:day:{TODAY}:logs")
        again = await store.record(SITE, period_of(TODAY), WINDOW_S, first._replace(may_be_applied=True))
        assert again.answer is Answer.OK
        other = batch(1, [1], log=OTHER_LOG)._replace(view_ids=OTHER_ID + ID)
        refused = await store.record(SITE, period_of(TODAY), WINDOW_S, other)
        assert (refused.answer, refused.seen_ids) == (Answer.SEEN, ID)
        assert await views_known(redis) == {ID}


async def test_a_key_that_cannot_be_read_is_dropped(settings: Settings, redis_url: str) -> None:
    """It would refuse every batch until its two minutes are over."""
    async with open_worker(settings) as services, plain_redis(redis_url) as redis:
        await see(services, View("/a", ID))
        [key] = [key async for key in redis.scan_iter(f"ff1:{{{SITE}}}:views:*")]
        await redis.delete(key)
        await redis.rpush(key, "another program's")
        assert await see(services, View("/a", OTHER_ID)) is StoredIn.DISK
        await services.reconciler.quick_step()
        await services.recorder.settle()
        assert await views(services) == 2


async def test_more_views_than_are_remembered_count_and_their_repeats_do_not(
    workers: Sequence[Services], redis: RawRedis
) -> None:
    """The memory is bounded, and a view never counts twice for that."""
    one, other = workers
    await see(one, View("/a", ID))
    [key] = [key async for key in redis.scan_iter(f"ff1:{{{SITE}}}:views:*")]
    for first in range(0, VIEWS_MAX, 10_000):
        await redis.sadd(key, *(number.to_bytes(8, "big") for number in range(first, first + 10_000)))
    await see(one, View("/a", OTHER_ID))
    assert await redis.scard(key) == VIEWS_MAX + 1
    await see(other, View("/a", OTHER_ID, is_repeat=True))
    assert await views(one) == 2


async def test_a_view_that_was_refused_counts_when_it_comes_again(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither Redis nor the disk took it: the memory of this worker must not answer for it."""
    await migrate(postgres_url, sql_folder())
    settings = settings_for(own_valkey.url, postgres_url, tmp_path, redis_timeout_s=0.2)
    async with open_worker(settings) as services:

        async def refuse(_: object) -> None:
            raise StoreUnavailable("spool", "disk is full")

        own_valkey.suspend()
        try:
            await see(services, View("/b"))
            with monkeypatch.context() as patch:
                patch.setattr(services.spool, "write", refuse)
                with pytest.raises(Refused):
                    await see(services, View("/a", ID))
        finally:
            own_valkey.resume()
        await services.reconciler.quick_step()
        await services.recorder.settle()
        assert await see(services, View("/a", ID, is_repeat=True)) is StoredIn.REDIS
        assert await views(services) == 2
