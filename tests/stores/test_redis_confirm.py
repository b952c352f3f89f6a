"""What Redis does once Postgres has a snapshot: which days stay dirty, which close, and when keys may expire."""

from datetime import date

import pytest

from footfall.model.batch import Batch
from footfall.model.counts import Reading
from footfall.model.day_state import Closed, DayState
from footfall.model.periods import week_end, week_of
from footfall.model.snapshot import Snapshot
from footfall.stores.redis_store import RedisStore, day_key
from tests.support.footfall import SITE, VIETNAM
from tests.support.storage import DAY, LOG, MONDAY, OTHER_LOG, TODAY, RawRedis, batch, period_of

DIRTY = f"ff1:{{{SITE}}}:dirty"
DAYS = f"ff1:{{{SITE}}}:days"
TWO_DAYS_S = 2 * 86400
NO_EXPIRY = -1


async def count(store: RedisStore, counted: Batch | None) -> Reading:
    """Send a batch that must be counted, or none; return the numbers."""
    recorded = await store.record(SITE, period_of(TODAY), 300, counted)
    assert recorded.reading is not None
    return recorded.reading


async def look(store: RedisStore, *, all_days: bool = False) -> Snapshot:
    """Return the unconfirmed days of the site, or all of them."""
    snapshot = await store.snapshot(SITE, [], all_days=all_days)
    assert snapshot is not None
    return snapshot


def closed(through: date, read_at_us: int, visitors: int = 0, adjustments: int = 0) -> Closed:
    """Return a reading of the closed days; its revision names its moment."""
    return Closed(read_at_us, through, visitors, 0, adjustments, f"revision {read_at_us}")


async def confirm(store: RedisStore, snapshot: Snapshot, now: Closed, week_ends_s: float | None = None) -> None:
    """Confirm a snapshot as the rollup does; every week ends at `week_ends_s`, else with its Sunday."""
    ends = {day: int(week_ends_s or week_end(week_of(day), VIETNAM)) for day in snapshot.present}
    await store.confirm(SITE, snapshot.changes, now, ends)


def keys_of(day: date) -> list[str]:
    """Return the keys that expire together: of the day and of its week."""
    week = f"ff1:{{{SITE}}}:week:{week_of(day)}:visitors"
    return [day_key(SITE, day, "visitors"), day_key(SITE, day, "logs"), week]


async def lifetimes(redis: RawRedis, day: date) -> list[int]:
    """Return the seconds after which the keys of a day expire; NO_EXPIRY for a key that does not."""
    return [await redis.ttl(key) for key in keys_of(day)]


async def test_a_confirmed_day_is_no_longer_dirty(store: RedisStore) -> None:
    """The next rollup has nothing to do."""
    await count(store, batch(1, [1]))
    snapshot = await look(store)
    assert [state.day for state in snapshot.days] == snapshot.present == [TODAY]
    await confirm(store, snapshot, closed(MONDAY, 2))
    assert (await look(store)).days == []
    assert [state.logs for state in (await look(store, all_days=True)).days] == [{LOG: (1, 1), "f": (1, 0)}]


async def test_a_write_between_snapshot_and_confirmation_stays_dirty(store: RedisStore) -> None:
    """Postgres has not seen it: the next rollup must look at the day again."""
    await count(store, batch(1, [1]))
    snapshot = await look(store)
    await count(store, batch(2, [2]))
    await confirm(store, snapshot, closed(MONDAY, 2))
    assert [state.logs for state in (await look(store)).days] == [{LOG: (2, 2), "f": (2, 0)}]


async def test_a_slow_rollup_does_not_confirm_a_change_after_a_quicker_one(store: RedisStore) -> None:
    """Two rollups see one change and one of them confirms it; after the next batch the other confirmation is stale."""
    await count(store, batch(1, [1]))
    slow, quick = await look(store), await look(store)
    await confirm(store, quick, closed(MONDAY, 2))
    await count(store, batch(2, [2]))
    await confirm(store, slow, closed(MONDAY, 3))
    assert [state.logs for state in (await look(store)).days] == [{LOG: (2, 2), "f": (2, 0)}]


