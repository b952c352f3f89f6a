"""One Redis server: its few connections, its deadline, and the calls that reach it together; none is repeated.

Where there are several servers each has its own of all that, so that one that is away holds up the sites of no other.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.maint_notifications import MaintNotificationsConfig

from footfall.errors import StoreDamaged, StoreMistaken, StoreUnavailable
from footfall.settings.store_urls import Server
from footfall.stores.redis_pool import RedisPool
from footfall.stores.tls import tls_sentence

CONNECTIONS = 50
DAMAGE = ("WRONGTYPE", "INVALIDOBJ", "attempt to ", "bad argument ")
"""Redis' codes for a key that it cannot read, and Lua's words for a value that a script cannot read."""
DEMOTED = ("READONLY", "read only replica")
"""How a replica refuses; inside a script the words stand within the error."""
REPLICA = "takes no writes, being a replica"
MOVING = "is moving the slot of this site to another server"
NO_CLUSTER = "is no cluster, so its URL begins with redis:// or rediss://"

SENTENCES = {
    "not allowed when used memory": "is full, at its maxmemory",
    "OOM": "is full, at its maxmemory",
    "MISCONF": "takes nothing while it cannot save to its disk",
    **dict.fromkeys(DEMOTED, REPLICA),
    "NOPERM": "its user lacks a right, see deploy/redis-acl.conf",
    "ACL failure": "its user lacks a right, see deploy/redis-acl.conf",
    "no permissions": "its user lacks a right, see deploy/redis-acl.conf",
    "non local key": MOVING,
    "cluster support disabled": NO_CLUSTER,
}
"""What an operator has to know of an error, by a part of the server's message; redis-py cuts off some codes."""
SENTENCES_BY_CLASS = {
    "AskError": MOVING,
    "TryAgainError": MOVING,
    "MovedError": "does not hold the slot of this site; the URL of a cluster begins with redis+cluster://",
    "ClusterDownError": "belongs to a cluster that is down, look at CLUSTER INFO",
}


class KnownScript(Protocol):
    """A script that Redis knows by its digest."""

    source: str
    digest: str


