"""The merge of one site between real stores: rollups, losses and late batches in any order end in equality."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pytest

from footfall.model.batch import Answer
from footfall.model.day_state import DayState
from footfall.model.retention import SKETCHES_RETAINED, Retention
from footfall.model.snapshot import Snapshot
from footfall.model.sums import Tally
from footfall.stores.postgres_store import Saved
from footfall.stores.redis_store import day_key
from footfall.sync.group_rollup import RolledUp
from footfall.sync.rollup import FULL_EVERY_S
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
    reference,
    save_one,
)

YESTERDAY = TODAY - DAY


async def look(worker: Worker, *, all_days: bool = True) -> Snapshot:
    snapshot = await worker.redis.snapshot(SITE, [], all_days=all_days)
    assert snapshot is not None
    return snapshot


async def save(worker: Worker, days: Sequence[DayState]) -> Saved:
    """Save some days alone, and look at no day before today."""
    snapshot = Snapshot(days, changes={}, present=[state.day for state in days], salts={})
    retention = replace(Retention.at(worker.clock(), worker.site.zone), needed_from=TODAY)
    return await save_one(worker.postgres, SITE, snapshot, retention)


async def forget_in_redis(stores: Stores, *days: date) -> None:
    """Remove days from Redis with their index, as in a Redis that fell back to an old copy."""
    for day in days:
        await stores.redis.delete(*(day_key(SITE, day, part) for part in ("visitors", "ids", "logs")))
        await stores.redis.srem(f"ff1:{{{SITE}}}:days", str(day))
        await stores.redis.hdel(f"ff1:{{{SITE}}}:dirty", str(day))


async def test_a_rollup_brings_the_day_to_postgres(stores: Stores, worker: Worker) -> None:
    """Sketch, count and logs lie beside each other, and reports read a stable view."""
    await worker.count(batch(1, range(300), views=400))
    await worker.count(batch(1, range(200, 500), views=2**40, log=OTHER_LOG))
    assert await worker.rollup.roll_up(worker.site) == RolledUp(SITE, 1, 0)
    assert await stores.agree(TODAY)
    report = await stores.sql.fetchrow("SELECT * FROM footfall.report_day")
    counted = {"site": SITE, "day": TODAY, "visitors": 500, "views": 2**40 + 400, "imported": False}
    assert dict(report or {}) == counted


async def test_a_row_that_says_the_same_is_not_written_again(stores: Stores, worker: Worker) -> None:
    """The 12 KB of a sketch every ten seconds, for every day in Redis, would wear out the write-ahead log."""
    await worker.count(batch(1, range(100)))
    await worker.rollup.roll_up(worker.site)
    written_by = (await stores.row())["written_by"]
    await worker.roll_up_all_days()
    assert (await stores.row())["written_by"] == written_by
    await worker.count(batch(2, [1]))
    await worker.rollup.roll_up(worker.site)
    assert (await stores.row())["written_by"] != written_by


async def test_two_rollups_that_commit_in_reverse_order_lose_nothing(stores: Stores, worker: Worker) -> None:
    """The stale rollup finds that the row knows more, and leaves the row alone."""
    await worker.count(batch(1, [1], views=3))
    stale = await look(worker)
    await worker.count(batch(2, [2], views=9))
    assert (await save(worker, (await look(worker)).days)).ahead == []
    written_by = (await stores.row())["written_by"]
    assert [state.logs for state in (await save(worker, stale.days)).ahead] == [{LOG: (2, 9), "f": (9, 0)}]
    row = await stores.row()
    assert (row["views"], row["visitors"], row["written_by"]) == (9, 2, written_by)


async def test_a_snapshot_taken_before_redis_was_emptied_still_counts(stores: Stores, worker: Worker) -> None:
    """Redis is restored without the snapshot, which is committed then: the next rollup merges the rest back."""
    await worker.count(batch(1, range(50)))
    await worker.rollup.roll_up(worker.site)
    await worker.count(batch(2, range(50, 90)))
    snapshot = await look(worker)
    await stores.redis.flushall()
    assert await worker.opener.open(worker.site)
    await worker.count(batch(1, [1000], log=OTHER_LOG))
    await save(worker, snapshot.days)
    assert (await worker.rollup.roll_up(worker.site)).merged_back == 1
    assert await stores.agree(TODAY)
    assert await stores.logs() == {LOG.encode(): b"2:2", OTHER_LOG.encode(): b"1:1"}
    assert await stores.sketch() == await reference(stores.redis, [*range(90), 1000])


async def test_a_redis_that_fell_back_is_merged_from_the_row(stores: Stores, worker: Worker) -> None:
    """A failover to a lagging replica: what Postgres has comes back without any worker."""
    await worker.count(batch(1, range(50)))
    older = await look(worker)
    await worker.count(batch(2, range(400)))
    await worker.rollup.roll_up(worker.site)
    await forget_in_redis(stores, TODAY)
    await worker.redis.merge(SITE, older.days)
    assert (await worker.rollup.roll_up(worker.site)).merged_back == 1
    assert await stores.logs() == {LOG.encode(): b"2:2"}
    assert await stores.sketch() == await reference(stores.redis, range(400))
    assert worker.metric("footfall_joined_days_total", direction="to_redis") >= 1


async def test_a_redis_that_fell_back_by_days_gets_all_its_days_back(stores: Stores, worker: Worker) -> None:
    """An old copy of Redis has `ready` but not the days since: without traffic in them no batch would ask for them."""
    friday = TOMORROW + DAY
    for day in (TODAY, TOMORROW, friday):
        await worker.count(batch(1, range(day.day, day.day + 20), day=day))
        await worker.rollup.roll_up(worker.site)
        stores.clock.advance(86400)
    stores.clock.advance(-86400)
    before = await worker.count()
    await forget_in_redis(stores, TOMORROW, friday)
    await stores.redis.delete(f"ff1:{{{SITE}}}:week:{MONDAY}:visitors")
    assert (await worker.rollup.roll_up(worker.site)).merged_back == 2
    assert (await worker.count())._replace(at_ms=before.at_ms) == before
    assert await stores.agree(TODAY, TOMORROW, friday)


async def test_a_sketch_in_postgres_only_grows(stores: Stores, worker: Worker) -> None:
    """Redis has a day's logs and an emptier sketch: what it lost comes back from the row, and is not lost there too."""
    await worker.count(batch(1, range(800)))
    await worker.rollup.roll_up(worker.site)
    await stores.redis.delete(day_key(SITE, TODAY, "visitors"), day_key(SITE, TODAY, "ids"))
    await stores.redis.pfadd(day_key(SITE, TODAY, "visitors"), b"another")
    await worker.count(batch(2, range(800, 830)))
    assert (await worker.rollup.roll_up(worker.site)).merged_back == 1
    assert await stores.agree(TODAY)
    await stores.redis.pfadd("whole", *(visitor.to_bytes(16, "big") for visitor in range(830)), b"another")
    assert await stores.sketch() == (await stores.redis.get("whole"))[16:]
    assert (await worker.roll_up_all_days()).merged_back == 0


