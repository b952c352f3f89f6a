"""The weekly keys of the visitor hash: one per site and week for all workers, never invented twice, gone in time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from footfall.errors import Reason, Refused
from footfall.model.periods import week_end
from footfall.sync.salts import SALT_BYTES, WEEK, oldest_week, salt_ends_s
from tests.support.footfall import SITE, VIETNAM
from tests.support.storage import MONDAY, TODAY, Stores, Worker, batch, open_stores

NEXT_MONDAY = MONDAY + WEEK


@pytest.fixture
async def stores(redis_url: str, postgres_url: str) -> AsyncIterator[Stores]:
    """Both stores, migrated and empty."""
    async with open_stores(redis_url, postgres_url) as stores:
        yield stores


@pytest.fixture
async def worker(stores: Stores) -> Worker:
    """A worker whose site is ready."""
    worker = await stores.worker()
    assert await worker.restore.open_site(worker.site)
    return worker


async def saved_salts(stores: Stores) -> dict[object, bytes]:
    return {row["week"]: row["key"] for row in await stores.sql.fetch("SELECT week, key FROM footfall.salt")}


async def test_the_first_offer_is_in_force_for_all(stores: Stores) -> None:
    """Workers that start together must hash alike, or every visitor counts once per worker."""
    workers = [await stores.worker() for _ in range(4)]
    await asyncio.gather(*(worker.restore.open_site(worker.site) for worker in workers))
    for week in (MONDAY, NEXT_MONDAY):
        salts = {worker.salts.of(worker.site, week) for worker in workers}
        assert [len(salt or b"") for salt in salts] == [SALT_BYTES]
        assert await workers[0].redis.share_salts(SITE, {week: b"later"}, {week: 2**33}) == {week: salts.pop()}


async def test_next_weeks_key_is_made_a_week_ahead_and_saved(stores: Stores, worker: Worker) -> None:
    """At the week's turn every worker has it, and losing Redis then does not lose it."""
    salt = worker.salts.of(worker.site, NEXT_MONDAY)
    assert (await saved_salts(stores))[NEXT_MONDAY] == salt
    stores.clock.set(datetime.combine(NEXT_MONDAY, datetime.min.time(), VIETNAM))
    await worker.rollup.step(everything=True)
    assert worker.salts.of(worker.site, NEXT_MONDAY) == salt
    assert set(await saved_salts(stores)) == {MONDAY, NEXT_MONDAY, NEXT_MONDAY + WEEK}
    assert worker.metric("footfall_salts_lost_total") == 0


async def test_a_new_worker_on_an_emptied_redis_gets_the_old_key(stores: Stores, worker: Worker) -> None:
    """A key that was invented anew would count every visitor of the week a second time."""
    salt = worker.salts.of(worker.site, MONDAY)
    await stores.redis.flushall()
    fresh = await stores.worker()
    assert await fresh.restore.open_site(fresh.site)
    assert fresh.salts.of(fresh.site, MONDAY) == salt
    assert await stores.redis.get(f"ff1:{{{SITE}}}:salt:{MONDAY}") == salt


async def test_a_key_lives_in_redis_until_two_hours_after_its_week(stores: Stores, worker: Worker) -> None:
    """It expires by itself, also where no Footfall runs any more."""
    life_s = await stores.redis.ttl(f"ff1:{{{SITE}}}:salt:{MONDAY}")
    ends_s = week_end(MONDAY, VIETNAM) + 2 * 3600
    assert abs(await worker.redis.clock_s() + life_s - ends_s) <= 2
    assert salt_ends_s(worker.site, MONDAY) == ends_s


async def test_a_key_is_destroyed_everywhere_two_hours_after_its_week(stores: Stores, worker: Worker) -> None:
    """Until then a visitor who stays over the turn is recognised; after it nobody can tell who was who."""
    turn = datetime.combine(NEXT_MONDAY, datetime.min.time(), VIETNAM)
    for after_turn, known in ((timedelta(hours=1, minutes=59), True), (timedelta(hours=2), False)):
        stores.clock.set(turn + after_turn)
        await worker.rollup.step()
        assert (MONDAY in await saved_salts(stores)) is known
        assert (worker.salts.of(worker.site, MONDAY) is not None) is known
        assert (oldest_week(worker.site, stores.clock()) == MONDAY) is known


