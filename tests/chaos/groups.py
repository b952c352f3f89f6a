"""Several servers in the place of one Redis or PostgreSQL, and how the checks reach them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from redis.asyncio.cluster import ClusterNode
from redis.asyncio.cluster import RedisCluster as ClusterClient
from redis.asyncio.sentinel import Sentinel

from footfall.embedded.servers import USER
from tests.support.postgres_group import OpenPostgres, Standby
from tests.support.redis_group import SERVICE, RedisCluster, SentinelGroup, redis_cluster, sentinel_group


class GroupKind(StrEnum):
    """A group of Redis servers."""

    CLUSTER = "cluster"
    SENTINELS = "sentinels"


def open_group(kind: GroupKind, folder: Path) -> AbstractAsyncContextManager[RedisCluster | SentinelGroup]:
    """Run such a group."""
    return redis_cluster(folder) if kind is GroupKind.CLUSTER else sentinel_group(folder)


@asynccontextmanager
async def client_of(group: RedisCluster | SentinelGroup) -> AsyncIterator[Any]:
    """Yield a client that reads what the group holds, past every worker; redis-py's own follow moves and failovers."""
    if isinstance(group, RedisCluster):
        client: Any = ClusterClient(startup_nodes=[ClusterNode("127.0.0.1", node.port) for node in group.nodes])
    else:
        ports = [("127.0.0.1", sentinel.port) for sentinel in group.sentinels]
        client = Sentinel(ports).master_for(SERVICE)  # type: ignore[no-untyped-call]
    try:
        yield client
    finally:
        await client.aclose()


def url_of_both(primary: OpenPostgres, standby: Standby) -> str:
    """Return the URL that names both hosts."""
    return f"postgresql://{USER}@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres?sslmode=disable"
