"""Twice as many workers for the same beacons are hardly more work for Redis and PostgreSQL."""

from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import asyncpg

from footfall import sql_folder
from footfall.delivery.pending import View
from footfall.process.app import open_services, open_sites
from footfall.stores.migrations import migrate
from tests.support.footfall import HOST, FakeClock, settings_for
from tests.support.storage import RawRedis

SITES, INTERVALS, BEACONS = 2, 2, 40
"""Each site has as many beacons in an interval of ten seconds as four a second bring: each comes alone."""
HOUR_US = 3_600_000_000
MOST = 1.2
COUNT_ROWS = """
    CREATE TABLE footfall.written (site text);
    CREATE FUNCTION count_written() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO footfall.written VALUES (NEW.site); RETURN NULL; END $$;
    CREATE TRIGGER count_written AFTER INSERT OR UPDATE ON footfall.site_day
    FOR EACH ROW EXECUTE FUNCTION count_written()
"""


async def let_an_hour_pass(redis: RawRedis, site_ids: list[str]) -> None:
    """Move the last look at each site into the past: a worker leaves to the others what one looked at just now."""
    for site_id in site_ids:
        key = f"ff1:{{{site_id}}}:closed"
        worker, _, at = (await redis.hget(key, "looked") or b":0").decode().partition(":")
        await redis.hset(key, "looked", f"{worker}:{int(at) - HOUR_US}")


async def cost(
    number: int, redis: RawRedis, sql: asyncpg.Connection, urls: tuple[str, str], folder: Path
) -> list[float]:
    """Return script calls, commands and rows of days for each beacon, with so many workers to which they go in turn."""
    site_ids = [f"{uuid4().hex[:8]}-{turn}" for turn in range(SITES)]
    sites = {site_id: {"name": "Cổng thử", "hosts": [HOST]} for site_id in site_ids}
    clock = FakeClock()
    async with AsyncExitStack() as stack:
        workers = []
        for turn in range(number):
            settings = settings_for(*urls, folder / f"{number}-{turn}", sites=sites)
            workers.append(await stack.enter_async_context(open_services(settings, clock, clock.monotonic)))
            await open_sites(workers[-1])
            await workers[-1].copy()
        await sql.execute("DELETE FROM footfall.written")
        await redis.config_resetstat()
        for beacon in range(INTERVALS * BEACONS):
            for site_id in site_ids:
                worker = workers[beacon % number]
                site = worker.settings.sites[site_id]
                day = worker.periods.now(site.zone)[1].day
                await worker.recorder.record(site, day, uuid4().bytes, None, View())
            if (beacon + 1) % BEACONS == 0:
                clock.advance(10)
                await let_an_hour_pass(redis, site_ids)
                for worker in workers:
                    await worker.copy()
        by_command = await redis.info("commandstats")
        rows = await sql.fetchval("SELECT count(*) FROM footfall.written")
        saved = await sql.fetchval("SELECT sum(views) FROM footfall.site_day WHERE site = ANY($1)", site_ids)
    beacons = SITES * INTERVALS * BEACONS
    assert saved == beacons
    commands = sum(of_command["calls"] for of_command in by_command.values())
    return [by_command["cmdstat_evalsha"]["calls"] / beacons, commands / beacons, rows / beacons]


async def test_twice_the_workers_are_hardly_more_work_for_the_stores(
    redis_url: str, postgres_url: str, redis: RawRedis, tmp_path: Path
) -> None:
    """Else a second host would need a second Redis, and the eighth would be the last."""
    await migrate(postgres_url, sql_folder())
    sql = await asyncpg.connect(postgres_url)
    try:
        await sql.execute(COUNT_ROWS)
        costs = {number: await cost(number, redis, sql, (redis_url, postgres_url), tmp_path) for number in (1, 2, 4, 8)}
    finally:
        await sql.close()
    for number in (2, 4, 8):
        before, after = costs[number // 2], costs[number]
        assert all(now <= MOST * then for then, now in zip(before, after, strict=True)), costs