async def test_two_lineages_end_as_their_union(stores: Stores, worker: Worker) -> None:
    """Split brain: each side counted batches of other workers, and one rollup of the lost side was committed."""
    await worker.count(batch(1, range(10)))
    await worker.rollup.roll_up(worker.site)
    fork = await look(worker)
    await worker.count(batch(2, range(10, 60)))
    await save(worker, (await look(worker)).days)
    await forget_in_redis(stores, TODAY)
    await worker.redis.merge(SITE, fork.days)
    await worker.count(batch(1, range(700, 800), log=OTHER_LOG, views=30))
    assert (await worker.rollup.roll_up(worker.site)).merged_back == 1
    assert await stores.agree(TODAY)
    assert await stores.logs() == {LOG.encode(): b"2:2", OTHER_LOG.encode(): b"1:30"}
    assert await stores.sketch() == await reference(stores.redis, [*range(60), *range(700, 800)])
    assert (await stores.row())["views"] == 32


async def test_two_workers_roll_up_while_both_count(stores: Stores, worker: Worker) -> None:
    """Any number of workers may roll up at any time."""
    other = await stores.worker()
    for seq in range(1, 9):
        await asyncio.gather(
            worker.count(batch(seq, range(seq * 10, seq * 10 + 30))),
            other.count(batch(seq, range(500, 500 + seq), log=OTHER_LOG)),
            worker.rollup.roll_up(worker.site),
            other.roll_up_all_days(),
        )
    await worker.rollup.roll_up(worker.site)
    assert await stores.agree(TODAY)
    assert (await look(worker, all_days=False)).days == []


