"""What an operator reads of a store that fails: each cause is a sentence of its own."""

import ssl

import asyncpg
import pytest
from redis.asyncio import Redis

from footfall.embedded.servers import Valkey
from footfall.errors import StoreUnavailable
from footfall.model.site_id import SiteId
from footfall.stores.postgres_connection import failure
from footfall.stores.postgres_store import open_postgres
from footfall.stores.redis_store import open_redis


async def sentence_of(url: str) -> str:
    """What a first question to Postgres at this URL fails with."""
    async with open_postgres(url) as store:
        with pytest.raises(StoreUnavailable) as failed:
            await store.installation()
    return failed.value.sentence


async def test_each_failure_of_postgres_is_a_sentence_of_its_own(postgres_url: str) -> None:
    """An operator who looked for a server that was up, while a right was missing, lost a night."""
    sql = await asyncpg.connect(postgres_url)
    database = await sql.fetchval("SELECT current_database()")
    assert (await sentence_of(postgres_url)).startswith("schema 0 is older than this program's")
    assert (await sentence_of("postgresql://x@127.0.0.1:1/x")).startswith("does not answer: ")
    assert (await sentence_of(postgres_url.replace(database, "none"))).startswith("has no such database: ")
    assert (await sentence_of(postgres_url.replace("footfall@", "nobody_here@"))).startswith("refuses the role or ")
    await sql.execute("CREATE ROLE stranger LOGIN")
    try:
        await sql.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
        missing = await sentence_of(postgres_url.replace("footfall@", "stranger@"))
    finally:
        await sql.execute("DROP ROLE stranger")
        await sql.close()
    assert missing.startswith("its role lacks a right, see sql/roles.sql: ")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(asyncpg.ReadOnlySQLTransactionError("x"), "takes no writes", id="standby"),
        pytest.param(ssl.SSLCertVerificationError("x"), "cannot be reached through TLS", id="certificate"),
        pytest.param(ConnectionError("the server rejected SSL upgrade"), "cannot be reached through TLS", id="no TLS"),
        pytest.param(asyncpg.DiskFullError("x"), "has no room on its disk", id="full disk"),
        pytest.param(asyncpg.NumericValueOutOfRangeError("x"), "refuses a value", id="overflow"),
        pytest.param(asyncpg.CannotConnectNowError("x"), "does not answer", id="starting"),
        pytest.param(TimeoutError(), "does not answer", id="hanging"),
    ],
)
def test_an_error_of_postgres_gets_the_words_of_its_cause(error: Exception, words: str) -> None:
    """The driver's class names mean something to developers only."""
    assert failure(error).sentence.startswith(f"{words}")


async def test_each_failure_of_redis_is_a_sentence_of_its_own(own_valkey: Valkey) -> None:
    """At maxmemory, on a replica, without a right and away are four different repairs."""
    site = SiteId("portal")
    async with open_redis(own_valkey.url, 1) as store, Redis.from_url(own_valkey.url) as admin:
        await admin.config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailable, match=r"^redis: is full, at its maxmemory: "):
            await store.check_writes(site)
        await admin.config_set("maxmemory", "0")
        await store.check_writes(site)
        assert await admin.keys() == []
        await admin.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
        with pytest.raises(StoreUnavailable, match=r"^redis: takes no writes, being a replica: "):
            await store.check_writes(site)
        await admin.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
        await admin.execute_command("ACL", "SETUSER", "few", "on", ">x", "~ff1:*", "+evalsha", "+script|load")  # type: ignore[no-untyped-call]
    async with open_redis(own_valkey.url.replace("unix://", "unix://few:x@"), 1) as store:
        with pytest.raises(StoreUnavailable, match=r"^redis: its user lacks a right, see deploy/redis-acl.conf: "):
            await store.check_writes(site)
    async with open_redis(own_valkey.url.replace("unix://", "unix://few:y@"), 1) as store:
        with pytest.raises(StoreUnavailable, match=r"^redis: refuses the user or its password: "):
            await store.check_writes(site)
    async with open_redis("redis://127.0.0.1:1/0", 1) as store:
        with pytest.raises(StoreUnavailable, match=r"^redis: does not answer: "):
            await store.check_writes(site)
