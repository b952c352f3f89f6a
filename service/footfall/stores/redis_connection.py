"""How calls reach Redis: within a deadline, over a few connections, never repeated.

Calls that begin in the same turn of the event loop leave together, in one write to each server that holds some of their
sites: a worker with a thousand portals flushes many sites at once, and a connection for each call would cost more than
its script.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1
from importlib import resources
from typing import Any, TypeVar

from redis.asyncio import Redis

from footfall.errors import Stop, StoreMistaken, StoreUnavailable
from footfall.settings.store_urls import RedisKind, RedisUrl, parse_redis_url
from footfall.stores.redis_server import CONNECTIONS, Call, RedisServer
from footfall.stores.redis_topology import Topology, open_topology

__all__ = ["CONNECTIONS", "RedisCalls", "Script", "open_calls"]

T = TypeVar("T")


class Script:
    """A script of `scripts/` behind the functions that it shares with others; Redis knows it by its digest."""

    def __init__(self, *names: str) -> None:
        self.source = "".join(_lua(name) for name in ("site", *names))
        self.digest = sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class RedisCalls:
    """What is asked of Redis, on one server or many; every failure is a StoreUnavailable."""

    def __init__(self, url: RedisUrl, topology: Topology) -> None:
        self._url = url
        self._topology = topology
        self._gathered: list[Call] = []
        self._exchanges: set[asyncio.Task[None]] = set()

    async def run(self, script: Script, key: str, arguments: Sequence[Any]) -> Any:
        """Call a script and return its answer; raises StoreUnavailable: the script may have run or not."""
        call = Call(key, ("EVALSHA", script.digest, 1, key, *arguments), script)
        self._gather(call)
        return await call.answer

    async def ask(self, key: str, *commands: Sequence[Any]) -> list[Any]:
        """Send plain commands to the server that holds `key`, and return their answers; raises StoreUnavailable."""
        calls = [Call(key, command) for command in commands]
        for call in calls:
            self._gather(call)
        return await asyncio.gather(*(call.answer for call in calls))

    async def each(self, ask: Callable[[Redis], Awaitable[T]]) -> dict[str, T]:
        """Ask every server that holds sites, all at once; return the answers by the servers' names ("": the only one).

        Raises StoreUnavailable where one of them fails.
        """

        async def ask_one(server: RedisServer) -> T:
            async with server.turn():
                return await ask(server.client)

        servers = await self._topology.servers()
        answers = await asyncio.gather(*map(ask_one, servers), return_exceptions=True)
        return {server.name: _or_raise(answer) for server, answer in zip(servers, answers, strict=True)}

    def server_of(self, key: str) -> str:
        """Name the server that holds a key: where it fails, it fails all sites that it holds."""
        return self._topology.name_of(key)

    def refuse_mode(self, mode: str) -> None:
        """Raise StoreMistaken where a server is of another kind, by the mode in its INFO, than the URL says."""
        if self._url.kind is not RedisKind.SERVER or mode not in (RedisKind.CLUSTER, RedisKind.SENTINEL):
            return
        where = self._url.servers[0] if self._url.servers else "host:port"
        scheme = f"{'rediss' if self._url.is_secure else 'redis'}+{mode}"
        rest = "/SERVICE, with the name of the service," if mode == RedisKind.SENTINEL else ","
        what = "is a sentinel" if mode == RedisKind.SENTINEL else "is a server of a cluster"
        raise StoreMistaken(
            "redis", f"{what}: write {scheme}://{where}{rest} and the same user, password and options as now"
        )

    async def close(self) -> None:
        """Wait for the calls in progress, then close the connections."""
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        await self._topology.close()

    def _gather(self, call: Call) -> None:
        self._gathered.append(call)
        if len(self._gathered) == 1:
            exchange = asyncio.create_task(self._exchange())
            self._exchanges.add(exchange)
            exchange.add_done_callback(self._exchanges.discard)

    async def _exchange(self) -> None:
        """Send the calls of this turn of the loop and pass the answers on; a call without an answer has failed."""
        calls, self._gathered = self._gathered, []
        try:
            await self._topology.deliver(calls)
        except StoreUnavailable as error:
            _fail(calls, error)
        except BaseException:
            _fail(calls, StoreUnavailable("redis", "the call was given up"))
            raise


@asynccontextmanager
async def open_calls(url: str, timeout_s: float) -> AsyncIterator[RedisCalls]:
    """Yield calls that connect on first use; close the connections at the end."""
    try:
        parsed = parse_redis_url(url)
        calls = RedisCalls(parsed, open_topology(url, parsed, timeout_s))
    except (TypeError, ValueError) as error:
        raise Stop(f"FOOTFALL_REDIS_URL: has an option that is not known or not readable: {error}") from None
    try:
        yield calls
    finally:
        await calls.close()


def _fail(calls: Sequence[Call], why: StoreUnavailable) -> None:
    for call in calls:
        call.fail(why)


def _or_raise(answer: T | BaseException) -> T:
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _lua(name: str) -> str:
    return (resources.files("footfall.stores") / "scripts" / f"{name}.lua").read_text(encoding="utf-8")
