"""F25 and F27: sentinels name another primary, and a standby of PostgreSQL that lags becomes the primary."""

import asyncio

import asyncpg

from tests.chaos.cluster_faults import AWAY_FOR_A_MOMENT
from tests.chaos.postgres_faults import wait_for_rollup
from tests.chaos.redis_faults import wait_until_counted
from tests.chaos.signs import expect_named, expect_silent
from tests.chaos.stage import Stage
from tests.support.redis_group import SERVICE, command


async def follow_sentinels(stage: Stage) -> None:
    """Fail over by hand and by death, while the sentinel that stands first in the URL hangs."""
    stage.watcher.across_workers = False
    group = stage.sentinels
    group.sentinels[0].suspend()
    try:
        for by_hand in (True, False):
            await stage.pause(1, 2)
            former = await group.primary()
            if by_hand:
                await command(group.sentinels[-1], "SENTINEL", "FAILOVER", SERVICE)
            else:
                former.kill()
                await expect_named(stage, AWAY_FOR_A_MOMENT)
            await group.wait_until_another(former)
            await wait_until_counted(stage)
            if not by_hand:
                await former.start()
            await group.wait_until_in_step()
            await wait_until_counted(stage)
    finally:
        group.sentinels[0].resume()
    await wait_for_rollup(stage)
    await expect_silent(stage, AWAY_FOR_A_MOMENT)


async def promote_standby(stage: Stage) -> None:
    """Cut a standby off, let the primary die some rollups later, and promote the standby, which lacks them."""
    assert stage.standby is not None
    await wait_for_rollup(stage)
    admin = await asyncpg.connect(stage.standby.url)
    try:
        await admin.execute("ALTER SYSTEM SET primary_conninfo = ''")
        await admin.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(1)
        before = await wait_for_rollup(stage)
        stale = await admin.fetchval("SELECT sum(views) FROM footfall.site_day")
        stage.expect(stale < sum(before.values()), "the standby does not lag")
    finally:
        await admin.close()
    stage.postgres.kill()
    await stage.pause(1, 2)
    await stage.standby.promote()
    stage.postgres = stage.standby
    await stage.connect_postgres()
    await wait_for_rollup(stage, before)
