"""F10: a lagging replica is promoted, and two primaries get writes at once."""

import asyncio

from redis.asyncio import Redis

from footfall.embedded.servers import Valkey
from tests.chaos.redis_faults import wait_until_counted
from tests.chaos.relay import Hold, open_relay, pass_reply
from tests.chaos.stage import DEBUGGED, Stage, socket_of
from tests.chaos.waiting import until

SYNC_MAX_S = 15


async def promote_and_split(stage: Stage) -> None:
    """Kill the primary and promote a lagging replica; then promote again while half of the hosts stay behind."""
    stage.watcher.across_workers = False
    first = stage.valkey
    second = await stage.exits.enter_async_context(Valkey(stage.folder / "second", DEBUGGED))

    await _replicate(stage, first, second)
    first.kill()
    for host in stage.hosts:
        host.redis.switch(socket_of(second))
    await wait_until_counted(stage)

    await first.start()
    await _replicate(stage, second, first)
    for host in stage.hosts[::2]:
        host.redis.switch(socket_of(first))
    await asyncio.sleep(5)
    for host in stage.hosts:
        host.redis.switch(socket_of(first))
    await wait_until_counted(stage)


async def _replicate(stage: Stage, primary: Valkey, replica: Valkey) -> None:
    """Let `replica` follow, let it fall behind by a second or two, and promote it."""
    async with open_relay(socket_of(primary)) as link, Redis.from_url(replica.url) as redis:
        await redis.replicaof("127.0.0.1", link.port)

        async def is_in_step() -> bool:
            return bool((await redis.info("replication"))["master_link_status"] == "up")

        await until(is_in_step, SYNC_MAX_S)
        await stage.pause(1, 2)
        link.replies = Hold(pass_reply)
        await stage.pause(1, 2)
        await redis.replicaof("NO", "ONE")
