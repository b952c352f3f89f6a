"""F4-F6 and F11: Redis is killed, rewound, emptied, hangs, or answers errors."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from redis.exceptions import RedisError

from footfall.stores.redis_store import day_key, ready_key
from tests.chaos.relay import answer_instead
from tests.chaos.stage import Stage
from tests.chaos.traffic import SITES, Answered
from tests.chaos.waiting import until

STUCK_MAX_S = 30
LOOK_EVERY_S = 0.005
HALF_RESTORED = """
    if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    return redis.call('EXISTS', KEYS[2]) + redis.call('EXISTS', KEYS[3])
"""


async def kill(stage: Stage) -> None:
    """Kill Redis five times, in both modes of its append-only file; rewind it by a second or two between rollups."""
    stage.watcher.across_workers = False
    for turn in stage.rounds(5, 2):
        await stage.stores.redis.config_set("appendfsync", "always" if turn % 2 else "everysec")
        sizes = log_sizes(stage.valkey.folder)
        await stage.pause(1, 2)
        stage.valkey.kill()
        if turn % 2 == 0:
            for file, size in sizes.items():
                os.truncate(file, size)
        await stage.pause(0.2, 1.5)
        await stage.valkey.start()
        await wait_until_counted(stage)


async def empty(stage: Stage) -> None:
    """Empty Redis, by command and by losing its folder; nothing is counted before the restore from Postgres."""
    stage.watcher.across_workers = False
    async with never_half_restored(stage):
        for turn in stage.rounds(4, 2):
            await stage.pause(1, 3)
            if turn % 2 == 0:
                await stage.stores.redis.flushall()
            else:
                stage.valkey.kill()
                for file in stage.valkey.folder.glob("appendonlydir/*"):
                    file.unlink()
                await stage.valkey.start()
            await wait_until_counted(stage)


async def hang(stage: Stage) -> None:
    """Let Redis hang for three seconds: the same batch comes again with its seq, and Redis recognises the duplicate."""
    for _ in stage.rounds(2, 1):
        stage.valkey.suspend()
        await asyncio.sleep(3)
        stage.valkey.resume()
        await wait_until_counted(stage)
    duplicates = await stage.metric("footfall_flushes_total", 'answer="dup"')
    stage.expect(duplicates > 0, "no batch was recognised as one that had come before")


async def errors(stage: Stage) -> None:
    """Let Redis refuse in every way it can; no beacon is answered 200 then, and no write is partial."""
    redis = stage.stores.redis
    for refuse in (_read_only, _out_of_memory, _busy, _paused, _no_scripts, _loading):
        await refuse(stage)
        await wait_until_counted(stage)
    await redis.config_set("maxmemory", 0)
    stage.expect(stage.ledger.server_errors == 0, f"server errors: {dict(stage.ledger.statuses)}")


async def wait_until_counted(stage: Stage, site: str = "") -> None:
    """Wait until a new beacon, of this site if one is named, is answered 200."""
    await wait_for_answer(stage, 200, site)


async def wait_for_answer(stage: Stage, status: int, site: str = "") -> None:
    """Wait until a new beacon is answered with this status; where none is, the row has a problem."""
    now_s, known = time.monotonic(), len(stage.traffic.answers)

    def is_new(answer: Answered) -> bool:
        return answer.status == status and answer.asked_s > now_s and site in ("", answer.site)

    try:
        await until(lambda: any(map(is_new, stage.traffic.answers[known:])), STUCK_MAX_S)
    except TimeoutError:
        stage.problems.append(f"no beacon{' of ' * bool(site)}{site} was answered {status} any more")


@asynccontextmanager
async def never_half_restored(stage: Stage) -> AsyncIterator[None]:
    """Check all the time whether a Redis that is not ready holds days."""
    script = stage.stores.redis.register_script(HALF_RESTORED)
    ended = asyncio.Event()

    async def look() -> None:
        while not ended.is_set():
            for site in SITES:
                keys = [ready_key(site), *(day_key(site, stage.day, part) for part in ("visitors", "logs"))]
                with suppress(RedisError):
                    stage.expect(not await script(keys), f"{site} was half restored")
            await asyncio.sleep(LOOK_EVERY_S)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        ended.set()
        await looking


def log_sizes(folder: Path) -> dict[Path, int]:
    """Return the growing files of Redis' append-only log, and their sizes."""
    return {file: file.stat().st_size for file in folder.glob("appendonlydir/*.incr.aof")}


async def _read_only(stage: Stage) -> None:
    await stage.stores.redis.replicaof("127.0.0.1", 1)
    await stage.pause(0.5, 1.5)
    await stage.stores.redis.replicaof("NO", "ONE")


async def _out_of_memory(stage: Stage) -> None:
    await stage.stores.redis.config_set("maxmemory", 1)
    await stage.pause(0.5, 1.5)
    await stage.stores.redis.config_set("maxmemory", 0)


async def _busy(stage: Stage) -> None:
    await stage.stores.redis.config_set("busy-reply-threshold", 20)
    endless = asyncio.ensure_future(stage.stores.redis.eval("while true do end", 0))
    await stage.pause(0.5, 1.5)
    await stage.stores.redis.script_kill()
    with suppress(RedisError):
        await endless


async def _paused(stage: Stage) -> None:
    await stage.stores.redis.client_pause(1300, all=False)
    await stage.pause(1.4)


async def _no_scripts(stage: Stage) -> None:
    for _ in range(5):
        await stage.stores.redis.script_flush()
        await stage.pause(0.1)


async def _loading(stage: Stage) -> None:
    for host in stage.hosts:
        host.redis.requests = answer_instead(b"LOADING the dataset is being read into memory")
    await stage.pause(0.5, 1.5)
    for host in stage.hosts:
        host.redis.repair()
