"""Clocks that were ahead and are corrected: within a window and a rollup every number is right again."""

import logging
import time
from datetime import date

import pytest

from footfall.model.counts import Reading
from footfall.stores.redis_store import day_key
from tests.support.footfall import SITE
from tests.support.storage import DAY, OTHER_LOG, TODAY, TOMORROW, Stores, Worker, batch, reference

HOUR_S = 3600
ONLINE, CLOSED = f"ff1:{{{SITE}}}:online", f"ff1:{{{SITE}}}:closed"


def total(read: Reading) -> int:
    """What a page shows as the total."""
    return read.total_visitors + read.adjustments


async def set_ahead(stores: Stores, hours: int) -> None:
    """Leave in Redis what it holds after its own clock and that of Postgres were so many hours ahead."""
    for visitor, score in await stores.redis.zrange(ONLINE, 0, -1, withscores=True):
        await stores.redis.zadd(ONLINE, {visitor: score + hours * HOUR_S * 1000})
    await stores.redis.expire(ONLINE, hours * HOUR_S + 300)
    await stores.redis.hincrby(CLOSED, "read_at", hours * HOUR_S * 1_000_000)


async def test_presence_and_readings_of_seven_hours_ahead_give_way(stores: Stores, worker: Worker) -> None:
    """Visitors of the future would be online, and corrections without effect, for seven hours."""
    stores.clock.advance(7 * HOUR_S)
    await worker.count(batch(1, range(5), seen_ms=int(time.time() * 1000)))
    await worker.rollup.step()
    assert (await worker.count()).online == 5
    await set_ahead(stores, 7)
    stores.clock.set_back(7 * HOUR_S)
    assert (await worker.count()).online == 0
    read = await worker.count(batch(1, [5], seen_ms=int(time.time() * 1000), log=OTHER_LOG))
    assert (read.online, read.today_visitors) == (1, 6)
    assert await stores.redis.zcard(ONLINE) == 1
    assert 0 < await stores.redis.ttl(ONLINE) <= 300

    await worker.postgres.adjust(SITE, "old", 1000, "old counter")
    await worker.rollup.step()
    assert total(await worker.count()) == 1006


async def test_a_reading_of_this_evening_gives_way_in_the_night_before(stores: Stores, worker: Worker) -> None:
    """Yesterday, which it had closed, has ended and is open still: the reading would stay until that is closed."""
    stores.clock.advance(HOUR_S)
    await worker.count(batch(1, range(5)))
    stores.clock.advance(34 * HOUR_S)
    await worker.rollup.step()
    assert await stores.redis.hget(CLOSED, "through") == TODAY.isoformat().encode()
    await set_ahead(stores, 22)
    stores.clock.set_back(22 * HOUR_S)
    await worker.postgres.adjust(SITE, "old", 1000, "old counter")
    await worker.rollup.step()
    assert await stores.redis.hget(CLOSED, "through") == (TODAY - DAY).isoformat().encode()
    read = await worker.count()
    assert (total(read), read.total_views) == (1005, 1)


async def test_a_visitor_of_the_future_who_stays_is_online(stores: Stores, worker: Worker) -> None:
    """The answer to a beacon includes its sender, although its old presence is of the future and is let go."""
    await worker.count(batch(1, range(5), seen_ms=int(time.time() * 1000)))
    await set_ahead(stores, 7)
    read = await worker.count(batch(2, [3], seen_ms=int(time.time() * 1000)))
    assert read.online == 1


async def test_tomorrow_counted_today_is_in_the_total_and_not_in_today(stores: Stores, worker: Worker) -> None:
    """At +30 h all of today is closed: its visitors would reach the total only when the calendar has caught up."""
    await worker.rollup.step()
    stores.clock.advance(30 * HOUR_S)
    await worker.count(batch(1, range(20), day=TOMORROW))
    await worker.rollup.step()
    await set_ahead(stores, 30)
    stores.clock.set_back(30 * HOUR_S)
    await worker.restore.merge_days(worker.site, [TODAY])  # the answer to the first beacon of a closed day is OLD
    read = await worker.count(batch(1, range(100, 110), log=OTHER_LOG))
    assert (read.today_visitors, read.today_views) == (10, 1)
    worker.changed.note(SITE)
    await worker.rollup.step()
    read = await worker.count()
    assert (read.today_visitors, read.total_visitors, read.total_views) == (10, 30, 2)
    assert (await stores.row(TOMORROW))["views"] == 1