async def test_redis_fills_the_table_again_after_a_crash_of_postgres(stores: Stores, worker: Worker) -> None:
    """The table is unlogged, so that no key reaches a backup; a crash empties it."""
    assert (
        await stores.sql.fetchval("SELECT relpersistence FROM pg_class WHERE oid = 'footfall.salt'::regclass") == b"u"
    )
    before = await saved_salts(stores)
    await stores.sql.execute("TRUNCATE footfall.salt")
    await worker.rollup.step(everything=True)
    assert await saved_salts(stores) == before


async def test_a_worker_gives_both_stores_back_what_it_knows(stores: Stores, worker: Worker) -> None:
    """Redis emptied and Postgres crashed: as long as one worker lives, the week keeps its key."""
    salt = worker.salts.of(worker.site, MONDAY)
    await stores.redis.flushall()
    await stores.sql.execute("TRUNCATE footfall.salt")
    assert await worker.restore.open_site(worker.site)
    assert (await saved_salts(stores))[MONDAY] == salt
    assert worker.metric("footfall_salts_lost_total") == 0


async def test_a_lost_key_is_an_alarm_and_not_a_crash(
    stores: Stores, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """Visitors of this week count twice from now on, and the operator has to know it."""
    await stores.redis.flushall()
    await stores.sql.execute("TRUNCATE footfall.salt")
    fresh = await stores.worker()
    assert await fresh.restore.open_site(fresh.site)
    caplog.clear()
    assert await worker.restore.open_site(worker.site)
    assert worker.salts.of(worker.site, MONDAY) == fresh.salts.of(fresh.site, MONDAY)
    assert worker.metric("footfall_salts_lost_total") >= 1
    assert f"site={SITE} week={MONDAY}" in caplog.text
    assert fresh.metric("footfall_salts_lost_total") == 0


async def test_a_lost_key_flags_its_week_also_when_nobody_remembers_it(stores: Stores, worker: Worker) -> None:
    """A metric is gone after a restart; the journal of corrections is where the next operator looks."""
    await worker.count(batch(visitors=[1]))
    await worker.rollup.step(everything=True)
    await stores.redis.flushall()
    await stores.sql.execute("TRUNCATE footfall.salt")
    fresh = await stores.worker()
    for _ in range(2):
        assert await fresh.restore.open_site(fresh.site)
    assert fresh.metric("footfall_salts_lost_total") == 1
    (entry,) = await fresh.postgres.adjustments(SITE)
    assert (entry.id, entry.amount) == (f"salt-lost-{MONDAY}", 0)


async def test_a_key_that_only_redis_lost_comes_back_from_postgres(stores: Stores, worker: Worker) -> None:
    """The site is ready and only the one key is gone: a worker that starts then must not invent another."""
    salt = worker.salts.of(worker.site, MONDAY)
    await stores.redis.delete(f"ff1:{{{SITE}}}:salt:{MONDAY}")
    fresh = await stores.worker()
    assert await fresh.restore.open_site(fresh.site)
    assert fresh.salts.of(fresh.site, MONDAY) == salt


async def test_redis_rewrites_its_file_when_a_key_was_destroyed(stores: Stores, worker: Worker) -> None:
    """What was deleted can still be read in an append-only file until it is rewritten."""
    await worker.rollup.step(everything=True)
    await stores.redis.config_resetstat()
    stores.clock.set(datetime.combine(NEXT_MONDAY, datetime.min.time(), VIETNAM) + timedelta(hours=2))
    await worker.rollup.step()
    assert await rewrites(stores) == 1


async def rewrites(stores: Stores) -> int:
    """How often the server was asked for it since its statistics were reset."""
    statistics = await stores.redis.info("commandstats")
    return int(statistics.get("cmdstat_bgrewriteaof", {"calls": 0})["calls"])


async def test_without_a_key_a_beacon_is_refused(redis_url: str, stores: Stores) -> None:
    """Neither store tells: an invented key would be wrong, and an address is not put on a disk."""
    worker = await stores.worker()
    await stores.sql.execute("DROP SCHEMA footfall CASCADE")
    with pytest.raises(Refused) as refused:
        await worker.restore.salt(worker.site, MONDAY)
    assert refused.value.reason is Reason.NOT_READY
    assert await stores.redis.keys() == []


async def test_a_worker_that_starts_while_postgres_is_away_learns_the_key_from_redis(
    stores: Stores, worker: Worker
) -> None:
    """Counting goes on after a restart of Footfall too."""
    await stores.sql.execute("ALTER SCHEMA footfall RENAME TO away")
    fresh = await stores.worker()
    assert await fresh.restore.salt(fresh.site, MONDAY) == worker.salts.of(worker.site, MONDAY)
    assert (await fresh.count(batch(1, [1], day=TODAY))).today_visitors == 1
