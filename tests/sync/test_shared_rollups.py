"""More workers are not more work: one rollup of a site serves all, and a site at rest costs nothing."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import pytest

from footfall.model.site_id import SiteId
from tests.support.footfall import VIETNAM, FakeClock
from tests.support.storage import TODAY, Stores, Worker, batch, period_of

SITES = [SiteId(f"site{number:02}") for number in range(20)]
DAY_S = 86400.0
LONG_S = 1000.0
"""An interval that no test outlasts."""


async def start(stores: Stores, count: int) -> list[Worker]:
    """Some workers of one installation, each with a rollup that knows the interval; nothing has to be copied."""
    workers = [await stores.worker(sites=SITES, every_s=LONG_S) for _ in range(count)]
    for worker in workers:
        await worker.rollup.step()
    return workers


async def visit(workers: Sequence[Worker], seq: int = 1) -> None:
    """Each worker counts at each site, in a log of its own."""
    for worker in workers:
        for site_id in SITES:
            counted = batch(seq, [seq], log=f"{id(worker):016x}")._replace(site_id=site_id)
            await worker.redis.record(site_id, period_of(TODAY), 300, counted)
            worker.changed.note(site_id)


async def count_writes(stores: Stores) -> None:
    """Have Postgres count the rows of days that transactions write."""
    await stores.sql.execute(
        "CREATE TABLE footfall.written (site text);"
        " CREATE FUNCTION count_written() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO footfall.written VALUES (NEW.site); RETURN NULL; END $$;"
        " CREATE TRIGGER count_written AFTER INSERT OR UPDATE ON footfall.site_day"
        " FOR EACH ROW EXECUTE FUNCTION count_written()"
    )


async def written(stores: Stores) -> int:
    """How many rows were written since the last time."""
    rows = await stores.sql.fetch("DELETE FROM footfall.written RETURNING site")
    return len(rows)


async def looked(stores: Stores, site_id: SiteId, field: str = "looked") -> str:
    """What Redis remembers of the last look at a site."""
    return (await stores.redis.hget(f"ff1:{{{site_id}}}:closed", field) or b"").decode()


async def let_time_pass(stores: Stores, seconds: float) -> None:
    """Move all looks into the past."""
    for site_id in SITES:
        worker, _, at = (await looked(stores, site_id)).partition(":")
        moved = f"{worker}:{int(at) - int(seconds * 1e6)}"
        await stores.redis.hset(f"ff1:{{{site_id}}}:closed", "looked", moved)


@pytest.mark.parametrize("together", [False, True], ids=["in turn", "at once"])
async def test_eight_workers_cause_the_rollups_of_one(stores: Stores, together: bool) -> None:
    """Each of them counts at every site; eight rollups of one site in an interval would be eight times the work."""
    workers = await start(stores, 8)
    await count_writes(stores)
    rollups, rounds = 0, 5
    for seq in range(1, rounds + 1):
        await visit(workers, seq)
        if together:
            done = await asyncio.gather(*(worker.rollup.step() for worker in workers))
        else:
            done = [await worker.rollup.step() for worker in workers]
        rollups += sum(one.saved for of_worker in done for one in of_worker)
    assert rollups <= 1.2 * rounds * len(SITES)
    assert await written(stores) <= 1.2 * rounds * len(SITES)
    assert await stores.sql.fetchval("SELECT min(views) FROM footfall.site_day") == 8 * rounds


async def test_another_worker_takes_over_after_an_interval(stores: Stores) -> None:
    """The worker that rolled a site up may have ended; what it left undone is not forgotten by the others."""
    first, second = await start(stores, 2)
    await visit([first])
    await first.rollup.step()
    await visit([second])
    assert await second.rollup.step() == []
    assert set(second.changed) == set(SITES)
    await let_time_pass(stores, LONG_S)
    assert {done.saved for done in await second.rollup.step()} == {1}
    assert list(second.changed) == []
    assert await stores.sql.fetchval("SELECT min(views) FROM footfall.site_day") == 2


async def test_a_look_of_a_clock_that_was_ahead_stops_nobody(stores: Stores) -> None:
    """Its moment has not come: it would hold up every rollup until it has."""
    first, second = await start(stores, 2)
    await visit([first])
    await first.rollup.step()
    await visit([second])
    await let_time_pass(stores, -86400)
    assert len(await second.rollup.step()) == len(SITES)


async def test_the_last_rollup_of_a_worker_waits_for_no_other(stores: Stores) -> None:
    """All workers may be stopping: what this one has counted would stay in Redis alone."""
    first, second = await start(stores, 2)
    await visit([first])
    await first.rollup.step()
    await visit([second])
    assert {done.saved for done in await second.rollup.step(is_last=True)} == {1}
    assert {done.saved for done in await first.rollup.step(is_last=True)} == set()


async def test_a_worker_that_fails_a_site_leaves_it_to_the_others(stores: Stores) -> None:
    """It may be the one that Postgres refuses: with its looks it would keep the others away for ever."""
    first, second = await start(stores, 2)
    bad = SITES[3]
    await stores.sql.execute(f"ALTER TABLE footfall.site_day ADD CONSTRAINT bad CHECK (site <> '{bad}')")
    await visit([first])
    await first.rollup.step()
    before = await looked(stores, bad)
    await first.rollup.step()
    assert await looked(stores, bad) == before
    await stores.sql.execute("ALTER TABLE footfall.site_day DROP CONSTRAINT bad")
    await let_time_pass(stores, LONG_S)
    assert {done.site_id for done in await second.rollup.step() if done.saved} == {bad}


async def test_all_days_are_looked_at_by_one_worker(stores: Stores) -> None:
    """At every start, and each hour: a look at all days reads and compares two weeks of each site."""
    first, second = await start(stores, 2)
    for site_id in SITES:
        worker, _, _ = (await looked(stores, site_id, "looked_at_all")).split(":")
        assert (await looked(stores, site_id)).startswith(worker)
    assert first.metric("footfall_rollup_seconds_count") == 1
    assert list(second.changed) == SITES  # left to the first one a moment ago
    await visit([first])
    await first.rollup.step()
    await let_time_pass(stores, LONG_S)
    assert {done.saved for done in await second.rollup.step()} == {0}


async def test_a_clock_that_was_set_back_has_all_days_looked_at_again(stores: Stores) -> None:
    """It dropped sketches of days that it took for old: until they are back, a Redis that is lost has no copy."""
    clock = FakeClock(datetime.fromtimestamp(stores.clock(), VIETNAM))
    ahead = await stores.worker(sites=SITES, every_s=LONG_S, clock=clock)
    clock.advance(40 * DAY_S)
    (right,) = await start(stores, 1)
    await visit([right])
    await right.rollup.step()
    lacking = "SELECT count(*) FROM footfall.site_day WHERE sketch IS NULL"
    await ahead.rollup.step(is_last=True)
    assert await stores.sql.fetchval(lacking) == len(SITES)
    clock.set_back(40 * DAY_S)
    await let_time_pass(stores, LONG_S)
    await ahead.rollup.step()
    assert await stores.sql.fetchval(lacking) == 0


async def test_a_redis_that_is_another_one_is_looked_at_again(stores: Stores) -> None:
    """A copy from before has looks of before too: they say nothing of what this Redis lost since."""
    first, second = await start(stores, 2)
    await visit([first])
    await first.rollup.step()
    site_id = SITES[5]
    await stores.redis.delete(*await stores.redis.keys(f"ff1:{{{site_id}}}:day:*"))
    await stores.redis.delete(f"ff1:{{{site_id}}}:days")
    await stores.redis.set("ff1:server", "another")
    await let_time_pass(stores, LONG_S)
    done = {one.site_id: one.merged_back for one in await second.rollup.step()}
    assert done[site_id] == 1


async def test_sites_at_rest_cost_no_command(stores: Stores) -> None:
    """A worker with ten thousand portals, of which most have no visitor in the night."""
    (worker,) = await start(stores, 1)
    await visit([worker])
    await worker.rollup.step()
    await stores.redis.config_resetstat()
    for _ in range(3):
        assert await worker.rollup.step() == []
    stats = await stores.redis.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): of_command["calls"] for name, of_command in stats.items()}
    assert set(calls) <= {"config|resetstat", "info", "set", "get"}
    assert sum(calls.values()) <= 3 * 3 + 2
