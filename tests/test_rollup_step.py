"""When the rollup runs and what it does about stores that are away: its step raises nothing and forgets nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import date, timedelta

import pytest

from service.embedded import Postgres
from service.errors import StoreUnavailable
from service.redis_store import day_key
from service.rollup import FULL_EVERY_S, RolledUp
from tests.footfall import NOON, SITE
from tests.storage import DAY, LOG, MONDAY, OTHER_LOG, TODAY, Stores, batch, open_stores

NOTHING_TO_SAVE = RolledUp(SITE, 0, 0)


@pytest.fixture
async def stores(redis_url: str, postgres_url: str) -> AsyncIterator[Stores]:
    """Both stores, migrated and empty."""
    async with open_stores(redis_url, postgres_url) as stores:
        yield stores


async def test_only_sites_that_changed_are_rolled_up(stores: Stores) -> None:
    """Thousands of idle sites must not cost a script call each every ten seconds."""
    worker = await stores.worker()
    await worker.rollup.open_site(worker.site)
    assert await worker.rollup.step() == [NOTHING_TO_SAVE]
    assert await worker.rollup.step() == []
    await worker.count(batch(1, [1]))
    worker.rollup.note_change(SITE)
    assert await worker.rollup.step() == [RolledUp(SITE, 1, 0)]
    assert await worker.rollup.step() == []


async def test_all_days_are_looked_at_at_start_and_hourly(stores: Stores) -> None:
    """What was confirmed once may have been lost in Postgres since; nobody else would notice."""
    worker = await stores.worker()
    await worker.rollup.open_site(worker.site)
    await worker.count(batch(1, [1]))
    assert [done.saved for done in await worker.rollup.step()] == [1]
    await stores.sql.execute("DELETE FROM footfall.site_day")
    assert await worker.rollup.step() == []
    stores.clock.advance(FULL_EVERY_S)
    assert [done.saved for done in await worker.rollup.step()] == [1]
    assert await stores.agree(TODAY)


async def test_beacons_that_come_during_a_full_rollup_do_not_make_the_next_one_full(stores: Stores) -> None:
    """A busy site always changes meanwhile: every rollup would be a full one, and none ever reported as done."""
    worker = await stores.worker()
    await worker.rollup.open_site(worker.site)
    await worker.count(batch(1, [1]))

    async def busy() -> None:
        while True:
            worker.rollup.note_change(SITE)
            await asyncio.sleep(0)

    traffic = asyncio.create_task(busy())
    assert [done.saved for done in await worker.rollup.step()] == [1]
    assert await worker.rollup.step() == [NOTHING_TO_SAVE]
    traffic.cancel()
    assert worker.metric("footfall_rollup_last_success_timestamp_seconds") == stores.clock()


async def test_a_site_without_visitors_is_looked_at_when_its_day_closes(stores: Stores) -> None:
    """Its day moves to the closed ones, and last week's key of the visitor hash is destroyed in time."""
    worker = await stores.worker()
    await worker.rollup.step()
    next_monday = NOON + timedelta(days=5) - timedelta(hours=12)
    stores.clock.set(next_monday)
    await worker.rollup.step(everything=True)
    stores.clock.set(next_monday + timedelta(hours=1, minutes=59))
    assert await stores.sql.fetchval("SELECT count(*) FROM footfall.salt WHERE week = $1", MONDAY) == 1
    await worker.rollup.step()
    stores.clock.set(next_monday + timedelta(hours=2))
    await worker.rollup.step()
    assert await stores.sql.fetchval("SELECT count(*) FROM footfall.salt WHERE week = $1", MONDAY) == 0
    assert await stores.redis.hget(f"ff1:{{{SITE}}}:closed", "through") == str(MONDAY + 6 * DAY).encode()


async def test_an_adjustment_reaches_the_total_by_itself(stores: Stores) -> None:
    """The operator adds the old counter's number once; every page shows it within a rollup's time."""
    worker = await stores.worker()
    await worker.rollup.open_site(worker.site)
    await worker.rollup.step()
    before = await worker.count()
    assert await worker.postgres.adjust(SITE, "old-counter", 1_373_876, "old counter")
    await worker.rollup.step()
    after = await worker.count()
    assert (before.adjustments, after.adjustments) == (0, 1_373_876)
    assert before.revision != after.revision


async def test_adjustments_lost_with_an_old_dump_leave_the_total_too(stores: Stores) -> None:
    """What Redis shows is what the journal says, also when the journal went back."""
    worker = await stores.worker()
    await worker.postgres.adjust(SITE, "old-counter", 500, "old counter")
    await worker.rollup.open_site(worker.site)
    await worker.rollup.step()
    await stores.sql.execute("DELETE FROM footfall.adjustment")
    await worker.rollup.step()
    assert (await worker.count()).adjustments == 0


