"""When the rollup runs, and what it does while a store is away: its step raises nothing and forgets nothing."""

import asyncio
import logging
from datetime import date, timedelta
from pathlib import Path

import pytest

from footfall.embedded.servers import Postgres
from footfall.errors import StoreUnavailable
from footfall.model.availability import UP, Away
from footfall.model.site_id import SiteId
from footfall.stores.redis_store import day_key
from footfall.sync.group_rollup import RolledUp
from footfall.sync.rollup import FAILURES_MAX, FULL_EVERY_S
from footfall.sync.site_failures import BUSY_MAX_S
from tests.support.footfall import NOON, SITE
from tests.support.postgres_programs import run_program
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
    open_stores,
    period_of,
)

NOTHING_TO_SAVE = RolledUp(SITE, 0, 0)


async def test_only_sites_that_changed_are_rolled_up(stores: Stores, worker: Worker) -> None:
    """Thousands of idle sites must not cost a script call each every ten seconds."""
    assert await worker.rollup.step() == [NOTHING_TO_SAVE]
    assert await worker.rollup.step() == []
    await worker.count(batch(1, [1]))
    worker.changed.note(SITE)
    assert await worker.rollup.step() == [RolledUp(SITE, 1, 0)]
    assert await worker.rollup.step() == []


async def test_all_days_are_looked_at_at_start_and_hourly(stores: Stores, worker: Worker) -> None:
    """What was confirmed once may have been lost in Postgres since; only a look at all days notices it."""
    await worker.count(batch(1, [1]))
    assert [done.saved for done in await worker.rollup.step()] == [1]
    await stores.sql.execute("DELETE FROM footfall.site_day")
    assert await worker.rollup.step() == []
    stores.clock.advance(FULL_EVERY_S)
    assert [done.saved for done in await worker.rollup.step()] == [1]
    assert await stores.agree(TODAY)


async def test_beacons_that_come_during_a_full_rollup_do_not_make_the_next_one_full(
    stores: Stores, worker: Worker
) -> None:
    """A busy site always changes meanwhile: every rollup would be a full one, and none ever reported as done."""
    await worker.count(batch(1, [1]))

    async def busy() -> None:
        while True:
            worker.changed.note(SITE)
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
    await worker.rollup.step()
    stores.clock.set(next_monday + timedelta(hours=1, minutes=59))
    assert await stores.sql.fetchval("SELECT count(*) FROM footfall.salt WHERE week = $1", MONDAY) == 1
    await worker.rollup.step()
    stores.clock.set(next_monday + timedelta(hours=2))
    await worker.rollup.step()
    assert await stores.sql.fetchval("SELECT count(*) FROM footfall.salt WHERE week = $1", MONDAY) == 0
    assert await stores.redis.hget(f"ff1:{{{SITE}}}:closed", "through") == str(MONDAY + 6 * DAY).encode()


async def test_an_adjustment_reaches_the_total_by_itself(stores: Stores, worker: Worker) -> None:
    """The operator adds the old counter's number once; every page shows it within a rollup's time."""
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
    await worker.opener.open(worker.site)
    await worker.rollup.step()
    await stores.sql.execute("DELETE FROM footfall.adjustment")
    await worker.rollup.step()
    assert (await worker.count()).adjustments == 0


