"""How statements reach Postgres: over a few connections, each within a deadline; its failures in our own words.

A URL may name several hosts, of which one takes writes. asyncpg would try them in turn within one deadline, so that a
first one that hangs uses it up; here each has its own, and the last good one is the first.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from footfall.errors import StoreBusy, StoreRefused, StoreUnavailable
from footfall.settings.store_urls import postgres_urls
from footfall.stores.tls import tls_sentence

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]

CONNECTIONS = 2
CONNECT_TIMEOUT_S = 5
HOST_TIMEOUT_S = 2
"""To connect to one host of several."""
COMMAND_TIMEOUT_S = 15
ASYNCPG_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""asyncpg raises the last one where a server ends in the middle of a conversation."""
NO_WRITES = "takes no writes, being a standby or set to default_transaction_read_only"
SENTENCES = {
    asyncpg.InsufficientPrivilegeError: "its role lacks a right, see sql/roles.sql",
    asyncpg.ReadOnlySQLTransactionError: NO_WRITES,
    asyncpg.TargetServerAttributeNotMatched: "is not what target_session_attrs in its URL asks for",
    asyncpg.InvalidAuthorizationSpecificationError: "refuses the role or its password",
    asyncpg.InvalidCatalogNameError: "has no such database",
    asyncpg.InvalidSchemaNameError: "lacks what this program needs, run footfall migrate",
    asyncpg.UndefinedTableError: "lacks what this program needs, run footfall migrate",
    asyncpg.UndefinedColumnError: "lacks what this program needs, run footfall migrate",
    asyncpg.UndefinedFunctionError: "lacks what this program needs, run footfall migrate",
    asyncpg.IntegrityConstraintViolationError: "refuses a value",
    asyncpg.DataError: "refuses a value",
    asyncpg.DiskFullError: "has no room on its disk",
    asyncpg.TooManyConnectionsError: "has no free connection",
    asyncpg.OperatorInterventionError: "does not answer",
    asyncpg.PostgresConnectionError: "does not answer",
    asyncpg.PostgresError: "fails",
    asyncpg.ClientConfigurationError: "cannot be asked with this URL",
}
"""What an operator has to know of an error, by its class; a class below stands before its base."""
REFUSES_TLS = "rejected SSL upgrade"
"""asyncpg's words, in a plain ConnectionError, for a server that speaks no TLS."""
LIMITS = """
    SELECT set_config(name, most, true)
    FROM (VALUES
        ('lock_timeout', $1),                           -- how long we wait for rows that another session holds
        ('idle_in_transaction_session_timeout', '5s'),  -- and others for ours, if this process stops between statements
        ('transaction_timeout', '15s')                  -- or anywhere in it; PostgreSQL 17 or newer
    ) AS own_limit (name, most)
    WHERE current_setting(name, true) IS NOT NULL
"""
"""They end with the transaction, because a pooler hands the session to others."""
WAIT, GROUP_WAIT = "1s", "250ms"
"""For the rows of one site, and for those of many sites: of these the site that waits falls out first."""
BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)


