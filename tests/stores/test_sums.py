"""The sum of a day's views beside its logs: what keeps it right, whoever wrote the logs."""

import pytest

from footfall.model.batch import Answer
from footfall.model.day_state import Closed, DayState
from footfall.stores.redis_store import RedisStore, day_key
from tests.support.footfall import SITE
from tests.support.storage import DAY, LOG, OTHER_LOG, TODAY, RawRedis, batch, period_of

LOGS = day_key(SITE, TODAY, "logs")
DIRTY, CLOSED = (f"ff1:{{{SITE}}}:{name}" for name in ("dirty", "closed"))
SUM = "f"
NOW = period_of(TODAY)


async def views(store: RedisStore) -> tuple[int, int, int]:
    """The views that a reading shows: of today, of the week, of all days."""
    reading = (await store.record(SITE, NOW, 300)).reading
    assert reading is not None
    return reading.today_views, reading.week_views, reading.total_views


async def former_program_counts(redis: RawRedis, log: str, entry: str) -> None:
    """What the script of a version without sums leaves of a batch."""
    await redis.hset(DIRTY, TODAY.isoformat(), "1795490000000000")
    await redis.hset(LOGS, log, entry)


async def former_program_confirms(redis: RawRedis) -> None:
    """What the rollup of a version without sums leaves: each has read Postgres later than the one before."""
    await redis.hdel(DIRTY, TODAY.isoformat())
    await redis.hincrby(CLOSED, "read_at", 1)


async def test_the_sum_is_that_of_all_logs_after_every_call(store: RedisStore, redis: RawRedis) -> None:
    """Batches of two workers, one that comes again, one after a gap, and a merge between two of them."""
    for sent, summed in (
        (batch(1, [1], views=5), b"05:0"),
        (batch(1, [2], views=7, log=OTHER_LOG), b"012:0"),
        (batch(1, [1], views=5), b"012:0"),
        (batch(9, [3], views=20), b"027:0"),
    ):
        await store.record(SITE, NOW, 300, sent, skip_gap=True)
        assert await redis.hget(LOGS, SUM) == summed
    merged = DayState(TODAY, 0, None, {LOG: (12, 30), OTHER_LOG: (1, 7), "c" * 16: (2, 4)}, ids=b"")
    assert await store.merge(SITE, [merged])
    assert await redis.hget(LOGS, SUM) == b"041:0"
    assert (await store.record(SITE, NOW, 300, batch(13, [4], views=31))).answer is Answer.OK
    assert await redis.hget(LOGS, SUM) == b"042:0"
    assert await views(store) == (42, 42, 42)


async def test_the_first_log_of_a_merged_day_gives_the_sum_its_mark(store: RedisStore, redis: RawRedis) -> None:
    """The merge feeds the sketch before the first log is there: visitors without logs make a day an estimate."""
    await redis.pfadd("made", b"1" * 16)
    sketch = await redis.getdel("made")
    await store.merge(SITE, [DayState(TODAY, 1, sketch, {LOG: (1, 5)}, ids=b"1" * 16, exact=True)])
    reading = (await store.record(SITE, NOW, 300)).reading
    assert reading is not None
    assert (reading.today_views, "today" in reading.exact) == (5, True)
    assert await redis.hget(LOGS, SUM) == b"05:0"


async def test_the_sum_of_another_copy_is_not_taken_over(store: RedisStore, redis: RawRedis) -> None:
    """It is of other logs than those that meet here, like that of a row in Postgres."""
    await store.record(SITE, NOW, 300, batch(1, [1], views=5))
    await store.merge(SITE, [DayState(TODAY, 0, None, {OTHER_LOG: (1, 7), SUM: (70, 0)})])
    assert await views(store) == (12, 12, 12)
    assert await redis.hget(LOGS, SUM) == b"12:0"  # without the mark: the ids of the merged log did not come


async def test_a_reading_looks_at_no_single_log(store: RedisStore, redis: RawRedis) -> None:
    """Every worker that starts adds a log to every day; a reading that went through them all would find this one."""
    await store.record(SITE, NOW, 300, batch(1, [1], views=5))
    await store.record(SITE, NOW, 300, batch(1, [1], views=3, day=TODAY - DAY, log=OTHER_LOG))
    for day in (TODAY, TODAY - DAY):
        await redis.hset(day_key(SITE, day, "logs"), "c" * 16, "no entry")
    assert await views(store) == (5, 8, 8)
    assert (await store.record(SITE, NOW, 300, batch(2, [2], views=6))).answer is Answer.OK