async def test_a_site_that_fails_is_tried_again_and_holds_up_no_other(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    """One damaged key must not keep a hundred portals from being saved."""
    worker = await stores.worker(sites=[SITE, "quiet"])
    await worker.opener.open(worker.site)
    await worker.count(batch(1, [1]))
    await stores.redis.rename(f"ff1:{{{SITE}}}:days", f"ff1:{{{SITE}}}:aside")
    await stores.redis.set(f"ff1:{{{SITE}}}:days", b"no set")
    assert [done.site_id for done in await worker.rollup.step()] == ["quiet"]
    assert worker.metric("footfall_rollup_errors_total") == 1
    await stores.redis.rename(f"ff1:{{{SITE}}}:aside", f"ff1:{{{SITE}}}:days")
    assert RolledUp(SITE, 1, 0) in await worker.rollup.step()
    assert await stores.agree(TODAY)


async def spoil_row(stores: Stores, site: SiteId) -> None:
    """Put a row there that Footfall cannot read; what it cannot read in Redis it mends."""
    await stores.sql.execute(
        "INSERT INTO footfall.site_day (site, day, visitors, views, logs)"
        """ VALUES ($1, $2, 0, 0, '{"a": ["what no program of ours wrote"]}')""",
        site,
        TODAY,
    )


async def test_a_site_that_keeps_failing_is_logged_once_and_once_more_when_it_is_well(
    stores: Stores, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """The site may fail for days, six times a minute; an operator must see in the log what is wrong now."""
    caplog.set_level(logging.INFO, "footfall.sync")
    await worker.count(batch(1, [1]))
    await spoil_row(stores, SITE)
    caplog.clear()
    for _ in range(4):
        assert await worker.rollup.step() == []
    (record,) = caplog.records
    assert (record.levelname, f"sites={SITE} error=StoreRefused" in record.getMessage()) == ("WARNING", True)
    await stores.sql.execute("DELETE FROM footfall.site_day")
    for _ in range(2):
        await worker.rollup.step()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert await stores.agree(TODAY)


async def test_sites_that_fail_hold_up_no_other_however_many_they_are(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    """A step tries few sites alone: those that are well are copied soon, and each failed site has its turn."""
    names = [SiteId(f"site{number}") for number in range(FAILURES_MAX + 4)]
    bad, good = names[:-2], names[-2:]
    worker = await stores.worker(sites=names)
    await worker.rollup.step()
    for name in bad:
        await worker.redis.record(name, period_of(TODAY), 300, batch(1, [1])._replace(site_id=name))
        await spoil_row(stores, name)
    stores.clock.advance(FULL_EVERY_S)
    assert {done.site_id for _ in range(2) for done in await worker.rollup.step()} == set(good)
    assert sorted(worker.rollup.failures.errors) == bad
    for name in bad[FAILURES_MAX:]:
        await stores.sql.execute("DELETE FROM footfall.site_day WHERE site = $1", name)
    mended = [done.site_id for _ in range(2) for done in await worker.rollup.step() if done.site_id in bad]
    assert set(mended) == set(bad[FAILURES_MAX:])
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_site_that_postgres_does_not_take_is_no_outage(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    """Only an operator can mend such a row: the other sites are rolled up, and no log line calls Postgres away."""
    another = SiteId("another")
    worker = await stores.worker(sites=[another, SITE])
    await worker.rollup.step()
    await stores.sql.execute("ALTER TABLE footfall.site_day ADD CHECK (site <> 'another')")
    for site in (another, SITE):
        await worker.redis.record(site, period_of(TODAY), 300, batch(1, [1])._replace(site_id=site))
        worker.changed.note(site)
    assert [done.site_id for done in await worker.rollup.step()] == [SITE]
    assert worker.rollup.postgres is UP
    assert worker.metric("footfall_store_up", store="postgres") == 1
    await stores.sql.execute("ALTER TABLE footfall.site_day DROP CONSTRAINT site_day_site_check")
    assert another in [done.site_id for done in await worker.rollup.step()]
    assert worker.rollup.failures.errors == {}


async def test_a_site_that_another_worker_holds_is_left_for_the_next_time(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    """A held row is no failure and no outage: the step rolls up the other sites, and later all days of this site."""
    worker = await stores.worker(sites=[SITE, "quiet"])
    await worker.rollup.step()
    for day in (TODAY, TOMORROW):
        await worker.count(batch(1, [1], day=day))
    stores.clock.advance(86400)
    worker.changed.note(SITE)
    await worker.rollup.step()
    await stores.sql.execute("DELETE FROM footfall.site_day WHERE day = $1", TOMORROW)
    stores.clock.advance(FULL_EVERY_S)
    before = worker.metric("footfall_rollup_last_success_timestamp_seconds")
    async with stores.sql.transaction():
        await stores.sql.execute("SELECT FROM footfall.site_day WHERE day = $1 FOR UPDATE", TODAY)
        assert [done.site_id for done in await worker.rollup.step()] == ["quiet"]
        worker.changed.note(SiteId("quiet"))
        assert [done.site_id for done in await worker.rollup.step()] == ["quiet"]
    assert (caplog.records, worker.metric("footfall_rollup_errors_total")) == ([], 0)
    assert (worker.rollup.postgres, worker.metric("footfall_store_up", store="postgres")) == (UP, 1)
    assert worker.metric("footfall_rollup_last_success_timestamp_seconds") == before
    assert await worker.rollup.step() == [RolledUp(SITE, 2, 0)]
    assert await stores.agree(TODAY, TOMORROW)
    assert await worker.rollup.step() == []


async def test_a_dump_that_is_restored_behind_our_back_is_filled_again_at_once(stores: Stores, tmp_path: Path) -> None:
    """Through a pooler no connection breaks: only the tables' file numbers show that a dump replaced them."""
    worker = await stores.worker()
    await worker.rollup.step()
    dump = tmp_path / "dump"
    await run_program(stores.postgres_url, "pg_dump", "--format=custom", f"--file={dump}")
    await worker.count(batch(1, [1]))
    worker.changed.note(SITE)
    await worker.rollup.step()
    await run_program(stores.postgres_url, "pg_restore", "--clean", "--if-exists", str(dump))
    assert await worker.rollup.step() == [RolledUp(SITE, 1, 0)]
    assert await stores.agree(TODAY)
    assert await worker.rollup.step() == []


async def test_postgres_away_costs_one_log_line_and_is_caught_up(
    redis_url: str, own_postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    """Away over three midnights: beacons count, nothing expires, and afterwards every day is in both stores."""
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
            worker.changed.note(SITE)
            assert read.total_visitors == total + 5
            total = read.total_visitors
            assert [await worker.rollup.step() for _ in range(3)] == [[], [], []]
            stores.clock.advance(86400)
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert worker.metric("footfall_store_up", store="postgres") == 0
        assert isinstance(worker.rollup.postgres, Away)
        assert worker.rollup.postgres.since_s == NOON.timestamp()
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


async def test_redis_away_is_no_error_of_the_step(stores: Stores, worker: Worker) -> None:
    """The loop that owns the rollup runs on; the next step tries the site again."""
    await worker.count(batch(1, [1]))
    await stores.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    results = [await worker.rollup.step(), await worker.rollup.step()]
    assert [done.saved for step in results for done in step] == [1]


async def test_an_older_schema_makes_the_rollup_wait_not_the_counting(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator starts a new program before `footfall migrate`: pages must show no difference."""
    worker = await stores.worker()
    await worker.rollup.step()
    await stores.sql.execute("UPDATE footfall.migration SET version = version - 100")
    worker.changed.note(SITE)
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
    """Two installations share a Redis: the second logs one error and counts nothing."""
    await stores.redis.set(f"ff1:{{{SITE}}}:ready", "theirs")
    worker = await stores.worker()
    for _ in range(3):
        assert await worker.rollup.step() == []
        assert not await worker.opener.open(worker.site)
        await worker.restore.report()
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    with pytest.raises(StoreUnavailable, match="another installation"):
        await worker.rollup.roll_up(worker.site)
    await stores.redis.delete(f"ff1:{{{SITE}}}:ready")
    assert await worker.opener.open(worker.site)


async def test_rows_that_another_session_holds_for_long_are_a_failure(
    stores: Stores, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """Another worker's rollup holds them for seconds; a forgotten transaction holds them for days, and was silent."""
    await worker.count(batch(1, [1]))
    await worker.rollup.step()
    async with stores.sql.transaction():
        await stores.sql.execute("SELECT FROM footfall.site_day FOR UPDATE")
        await worker.count(batch(2, [2]))
        worker.changed.note(SITE)
        await worker.rollup.step()
        assert worker.rollup.failures.by_reason() == []
        began_s = stores.clock()
        stores.clock.advance(BUSY_MAX_S)
        await worker.rollup.step()
        (failure,) = worker.rollup.failures.by_reason()
        assert (failure.site_ids, failure.since_s) == ([SITE], began_s)
        assert "another session holds rows" in failure.why
        assert worker.metric("footfall_sites_not_copied") == 1
        assert caplog.text.count("Sites cannot be rolled up") == 1
    await worker.rollup.step()
    assert worker.rollup.failures.by_reason() == []
    assert worker.metric("footfall_sites_not_copied") == 0