class PostgresHosts:
    """The hosts that a URL names, in the order in which they are tried: one that fails becomes the last."""

    def __init__(self, url: str) -> None:
        self._urls = postgres_urls(url)

    @property
    def several(self) -> bool:
        """Whether there is another host to try."""
        return len(self._urls) > 1

    @property
    def timeout_s(self) -> float:
        """How long a connection may take, with every host tried."""
        return max(CONNECT_TIMEOUT_S, len(self._urls) * HOST_TIMEOUT_S + 1)

    async def connect(self, *_: object, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
        """Connect to the first host that answers and takes writes, as `asyncpg.connect` does with `options`.

        Raises what asyncpg raises for one host, and StoreUnavailable with a sentence about each of several.
        """
        if not self.several:
            (url,) = self._urls.values()
            return await asyncpg.connect(url, **options)
        sentences = []
        for host, url in list(self._urls.items()):
            try:
                return await asyncpg.connect(url, **options | {"timeout": HOST_TIMEOUT_S})
            except (OSError, TimeoutError, *ASYNCPG_ERRORS) as error:
                self._try_last(host)
                sentences.append(f"{host} {failure(error).sentence}")
            except BaseException:  # the caller waits no longer, and the next one begins with another host
                self._try_last(host)
                raise
        raise StoreUnavailable("postgres", f"has no host that can be used: {'; '.join(sentences)}")

    def _try_last(self, host: str) -> None:
        if host in self._urls:
            self._urls[host] = self._urls.pop(host)


class PostgresConnections:
    """The connections to Postgres; every failure is a StoreUnavailable."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", hosts: PostgresHosts) -> None:
        self._pool = pool
        self._hosts = hosts

    def give_up(self) -> None:
        """End all connections, and whatever waits for an answer on them."""
        self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> "AsyncIterator[Connection]":
        """Yield a connection; raises StoreUnavailable, and StoreBusy where another session holds rows it needs."""
        try:
            async with self._pool.acquire(timeout=self._hosts.timeout_s) as connection:
                yield connection
        except BUSY as error:
            raise StoreBusy("postgres", "another session holds rows that this one needs") from error
        except (OSError, TimeoutError, *ASYNCPG_ERRORS) as error:
            if isinstance(error, asyncpg.ReadOnlySQLTransactionError) and self._hosts.several:
                await self._pool.expire_connections()  # another host may take writes now
            raise failure(error) from error


def failure(error: Exception) -> StoreUnavailable:
    """Turn an error of the driver into a sentence of ours, with the server's own message behind it."""
    sentence = next((words for kind, words in SENTENCES.items() if isinstance(error, kind)), "does not answer")
    if isinstance(error, ssl.SSLError) or REFUSES_TLS in str(error):
        sentence = tls_sentence(error)
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched) and "read_write" in str(error):
        sentence = NO_WRITES
    # Without its DETAIL, which repeats the row that was refused.
    message = error.args[0] if isinstance(error, asyncpg.PostgresError) and error.args else error
    is_refusal = isinstance(error, asyncpg.PostgresError) and sentence != "does not answer"
    kind = StoreRefused if is_refusal else StoreUnavailable
    return kind("postgres", f"{sentence}: {type(error).__name__}: {message}")


@asynccontextmanager
async def open_connections(
    url: str, timeout_s: float, connections_max: int = CONNECTIONS
) -> AsyncIterator[PostgresConnections]:
    """Yield connections that open on first use; close them at the end. A statement takes at most `timeout_s`."""
    # No floor of idle connections: asyncpg would log a traceback for each while Postgres is away.
    # No statement cache: poolers in transaction mode hand every statement to another session.
    hosts = PostgresHosts(url)
    pool = asyncpg.create_pool(
        url,
        connect=hosts.connect,
        min_size=0,
        max_size=connections_max,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=timeout_s,
        statement_cache_size=0,
    )
    await pool  # with min_size=0 this opens no connection
    try:
        yield PostgresConnections(pool, hosts)
    finally:
        pool.terminate()


def encoding_complaint(encoding: str) -> str:
    """Return what is wrong with a database of this encoding; an empty text for UTF-8.

    In LATIN1 everything works until the first Vietnamese reason; in SQL_ASCII nothing says what a byte means.
    """
    if encoding == "UTF8":
        return ""
    remedy = "CREATE DATABASE footfall ENCODING 'UTF8' TEMPLATE template0"
    return f"the database has the encoding {encoding}, which cannot hold Vietnamese; make another one: {remedy}"


async def schema_version(connection: "Connection") -> int:
    """Return the number of the newest migration; 0 before the first."""
    if not await connection.fetchval("SELECT to_regclass('footfall.migration') IS NOT NULL"):
        return 0
    return int(await connection.fetchval("SELECT COALESCE(max(version), 0) FROM footfall.migration"))