async def test_a_merged_day_is_dirty(store: RedisStore) -> None:
    """The next rollup confirms it and sets its expiry again."""
    await store.merge(SITE, [DayState(TODAY, 0, None, {LOG: (4, 9)})])
    assert list((await look(store)).changes) == [TODAY]


async def test_nothing_that_counts_expires_before_it_is_confirmed_and_closed(
    store: RedisStore, redis: RawRedis
) -> None:
    """An expiry that is set too early is a loss without a trace."""
    await count(store, batch(1, [1], day=MONDAY))
    assert await lifetimes(redis, MONDAY) == [NO_EXPIRY] * 3
    early = await look(store)
    await confirm(store, early, closed(MONDAY - DAY, 2))
    assert await lifetimes(redis, MONDAY) == [NO_EXPIRY] * 3  # confirmed, but not closed

    await count(store, batch(2, [1], day=MONDAY))
    await store.confirm(SITE, {}, closed(MONDAY, 3), {MONDAY: 0})
    assert await lifetimes(redis, MONDAY) == [NO_EXPIRY] * 3  # neither closed nor confirmed

    await confirm(store, await look(store), closed(MONDAY, 4), week_ends_s=1)
    assert all(TWO_DAYS_S - 5 <= life <= TWO_DAYS_S for life in await lifetimes(redis, MONDAY))


async def test_a_day_lives_until_its_week_is_over(store: RedisStore, redis: RawRedis) -> None:
    """The week's views are the sum of its days, and its sketch is made of them when it is missing."""
    await count(store, batch(1, [1], day=MONDAY))
    week_ends_s = int(await store.clock_s()) + 5 * 86400
    await confirm(store, await look(store), closed(MONDAY, 2), week_ends_s)
    assert all(5 * 86400 - 5 <= life <= 5 * 86400 for life in await lifetimes(redis, MONDAY))


@pytest.mark.parametrize("how", ["a late batch", "a merge"])
async def test_a_day_that_changes_again_does_not_expire(store: RedisStore, redis: RawRedis, how: str) -> None:
    """PFADD and HSET leave a key's expiry as it is: a late write would expire with the key, unconfirmed."""
    await count(store, batch(1, [1], day=MONDAY))
    await confirm(store, await look(store), closed(MONDAY, 2))
    assert NO_EXPIRY not in await lifetimes(redis, MONDAY)
    if how == "a merge":
        await store.merge(SITE, [DayState(MONDAY, 0, None, {OTHER_LOG: (1, 1)})])
    else:
        await count(store, batch(2, [2], day=MONDAY))
    assert await lifetimes(redis, MONDAY) == [NO_EXPIRY] * 3
    await confirm(store, await look(store), closed(MONDAY, 3))
    assert NO_EXPIRY not in await lifetimes(redis, MONDAY)


async def test_a_week_that_was_made_again_expires_too(store: RedisStore, redis: RawRedis) -> None:
    """A late read makes last week's sketch from its days; nothing else would ever remove it."""
    await count(store, batch(1, [1], day=MONDAY))
    await confirm(store, await look(store), closed(MONDAY, 2))
    await redis.delete(keys_of(MONDAY)[2])
    await count(store, None)
    await confirm(store, await look(store), closed(MONDAY, 3))
    assert NO_EXPIRY not in await lifetimes(redis, MONDAY)


