"""The record script on a real server: each of its answers, and the numbers that it reads."""

import pytest

from footfall.errors import StoreUnavailable
from footfall.model.batch import BATCH_MAX_VISITORS, Answer, Batch
from footfall.model.day_state import Closed, DayState
from footfall.model.salt import Salt
from footfall.model.site_id import SiteId
from footfall.stores.redis_store import Recorded, RedisStore, day_key, open_redis
from tests.support.footfall import SITE
from tests.support.storage import (
    DAY,
    LOG,
    MONDAY,
    OTHER_LOG,
    TODAY,
    RawRedis,
    batch,
    everything_in,
    period_of,
    reference,
    registers,
)

ONLINE = f"ff1:{{{SITE}}}:online"
WEEK_SKETCH = f"ff1:{{{SITE}}}:week:{MONDAY}:visitors"
DAY_SKETCH = day_key(SITE, TODAY, "visitors")
WINDOW_S = 300
NOW = period_of(TODAY)


async def count(store: RedisStore, counted: Batch | None, *, skip_gap: bool = False) -> Recorded:
    """Send a batch of today, or none."""
    return await store.record(SITE, NOW, WINDOW_S, counted, skip_gap=skip_gap)


async def test_a_batch_is_counted_and_its_answer_carries_the_numbers(store: RedisStore, redis: RawRedis) -> None:
    """One round trip per beacon: Redis' answer to the batch is the answer to the page, the page's visitor included."""
    now_ms = int(await store.clock_s() * 1000)
    recorded = await count(store, batch(1, [1, 2, 3], views=5, seen_ms=now_ms))
    assert (recorded.answer, recorded.acked) == (Answer.OK, 1)
    reading = recorded.reading
    assert reading is not None
    assert (reading.online, reading.today_visitors, reading.week_visitors, reading.total_visitors) == (3, 3, 3, 3)
    assert (reading.today_views, reading.week_views, reading.total_views) == (5, 5, 5)
    assert 0 <= reading.at_ms - now_ms < 5000
    assert await redis.hgetall(day_key(SITE, TODAY, "logs")) == {LOG.encode(): b"01:5", b"f": b"05:0"}


async def test_the_same_seq_again_counts_nothing(store: RedisStore) -> None:
    """After a lost reply the worker sends the same bytes again, any number of times."""
    first = await count(store, batch(1, [1], views=4))
    await count(store, batch(2, [2], views=6))
    for seq in (1, 2, 1):
        again = await count(store, batch(seq, [1], views=4))
        assert (again.answer, again.acked) == (Answer.DUP, 2)
        assert again.reading is not None
        assert (again.reading.today_views, again.reading.today_visitors) == (6, 2)
    assert first.answer is Answer.OK


async def test_a_gap_names_the_seq_that_redis_has(store: RedisStore) -> None:
    """A Redis that lost its last seconds names the seq from which the worker sends again."""
    await count(store, batch(1))
    gap = await count(store, batch(3))
    assert (gap.answer, gap.acked, gap.reading) == (Answer.GAP, 1, None)
    assert (await count(store, batch(2))).answer is Answer.OK
    assert (await count(store, batch(3))).answer is Answer.OK


async def test_a_gap_is_skipped_only_with_leave(store: RedisStore) -> None:
    """Seqs that no process has any more must not stop a log for ever; its views are cumulative and stay whole."""
    await count(store, batch(1, views=1))
    skipped = await count(store, batch(9, [7], views=20), skip_gap=True)
    assert (skipped.answer, skipped.acked) == (Answer.OK, 9)
    assert skipped.reading is not None
    assert skipped.reading.today_views == 20


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        pytest.param(Answer.GAP, batch(3), id="a seq too far"),
        pytest.param(Answer.OLD, batch(1, day=MONDAY - DAY), id="a closed day that is not in Redis"),
    ],
)
async def test_a_refused_batch_leaves_no_trace(
    store: RedisStore, redis: RawRedis, answer: Answer, refused: Batch
) -> None:
    """A refused batch is sent again after a repair, or never: half of it in the sketches would count all the same."""
    await count(store, batch(1, [1]))
    before = await everything_in(redis)
    assert (await count(store, refused)).answer is answer
    assert await everything_in(redis) == before


