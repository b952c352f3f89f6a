"""F28-F30 and F35: Redis comes back with less than it had, or with keys that it cannot read."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

from footfall.stores.redis_store import ready_key
from tests.chaos.postgres_faults import wait_for_rollup
from tests.chaos.redis_faults import log_sizes, wait_until_counted
from tests.chaos.relay import end_connection
from tests.chaos.signs import REDIS_AWAY, Metric, Signs, expect_named, expect_silent, some
from tests.chaos.stage import Stage
from tests.chaos.traffic import SITES
from tests.chaos.waiting import until

TORN_MAX_BYTES = 60_000
STOP_TAKES_S = 1.6
"""How long a stopping worker still answers, sends and copies, about."""
LAST_TURN = 2
HEALED_MAX_S = 30
RESTORED = Signs("INFO .*Redis was restored from Postgres and is ready.* days=[1-9]")
DAMAGED_KEYS = Signs(
    "ERROR .*Keys in Redis were damaged and are dropped",
    metric=Metric("footfall_damaged_sketches_total", some, is_counter=True),
)


async def tear_logs(stage: Stage) -> None:
    """Kill Redis and tear its append-only file within a command or a transaction; what was torn comes again."""
    stage.watcher.across_workers = False
    for _ in stage.rounds(2, 1):
        await stage.pause(0.5, 1.5)
        stage.valkey.kill()
        log, size = max(log_sizes(stage.valkey.folder).items(), key=lambda found: found[0].stat().st_mtime_ns)
        os.truncate(log, max(0, size - stage.chance.randrange(1, min(size, TORN_MAX_BYTES))))
        await _start_again(stage)
    await _expect_resent(stage, "nothing was torn")


async def bring_back_older_copies(stage: Stage) -> None:
    """Restart Redis on an RDB file from before the last rollups, then on any older one."""
    stage.watcher.across_workers = False
    live, copies = stage.valkey.folder / "dump.rdb", list[Path]()
    for turn in stage.rounds(2, 1):
        await stage.stores.redis.save()
        copies.append(stage.folder / f"{turn}.rdb")
        shutil.copyfile(live, copies[-1])
        if turn == 0:
            await wait_for_rollup(stage)
        await stage.pause(0.5, 1.5)
        stage.valkey.kill()
        shutil.copyfile(stage.chance.choice(copies), live)
        await _start_again(stage)
    await _expect_resent(stage, "the copies were not older")


async def _start_again(stage: Stage) -> None:
    await expect_named(stage, REDIS_AWAY)
    await stage.valkey.start()
    await wait_until_counted(stage)
    await expect_silent(stage, REDIS_AWAY)


async def _expect_resent(stage: Stage, otherwise: str) -> None:
    resent = await stage.metric("footfall_resent_batches_total")
    stage.expect(resent > 0, f"{otherwise}: no batch was sent again")


async def empty_at_stop(stage: Stage) -> None:
    """Empty Redis at any moment of a stop, from its signal to the last copy, and start Footfall again.

    In the last round the stop can copy nothing to Postgres, and Redis is emptied behind it: only the disk has the rest.
    """
    stage.watcher.across_workers = False
    (host,) = stage.hosts
    for turn in stage.rounds(3, 1):
        await wait_for_rollup(stage)
        await stage.pause(0.5, 1.5)
        if turn == LAST_TURN:
            host.postgres.requests = end_connection
        stopping = asyncio.create_task(host.stop())
        await stage.pause(0, STOP_TAKES_S)
        if turn == LAST_TURN:
            await stopping
        await stage.stores.redis.flushall()
        await stopping
        host.postgres.repair()
        async with stage.without_traffic():
            await host.start()
        await wait_until_counted(stage)
        await expect_named(stage, RESTORED)
        await expect_silent(stage, RESTORED)


async def change_types(stage: Stage) -> None:
    """Give every key of a site another type, one key after another, then all at once."""
    stage.watcher.across_workers = False
    redis, site = stage.stores.redis, stage.chance.choice(list(SITES))
    await wait_for_rollup(stage)
    pattern = ready_key(site).removesuffix("ready") + "*"
    types = {key: (await redis.type(key)).decode() for key in await redis.keys(pattern)}

    async def are_healed() -> bool:
        return all([(await redis.type(key)).decode() in (kind, "none") for key, kind in types.items()])

    keys = stage.chance.sample(sorted(types), len(types))
    one_by_one = keys[:2] if stage.quick else keys
    for some_keys in [*([key] for key in one_by_one), keys]:
        for key in some_keys:
            await _change_type(redis, key, types[key])
        await wait_until_counted(stage, site)
    await until(are_healed, HEALED_MAX_S)
    await expect_named(stage, DAMAGED_KEYS)
    await expect_silent(stage, DAMAGED_KEYS)


async def _change_type(redis: Any, key: bytes, kind: str) -> None:
    async with redis.pipeline(transaction=True) as at_once:
        at_once.delete(key)
        if kind == "list":
            at_once.set(key, "x")
        else:
            at_once.rpush(key, "x")
        await at_once.execute()
