"""The numbers that Redis reads: days, weeks, the total over them, and who is online."""

from datetime import date

import pytest

from footfall.model.batch import Batch
from footfall.model.counts import Reading
from footfall.model.day_state import Closed
from footfall.stores.redis_store import RedisStore, day_key
from tests.support.footfall import SITE
from tests.support.storage import (
    DAY,
    LOG,
    MONDAY,
    OTHER_LOG,
    TODAY,
    RawRedis,
    batch,
    period_of,
    registers,
)

WINDOW_S = 300


async def reading(
    store: RedisStore, counted: Batch | None = None, *, today: date = TODAY, window_s: int = WINDOW_S
) -> Reading:
    """Send a batch that must be counted, or none; return the numbers as they are shown on `today`."""
    recorded = await store.record(SITE, period_of(today), window_s, counted)
    assert recorded.reading is not None
    return recorded.reading


def week_key(week: date) -> str:
    """Key of a week's sketch."""
    return f"ff1:{{{SITE}}}:week:{week}:visitors"


async def test_day_and_week_are_fed_the_same_ids(store: RedisStore, redis: RawRedis) -> None:
    """When day and week hashed visitors with different keys, a Monday's week was below today on 25 of 40 Mondays."""
    for day in (MONDAY, MONDAY + DAY):
        read = await reading(store, batch(1, range(day.day, day.day + 900), day=day), today=day)
        assert read.week_visitors is not None
        assert read.week_visitors >= read.today_visitors
    monday = await redis.get(day_key(SITE, MONDAY, "visitors"))
    await redis.pfmerge("union", day_key(SITE, MONDAY, "visitors"), day_key(SITE, MONDAY + DAY, "visitors"))
    assert registers(await redis.get("union")) == registers(await redis.get(week_key(MONDAY)))
    assert monday != await redis.get(week_key(MONDAY))


async def test_on_a_monday_the_week_is_today(store: RedisStore) -> None:
    """The Monday is the only day of the week so far."""
    read = await reading(store, batch(1, [3, 4, 5], day=MONDAY), today=MONDAY)
    assert (read.today_visitors, read.week_visitors) == (3, 3)


@pytest.mark.parametrize("counted", [None, batch(1, [1], log=OTHER_LOG)], ids=["by a read", "by a batch"])
async def test_a_missing_week_is_made_from_its_days(store: RedisStore, redis: RawRedis, counted: Batch | None) -> None:
    """The week is derived from the days, so it cannot be lost while they are there."""
    await reading(store, batch(1, range(500), day=MONDAY))
    await reading(store, batch(1, range(300, 900)))
    before = await redis.get(week_key(MONDAY))
    await redis.delete(week_key(MONDAY))
    read = await reading(store, counted)
    assert registers(await redis.get(week_key(MONDAY))) == registers(before)
    assert (read.week_visitors, "week" in read.exact) == (900, True)


async def test_the_week_over_new_year_is_one_week(store: RedisStore, redis: RawRedis) -> None:
    """A week is named by its Monday, so 31 December and 1 January may share a week; ISO numbers play no part."""
    eve, new_year = date(2054, 12, 31), date(2055, 1, 1)
    await reading(store, batch(1, [1, 2], day=eve), today=eve)
    read = await reading(store, batch(1, [2, 3], day=new_year), today=new_year)
    assert (read.today_visitors, read.week_visitors, read.week_views) == (2, 3, 2)
    assert read.week_of == date(2054, 12, 28)
    assert await redis.exists(week_key(date(2054, 12, 28)))


async def test_a_late_batch_counts_in_its_own_day(store: RedisStore) -> None:
    """It was received before midnight and is written after it: a retry never moves a beacon."""
    yesterday = TODAY - DAY
    await reading(store, batch(1, [1], day=yesterday), today=yesterday)
    late = await reading(store, batch(2, [2, 3], day=yesterday, views=5), today=TODAY)
    assert (late.today_visitors, late.today_views) == (0, 0)
    assert (late.week_visitors, late.week_views, late.total_visitors, late.total_views) == (3, 5, 3, 5)
    assert (await reading(store, today=yesterday)).today_visitors == 3


async def test_a_late_batch_of_last_week_leaves_this_week_alone(store: RedisStore) -> None:
    """It counts in the week of its day, not in the week that is shown."""
    monday_on = MONDAY + 7 * DAY
    read = await reading(store, batch(1, [1, 2], day=monday_on - DAY), today=monday_on)
    assert (read.week_visitors, read.week_views, read.total_visitors) == (0, 0, 2)


async def test_the_total_does_not_dip_at_midnight(store: RedisStore) -> None:
    """Every day in Redis after the closed days is in the total, however long Postgres is away."""
    await store.open(SITE, [], Closed(2, MONDAY - DAY, 1000, 5000, 0, ""))
    total = (1000, 5000)
    for number in range(12):
        day = MONDAY + number * DAY
        before = await reading(store, today=day)
        assert (before.total_visitors, before.total_views) == total
        read = await reading(store, batch(1, range(number, number + 3), day=day, views=4), today=day)
        total = (total[0] + 3, total[1] + 4)
        assert (read.total_visitors, read.total_views) == total


