"""How calls reach Redis: within a deadline, over a few connections, never repeated.

Scripts that are called in the same turn of the event loop go out together, in one write on one connection: a worker
with a thousand portals flushes many sites at once, and a connection for each call would cost more than its script.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1
from importlib import resources
from typing import Any

from hiredis import pack_command
from redis.asyncio import Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoScriptError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from footfall.errors import Stop, StoreDamaged, StoreUnavailable
from footfall.stores.redis_pool import RedisPool
from footfall.stores.tls import tls_sentence

CONNECTIONS = 50
DAMAGE = ("WRONGTYPE", "INVALIDOBJ", "attempt to ", "bad argument ")
"""Redis' codes for a key that it cannot read, and Lua's words for a value that a script cannot read."""

SENTENCES = {
    "not allowed when used memory": "is full, at its maxmemory",
    "OOM": "is full, at its maxmemory",
    "MISCONF": "takes nothing while it cannot save to its disk",
    "READONLY": "takes no writes, being a replica",
    "read only replica": "takes no writes, being a replica",
    "NOPERM": "its user lacks a right, see deploy/redis-acl.conf",
    "ACL failure": "its user lacks a right, see deploy/redis-acl.conf",
    "no permissions": "its user lacks a right, see deploy/redis-acl.conf",
}
"""What an operator has to know of an error, by a part of the server's message; redis-py cuts off some codes."""


class Script:
    """A script of `scripts/` behind the functions that it shares with others; Redis knows it by its digest."""

    def __init__(self, *names: str) -> None:
        self.source = "".join(_lua(name) for name in ("site", *names))
        self.digest = sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class _Call:
    """One call of a script, and the answer that its caller awaits."""

    __slots__ = ("answer", "command", "script")

    def __init__(self, script: Script, key: str, arguments: Sequence[Any]) -> None:
        self.script = script
        self.command = pack_command(("EVALSHA", script.digest, 1, key, *arguments))
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def succeed(self, answer: Any) -> None:
        """Pass the answer on, unless the caller was cancelled."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, why: StoreUnavailable) -> None:
        """Pass on why there is no answer; many calls may fail for one reason, and each gets an exception of its own."""
        if not self.answer.done():
            self.answer.set_exception(type(why)(why.store, why.sentence))


class RedisCalls:
    """The connections to Redis; every failure is a StoreUnavailable."""

    def __init__(self, pool: RedisPool, timeout_s: float) -> None:
        self.client = Redis(connection_pool=pool)
        """For plain commands, each of which takes its `turn`."""
        self._pool = pool
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._gathered: list[_Call] = []
        self._exchanges: set[asyncio.Task[None]] = set()

    async def run(self, script: Script, key: str, arguments: Sequence[Any]) -> Any:
        """Call a script and return its answer; raises StoreUnavailable: the script may have run or not."""
        call = _Call(script, key, arguments)
        self._gathered.append(call)
        if len(self._gathered) == 1:
            exchange = asyncio.create_task(self._exchange())
            self._exchanges.add(exchange)
            exchange.add_done_callback(self._exchanges.discard)
        return await call.answer

    async def close(self) -> None:
        """Wait for the calls in progress, then close the connections."""
        await asyncio.gather(*self._exchanges, return_exceptions=True)
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
            self._pool.doubt()
            raise StoreUnavailable("redis", f"no answer within {self._timeout_s:g} s") from error
        except (RedisError, OSError) as error:
            if not isinstance(error, ResponseError):
                self._pool.doubt()
            raise _failure(error) from error

    async def _exchange(self) -> None:
        """Send the calls of this turn of the loop and pass the answers on; a call without an answer has failed."""
        calls, self._gathered = self._gathered, []
        failure = StoreUnavailable("redis", "the call was given up")
        try:
            async with self.turn():
                await self._ask(calls)
        except StoreUnavailable as error:
            failure = error
        finally:
            for call in calls:
                call.fail(failure)

    async def _ask(self, calls: Sequence[_Call]) -> None:
        # On a connection directly: redis-py's client around it costs more than the call itself.
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            unknown = await _send(connection, calls)
            if unknown:  # a server that has just started, or that took over from another
                for source in {call.script.source for call in unknown}:
                    await connection.send_command("SCRIPT LOAD", source)
                    await connection.read_response()
                unknown = await _send(connection, unknown)
            for call in unknown:
                call.fail(StoreUnavailable("redis", "forgets its scripts as soon as they are loaded"))
        finally:
            await self._pool.release(connection)


@asynccontextmanager
async def open_calls(url: str, timeout_s: float) -> AsyncIterator[RedisCalls]:
    """Yield calls that connect on first use; close the connections at the end."""
    try:
        # redis-py 8 repeats a command up to ten times by default, and a repeated write may count again.
        # Its own deadlines are per read and write, and costly; ours is one for the whole call.
        pool = RedisPool.from_url(
            url,
            socket_timeout=None,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            retry_on_timeout=False,
            max_connections=CONNECTIONS,
            # By default redis-py asks for notices of maintenance, and then takes what has ended for such a notice.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        # Opens no connection: it checks the options in the URL, which would fail only on first use.
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError) as error:
        raise Stop(f"FOOTFALL_REDIS_URL: has an option that is not known or not readable: {error}") from None
    calls = RedisCalls(pool, timeout_s)
    try:
        yield calls
    finally:
        await calls.close()


async def _send(connection: Connection, calls: Sequence[_Call]) -> list[_Call]:
    """Send calls and pass their answers on; return the calls whose script the server does not know."""
    await connection.send_packed_command([call.command for call in calls])
    unknown = []
    for call in calls:
        try:
            call.succeed(await connection.read_response())
        except NoScriptError:
            unknown.append(call)
        except ResponseError as error:
            call.fail(_failure(error))
    return unknown


def _failure(error: Exception) -> StoreUnavailable:
    """Turn a client library's error into one of ours."""
    # Older servers put words of their own before the code of an error inside a script.
    is_damage = isinstance(error, ResponseError) and any(code in str(error) for code in DAMAGE)
    kind = StoreDamaged if is_damage else StoreUnavailable
    return kind("redis", f"{_sentence(error)}: {type(error).__name__}: {error}")


def _sentence(error: Exception) -> str:
    if isinstance(error, AuthenticationError) or "username-password" in str(error):
        return "refuses the user or its password"
    if isinstance(error, ResponseError):
        return next((words for part, words in SENTENCES.items() if part in str(error)), "fails")
    if isinstance(cause := error.__cause__ or error.__context__, ssl.SSLError):
        return tls_sentence(cause)
    return "does not answer"


def _lua(name: str) -> str:
    return (resources.files("footfall.stores") / "scripts" / f"{name}.lua").read_text(encoding="utf-8")