async def test_a_site_that_fails_is_tried_again_and_holds_up_no_other(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    """One damaged key must not keep a hundred portals from being saved."""
    worker = await stores.worker()
    await worker.rollup.open_site(worker.site)
    await worker.count(batch(1, [1]))
    sketch = day_key(SITE, TODAY, "visitors")
    await stores.redis.rename(sketch, "aside")
    await stores.redis.set(sketch, b"no sketch")
    assert await worker.rollup.step() == []
    assert worker.metric("footfall_rollup_errors_total") == 1
    await stores.redis.rename("aside", sketch)
    assert [done.saved for done in await worker.rollup.step()] == [1]
    assert await stores.agree(TODAY)


async def test_postgres_away_costs_one_log_line_and_is_caught_up(
    redis_url: str, own_postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    """Away over three midnights: counting goes on, nothing expires, and afterwards every day is in both stores."""
    caplog.set_level(logging.INFO)
    days: list[date] = []
    async with open_stores(redis_url, own_postgres.url) as stores:
        worker = await stores.worker()
        await worker.rollup.step()
        await stores.sql.close()
        await own_postgres.stop()
        caplog.clear()
        total = 0
        for number in range(4):
            days.append(TODAY + number * DAY)
            read = await worker.count(batch(1, range(number, number + 5), day=days[-1], views=2))
            worker.rollup.note_change(SITE)
            assert read.total_visitors == total + 5
            total = read.total_visitors
            assert [await worker.rollup.step() for _ in range(3)] == [[], [], []]
            stores.clock.advance(86400)
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert worker.metric("footfall_store_up", store="postgres") == 0
        assert await stores.redis.ttl(day_key(SITE, TODAY, "visitors")) == -1

        await own_postgres.start()
        assert [done.saved for done in await worker.rollup.step()] == [4]
        assert len(caplog.records) == 2
        assert worker.metric("footfall_store_up", store="postgres") == 1
        assert await stores.redis.ttl(day_key(SITE, TODAY, "visitors")) > 0
        read = await worker.count()
        assert (read.total_visitors, read.total_views) == (20, 8)
    async with open_stores(redis_url, own_postgres.url) as stores:
        assert await stores.agree(*days)


async def test_redis_away_is_no_error_of_the_step(redis_url: str, postgres_url: str, stores: Stores) -> None:
    """The loop that owns the rollup goes on; the site is tried again."""
    worker = await stores.worker()
    await worker.rollup.open_site(worker.site)
    await worker.count(batch(1, [1]))
    await stores.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    results = [await worker.rollup.step(), await worker.rollup.step()]
    assert [done.saved for step in results for done in step] == [1]


async def test_an_older_schema_makes_the_rollup_wait_not_the_counting(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    """A new program is started before `footfall migrate`: pages must not notice."""
    worker = await stores.worker()
    await worker.rollup.step()
    await stores.sql.execute("UPDATE footfall.migration SET version = version - 100")
    worker.rollup.note_change(SITE)
    await worker.count(batch(1, [1], log=OTHER_LOG))
    assert [await worker.rollup.step(), await worker.rollup.step()] == [[], []]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "run `footfall migrate`" in caplog.text
    await worker.count(batch(1, [1], log=LOG))
    await stores.sql.execute("UPDATE footfall.migration SET version = version + 100")
    assert [done.saved for done in await worker.rollup.step()] == [1]


async def test_a_newer_schema_is_accepted(stores: Stores) -> None:
    """Migrations only add: the old workers run on while the new ones start."""
    worker = await stores.worker()
    await stores.sql.execute("INSERT INTO footfall.migration (version, name) VALUES (9999, 'later')")
    assert await worker.rollup.step() == [NOTHING_TO_SAVE]


async def test_a_foreign_redis_is_reported_once_and_left_alone(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    """Two installations on one Redis: the second one says so and counts nothing, without filling the log."""
    await stores.redis.set(f"ff1:{{{SITE}}}:ready", "theirs")
    worker = await stores.worker()
    for _ in range(3):
        assert await worker.rollup.step() == []
        assert not await worker.rollup.open_site(worker.site)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    with pytest.raises(StoreUnavailable, match="another installation"):
        await worker.rollup.roll_up(worker.site)
    await stores.redis.delete(f"ff1:{{{SITE}}}:ready")
    assert await worker.rollup.open_site(worker.site)