@pytest.mark.parametrize(("found", "installation"), [(None, ""), (b"theirs", "theirs")])
async def test_a_redis_that_is_not_ready_or_not_ours_is_left_alone(
    store: RedisStore, redis: RawRedis, found: bytes | None, installation: str
) -> None:
    """An emptied Redis would count from zero, and a foreign Redis would mix the histories of two portals."""
    await redis.delete(f"ff1:{{{SITE}}}:ready")
    if found:
        await redis.set(f"ff1:{{{SITE}}}:ready", found)
    before = await everything_in(redis)
    for refused in (None, batch(1, [1])):
        recorded = await count(store, refused)
        assert (recorded.answer, recorded.installation) == (Answer.NOTREADY, installation)
    assert not await store.merge(SITE, [])
    assert await store.snapshot(SITE, [], all_days=True) is None
    assert await store.share_salts(SITE, [Salt(MONDAY, b"s", 2**33)]) is None
    assert await everything_in(redis) == before


async def test_a_site_of_another_installation_is_not_opened(store: RedisStore, redis: RawRedis) -> None:
    """Opening would take over another portal's days and its total."""
    store.installation = "ours, after a dump was restored"
    before = await everything_in(redis)
    closed = Closed(2, MONDAY, 7, 7, 0, "second")
    assert not await store.open(SITE, [DayState(TODAY, 0, None, {LOG: (1, 1)})], closed, [Salt(MONDAY, b"s", 2**33)])
    assert await everything_in(redis) == before


async def test_a_site_is_opened_with_its_days_its_total_and_its_salts(store: RedisStore, redis: RawRedis) -> None:
    """All in one moment, and `ready` last: no worker counts into a site that is half restored."""
    await redis.flushall()
    salts = [Salt(MONDAY, b"this week".ljust(32), 2**33), Salt(MONDAY + 7 * DAY, b"next week".ljust(32), 2**33)]
    days = [DayState(MONDAY, 0, None, {LOG: (3, 30)}), DayState(TODAY, 0, None, {LOG: (1, 1), OTHER_LOG: (2, 4)})]
    assert await store.open(SITE, days, Closed(2, MONDAY, 70, 700, -5, "second"), salts)
    assert await store.acked(SITE, [(MONDAY, LOG), (TODAY, LOG), (TODAY, OTHER_LOG)]) == [3, 1, 2]
    snapshot = await store.snapshot(SITE, [salt.week for salt in salts], all_days=True)
    assert snapshot is not None
    assert (snapshot.present, snapshot.salts) == ([MONDAY, TODAY], {salt.week: salt.key for salt in salts})
    reading = (await count(store, None)).reading
    assert reading is not None
    assert (reading.today_views, reading.week_views, reading.total_views) == (5, 35, 705)
    assert (reading.total_visitors, reading.adjustments, reading.revision) == (70, -5, "second")


async def test_before_the_installation_is_known_any_site_that_is_ready_counts(store: RedisStore) -> None:
    """A worker that starts while Postgres is away counts all the same."""
    store.installation = ""
    assert (await count(store, batch(1))).answer is Answer.OK


@pytest.mark.parametrize(
    ("key", "planted"),
    [
        pytest.param(ONLINE, b"not a sorted set", id="wrong type online"),
        pytest.param(WEEK_SKETCH, b"not a sketch", id="damaged week"),
        pytest.param(DAY_SKETCH, b"HYLL" + bytes(100), id="damaged day"),
        pytest.param(day_key(SITE, TODAY, "logs"), b"no hash", id="wrong type logs"),
    ],
)
async def test_an_error_half_way_has_counted_nothing(
    store: RedisStore, redis: RawRedis, key: str, planted: bytes
) -> None:
    """A script does not roll back; the write that counts is the last one, so the batch may be sent again."""
    sent = batch(1, [1, 2], views=7, seen_ms=int(await store.clock_s() * 1000))
    await redis.set(key, planted)
    with pytest.raises(StoreUnavailable):
        await count(store, sent)
    if not key.endswith("logs"):
        assert await redis.hgetall(day_key(SITE, TODAY, "logs")) == {}
    await redis.delete(key)
    recorded = await count(store, sent)
    assert recorded.answer is Answer.OK
    assert recorded.reading is not None
    assert (recorded.reading.today_views, recorded.reading.today_visitors, recorded.reading.online) == (7, 2, 2)
    assert await redis.get(WEEK_SKETCH) == await redis.get(DAY_SKETCH)


