"""Brings the schema up to date: the numbered files of `sql/`, each once, however many processes start it."""

import re
from collections.abc import AsyncIterator, Iterator
from importlib.resources.abc import Traversable

import asyncpg

from footfall.errors import StoreUnavailable
from footfall.stores.postgres_connection import (
    ASYNCPG_ERRORS,
    CONNECT_TIMEOUT_S,
    PostgresHosts,
    encoding_complaint,
    failure,
    schema_version,
)

MIGRATION_NAME = re.compile(r"(\d{4})_\w+\.sql")
LOCK = 0x466F6F7466616C6C
"""Key of the advisory lock that lets one migration run at a time: "Footfall" in ASCII."""

BOOKKEEPING = """
    CREATE SCHEMA IF NOT EXISTS footfall;
    CREATE TABLE IF NOT EXISTS footfall.migration (
        version    integer     PRIMARY KEY,
        name       text        NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
"""


async def migrate(url: str, folder: Traversable) -> list[str]:
    """Apply what is missing, all in one transaction; return the names of the files that were applied.

    Needs the role that owns the schema. Raises StoreUnavailable with the server's own words.
    """
    try:
        connection = await PostgresHosts(url).connect(timeout=CONNECT_TIMEOUT_S, statement_cache_size=0)
        try:
            if complaint := encoding_complaint(await connection.fetchval("SHOW server_encoding")):
                raise StoreUnavailable("postgres", complaint)
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
                version = await schema_version(connection)
                if version == 0:
                    await connection.execute(BOOKKEEPING)
                return [name async for name in _apply(connection, folder, version)]
        finally:
            await connection.close()
    except (OSError, TimeoutError, *ASYNCPG_ERRORS) as error:
        raise failure(error) from error


def migrations(folder: Traversable) -> Iterator[tuple[int, Traversable]]:
    """List the numbered files in order; others (roles, notes) are not migrations."""
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if match := MIGRATION_NAME.fullmatch(file.name):
            yield int(match[1]), file


async def _apply(
    connection: "asyncpg.Connection[asyncpg.Record]", folder: Traversable, version: int
) -> AsyncIterator[str]:
    for number, file in migrations(folder):
        if number > version:
            await connection.execute(file.read_text(encoding="utf-8"))
            await connection.execute(
                "INSERT INTO footfall.migration (version, name) VALUES ($1, $2)", number, file.name
            )
            yield file.name
