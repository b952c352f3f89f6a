"""The record script against a real server: each of its answers, and the numbers that it reads."""

import pytest

from footfall.errors import StoreUnavailable
from footfall.model.batch_log import BATCH_MAX_VISITORS, Answer, Batch
from footfall.model.day_state import Closed
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


async def count(store: RedisStore, counted: Batch | None, *, hole: bool = False) -> Recorded:
    return await store.record(SITE, NOW, WINDOW_S, counted, hole=hole)


async def test_a_batch_is_counted_and_its_answer_carries_the_numbers(store: RedisStore, redis: RawRedis) -> None:
    """One round trip per beacon: the answer to the commit is the answer to the page, its sender included."""
    now_ms = int(await store.clock_s() * 1000)
    recorded = await count(store, batch(1, [1, 2, 3], views=5, seen_ms=now_ms))
    assert (recorded.answer, recorded.applied) == (Answer.OK, 1)
    reading = recorded.reading
    assert reading is not None
    assert (reading.online, reading.today_visitors, reading.week_visitors, reading.total_visitors) == (3, 3, 3, 3)
    assert (reading.today_views, reading.week_views, reading.total_views) == (5, 5, 5)
    assert 0 <= reading.at_ms - now_ms < 5000
    assert await redis.hgetall(day_key(SITE, TODAY, "logs")) == {LOG.encode(): b"1:5"}


async def test_the_same_number_again_counts_nothing(store: RedisStore) -> None:
    """A lost reply is answered by sending the same bytes again, however often."""
    first = await count(store, batch(1, [1], views=4))
    await count(store, batch(2, [2], views=6))
    for seq in (1, 2, 1):
        again = await count(store, batch(seq, [1], views=4))
        assert (again.answer, again.applied) == (Answer.DUP, 2)
        assert again.reading is not None
        assert (again.reading.today_views, again.reading.today_visitors) == (6, 2)
    assert first.answer is Answer.OK


async def test_a_gap_names_the_number_that_redis_has(store: RedisStore) -> None:
    """A Redis that lost its newest seconds says where to go on from."""
    await count(store, batch(1))
    gap = await count(store, batch(3))
    assert (gap.answer, gap.applied, gap.reading) == (Answer.GAP, 1, None)
    assert (await count(store, batch(2))).answer is Answer.OK
    assert (await count(store, batch(3))).answer is Answer.OK


async def test_a_hole_is_skipped_only_with_leave(store: RedisStore) -> None:
    """Numbers that nobody has any more must not stop a log for ever; its views are whole, for they are cumulative."""
    await count(store, batch(1, views=1))
    skipped = await count(store, batch(9, [7], views=20), hole=True)
    assert (skipped.answer, skipped.applied) == (Answer.OK, 9)
    assert skipped.reading is not None
    assert skipped.reading.today_views == 20


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        pytest.param(Answer.GAP, batch(3), id="a number too far"),
        pytest.param(Answer.OLD, batch(1, day=MONDAY - DAY), id="a closed day that is not in Redis"),
    ],
)
async def test_what_is_refused_leaves_no_trace(
    store: RedisStore, redis: RawRedis, answer: Answer, refused: Batch
) -> None:
    """A refused batch is sent again after a repair: half of it in the sketches would be counted unasked."""
    await count(store, batch(1, [1]))
    before = await everything_in(redis)
    assert (await count(store, refused)).answer is answer
    assert await everything_in(redis) == before


@pytest.mark.parametrize(("found", "installation"), [(None, ""), (b"theirs", "theirs")])
async def test_nobody_counts_into_what_is_not_ready_or_not_ours(
    store: RedisStore, redis: RawRedis, found: bytes | None, installation: str
) -> None:
    """An emptied Redis would count from zero, and a foreign one would mix two portals' histories."""
    await redis.delete(f"ff1:{{{SITE}}}:ready")
    if found:
        await redis.set(f"ff1:{{{SITE}}}:ready", found)
    before = await everything_in(redis)
    for refused in (None, batch(1, [1])):
        recorded = await count(store, refused)
        assert (recorded.answer, recorded.installation) == (Answer.NOTREADY, installation)
    assert not await store.join(SITE, [])
    assert await store.snapshot(SITE, [], all_days=True) is None
    assert await store.share_salts(SITE, {MONDAY: b"s"}, {MONDAY: 2**33}) is None
    assert await everything_in(redis) == before