async def test_an_error_after_the_count_is_a_duplicate_when_it_comes_again(store: RedisStore, redis: RawRedis) -> None:
    """Reading another open day may fail after the batch was counted: sent again, the batch must not count twice."""
    yesterday = day_key(SITE, TODAY - DAY, "visitors")
    await count(store, batch(1, day=TODAY - DAY, log=OTHER_LOG))
    sketch = await redis.getset(yesterday, b"damaged")
    with pytest.raises(StoreUnavailable):
        await count(store, batch(1, [1], views=3))
    await redis.set(yesterday, sketch)
    again = await count(store, batch(1, [1], views=3))
    assert again.answer is Answer.DUP
    assert again.reading is not None
    assert again.reading.today_views == 3


async def test_a_full_batch_is_counted(store: RedisStore, redis: RawRedis) -> None:
    """`unpack` fails at 8,000 values, after earlier writes were applied; a full batch stays far below."""
    old, new = range(1, BATCH_MAX_VISITORS + 1), range(5001, 5001 + BATCH_MAX_VISITORS)
    now_ms = int(await store.clock_s() * 1000)
    await count(store, batch(1, old, seen_ms=now_ms))
    recorded = await count(store, batch(2, new, previous_week=old, seen_ms=now_ms))
    assert recorded.reading is not None
    assert recorded.reading.online == BATCH_MAX_VISITORS
    assert registers(await redis.get(DAY_SKETCH)) == await reference(redis, [*old, *new])


async def test_big_numbers_stay_whole(store: RedisStore, redis: RawRedis) -> None:
    """Lua counts in doubles and may print 1e+15: views must be exact up to the largest number of JavaScript."""
    most = 2**53 - 1
    await count(store, batch(1, views=2**31 + 1))
    await count(store, batch(2**40, views=2**52), skip_gap=True)
    recorded = await count(store, batch(1, views=most - 2**52, log=OTHER_LOG))
    assert recorded.reading is not None
    assert (recorded.reading.today_views, recorded.reading.total_views) == (most, most)
    assert (await redis.hget(day_key(SITE, TODAY, "logs"), LOG)) == b"0%d:%d" % (2**40, 2**52)
    assert await store.acked(SITE, [(TODAY, LOG), (TODAY, "unknown")]) == [2**40, 0]

    closed = Closed(2**52 + 1, MONDAY - DAY, 2**53 - 5, 0, -(2**53) + 9, "r2")
    await store.open(SITE, [], closed)
    recorded = await count(store, None)
    assert recorded.reading is not None
    assert (recorded.reading.total_visitors, recorded.reading.adjustments) == (2**53 - 5, -(2**53) + 9)


async def test_a_reply_that_does_not_come_is_not_asked_for_again(
    redis: RawRedis, redis_url: str, store: RedisStore
) -> None:
    """redis-py repeats commands up to ten times by default; a worker could not say which write came last."""
    async with open_redis(redis_url, timeout_s=0.1) as hasty:
        hasty.installation = "ours"
        await count(hasty, batch(1))
        await redis.config_resetstat()
        await redis.execute_command("CLIENT", "PAUSE", 400, "WRITE")
        with pytest.raises(StoreUnavailable, match="redis"):
            await count(hasty, batch(2))
    settled = await count(store, batch(2))
    assert settled.reading is not None
    assert settled.reading.today_views == 2
    assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] <= 2


async def test_an_unknown_site_is_read_without_making_a_key(store: RedisStore, redis: RawRedis) -> None:
    """Reading must not fill Redis."""
    before = await everything_in(redis)
    assert (await store.record(SiteId("unknown"), NOW, WINDOW_S)).answer is Answer.NOTREADY
    assert await everything_in(redis) == before


async def test_every_key_of_a_site_carries_its_hash_tag(store: RedisStore, redis: RawRedis) -> None:
    """Redis Cluster runs a script only where all of its keys are."""
    await count(store, batch(1, [1], seen_ms=int(await store.clock_s() * 1000)))
    assert all(key.startswith(b"ff1:{portal}:") for key in await redis.keys())
