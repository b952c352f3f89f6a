"""Several Redis servers as one: a cluster, or a primary with its replica and sentinels.

The one program of the embedded wheel is also a node of a cluster and, with `--sentinel`, a sentinel. Every server
listens on loopback.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS
from redis.exceptions import RedisError

from footfall.embedded.accounts import move
from footfall.embedded.servers import Valkey
from tests.support.ports import free_port
from tests.support.process import until
from tests.support.storage import RawRedis, plain_redis

NODE_TIMEOUT_MS = 1500
SERVICE = "counts"
KEYS_AT_ONCE = 100
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


class OpenValkey(Valkey):
    """A Valkey that listens on `port` of loopback too."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str] = NO_SETTINGS) -> None:
        self.port = free_port()
        own = {"port": str(self.port), "bind": "127.0.0.1", "repl-diskless-sync-delay": "0"}
        super().__init__(data_dir, own | dict(settings))

    @property
    def tcp_url(self) -> str:
        """Return the URL of the port."""
        return f"redis://127.0.0.1:{self.port}"


class ClusterNode(OpenValkey):
    """A node of a cluster."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str] = NO_SETTINGS) -> None:
        bus_port = free_port()
        own = {
            "cluster-enabled": "yes",
            "cluster-port": str(bus_port),
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            "cluster-require-full-coverage": "no",
            "cluster-config-file": "nodes.conf",
        }
        super().__init__(data_dir, own | dict(settings))
        self.bus_port = bus_port


class Sentinel(OpenValkey):
    """A sentinel of one service."""

    title = "Sentinel"

    def __init__(self, data_dir: Path, primary: OpenValkey) -> None:
        super().__init__(data_dir)
        self._primary = primary

    async def _prepare(self) -> None:
        await super()._prepare()
        file = self.folder / "sentinel.conf"
        if not file.exists():
            file.write_text(
                f"port {self.port}\nbind 127.0.0.1\nunixsocket {self.socket}\nunixsocketperm 700\n"
                f"pidfile {self._pid_file}\ndir {self.folder}\nset-proc-title no\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {self._primary.port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {NODE_TIMEOUT_MS}\n"
                f"sentinel failover-timeout {SERVICE} 5000\n"
            )
        if self.account:
            move(file, self.account)

    def _command(self) -> list[str]:
        return [str(self._binary), str(self.folder / "sentinel.conf"), "--sentinel"]


class RedisCluster:
    """Nodes of a cluster: the first half are primaries, each with a replica in the second half."""

    def __init__(self, nodes: Sequence[ClusterNode]) -> None:
        self.nodes = nodes
        self.primaries = nodes[: len(nodes) // 2]
        self.replicas = nodes[len(nodes) // 2 :]

    @property
    def url(self) -> str:
        """Return the URL for Footfall."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.primaries)}"

    async def form(self) -> None:
        """Make the nodes one cluster, and wait until each knows it."""
        first, count = self.nodes[0], len(self.primaries)
        shares = [REDIS_CLUSTER_HASH_SLOTS * number // count for number in range(count + 1)]
        for number, node in enumerate(self.primaries):
            await command(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            await command(node, "CLUSTER", "ADDSLOTSRANGE", shares[number], shares[number + 1] - 1)
        for node in self.nodes[1:]:
            await command(node, "CLUSTER", "MEET", "127.0.0.1", first.port, first.bus_port)
        await until_all(self.nodes, lambda node: knows(node, len(self.nodes)))
        for primary, replica in zip(self.primaries, self.replicas, strict=True):
            await command(replica, "CLUSTER", "REPLICATE", await node_id(primary))
        await until_all(self.nodes, self._is_well)

    async def wait_until_well(self) -> None:
        """Wait until every node that runs sees every slot served."""
        await until_all([node for node in self.nodes if node.running], _is_covered)

    async def _is_well(self, node: ClusterNode) -> bool:
        return await _is_covered(node) and (node in self.primaries or await _is_in_step(node))


class SentinelGroup:
    """A primary with its replica, and three sentinels that watch them."""

    def __init__(self, servers: Sequence[OpenValkey], sentinels: Sequence[Sentinel]) -> None:
        self.servers = servers
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        """Return the URL for Footfall."""
        sentinels = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{sentinels}/{SERVICE}"

    async def primary(self) -> OpenValkey:
        """Return the server that the last sentinel names as the primary."""
        _, port = await command(self.sentinels[-1], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(server for server in self.servers if server.port == int(port))

    async def wait_until_another(self, former: OpenValkey) -> None:
        """Wait until the sentinels name another primary."""

        async def is_another() -> bool:
            return await self.primary() is not former

        await until(is_another)

    async def wait_until_well(self) -> None:
        """Wait until the sentinels know each other and the replica follows."""

        async def is_well(sentinel: Sentinel) -> bool:
            service = await command(sentinel, "SENTINEL", "MASTER", SERVICE)
            facts = service if isinstance(service, dict) else dict(zip(service[::2], service[1::2], strict=True))
            known = {_text(name): _text(value) for name, value in facts.items()}
            return (known["num-other-sentinels"], known["num-slaves"]) == ("2", "1") and known["flags"] == "master"

        await until_all(self.sentinels, is_well)
        await self.wait_until_in_step()

    async def wait_until_in_step(self) -> None:
        """Wait until the other server follows the primary."""
        primary = await self.primary()
        await until_all([server for server in self.servers if server is not primary], _is_in_step)


@asynccontextmanager
async def redis_cluster(
    folder: Path, settings: Mapping[str, str] = NO_SETTINGS, primaries: int = 3
) -> AsyncIterator[RedisCluster]:
    """Run a cluster of some primaries, each with a replica."""
    async with AsyncExitStack() as exits:
        nodes = [ClusterNode(folder / f"node{number}", settings) for number in range(2 * primaries)]
        for node in nodes:
            exits.push_async_callback(node.stop)
        await asyncio.gather(*(node.start() for node in nodes))
        cluster = RedisCluster(nodes)
        await cluster.form()
        yield cluster


@asynccontextmanager
async def sentinel_group(folder: Path, settings: Mapping[str, str] = NO_SETTINGS) -> AsyncIterator[SentinelGroup]:
    """Run a primary with a replica, and three sentinels."""
    async with AsyncExitStack() as exits:
        primary = await exits.enter_async_context(OpenValkey(folder / "primary", settings))
        follows = {"replicaof": f"127.0.0.1 {primary.port}"}
        replica = await exits.enter_async_context(OpenValkey(folder / "replica", dict(settings) | follows))
        sentinels = [
            await exits.enter_async_context(Sentinel(folder / f"sentinel{number}", primary)) for number in range(3)
        ]
        group = SentinelGroup([primary, replica], sentinels)
        await group.wait_until_well()
        yield group


async def command(server: OpenValkey, *words: Any) -> Any:
    """Send one command to a server and return its answer."""
    async with plain_redis(server.tcp_url) as redis:
        return await redis.execute_command(*words)


async def info(server: OpenValkey, section: str) -> dict[str, Any]:
    """Return a section of a server's INFO."""
    async with plain_redis(server.tcp_url) as redis:
        facts: dict[str, Any] = await redis.info(section)
        return facts


async def node_id(node: ClusterNode) -> str:
    """Return the name of a node within its cluster."""
    return _text(await command(node, "CLUSTER", "MYID"))


async def knows(node: ClusterNode, count: int) -> bool:
    """Return whether a node knows that many nodes, itself included."""
    return int((await _cluster_info(node))["cluster_known_nodes"]) == count


class SlotMove:
    """The way of slots from one node to another, as `redis-cli --cluster reshard` takes it."""

    def __init__(self, giving: RawRedis, taking: RawRedis, ids: tuple[str, str], port: int) -> None:
        self.giving = giving
        self.taking = taking
        self._source_id, self._target_id = ids
        self._port = port

    async def begin(self, *slots: int) -> None:
        """Declare on both nodes that slots move."""
        await _set_slots(self.taking, slots, "IMPORTING", self._source_id)
        await _set_slots(self.giving, slots, "MIGRATING", self._target_id)

    async def keys_of(self, node: RawRedis, slot: int) -> list[bytes]:
        """Return keys of a slot that a node has."""
        keys: list[bytes] = await node.execute_command("CLUSTER", "GETKEYSINSLOT", slot, KEYS_AT_ONCE)
        return keys

    async def migrate(self, keys: Sequence[bytes | str]) -> None:
        """Move some keys; raises ResponseError where the target has one of them already."""
        await self.giving.execute_command("MIGRATE", "127.0.0.1", self._port, "", 0, 5000, "KEYS", *keys)

    async def keys(self, slot: int) -> None:
        """Move the keys of a slot, until it has none."""
        while keys := await self.keys_of(self.giving, slot):
            await self.migrate(keys)

    async def end(self, *slots: int) -> None:
        """Declare on both nodes that slots have moved, first on the one that has them."""
        for node in (self.taking, self.giving):
            await _set_slots(node, slots, "NODE", self._target_id)


@asynccontextmanager
async def moving(source: ClusterNode, target: ClusterNode) -> AsyncIterator[SlotMove]:
    """Yield the means to move slots between two nodes."""
    ids = await node_id(source), await node_id(target)
    async with plain_redis(source.tcp_url) as giving, plain_redis(target.tcp_url) as taking:
        yield SlotMove(giving, taking, ids, target.port)


async def until_all(servers: Sequence[Any], holds: Callable[[Any], Awaitable[bool]]) -> None:
    """Wait until something holds on each server; a server that does not answer is asked again."""
    for server in servers:
        await until(partial(_is_true, server, holds))


async def _set_slots(node: RawRedis, slots: Sequence[int], state: str, of_node: str) -> None:
    """Set the state of slots in one write: a node saves what it knows of its cluster, with an fsync, once for all."""
    async with node.pipeline(transaction=False) as pipeline:
        for slot in slots:
            pipeline.execute_command("CLUSTER", "SETSLOT", slot, state, of_node)
        await pipeline.execute()


async def _is_true(server: Any, holds: Callable[[Any], Awaitable[bool]]) -> bool:
    try:
        return await holds(server)
    except (RedisError, OSError):
        return False


async def _is_covered(node: ClusterNode) -> bool:
    facts = await _cluster_info(node)
    return facts["cluster_state"] == "ok" and int(facts["cluster_slots_ok"]) == REDIS_CLUSTER_HASH_SLOTS


async def _cluster_info(node: ClusterNode) -> dict[str, str]:
    answer = await command(node, "CLUSTER", "INFO")
    if isinstance(answer, dict):
        return answer
    return dict(line.split(":", 1) for line in _text(answer).split())


async def _is_in_step(replica: OpenValkey) -> bool:
    replication = await info(replica, "replication")
    return bool(replication["role"] == "slave" and replication["master_link_status"] == "up")


def _text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)