async def test_before_postgres_has_told_who_we_are_any_ready_state_is_counted_into(store: RedisStore) -> None:
    """A worker that starts while Postgres is away goes on counting."""
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
    """A script does not roll back; as the write that counts is the last one, the batch may come again."""
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
    """Reading another open day may fail once the batch is counted: sending it again must not count it twice."""
    yesterday = day_key(SITE, TODAY - DAY, "visitors")
    await count(store, batch(1, day=TODAY - DAY, log=OTHER_LOG))
    await redis.set(yesterday, b"damaged")
    with pytest.raises(StoreUnavailable):
        await count(store, batch(1, [1], views=3))
    await redis.delete(yesterday)
    again = await count(store, batch(1, [1], views=3))
    assert again.answer is Answer.DUP
    assert again.reading is not None
    assert again.reading.today_views == 3


async def test_a_full_batch_goes_through(store: RedisStore, redis: RawRedis) -> None:
    """`unpack` fails at 8,000 values, after earlier writes were applied; a batch stays far below."""
    old, new = range(1, BATCH_MAX_VISITORS + 1), range(5001, 5001 + BATCH_MAX_VISITORS)
    now_ms = int(await store.clock_s() * 1000)
    await count(store, batch(1, old, seen_ms=now_ms))
    recorded = await count(store, batch(2, new, gone=old, seen_ms=now_ms))
    assert recorded.reading is not None
    assert recorded.reading.online == BATCH_MAX_VISITORS
    assert registers(await redis.get(DAY_SKETCH)) == await reference(redis, [*old, *new])


async def test_big_numbers_stay_whole(store: RedisStore, redis: RawRedis) -> None:
    """Lua counts in doubles and prints 1e+15 if it is let: views must be right up to what JavaScript can read."""
    most = 2**53 - 1
    await count(store, batch(1, views=2**31 + 1))
    await count(store, batch(2**40, views=2**52), hole=True)
    recorded = await count(store, batch(1, views=most - 2**52, log=OTHER_LOG))
    assert recorded.reading is not None
    assert (recorded.reading.today_views, recorded.reading.total_views) == (most, most)
    assert (await redis.hget(day_key(SITE, TODAY, "logs"), LOG)) == b"%d:%d" % (2**40, 2**52)
    assert await store.applied(SITE, [(TODAY, LOG), (TODAY, "unknown")]) == [2**40, 0]

    closed = Closed(2**52 + 1, MONDAY - DAY, 2**53 - 5, 0, -(2**53) + 9, "r2")
    await store.join(SITE, [], closed=closed)
    recorded = await count(store, None)
    assert recorded.reading is not None
    assert (recorded.reading.total_visitors, recorded.reading.adjustments) == (2**53 - 5, -(2**53) + 9)


async def test_a_reply_that_does_not_come_is_not_asked_for_again(
    redis: RawRedis, redis_url: str, store: RedisStore
) -> None:
    """The client library repeats commands up to ten times by default, and then the order of writes is nobody's."""
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
    """Reading must not fill the store."""
    before = await everything_in(redis)
    assert (await store.record("nobody", NOW, WINDOW_S)).answer is Answer.NOTREADY
    assert await everything_in(redis) == before


async def test_every_key_of_a_site_carries_its_hash_tag(store: RedisStore, redis: RawRedis) -> None:
    """Redis Cluster runs a script only where all of its keys are."""
    await count(store, batch(1, [1], seen_ms=int(await store.clock_s() * 1000)))
    assert all(key.startswith(b"ff1:{portal}:") for key in await redis.keys())