async def test_a_week_lives_as_long_as_a_day_of_it_has_no_end(store: RedisStore, redis: RawRedis) -> None:
    """Made again from that day alone it would lack who came on the others; an end of a former version is taken back."""
    await count(store, batch(1, [1], day=MONDAY))
    await count(store, batch(1, [2], log=OTHER_LOG))
    week, ids = keys_of(MONDAY)[2], f"ff1:{{{SITE}}}:week:{MONDAY}:ids"
    in_an_hour_s = int(await store.clock_s()) + 3600

    await confirm(store, await look(store), closed(MONDAY, 2), in_an_hour_s)
    assert NO_EXPIRY not in [await redis.ttl(key) for key in keys_of(MONDAY)[:2]]
    assert await redis.ttl(week) == NO_EXPIRY
    assert 0 < await redis.ttl(ids) <= 3600  # the ids end with their key all the same
    await redis.expire(week, 100)
    await confirm(store, await look(store, all_days=True), closed(MONDAY, 3), in_an_hour_s)
    assert await redis.ttl(week) == NO_EXPIRY

    await count(store, batch(2, [3], log=OTHER_LOG))
    await store.confirm(SITE, {}, closed(MONDAY, 4), dict.fromkeys([MONDAY, TODAY], in_an_hour_s))
    assert await redis.ttl(week) == NO_EXPIRY  # its last day is not confirmed
    await confirm(store, await look(store), closed(TODAY, 5), in_an_hour_s)
    assert NO_EXPIRY not in await lifetimes(redis, MONDAY)


async def test_a_confirmation_does_not_prolong_an_expiry(store: RedisStore, redis: RawRedis) -> None:
    """Otherwise a day of a busy site would stay in Redis for ever."""
    await count(store, batch(1, [1], day=MONDAY))
    await confirm(store, await look(store), closed(MONDAY, 2))
    day_sketch = keys_of(MONDAY)[0]
    await redis.expire(day_sketch, 100)
    await confirm(store, await look(store), closed(MONDAY, 3))
    assert await redis.ttl(day_sketch) <= 100


async def test_the_set_of_days_drops_expired_days(store: RedisStore, redis: RawRedis) -> None:
    """Scripts cannot list keys and read this set instead: it must not grow for ever."""
    await count(store, batch(1, [1], day=MONDAY))
    await count(store, batch(1, [1], log=OTHER_LOG))
    await confirm(store, await look(store), closed(MONDAY, 2))
    await redis.delete(*keys_of(MONDAY)[:2])  # as their expiry does
    assert (await look(store)).present == [TODAY]
    assert await redis.smembers(DAYS) == {str(TODAY).encode()}


async def test_an_earlier_reading_of_the_closed_days_does_not_replace_a_later_one(store: RedisStore) -> None:
    """Rollups may end in any order; the total must not fall back to the reading of the slower one."""
    await store.confirm(SITE, {}, closed(MONDAY, 20, visitors=500, adjustments=7), {})
    await store.confirm(SITE, {}, closed(MONDAY, 10, visitors=100, adjustments=0), {})
    await store.confirm(SITE, {}, closed(MONDAY - DAY, 30, visitors=100), {})  # a clock that was set back
    read = await count(store, None)
    assert (read.total_visitors, read.adjustments, read.revision) == (500, 7, "revision 20")


async def test_a_day_with_unconfirmed_changes_is_not_closed(store: RedisStore) -> None:
    """The total would dip by those changes until the next rollup."""
    await count(store, batch(1, range(10), day=MONDAY))
    await store.confirm(SITE, {}, closed(MONDAY, 2, visitors=4), {})
    assert (await count(store, None)).total_visitors == 10
    await confirm(store, await look(store), closed(MONDAY, 3, visitors=10))
    read = await count(store, None)
    assert (read.total_visitors, read.revision) == (10, "revision 3")


async def test_a_late_change_of_a_closed_day_does_not_hold_up_adjustments(store: RedisStore) -> None:
    """Only days that are about to be closed wait for their confirmation."""
    await count(store, batch(1, [1], day=MONDAY))
    await confirm(store, await look(store), closed(MONDAY, 2, visitors=1))
    await count(store, batch(2, [2], day=MONDAY))
    await store.confirm(SITE, {}, closed(MONDAY, 3, visitors=1, adjustments=50), {})
    assert (await count(store, None)).adjustments == 50


async def test_in_a_foreign_redis_nothing_is_confirmed(store: RedisStore, redis: RawRedis) -> None:
    """Another installation's changes are not ours to confirm."""
    await count(store, batch(1, [1]))
    snapshot = await look(store)
    store.installation = "theirs"
    await confirm(store, snapshot, closed(MONDAY, 2))
    assert await redis.hlen(DIRTY) == 1