async def test_the_total_counts_a_closed_day_once(store: RedisStore) -> None:
    """A closed day stays in Redis until its week is over; its part of the total comes from Postgres alone."""
    await reading(store, batch(1, range(10), day=MONDAY))
    read = await reading(store, batch(1, range(3), log=OTHER_LOG))
    assert (read.total_visitors, read.week_views) == (13, 2)
    snapshot = await store.snapshot(SITE, [], all_days=False)
    assert snapshot is not None
    changes = {MONDAY: snapshot.changes[MONDAY]}
    await store.confirm(SITE, changes, Closed(2, MONDAY, 10, 1, 0, ""), {})
    read = await reading(store)
    assert (read.total_visitors, read.total_views, read.week_visitors, read.week_views) == (13, 2, 10, 2)


async def test_online_decays_to_zero_by_itself(store: RedisStore, redis: RawRedis) -> None:
    """An idle site has no batch that would prune the set: Redis reads the window by its clock, and the key expires."""
    now_ms = int(await store.clock_s() * 1000)
    await reading(store, batch(1, [1, 2], seen_ms=now_ms - WINDOW_S * 1000 + 400))
    assert (await reading(store)).online == 2
    assert 0 < await redis.pttl(f"ff1:{{{SITE}}}:online") <= WINDOW_S * 1000
    while (read := await reading(store)).online:
        assert read.at_ms < now_ms + 5000
    assert read.at_ms >= now_ms + 400


async def test_a_workers_clock_ahead_keeps_no_visitor_online_longer(store: RedisStore, redis: RawRedis) -> None:
    """Otherwise the visitors of a worker an hour ahead would be online for an hour."""
    now_ms = int(await store.clock_s() * 1000)
    await reading(store, batch(1, [1], seen_ms=now_ms + 3_600_000))
    ((_, score),) = await redis.zrange(f"ff1:{{{SITE}}}:online", 0, -1, withscores=True)
    assert now_ms <= score <= await store.clock_s() * 1000


async def test_a_batch_older_than_the_window_makes_no_visitor_online(store: RedisStore, redis: RawRedis) -> None:
    """A batch that is sent from the disk hours later counts in its day; its visitors have left since."""
    now_ms = int(await store.clock_s() * 1000)
    read = await reading(store, batch(1, [1, 2], seen_ms=now_ms - WINDOW_S * 1000))
    assert (read.online, read.today_visitors) == (0, 2)
    assert not await redis.exists(f"ff1:{{{SITE}}}:online")


async def test_an_older_beacon_does_not_make_a_visitor_leave_sooner(store: RedisStore, redis: RawRedis) -> None:
    """Batches of two workers may arrive in any order; the latest beacon of a visitor decides."""
    now_ms = int(await store.clock_s() * 1000)
    await reading(store, batch(1, [1], seen_ms=now_ms))
    await reading(store, batch(1, [1], seen_ms=now_ms - 200_000, log=OTHER_LOG))
    assert await redis.zscore(f"ff1:{{{SITE}}}:online", (1).to_bytes(16, "big")) == now_ms


async def test_the_next_batch_prunes_visitors_who_left(store: RedisStore, redis: RawRedis) -> None:
    """The set holds no more visitors than are online."""
    now_ms = int(await store.clock_s() * 1000)
    await redis.zadd(f"ff1:{{{SITE}}}:online", {b"left long ago": now_ms - WINDOW_S * 1000})
    await reading(store, batch(1, [1], seen_ms=now_ms))
    assert await redis.zcard(f"ff1:{{{SITE}}}:online") == 1


async def test_a_visitor_present_through_the_weeks_turn_is_online_once(store: RedisStore) -> None:
    """The new week's salt gives the visitor a new id; the batch that adds the new id removes the previous one."""
    sunday, monday = MONDAY + 6 * DAY, MONDAY + 7 * DAY
    now_ms = int(await store.clock_s() * 1000)
    await reading(store, batch(1, [1, 2], day=sunday, seen_ms=now_ms - 60_000), today=sunday)
    read = await reading(store, batch(1, [101], day=monday, previous_week=[1], seen_ms=now_ms), today=monday)
    assert (read.online, read.today_visitors) == (2, 1)


async def test_two_logs_of_one_day_add_their_views_and_share_their_visitors(store: RedisStore) -> None:
    """Two workers count together: views are the sum over the logs, visitors the union."""
    await reading(store, batch(1, [1, 2], views=10, log=LOG))
    read = await reading(store, batch(1, [2, 3], views=7, log=OTHER_LOG))
    assert (read.today_views, read.today_visitors) == (17, 3)