async def test_rollups_of_the_same_days_in_another_order_do_not_deadlock(stores: Stores, worker: Worker) -> None:
    """Unordered, each of two transactions would hold the row that the other one needs."""
    first, middle, last = (DayState(MONDAY + n * DAY, 1, None, {LOG: (1, 1)}) for n in range(3))
    await save(worker, [first, middle, last])
    newer = [DayState(state.day, 1, None, {LOG: (2, 2)}) for state in (first, middle, last)]
    other = await stores.worker()
    async with stores.sql.transaction():
        await stores.sql.execute("SELECT FROM footfall.site_day WHERE day = $1 FOR UPDATE", middle.day)
        saving = [
            asyncio.create_task(save(worker, [newer[0], newer[1], newer[2]])),
            asyncio.create_task(save(other, [newer[2], newer[1], newer[0]])),
        ]
        while await stores.sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < 2:
            assert not any(task.done() for task in saving)
    assert [saved.ahead for saved in await asyncio.gather(*saving)] == [[], []]


@pytest.mark.parametrize("saved_before", [True, False], ids=["Postgres has it", "Postgres never had it"])
async def test_a_late_batch_for_a_day_that_left_redis_counts_there(
    stores: Stores, worker: Worker, saved_before: bool
) -> None:
    """From a worker's disk, days later: the day comes back from Postgres, counts, and is confirmed again."""
    if saved_before:
        await worker.count(batch(1, range(20)))
        await worker.rollup.roll_up(worker.site)
    stores.clock.advance(9 * 86400)
    await worker.rollup.roll_up(worker.site)
    await forget_in_redis(stores, TODAY)
    late = batch(1, range(10, 40), views=8, log=OTHER_LOG)
    assert (await worker.send(late)).answer is Answer.OLD
    await worker.restore.merge_days(worker.site, [TODAY])
    await worker.count(late)
    await worker.rollup.roll_up(worker.site)
    assert await stores.agree(TODAY)
    assert await stores.sketch() == await reference(stores.redis, range(0 if saved_before else 10, 40))
    read, row = await worker.count(), await stores.row()
    assert (read.total_visitors, read.total_views) == (row["visitors"], row["views"])
    assert row["views"] == (9 if saved_before else 8)
    assert await stores.redis.ttl(day_key(SITE, TODAY, "visitors")) > 0


async def test_a_week_that_is_over_is_whole_again_after_a_late_visitor(stores: Stores, worker: Worker) -> None:
    """Its union was made again from Wednesday alone, once Thursday had left Redis; then Wednesday has a new visitor."""
    for day in (TODAY, TOMORROW):
        await worker.count(batch(1, range(10 * day.day, 10 * day.day + 7), day=day))
    await worker.rollup.roll_up(worker.site)
    stores.clock.advance(7 * 86400)
    await worker.rollup.roll_up(worker.site)
    await forget_in_redis(stores, TOMORROW)
    week = f"ff1:{{{SITE}}}:week:{MONDAY}"
    await stores.redis.delete(f"{week}:visitors", f"{week}:ids")
    await stores.redis.copy(day_key(SITE, TODAY, "visitors"), f"{week}:visitors")
    await worker.count(batch(2, [1000]))
    assert await stores.redis.pfcount(f"{week}:visitors") == 8
    assert (await worker.rollup.roll_up(worker.site)).merged_back == 1
    assert await stores.sql.fetchval("SELECT visitors FROM footfall.site_week WHERE week = $1", MONDAY) == 15
    assert await stores.agree(TODAY, TOMORROW)
    assert (await worker.count()).span("last_week") == Tally(15, 3)
    assert (await worker.roll_up_all_days()).merged_back == 0
    assert await stores.redis.ttl(f"{week}:visitors") > 0


