"""Which Redis server holds a site: the only one, the primary that sentinels name, or the owner of a cluster's slot.

A cluster says MOVED where another server holds a slot. Nothing has run then, so the call is sent there, once. ASK and
TRYAGAIN are never followed: they come while a slot moves, and a script that followed would write keys that it does not
declare on the new server, where MIGRATE then finds them and stops. Such beacons go to the spool for the moment.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from footfall.errors import StoreUnavailable
from footfall.settings.store_urls import RedisKind, RedisUrl, Server
from footfall.stores.redis_server import Call, RedisServer, ask_once, failure, make_pool

QUESTION_SHARE = 0.25
"""Of the deadline of a call: one question to a sentinel or to a node of a cluster, so that a first one that hangs
leaves time for others."""
ASK_AGAIN_AFTER_S = 0.3


class Topology(ABC):
    """The servers of one URL."""

    @abstractmethod
    async def deliver(self, calls: Sequence[Call]) -> None:
        """Send each call to the server that holds its key, all calls of a server at once; raises StoreUnavailable."""

    @abstractmethod
    async def servers(self) -> Sequence[RedisServer]:
        """Return every server that holds sites; raises StoreUnavailable where none is known."""

    @abstractmethod
    def name_of(self, key: str) -> str:
        """Name the server that holds a key, as far as it is known now."""

    @abstractmethod
    async def close(self) -> None:
        """Close all connections."""


class OneServer(Topology):
    """The usual case, which costs nothing more than its server."""

    def __init__(self, text: str, timeout_s: float) -> None:
        self._server = RedisServer(make_pool(text, timeout_s), timeout_s)

    async def deliver(self, calls: Sequence[Call]) -> None:
        await self._server.exchange(calls)
        for call in calls:
            if call.moved is not None:
                call.fail(failure(call.moved))

    async def servers(self) -> Sequence[RedisServer]:
        return [self._server]

    def name_of(self, _: str) -> str:
        return "redis"

    async def close(self) -> None:
        await self._server.close()


class _Changing(Topology):
    """Servers that change: it is asked which they are at the start and after each failure, in the background."""

    def __init__(self, url: RedisUrl, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._question_s = timeout_s * QUESTION_SHARE
        self._asking: asyncio.Task[None] | None = None
        self._asked_at_s = float("-inf")
        self._why = StoreUnavailable("redis", "was not asked yet")

    @property
    @abstractmethod
    def _is_known(self) -> bool:
        """Whether a server is known to send calls to."""

    @abstractmethod
    async def _ask(self) -> None:
        """Ask which servers there are, and take them over; raises StoreUnavailable."""

    def ask_soon(self) -> None:
        """Ask again which servers there are, unless that was asked a moment ago."""
        now_s = asyncio.get_running_loop().time()
        if self._asking is None and now_s >= self._asked_at_s + ASK_AGAIN_AFTER_S:
            self._asked_at_s = now_s
            self._asking = asyncio.create_task(self._try_to_ask())

    async def _try_to_ask(self) -> None:
        try:
            await self._ask()
        except StoreUnavailable as error:
            self._why = error
        finally:
            self._asking = None

    async def _learn(self) -> None:
        """Wait until a server is known, no longer than a call may take; raises StoreUnavailable."""
        self.ask_soon()
        if self._asking is not None:
            await asyncio.wait([self._asking], timeout=self._timeout_s)
        if not self._is_known:
            raise type(self._why)(self._why.store, self._why.sentence)

    def _open(self, server: Server) -> RedisServer:
        pool = make_pool(self._url.server_url(server), self._timeout_s)
        return RedisServer(pool, self._timeout_s, server, self.ask_soon)

    @abstractmethod
    def _open_servers(self) -> list[RedisServer]:
        """Return the servers that are in use."""

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        for server in self._open_servers():
            await server.close()


class SentinelService(_Changing):
    """The primary of a service, as its sentinels name it."""

    def __init__(self, url: RedisUrl, timeout_s: float) -> None:
        super().__init__(url, timeout_s)
        self._sentinels = list(url.servers)
        self._primary: RedisServer | None = None

    @property
    def _is_known(self) -> bool:
        return self._primary is not None

    async def deliver(self, calls: Sequence[Call]) -> None:
        (primary,) = await self.servers()
        await primary.exchange(calls)

    async def servers(self) -> Sequence[RedisServer]:
        if self._primary is None:
            await self._learn()
        return [self._primary] if self._primary else []

    def name_of(self, _: str) -> str:
        return self._primary.name if self._primary else "redis"

    async def _ask(self) -> None:
        """Ask the sentinels in turn, the one that answered last first; the server that they name must be a primary."""
        complaints = []
        for sentinel in list(self._sentinels):
            try:
                primary = await self._primary_by(sentinel)
            except StoreUnavailable as error:
                self._sentinels.remove(sentinel)
                self._sentinels.append(sentinel)
                complaints.append(f"{sentinel}: {error.sentence}")
                continue
            if self._primary is None or self._primary.address != primary:
                former, self._primary = self._primary, self._open(primary)
                if former is not None:
                    await former.close()  # its calls fail and come again, to the new one
            return
        raise StoreUnavailable("redis", f"no sentinel names a primary: {'; '.join(complaints)}")

    async def _primary_by(self, sentinel: Server) -> Server:
        named = await ask_once(
            self._url.sentinel_url(sentinel),
            "SENTINEL GET-MASTER-ADDR-BY-NAME",
            self._url.service,
            timeout_s=self._question_s,
        )
        if named is None:
            raise StoreUnavailable("redis", f"knows no service {self._url.service}")
        primary = Server(_text(named[0]), int(named[1]))
        role, *_ = await ask_once(self._url.server_url(primary), "ROLE", timeout_s=self._question_s)
        if _text(role) != "master":
            raise StoreUnavailable("redis", f"names {primary}, which is a replica")
        return primary

    def _open_servers(self) -> list[RedisServer]:
        return [self._primary] if self._primary else []


class Cluster(_Changing):
    """The servers of a cluster, and which of them holds each slot."""

    def __init__(self, url: RedisUrl, timeout_s: float) -> None:
        super().__init__(url, timeout_s)
        self._nodes: dict[Server, None] = dict.fromkeys(url.servers)
        """All servers that can be asked, replicas too; the next one to be asked is the first."""
        self._primaries: dict[Server, RedisServer] = {}
        self._slots: list[RedisServer | None] = [None] * REDIS_CLUSTER_HASH_SLOTS

    @property
    def _is_known(self) -> bool:
        return bool(self._primaries)

    async def deliver(self, calls: Sequence[Call]) -> None:
        if not self._primaries:
            await self._learn()
        by_server: defaultdict[RedisServer, list[Call]] = defaultdict(list)
        for call in calls:
            if (server := self._slots[_slot(call.key)]) is not None:
                by_server[server].append(call)
            else:
                self.ask_soon()
                call.fail(StoreUnavailable("redis", "no server of the cluster holds the slot of this site"))
        if len(by_server) == 1:
            [(server, some)] = by_server.items()
            await self._exchange(server, some)
        else:
            await asyncio.gather(*(self._exchange(server, some) for server, some in by_server.items()))

    async def _exchange(self, server: RedisServer, calls: Sequence[Call]) -> None:
        await server.exchange(calls)
        by_owner: defaultdict[RedisServer, list[Call]] = defaultdict(list)
        for call in calls:
            if call.moved is not None:
                host = call.moved.host or (server.address.host if server.address else "")
                by_owner[self._owner(Server(host, call.moved.port), call.moved.slot_id)].append(call)
        for owner, moved in by_owner.items():
            for call in moved:
                call.moved = None
            await owner.exchange(moved)
            for call in moved:
                if call.moved is not None:
                    call.fail(failure(call.moved, owner.name))

    def _owner(self, server: Server, slot: int) -> RedisServer:
        """Note that a server holds a slot, and return it."""
        if server not in self._primaries:
            self._primaries[server] = self._open(server)
        self._slots[slot] = self._primaries[server]
        self.ask_soon()
        return self._primaries[server]

    async def servers(self) -> Sequence[RedisServer]:
        if not self._primaries:
            await self._learn()
        return list(dict.fromkeys(server for server in self._slots if server is not None))

    def name_of(self, key: str) -> str:
        server = self._slots[_slot(key)]
        return server.name if server else "redis"

    async def _ask(self) -> None:
        """Ask the nodes in turn who holds which slots; each time another one first, for one alone may be cut off."""
        complaints: list[StoreUnavailable] = []
        for node in list(self._nodes):
            self._nodes[node] = self._nodes.pop(node)
            try:
                answer = await ask_once(self._url.server_url(node), "CLUSTER SLOTS", timeout_s=self._question_s)
            except StoreUnavailable as error:
                complaints.append(type(error)(error.store, f"{node} {error.sentence}"))
                continue
            if answer:
                await self._take_over(answer, node)
                return
            complaints.append(StoreUnavailable("redis", f"{node} knows no slots of a cluster"))
        raise complaints[0]

    async def _take_over(self, ranges: Sequence[Any], asked: Server) -> None:
        slots: list[RedisServer | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        nodes: list[Server] = []
        primaries: dict[Server, RedisServer] = {}
        for first, last, *holders in ranges:
            named = [Server(_text(host or b"") or asked.host, int(port)) for host, port, *_ in holders]
            nodes += named
            server = primaries.get(named[0]) or self._primaries.get(named[0]) or self._open(named[0])
            primaries[named[0]] = server
            slots[first : last + 1] = [server] * (last + 1 - first)
        former = [server for address, server in self._primaries.items() if address not in primaries]
        self._primaries, self._slots = primaries, slots
        # Those of the URL stay: they may be the only ones left after all others were replaced.
        self._nodes = dict.fromkeys([*(node for node in self._nodes if node in nodes), *nodes, *self._url.servers])
        for server in former:
            await server.close()

    def _open_servers(self) -> list[RedisServer]:
        return list(self._primaries.values())


def open_topology(text: str, url: RedisUrl, timeout_s: float) -> Topology:
    """Return the servers of a URL; raises TypeError and ValueError for options that are not known."""
    if url.kind is RedisKind.SERVER:
        return OneServer(text, timeout_s)
    make_pool(url.server_url(url.servers[0]), timeout_s)
    return Cluster(url, timeout_s) if url.kind is RedisKind.CLUSTER else SentinelService(url, timeout_s)


def _slot(key: str) -> int:
    return key_slot(key.encode())


def _text(word: bytes | str) -> str:
    return word.decode() if isinstance(word, bytes) else word