async def test_days_of_a_version_without_sums_are_counted_once(store: RedisStore, redis: RawRedis) -> None:
    """The first call after the upgrade makes the sums, of all days; the next one finds them."""
    for day, entry in ((TODAY, "03:30"), (TODAY - DAY, "01:4")):
        await store.record(SITE, NOW, 300, batch(1, [1], views=5, day=day))
        await redis.hdel(day_key(SITE, day, "logs"), SUM)
        await redis.hset(day_key(SITE, day, "logs"), OTHER_LOG, entry)
    await redis.hdel(CLOSED, "summed_at")
    await redis.delete(DIRTY)
    assert await views(store) == (35, 44, 44)
    assert [await redis.hget(day_key(SITE, day, "logs"), SUM) for day in (TODAY, TODAY - DAY)] == [b"035:0", b"09:0"]
    await redis.hset(LOGS, "c" * 16, "no entry")
    assert await views(store) == (35, 44, 44)


@pytest.mark.parametrize("is_confirmed", [False, True], ids=["not confirmed", "confirmed"])
async def test_what_a_former_program_wrote_is_counted_again(
    store: RedisStore, redis: RawRedis, is_confirmed: bool
) -> None:
    """An upgrade goes host by host: for minutes a worker that keeps no sums counts beside one that does."""
    await store.record(SITE, NOW, 300, batch(1, [1], views=5))
    for seq in (1, 2):
        await former_program_counts(redis, OTHER_LOG, f"0{seq}:{seq * 10}")
        if is_confirmed:
            await former_program_confirms(redis)
        assert await views(store) == (5 + seq * 10,) * 3
    await former_program_counts(redis, OTHER_LOG, "03:30")
    if is_confirmed:
        await former_program_confirms(redis)
    recorded = await store.record(SITE, NOW, 300, batch(2, [1], views=6))
    assert recorded.reading is not None
    assert recorded.reading.today_views == 36


async def test_a_site_that_lost_its_closed_days_is_counted_again(store: RedisStore, redis: RawRedis) -> None:
    """With them it loses the trace that a version without sums has left."""
    await store.record(SITE, NOW, 300, batch(1, [1], views=5))
    await former_program_counts(redis, OTHER_LOG, "01:10")
    await former_program_confirms(redis)
    await redis.delete(CLOSED)
    await store.open(SITE, [], Closed(9, TODAY - 9 * DAY, 0, 0, 0, ""))
    assert await views(store) == (15, 15, 15)


async def test_a_log_without_the_mark_makes_the_day_an_estimate(store: RedisStore, redis: RawRedis) -> None:
    """The mark of the sum says whether all logs have it; a version that knows no sets writes none."""
    await store.record(SITE, NOW, 300, batch(1, [1], views=5))
    await former_program_counts(redis, OTHER_LOG, "1:2")
    recorded = await store.record(SITE, NOW, 300, batch(2, [2], views=6))
    assert recorded.reading is not None
    assert recorded.reading.exact == ()
    assert await redis.hget(LOGS, SUM) == b"8:0"


@pytest.mark.parametrize("planted", ["", "rubbish", "-3:0", "5:7", "5", "1e3:0"])
async def test_a_sum_that_cannot_be_read_is_made_again(store: RedisStore, redis: RawRedis, planted: str) -> None:
    """It is made of the logs, so nothing needs to be dropped."""
    await store.record(SITE, NOW, 300, batch(1, [1], views=5))
    await redis.hset(LOGS, SUM, planted)
    assert await views(store) == (5, 5, 5)
    await redis.hset(LOGS, SUM, planted)
    recorded = await store.record(SITE, NOW, 300, batch(2, [1], views=6))
    assert recorded.reading is not None
    assert recorded.reading.today_views == 6
    assert await redis.hget(LOGS, SUM) == b"06:0"


async def test_a_rollup_counts_again_what_it_copies(store: RedisStore, redis: RawRedis) -> None:
    """A wrong sum that looks right lasts until the next rollup of its day at most, and is not copied."""
    await store.record(SITE, NOW, 300, batch(1, [1], views=5))
    await redis.hset(LOGS, SUM, "077:0")
    snapshot = await store.snapshot(SITE, [], all_days=False)
    assert snapshot is not None
    assert snapshot.days[0].logs == {LOG: (1, 5), SUM: (5, 0)}
    assert await views(store) == (5, 5, 5)