class Call:
    """One command on the keys of one site, and the answer that its caller awaits."""

    __slots__ = ("answer", "command", "key", "moved", "script")

    def __init__(self, key: str, command: Sequence[Any], script: KnownScript | None = None) -> None:
        self.key = key
        self.command = pack_command(tuple(command))
        self.script = script
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.moved: MovedError | None = None
        """The answer of a server that ran nothing, because another one holds the slot."""

    def succeed(self, answer: Any) -> None:
        """Pass the answer on, unless the caller was cancelled."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, why: StoreUnavailable) -> None:
        """Pass on why there is no answer; many calls may fail for one reason, and each gets an exception of its own."""
        if not self.answer.done():
            self.answer.set_exception(type(why)(why.store, why.sentence))


class RedisServer:
    """The connections to one server; every failure is a StoreUnavailable."""

    def __init__(
        self,
        pool: RedisPool,
        timeout_s: float,
        address: Server | None = None,
        doubted: Callable[[], None] | None = None,
    ) -> None:
        """`address` tells one of several servers; `doubted` is called when it may not be the right one any more."""
        self.client = Redis(connection_pool=pool)
        """For plain commands, each of which takes its `turn`."""
        self.address = address
        self.name = str(address) if address else ""
        self._pool = pool
        self._timeout_s = timeout_s
        self._doubted = doubted
        self._turns = asyncio.Semaphore(CONNECTIONS)

    async def close(self) -> None:
        """Close the connections; the calls in progress fail."""
        await self._pool.disconnect()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a connection and hold the whole call to the deadline; turn its failure into StoreUnavailable.

        A call that is given up drops its connection, so no later call reads its answer.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._turns:
                yield
        except TimeoutError as error:
            self._doubt()
            whose = f" from {self.name}" if self.name else ""
            raise StoreUnavailable("redis", f"no answer within {self._timeout_s:g} s{whose}") from error
        except (RedisError, OSError) as error:
            if not isinstance(error, ResponseError) or is_demoted(error):
                self._doubt()
            raise failure(error, self.name) from error

    async def exchange(self, calls: Sequence[Call]) -> None:
        """Send calls in one write and pass the answers on; a call without an answer has failed, or has `moved`."""
        why = StoreUnavailable("redis", "the call was given up")
        try:
            async with self.turn():
                await self._ask(calls)
        except StoreUnavailable as error:
            why = error
        finally:
            for call in calls:
                if call.moved is None:
                    call.fail(why)

    def _doubt(self) -> None:
        """Open new connections before the next calls, and have it asked which server is the right one."""
        self._pool.doubt()
        if self._doubted:
            self._doubted()

    async def _ask(self, calls: Sequence[Call]) -> None:
        # On a connection directly: redis-py's client around it costs more than the call itself.
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            unknown = await self._send(connection, calls)
            if unknown:  # a server that has just started, or that took over from another
                for source in {call.script.source for call in unknown if call.script}:
                    await connection.send_command("SCRIPT LOAD", source)
                    await connection.read_response()
                unknown = await self._send(connection, unknown)
            for call in unknown:
                call.fail(StoreUnavailable("redis", "forgets its scripts as soon as they are loaded"))
        finally:
            await self._pool.release(connection)

    async def _send(self, connection: AbstractConnection, calls: Sequence[Call]) -> list[Call]:
        """Send calls and pass their answers on; return the calls whose script the server does not know."""
        await connection.send_packed_command([call.command for call in calls])
        unknown = []
        for call in calls:
            try:
                call.succeed(await connection.read_response())
            except NoScriptError:
                unknown.append(call)
            except MovedError as error:
                call.moved = error
            except ResponseError as error:
                # A demoted server keeps its connections and refuses for ever; a name or an address may lead elsewhere.
                if is_demoted(error) or isinstance(error, ClusterDownError):
                    self._doubt()
                call.fail(failure(error, self.name))
        return unknown


def make_pool(url: str, timeout_s: float, connections: int = CONNECTIONS) -> RedisPool:
    """Return the pool of one server; raises TypeError and ValueError for options in the URL that are not known."""
    # redis-py 8 repeats a command up to ten times by default, and a repeated write may count again.
    # Its own deadlines are per read and write, and costly; ours is one for the whole call.
    pool = RedisPool.from_url(
        url,
        socket_timeout=None,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        retry_on_timeout=False,
        max_connections=connections,
        # By default redis-py asks for notices of maintenance, and then takes what has ended for such a notice.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    # Opens no connection: it checks the options in the URL, which would fail only on first use.
    pool.make_connection()  # type: ignore[no-untyped-call]
    return pool


async def ask_once(url: str, *command: str, timeout_s: float) -> Any:
    """Ask a server one question on a connection of its own; raises StoreUnavailable."""
    try:
        async with asyncio.timeout(timeout_s):
            pool = make_pool(url, timeout_s, connections=1)
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                await connection.send_command(*command)
                return await connection.read_response()
            finally:
                await connection.disconnect(nowait=True)
    except TimeoutError as error:
        raise StoreUnavailable("redis", f"no answer within {timeout_s:g} s") from error
    except (RedisError, OSError) as error:
        raise failure(error) from error


def is_demoted(error: Exception) -> bool:
    """Return whether a server refuses because it is a replica."""
    return isinstance(error, ResponseError) and any(words in str(error) for words in DEMOTED)


def failure(error: Exception, server: str = "") -> StoreUnavailable:
    """Turn a client library's error into one of ours; `server` names one of several."""
    # Older servers put words of their own before the code of an error inside a script.
    is_damage = isinstance(error, ResponseError) and any(code in str(error) for code in DAMAGE)
    sentence = _sentence(error)
    kind = StoreDamaged if is_damage else StoreMistaken if sentence == NO_CLUSTER else StoreUnavailable
    return kind("redis", f"{server}{server and ' '}{sentence}: {type(error).__name__}: {error}")


def _sentence(error: Exception) -> str:
    if isinstance(error, AuthenticationError) or "username-password" in str(error):
        return "refuses the user or its password"
    if isinstance(error, ResponseError):
        known = SENTENCES_BY_CLASS.get(type(error).__name__)
        return known or next((words for part, words in SENTENCES.items() if part in str(error)), "fails")
    if isinstance(cause := error.__cause__ or error.__context__, ssl.SSLError):
        return tls_sentence(cause)
    return "does not answer"
