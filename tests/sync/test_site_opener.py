"""How a site is opened: each salt is shared before it counts, a lost salt is an alarm, and one task opens for all."""

import asyncio
from datetime import datetime

import pytest

from footfall.errors import Reason, Refused
from footfall.model.retention import WEEK
from footfall.model.salt import SALT_BYTES, Salt
from footfall.sync.site_opener import SALT_LOST, SiteOpener
from tests.support.footfall import SITE, VIETNAM
from tests.support.storage import MONDAY, TODAY, Stores, Worker, batch

NEXT_MONDAY = MONDAY + WEEK


async def test_a_new_site_is_ready_with_its_key_already_in_postgres(stores: Stores, worker: Worker) -> None:
    """Its first key of the visitor hash must not be lost with Redis in the first ten seconds."""
    assert await stores.sql.fetchval("SELECT count(*) FROM footfall.salt WHERE week = $1", MONDAY) == 1
    installation = await stores.sql.fetchval("SELECT id FROM footfall.installation")
    assert (await stores.redis.get(f"ff1:{{{SITE}}}:ready")).decode() == installation
    assert (await worker.count()).total_visitors == 0


async def test_however_many_ask_a_worker_opens_a_site_once(stores: Stores) -> None:
    """Hundreds of beacons meet a site that is not ready; one task asks Postgres for all of them."""
    worker = await stores.worker()
    assert all(await asyncio.gather(*(worker.opener.open(worker.site) for _ in range(50))))
    assert worker.metric("footfall_joined_days_total", direction="to_redis") == 0
    opened = await stores.sql.fetchval("SELECT count(*) FROM footfall.salt")
    assert opened == 2  # this week's and the next one's
    assert isinstance(worker.opener, SiteOpener)


async def test_two_openings_at_once_are_one(stores: Stores, worker: Worker) -> None:
    """All workers notice an emptied Redis in the same second."""
    await worker.count(batch(1, range(100), views=100))
    await worker.rollup.roll_up(worker.site)
    await stores.redis.flushall()
    others = [await stores.worker() for _ in range(3)]
    opened = await asyncio.gather(*(other.opener.open(other.site) for other in [worker, *others] * 2))
    assert all(opened)
    assert len({other.salts.of(other.site, MONDAY) for other in [worker, *others]}) == 1
    await worker.rollup.roll_up(worker.site)
    assert await stores.agree(TODAY)
    assert (await worker.count()).today_views == 100


async def test_the_first_offer_is_in_force_for_all(stores: Stores) -> None:
    """Workers that start together must hash alike, or every visitor counts once per worker."""
    workers = [await stores.worker() for _ in range(4)]
    await asyncio.gather(*(worker.opener.open(worker.site) for worker in workers))
    for week in (MONDAY, NEXT_MONDAY):
        salts = {worker.salts.of(worker.site, week) for worker in workers}
        assert [len(salt or b"") for salt in salts] == [SALT_BYTES]
        later = Salt(week, b"later", 2**33)
        assert await workers[0].redis.share_salts(SITE, [later]) == {week: salts.pop()}


async def test_next_weeks_key_is_made_a_week_ahead_and_saved(stores: Stores, worker: Worker) -> None:
    """At the week's turn every worker has the key, and the loss of Redis then does not lose it."""
    salt = worker.salts.of(worker.site, NEXT_MONDAY)
    assert (await stores.salts())[NEXT_MONDAY] == salt
    stores.clock.set(datetime.combine(NEXT_MONDAY, datetime.min.time(), VIETNAM))
    await worker.roll_up_all_days()
    assert worker.salts.of(worker.site, NEXT_MONDAY) == salt
    assert set(await stores.salts()) == {MONDAY, NEXT_MONDAY, NEXT_MONDAY + WEEK}
    assert worker.metric("footfall_salts_lost_total") == 0


async def test_a_worker_gives_both_stores_back_what_it_knows(stores: Stores, worker: Worker) -> None:
    """Redis was emptied and Postgres crashed: as long as one worker lives, the week keeps its key."""
    salt = worker.salts.of(worker.site, MONDAY)
    await stores.redis.flushall()
    await stores.sql.execute("TRUNCATE footfall.salt")
    assert await worker.opener.open(worker.site)
    assert (await stores.salts())[MONDAY] == salt
    assert worker.metric("footfall_salts_lost_total") == 0
    assert await worker.postgres.events(SITE) == []


async def test_a_key_that_only_redis_lost_comes_back_from_postgres(stores: Stores, worker: Worker) -> None:
    """The site is ready and lacks the one key: a worker that starts then must not invent another."""
    salt = worker.salts.of(worker.site, MONDAY)
    await stores.redis.delete(f"ff1:{{{SITE}}}:salt:{MONDAY}")
    fresh = await stores.worker()
    assert await fresh.opener.open(fresh.site)
    assert fresh.salts.of(fresh.site, MONDAY) == salt