async def test_forty_days_ahead_leave_no_trace_in_the_numbers(stores: Stores, worker: Worker) -> None:
    """Days of the real present were closed, and their sketches dropped from Postgres for their age."""
    await worker.count(batch(1, range(32)))
    await worker.rollup.step()
    ahead = TODAY + 40 * DAY
    stores.clock.advance(40 * 24 * HOUR_S)
    await worker.count(batch(1, range(100, 120), day=ahead))
    await worker.rollup.roll_up(worker.site)
    assert (await stores.row())["sketch"] is None
    assert await stores.redis.ttl(day_key(SITE, TODAY, "visitors")) > 0
    stores.clock.set_back(40 * 24 * HOUR_S)
    await worker.rollup.step()
    assert (await worker.count()).total_visitors == 52
    await worker.postgres.adjust(SITE, "old", 1000, "old counter")
    await worker.rollup.step()
    read = await worker.count(batch(2, range(32)))
    assert (total(read), read.today_visitors, read.week_visitors) == (1052, 32, 32)
    assert await stores.redis.ttl(day_key(SITE, ahead, "visitors")) == -1

    await worker.roll_up_all_days()
    await stores.redis.flushall()
    assert await worker.opener.open(worker.site)
    read = await worker.count()
    assert (total(read), read.today_visitors, read.week_visitors) == (1052, 32, 32)
    assert await stores.sketch() == await reference(stores.redis, range(32))


@pytest.mark.parametrize("lost", [(TODAY,), (TODAY, TOMORROW)], ids=["today", "both"])
async def test_days_that_are_open_again_are_in_redis_first(
    stores: Stores, worker: Worker, lost: tuple[date, ...]
) -> None:
    """Redis' clock was ahead too, and the days that it had seen closed have expired: the total must not dip."""
    await worker.count(batch(1, range(7)))
    await worker.count(batch(1, range(50, 60), day=TOMORROW))
    await worker.rollup.step()
    stores.clock.advance(9 * 24 * HOUR_S)
    await worker.rollup.step()
    for day in lost:
        await stores.redis.delete(day_key(SITE, day, "visitors"), day_key(SITE, day, "logs"))
    stores.clock.set_back(9 * 24 * HOUR_S)
    seen = {(await worker.count()).total_visitors}
    for _ in range(3):
        await worker.rollup.step()
        seen.add((await worker.count()).total_visitors)
    assert seen == {17}
    assert (await worker.count(batch(1, [1000], log=OTHER_LOG))).total_visitors == 18


async def test_the_full_rollup_does_not_wait_for_the_calendar(stores: Stores, worker: Worker) -> None:
    """Due an hour after the last one by a clock that was 40 days ahead, it would stay away for 40 days."""
    stores.clock.advance(40 * 24 * HOUR_S)
    await worker.rollup.step()
    stores.clock.set_back(40 * 24 * HOUR_S)
    await worker.rollup.step()
    await worker.count(batch(1, [1]))
    stores.clock.advance(HOUR_S)
    assert [done.saved for done in await worker.rollup.step()] == [1]


async def test_a_day_ahead_is_named_once_and_recorded(
    stores: Stores, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """A report must mention it, and an operator must see that a clock was wrong."""
    caplog.set_level(logging.INFO, "footfall.sync")
    await worker.rollup.step()
    stores.clock.advance(30 * HOUR_S)
    await worker.count(batch(1, range(20), day=TOMORROW))
    worker.changed.note(SITE)
    await worker.rollup.step()
    assert worker.rollup.early_days == {}
    stores.clock.set_back(30 * HOUR_S)
    for _ in range(3):
        worker.changed.note(SITE)
        await worker.rollup.step()
    assert worker.rollup.early_days == {SITE: {TOMORROW}}
    assert [(event.kind, event.detail) for event in await worker.postgres.events(SITE)] == [
        ("day_ahead", str(TOMORROW))
    ]
    stores.clock.advance(13 * HOUR_S)
    worker.changed.note(SITE)
    await worker.rollup.step()
    assert worker.rollup.early_days == {}
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


async def test_workers_that_differ_by_minutes_open_nothing_again(stores: Stores, worker: Worker) -> None:
    """At two o'clock they name different days as the last closed one: neither takes back what the other closed."""
    await worker.count(batch(1, range(9)))
    stores.clock.advance(14 * HOUR_S + 60)
    await worker.rollup.step()
    assert await stores.redis.hget(CLOSED, "through") == str(TODAY).encode()
    stores.clock.set_back(HOUR_S)
    await worker.rollup.step()
    assert await stores.redis.hget(CLOSED, "through") == str(TODAY).encode()
    assert (await worker.count()).total_visitors == 9
