"""The life of a weekly key of the visitor hash: it outlives a lost Redis, and it is destroyed in time."""

from datetime import datetime, timedelta

from footfall.model.periods import week_end
from footfall.model.retention import WEEK, Retention
from footfall.model.salt import salt_ends_s
from tests.support.footfall import SITE, VIETNAM
from tests.support.storage import MONDAY, Stores, Worker

NEXT_MONDAY = MONDAY + WEEK


async def test_a_new_worker_on_an_emptied_redis_gets_the_old_key(stores: Stores, worker: Worker) -> None:
    """A key that was invented anew would count every visitor of the week a second time."""
    salt = worker.salts.of(worker.site, MONDAY)
    await stores.redis.flushall()
    fresh = await stores.worker()
    assert await fresh.opener.open(fresh.site)
    assert fresh.salts.of(fresh.site, MONDAY) == salt
    assert await stores.redis.get(f"ff1:{{{SITE}}}:salt:{MONDAY}") == salt


async def test_a_key_lives_in_redis_until_two_hours_after_its_week(stores: Stores, worker: Worker) -> None:
    """It expires by itself, also where no Footfall runs any more."""
    life_s = await stores.redis.ttl(f"ff1:{{{SITE}}}:salt:{MONDAY}")
    ends_s = week_end(MONDAY, VIETNAM) + 2 * 3600
    assert abs(await worker.redis.clock_s() + life_s - ends_s) <= 2
    assert salt_ends_s(MONDAY, worker.site.zone) == ends_s


async def test_a_key_is_destroyed_everywhere_two_hours_after_its_week(stores: Stores, worker: Worker) -> None:
    """Until then a visitor who stays over the turn is recognised; without the key an id leads to no visitor."""
    turn = datetime.combine(NEXT_MONDAY, datetime.min.time(), VIETNAM)
    for after_turn, known in ((timedelta(hours=1, minutes=59), True), (timedelta(hours=2), False)):
        stores.clock.set(turn + after_turn)
        await worker.rollup.step()
        assert (MONDAY in await stores.salts()) is known
        assert (worker.salts.of(worker.site, MONDAY) is not None) is known
        assert (Retention.at(stores.clock(), worker.site.zone).salts_from == MONDAY) is known


async def test_redis_fills_the_table_again_after_a_crash_of_postgres(stores: Stores, worker: Worker) -> None:
    """The table is unlogged, so that no key reaches a backup; a crash empties it."""
    assert (
        await stores.sql.fetchval("SELECT relpersistence FROM pg_class WHERE oid = 'footfall.salt'::regclass") == b"u"
    )
    before = await stores.salts()
    await stores.sql.execute("TRUNCATE footfall.salt")
    await worker.roll_up_all_days()
    assert await stores.salts() == before