async def test_a_lost_key_is_an_alarm_and_not_a_crash(
    stores: Stores, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """Visitors of this week count twice from now on, and the operator has to know it."""
    await stores.redis.flushall()
    await stores.sql.execute("TRUNCATE footfall.salt")
    fresh = await stores.worker()
    assert await fresh.opener.open(fresh.site)
    caplog.clear()
    assert await worker.opener.open(worker.site)
    assert worker.salts.of(worker.site, MONDAY) == fresh.salts.of(fresh.site, MONDAY)
    assert worker.metric("footfall_salts_lost_total") >= 1
    assert f"site={SITE} week={MONDAY}" in caplog.text
    assert fresh.metric("footfall_salts_lost_total") == 0


async def test_a_lost_key_is_an_event_of_its_week_although_no_worker_remembers_the_key(
    stores: Stores, worker: Worker
) -> None:
    """A metric ends with its worker. The journal holds corrections alone, and an alarm changes no public revision."""
    await worker.count(batch(visitors=[1]))
    await worker.roll_up_all_days()
    before = await worker.count()
    await stores.redis.flushall()
    await stores.sql.execute("TRUNCATE footfall.salt")
    fresh = await stores.worker()
    for _ in range(2):
        assert await fresh.opener.open(fresh.site)
    assert fresh.metric("footfall_salts_lost_total") == 1
    (event,) = await fresh.postgres.events(SITE)
    assert (event.kind, event.detail) == (SALT_LOST, str(MONDAY))
    assert await fresh.postgres.adjustments(SITE) == []
    await fresh.roll_up_all_days()
    after = await fresh.count()
    assert (after.revision, after.adjustments) == (before.revision, 0)


async def test_a_key_that_a_ready_redis_and_postgres_lost_is_an_alarm(stores: Stores, worker: Worker) -> None:
    """A clock that was a week ahead, or a damaged value, takes the one key from Redis, and a crash Postgres' copy."""
    await worker.count(batch(visitors=[1]))
    await worker.roll_up_all_days()
    await stores.redis.delete(f"ff1:{{{SITE}}}:salt:{MONDAY}")
    await stores.sql.execute("TRUNCATE footfall.salt")
    first, second = [await stores.worker() for _ in range(2)]
    for fresh in (first, second):
        assert await fresh.opener.open(fresh.site)
    assert first.salts.of(first.site, MONDAY) == second.salts.of(second.site, MONDAY)
    assert [fresh.metric("footfall_salts_lost_total") for fresh in (first, second)] == [1, 0]
    assert [(event.kind, event.detail) for event in await first.postgres.events(SITE)] == [(SALT_LOST, str(MONDAY))]


async def test_a_new_week_without_visitors_lost_no_key(stores: Stores, worker: Worker) -> None:
    """After two weeks in which Footfall did not run, Redis is ready and has no key of this week: it needed none."""
    await worker.count(batch(visitors=[1]))
    await worker.roll_up_all_days()
    stores.clock.set(datetime.combine(NEXT_MONDAY + WEEK, datetime.min.time(), VIETNAM))
    fresh = await stores.worker()
    assert await fresh.opener.open(fresh.site)
    assert fresh.metric("footfall_salts_lost_total") == 0


async def test_workers_that_notice_the_same_lost_key_record_one_event(stores: Stores, worker: Worker) -> None:
    """Each worker raises its alarm; a report mentions the week once."""
    other = await stores.worker()
    assert await other.opener.open(other.site)
    await stores.redis.flushall()
    await stores.sql.execute("TRUNCATE footfall.salt")
    fresh = await stores.worker()
    assert await fresh.opener.open(fresh.site)
    for loser in (worker, other):
        assert await loser.opener.open(loser.site)
        assert loser.metric("footfall_salts_lost_total") == 1
    assert [(event.kind, event.detail) for event in await worker.postgres.events(SITE)] == [(SALT_LOST, str(MONDAY))]


async def test_without_a_key_a_beacon_is_refused(stores: Stores) -> None:
    """Neither store has a key: an invented key would be wrong, and an address is not put on a disk."""
    worker = await stores.worker()
    await stores.sql.execute("DROP SCHEMA footfall CASCADE")
    with pytest.raises(Refused) as refused:
        await worker.opener.salt(worker.site, MONDAY)
    assert refused.value.reason is Reason.NOT_READY
    assert await stores.redis.keys() == []


async def test_a_worker_that_starts_while_postgres_is_away_learns_the_key_from_redis(
    stores: Stores, worker: Worker
) -> None:
    """Footfall counts after a restart, too."""
    await stores.sql.execute("ALTER SCHEMA footfall RENAME TO away")
    fresh = await stores.worker()
    assert await fresh.opener.salt(fresh.site, MONDAY) == worker.salts.of(worker.site, MONDAY)
    assert (await fresh.count(batch(1, [1], day=TODAY))).today_visitors == 1