async def test_sketches_go_after_35_days_and_the_numbers_stay(stores: Stores, worker: Worker) -> None:
    """A late batch for such a day still adds its views, and never lowers the visitors."""
    visitors = (await worker.count(batch(1, range(100), views=100))).today_visitors
    await worker.rollup.roll_up(worker.site)
    stores.clock.advance(SKETCHES_RETAINED.total_seconds())
    await worker.rollup.roll_up(worker.site)
    assert (await stores.row())["sketch"] is not None
    stores.clock.advance(86400)
    await worker.rollup.roll_up(worker.site)
    row = await stores.row()
    assert (row["sketch"], row["checksum"], row["visitors"], row["views"]) == (None, None, visitors, 100)

    await forget_in_redis(stores, TODAY)
    await worker.restore.merge_days(worker.site, [TODAY])
    await worker.count(batch(2, [5, 1000], views=110))
    await worker.rollup.roll_up(worker.site)
    row = await stores.row()
    assert (row["sketch"], row["visitors"], row["views"]) == (None, visitors, 110)
    assert await worker.postgres.durable([(SITE, TODAY, LOG), (SITE, TODAY, "none")]) == [2, 0]


async def test_an_unconfirmed_sketch_is_never_dropped_for_its_age(stores: Stores, worker: Worker) -> None:
    """Postgres was away for six weeks: a sketch that comes so late stays until its day is confirmed."""
    await worker.count(batch(1, range(100)))
    stores.clock.advance(42 * 86400)
    await worker.rollup.roll_up(worker.site)
    assert await stores.agree(TODAY)


async def test_an_old_dump_is_filled_again_from_redis(stores: Stores, worker: Worker) -> None:
    """Days that are still in Redis are written again by the next look at all days."""
    await worker.count(batch(1, range(10)))
    await worker.count(batch(1, range(10), day=TOMORROW))
    await worker.rollup.roll_up(worker.site)
    await stores.sql.execute("CREATE TABLE dump AS TABLE footfall.site_day")
    await worker.count(batch(2, range(100)))
    await worker.rollup.roll_up(worker.site)
    await stores.sql.execute("DELETE FROM footfall.site_day")
    await stores.sql.execute("INSERT INTO footfall.site_day SELECT * FROM dump WHERE day = $1", TODAY)
    worker.changed.note(SITE)
    stores.clock.advance(FULL_EVERY_S)
    await worker.rollup.step()
    assert await stores.agree(TODAY, TOMORROW)


async def test_the_total_is_the_same_before_and_after_a_day_closes(stores: Stores, worker: Worker) -> None:
    """The total stays at midnight and at two o'clock, with a rollup between any two readings."""
    await worker.count(batch(1, range(37), views=50))
    stores.clock.advance(12 * 3600)
    seen = []
    for _ in range(4):
        for do in (worker.count(), worker.rollup.roll_up(worker.site), worker.count()):
            await do
            read = await worker.count()
            seen.append((read.total_visitors, read.total_views, read.week_visitors))
        stores.clock.advance(3600)
    assert set(seen) == {(37, 50, 37)}
    assert Retention.at(stores.clock(), worker.site.zone).closed_through == TODAY


async def test_amounts_that_overflow_stop_no_rollup(stores: Stores) -> None:
    """They may have been written before the table bounded them; the site's newest days must be copied all the same."""
    worker = await stores.worker()
    await stores.sql.execute("ALTER TABLE footfall.adjustment DROP CONSTRAINT amount_is_bounded")
    await stores.sql.execute("ALTER TABLE footfall.site_day DROP CONSTRAINT counts_are_bounded")
    for name in ("a", "b"):
        await stores.sql.execute(
            "INSERT INTO footfall.adjustment (site, id, amount, reason) VALUES ($1, $2, 9000000000000000000, 'x')",
            SITE,
            name,
        )
    for day in (MONDAY - DAY, MONDAY - 2 * DAY):
        await stores.sql.execute(
            "INSERT INTO footfall.site_day (site, day, visitors, views, logs)"
            " VALUES ($1, $2, 9000000000000000000, 9000000000000000000, '{}')",
            SITE,
            day,
        )
    await worker.rollup.step()
    await worker.count(batch(1, [1]))
    worker.changed.note(SITE)
    await worker.rollup.step()
    assert worker.rollup.failures.errors == {}
    assert (await stores.row())["visitors"] == 1
    assert (await worker.count()).adjustments == 2**53 - 1
