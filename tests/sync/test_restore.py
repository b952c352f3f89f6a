"""Postgres to Redis: an emptied Redis gets the same bytes back from any worker, and nothing damaged."""

import logging

import pytest

from footfall.errors import StoreDamaged, StoreUnavailable
from footfall.model.retention import Retention
from footfall.model.sketch import DENSE, DENSE_BYTES, HEADER_BYTES, checksum
from footfall.stores.redis_store import day_key
from tests.support.footfall import SITE
from tests.support.storage import (
    DAY,
    LOG,
    MONDAY,
    OTHER_LOG,
    TODAY,
    TOMORROW,
    Stores,
    Worker,
    batch,
    registers,
)

WEEK_SKETCH = f"ff1:{{{SITE}}}:week:{MONDAY}:visitors"


async def test_an_emptied_redis_is_restored_byte_by_byte(stores: Stores, worker: Worker) -> None:
    """Sparse and dense days, a full week, closed days, adjustments: the same registers, logs and numbers."""
    days = [TODAY, TOMORROW, TOMORROW + DAY]
    for day, visitors in zip(days, (40, 700, 9000), strict=True):
        for seq in range(1, visitors // 1000 + 2):
            await worker.count(batch(seq, range(seq * 1000, seq * 1000 + min(visitors, 1000)), day=day))
        await worker.count(batch(1, [day.day], views=12, day=day, log=OTHER_LOG))
    await worker.postgres.adjust(SITE, "old", 1_373_876, "old counter")
    stores.clock.advance(2 * 86400)
    await worker.roll_up_all_days()
    before, week = await worker.count(), registers(await stores.redis.get(WEEK_SKETCH))
    sketches = [await stores.sketch(day) for day in days]
    assert len(sketches[2]) == DENSE_BYTES - HEADER_BYTES > len(sketches[0])

    await stores.redis.flushall()
    fresh = await stores.worker()
    assert await fresh.opener.open(fresh.site)
    assert [await stores.sketch(day) for day in days] == sketches
    assert registers(await stores.redis.get(WEEK_SKETCH)) == week
    assert (await fresh.count())._replace(at_ms=before.at_ms) == before
    assert await stores.agree(*days)


async def test_nothing_is_counted_before_the_restore_is_whole(stores: Stores, worker: Worker) -> None:
    """`ready` is the last write of one script: a beacon that counts finds the whole site."""
    await worker.count(batch(1, [1]))
    await worker.rollup.roll_up(worker.site)
    await stores.redis.flushall()
    await stores.redis.set(WEEK_SKETCH, b"no sketch")  # the script fails half way
    with pytest.raises(StoreDamaged):
        await worker.opener.open(worker.site)
    assert not await stores.redis.exists(f"ff1:{{{SITE}}}:ready")
    assert (await worker.send(batch(2))).reading is None
    assert await stores.redis.ttl(f"ff1:{{{SITE}}}:joining") in range(61)
    await stores.redis.delete(WEEK_SKETCH)
    assert await worker.opener.open(worker.site)
    assert (await worker.count(batch(2))).today_views == 2


async def test_a_restorer_that_slept_takes_nothing_back(stores: Stores, worker: Worker) -> None:
    """A worker read Postgres, was stopped, and wakes up an hour later, while other workers counted."""
    await worker.count(batch(1, range(10)))
    await worker.rollup.roll_up(worker.site)
    days, closed = await worker.postgres.open_days(SITE, Retention.at(stores.clock(), worker.site.zone))
    await worker.postgres.adjust(SITE, "since", 5, "since")
    await worker.count(batch(2, range(10, 60), views=99))
    await worker.roll_up_all_days()
    before = await worker.count()
    assert await worker.redis.open(SITE, days, closed)
    assert (await worker.count())._replace(at_ms=before.at_ms) == before
    await worker.rollup.roll_up(worker.site)
    assert await stores.agree(TODAY)


def flipped(sketch: bytes) -> tuple[bytes, bytes]:
    middle = len(sketch) // 2
    return sketch[:middle] + bytes([sketch[middle] ^ 1]) + sketch[middle + 1 :], checksum(sketch)


def with_its_checksum(damaged: bytes) -> tuple[bytes, bytes]:
    return damaged, checksum(damaged)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flipped, id="a flipped bit"),
        pytest.param(lambda sketch: (sketch, bytes(16)), id="another checksum"),
        pytest.param(lambda sketch: (sketch, b""), id="no checksum"),
        pytest.param(lambda sketch: with_its_checksum(sketch + b"\x00"), id="runs beyond the last register"),
        pytest.param(lambda sketch: with_its_checksum(sketch[:-1]), id="cut short"),
        pytest.param(lambda sketch: with_its_checksum(sketch[:4] + b"\x02" + sketch[5:]), id="unknown encoding"),
        pytest.param(lambda sketch: with_its_checksum(sketch[:4] + bytes([DENSE]) + sketch[5:]), id="wrong encoding"),
        pytest.param(lambda sketch: with_its_checksum(b"XYLL" + sketch[4:]), id="no sketch"),
        pytest.param(lambda _: with_its_checksum(b""), id="empty"),
        pytest.param(
            lambda _: with_its_checksum(b"HYLL" + bytes(HEADER_BYTES - 4) + b"\xff" * (DENSE_BYTES - HEADER_BYTES)),
            id="registers that no hash can have",
        ),
    ],
)
async def test_a_damaged_sketch_never_reaches_redis_and_its_number_is_kept(
    stores: Stores, worker: Worker, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis trusts run lengths and cached counts; crafted sketches have been a way to run code in it."""
    assert callable(damage)
    await worker.count(batch(1, range(300), views=300))
    await worker.rollup.roll_up(worker.site)
    row = await stores.row()
    await stores.sql.execute(
        "UPDATE footfall.site_day SET (sketch, checksum, ids) = ($1, $2, NULL)", *damage(row["sketch"])
    )
    await stores.redis.flushall()
    caplog.clear()
    fresh = await stores.worker()
    assert await fresh.opener.open(fresh.site)
    assert await stores.redis.pfcount(day_key(SITE, TODAY, "visitors")) == 0
    assert fresh.metric("footfall_damaged_sketches_total") == 1
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1

    read = await fresh.count(batch(2, range(50), views=310))
    assert read.today_views == 310
    await fresh.rollup.roll_up(fresh.site)
    after = await stores.row()
    assert (after["visitors"], after["views"]) == (row["visitors"], 310)
    assert await stores.agree(TODAY)  # the sketch is sound again, with the visitors since


async def test_a_wrong_checksum_beside_a_good_sketch_is_put_right(stores: Stores, worker: Worker) -> None:
    """While Redis still has the day, the next look at all days repairs the row."""
    await worker.count(batch(1, range(300)))
    await worker.rollup.roll_up(worker.site)
    await stores.sql.execute("UPDATE footfall.site_day SET checksum = '\\x00'")
    await worker.roll_up_all_days()
    row = await stores.row()
    assert row["checksum"] == checksum(row["sketch"])


async def test_a_believable_count_in_a_sketch_is_not_believed(stores: Stores, worker: Worker) -> None:
    """SET trusts the count that a sketch carries (one that claimed 123,456,789 was believed); PFMERGE works it out."""
    await worker.count(batch(1, range(100)))
    await worker.rollup.roll_up(worker.site)
    visitors = (await worker.count()).today_visitors
    sketch = (await stores.row())["sketch"]
    boasting = sketch[:8] + (123_456_789).to_bytes(8, "little") + sketch[16:]
    await stores.sql.execute("UPDATE footfall.site_day SET (sketch, checksum) = ($1, $2)", *with_its_checksum(boasting))
    await stores.redis.flushall()
    assert await worker.opener.open(worker.site)
    read = await worker.count()
    assert (read.today_visitors, read.week_visitors) == (visitors, visitors)


async def test_views_beyond_any_portal_survive_the_round_trip(stores: Stores, worker: Worker) -> None:
    """2^53 - 1 is the largest whole number that every reader on the way can hold."""
    await worker.count(batch(1, [1], views=2**53 - 1))
    await worker.rollup.roll_up(worker.site)
    await stores.redis.flushall()
    assert await worker.opener.open(worker.site)
    read = await worker.count()
    assert (read.today_views, read.week_views, read.total_views) == (2**53 - 1,) * 3
    assert await stores.logs() == {LOG.encode(): b"1:9007199254740991"}
    stores.clock.advance(2 * 86400)
    await worker.rollup.roll_up(worker.site)
    assert (await worker.count()).total_views == 2**53 - 1


async def test_a_site_that_is_not_ready_takes_no_days(stores: Stores, worker: Worker) -> None:
    """A few days alone are no whole site: `ready` has to come with all of them."""
    worker.changed.take(SITE)
    await stores.redis.flushall()
    with pytest.raises(StoreUnavailable, match="is not ready"):
        await worker.restore.merge_days(worker.site, [TODAY])
    assert await stores.redis.keys() == []
    assert SITE not in worker.changed


async def test_merged_days_are_compared_by_the_next_rollup(stores: Stores, worker: Worker) -> None:
    """Redis may have more of such a day than Postgres; a day that Postgres never had is empty."""
    await worker.count(batch(1, [1]))
    await worker.rollup.roll_up(worker.site)
    worker.changed.take(SITE)
    states = await worker.restore.merge_days(worker.site, [TODAY, TOMORROW])
    assert [(state.day, state.seq_of(LOG)) for state in states] == [(TODAY, 1), (TOMORROW, 0)]
    assert SITE in worker.changed
    assert worker.metric("footfall_joined_days_total", direction="to_redis") == 2
