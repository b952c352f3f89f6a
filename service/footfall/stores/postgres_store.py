"""The only file that knows Postgres: what must last. Schema `footfall`, tables and meaning in `sql/`."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import asyncpg

from footfall.errors import StoreBusy, StoreUnavailable
from footfall.model.day_state import Closed, DayState
from footfall.model.sketch import checksum, is_sound

CONNECTIONS = 2
CONNECT_TIMEOUT_S = 5
COMMAND_TIMEOUT_S = 15
ASYNCPG_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""The last one is raised too where a server goes in the middle of a conversation."""

SCHEMA_VERSION = 1
"""The newest migration that this program relies on."""

BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
LIMITS = """
    SELECT set_config(name, most, true)
    FROM (VALUES
        ('lock_timeout', '1s'),                         -- how long we wait for somebody else's rows
        ('idle_in_transaction_session_timeout', '5s'),  -- and others for ours, if we are stopped between statements
        ('transaction_timeout', '15s')                  -- or anywhere; PostgreSQL 17 or newer
    ) AS own_limit (name, most)
    WHERE current_setting(name, true) IS NOT NULL
"""
"""They end with the transaction: a pooler hands the session to others."""

SAVE = """
    INSERT INTO footfall.site_day AS kept (site, day, visitors, views, sketch, checksum, logs)
    SELECT $1, *
    FROM unnest($2::date[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[], $7::jsonb[]) AS copy (day)
    ORDER BY day
    ON CONFLICT (site, day) DO UPDATE SET
        visitors = GREATEST(kept.visitors, EXCLUDED.visitors),
        views = GREATEST(kept.views, EXCLUDED.views),
        sketch = CASE WHEN kept.sketch IS NOT NULL THEN EXCLUDED.sketch END,
        checksum = CASE WHEN kept.sketch IS NOT NULL THEN EXCLUDED.checksum END,
        logs = EXCLUDED.logs
    WHERE footfall.covers(EXCLUDED.logs, kept.logs)
        AND (kept.logs <> EXCLUDED.logs OR kept.visitors < EXCLUDED.visitors
            OR kept.sketch <> EXCLUDED.sketch OR kept.checksum <> EXCLUDED.checksum)
"""
DROP_SKETCHES = """
    UPDATE footfall.site_day SET sketch = NULL, checksum = NULL
    WHERE site = $1 AND day < $2 AND sketch IS NOT NULL AND NOT day = ANY($3)
"""
AHEAD = """
    SELECT kept.day, kept.visitors, kept.sketch, kept.checksum, kept.logs
    FROM footfall.site_day AS kept LEFT JOIN unnest($2::date[], $3::jsonb[]) AS copy(day, logs) USING (day)
    WHERE kept.site = $1 AND (day = ANY($2) OR day >= $4 AND day <> ALL($5))
        AND NOT footfall.covers(copy.logs, kept.logs)
"""
CLOSED = """
    SELECT (extract(epoch FROM now()) * 1e6)::bigint AS read_at_us,
        (SELECT COALESCE(sum(visitors), 0) FROM footfall.site_day WHERE site = $1 AND day <= $2)::bigint AS visitors,
        (SELECT COALESCE(sum(views), 0) FROM footfall.site_day WHERE site = $1 AND day <= $2)::bigint AS views,
        COALESCE(sum(amount), 0)::bigint AS adjustments,
        (SELECT left(id, 8) FROM footfall.installation) || '-' || count(*) AS revision
    FROM footfall.adjustment WHERE site = $1
"""
DAYS = "SELECT day, visitors, sketch, checksum, logs FROM footfall.site_day WHERE site = $1 AND day {} ORDER BY day"


@dataclass(frozen=True, slots=True)
class Saved:
    """The outcome of saving a snapshot: which rows know more than it, and what the closed days said after it."""

    ahead: list[DayState]
    closed: Closed
    salts_destroyed: int = 0


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A signed, dated, reasoned correction of a site's all-time total."""

    id: str
    amount: int
    reason: str
    made_by: str
    made_at: datetime


class PostgresStore:
    """Reads and writes days, adjustments and salts; every failure is a StoreUnavailable."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def installation(self) -> str:
        """Return the id of this installation; StoreUnavailable where the schema is older than the program."""
        async with self._connection() as connection:
            version = await schema_version(connection)
            if version < SCHEMA_VERSION:
                raise StoreUnavailable(
                    "postgres",
                    f"schema {version} is older than this program's {SCHEMA_VERSION}: run `footfall migrate`",
                )
            return str(await connection.fetchval("SELECT id FROM footfall.installation"))

    async def incarnation(self) -> str:
        """Return what becomes another where the server was started anew, replaced, or its tables restored."""
        async with self._connection() as connection:
            return str(
                await connection.fetchval(
                    "SELECT pg_postmaster_start_time() || ' ' || pg_relation_filenode('footfall.site_day')"
                )
            )

    async def save(
        self,
        site: str,
        days: Sequence[DayState],
        salts: Mapping[date, bytes],
        *,
        present: Sequence[date],
        needed_from: date,
        closed_through: date,
        salts_from: date,
        sketches_from: date,
    ) -> Saved:
        """Join a snapshot into the rows, in one transaction; after it read the closed days.

        A row is written only where the snapshot covers it; rows that know more come back as `ahead`, and so do
        those since `needed_from` of days that are not `present` in Redis at all. Salts of weeks before
        `salts_from` are destroyed, sketches of days before `sketches_from` dropped.

        Raises StoreBusy where somebody else holds a row for longer than a second: nothing was saved then.
        """
        names = [state.day for state in days]
        logs = [json.dumps(state.logs) for state in days]
        async with self._connection() as connection:
            # Two rollups of a site may run at once. Whoever is stopped in here holds rows: what the others wait for
            # them is bounded, and so is how long they are held. The order of the days keeps two from a deadlock.
            async with connection.transaction():
                await connection.execute(LIMITS)
                await connection.execute(DROP_SKETCHES, site, sketches_from, names)
                await connection.execute(
                    SAVE,
                    site,
                    names,
                    [state.visitors for state in days],
                    [state.views for state in days],
                    [state.sketch for state in days],
                    [state.sketch and checksum(state.sketch) for state in days],
                    logs,
                )
                ahead = await connection.fetch(AHEAD, site, names, logs, needed_from, list(present))
            await self._save_salts(connection, site, salts)
            destroyed = await connection.execute(
                "DELETE FROM footfall.salt WHERE site = $1 AND week < $2", site, salts_from
            )
            return Saved(
                ahead=[_day_state(row) for row in ahead],
                closed=await self._closed(connection, site, closed_through),
                salts_destroyed=int(destroyed.removeprefix("DELETE ")),
            )

    async def days(self, site: str, wanted: Sequence[date]) -> list[DayState]:
        """Return the rows of `wanted` days; one that was never saved is missing."""
        async with self._connection() as connection:
            rows = await connection.fetch(DAYS.format("= ANY($2)"), site, list(wanted))
        return [_day_state(row) for row in rows]

    async def open_days(self, site: str, since: date, closed_through: date) -> tuple[list[DayState], Closed]:
        """Return the rows of `since` and later, and the closed days, both of one moment."""
        async with (
            self._connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            rows = await connection.fetch(DAYS.format(">= $2"), site, since)
            return [_day_state(row) for row in rows], await self._closed(connection, site, closed_through)

    async def share_salts(self, site: str, offered: Mapping[date, bytes]) -> dict[date, bytes]:
        """Offer salts by week and return those in force, committed: the first that were offered."""
        async with self._connection() as connection:
            await self._save_salts(connection, site, offered)
        return await self.salts(site, list(offered))

    async def salts(self, site: str, weeks: Sequence[date]) -> dict[date, bytes]:
        """Return the salts of `weeks` that are known."""
        async with self._connection() as connection:
            rows = await connection.fetch(
                "SELECT week, key FROM footfall.salt WHERE site = $1 AND week = ANY($2)", site, list(weeks)
            )
        return {row["week"]: row["key"] for row in rows}

    async def durable(self, logs: Sequence[tuple[str, date, str]]) -> list[int]:
        """Read how far each (site, day, log) is saved; 0 for one that Postgres does not know."""
        async with self._connection() as connection:
            rows = await connection.fetch(
                "SELECT COALESCE((kept.logs -> asked.log ->> 0)::bigint, 0) AS number"
                " FROM unnest($1::text[], $2::date[], $3::text[]) WITH ORDINALITY AS asked(site, day, log, place)"
                " LEFT JOIN footfall.site_day AS kept USING (site, day) ORDER BY place",
                [site for site, _, _ in logs],
                [day for _, day, _ in logs],
                [log for _, _, log in logs],
            )
        return [row["number"] for row in rows]

    async def adjust(self, site: str, adjustment_id: str, amount: int, reason: str) -> bool:
        """Add a correction to the journal; False when that id was there already, and nothing changed."""
        async with self._connection() as connection:
            status = await connection.execute(
                "INSERT INTO footfall.adjustment (site, id, amount, reason) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT DO NOTHING",
                site,
                adjustment_id,
                amount,
                reason,
            )
        return bool(status == "INSERT 0 1")

    async def adjustments(self, site: str) -> list[Adjustment]:
        """Return the journal of a site, oldest first."""
        async with self._connection() as connection:
            rows = await connection.fetch(
                "SELECT id, amount, reason, made_by, made_at FROM footfall.adjustment"
                " WHERE site = $1 ORDER BY made_at, id",
                site,
            )
        return [Adjustment(*row) for row in rows]

    async def adjustment_counts(self) -> dict[str, int]:
        """Return how many corrections each site has: a change means that a total changed."""
        async with self._connection() as connection:
            rows = await connection.fetch("SELECT site, count(*) FROM footfall.adjustment GROUP BY site")
        return dict(rows)

    async def facts(self) -> tuple[int, int, float]:
        """Return server version (as 180004), schema version, and the server's clock in seconds since the epoch."""
        async with self._connection() as connection:
            version = int(await connection.fetchval("SHOW server_version_num"))
            clock_s = float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())"))
            return version, await schema_version(connection), clock_s

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        try:
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
                yield connection
        except BUSY as error:
            raise StoreBusy("postgres", "another session holds rows that this one needs") from error
        except (OSError, TimeoutError, *ASYNCPG_ERRORS) as error:
            raise StoreUnavailable("postgres", f"{type(error).__name__}: {error}") from error

    @staticmethod
    async def _save_salts(connection: Any, site: str, salts: Mapping[date, bytes]) -> None:
        await connection.execute(
            "INSERT INTO footfall.salt (site, week, key) SELECT $1, * FROM unnest($2::date[], $3::bytea[])"
            " ON CONFLICT DO NOTHING",
            site,
            list(salts),
            list(salts.values()),
        )

    @staticmethod
    async def _closed(connection: Any, site: str, through: date) -> Closed:
        row = await connection.fetchrow(CLOSED, site, through)
        return Closed(row["read_at_us"], through, row["visitors"], row["views"], row["adjustments"], row["revision"])


@asynccontextmanager
async def open_postgres(url: str, timeout_s: float = COMMAND_TIMEOUT_S) -> AsyncIterator[PostgresStore]:
    """Hand out a store that connects when it is first used; closes its connections at the end."""
    # No floor of idle connections: asyncpg would log a traceback for each while Postgres is away.
    # No statement cache: poolers in transaction mode hand every statement to another session.
    pool = asyncpg.create_pool(
        url,
        min_size=0,
        max_size=CONNECTIONS,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=timeout_s,
        statement_cache_size=0,
    )
    async with _initialised(pool) as ready:
        yield PostgresStore(ready)


@asynccontextmanager
async def _initialised(pool: Any) -> AsyncIterator[Any]:
    await pool  # with min_size=0 this opens no connection
    try:
        yield pool
    finally:
        pool.terminate()


async def schema_version(connection: Any) -> int:
    """Return the number of the newest migration; 0 before the first."""
    known = await connection.fetchval("SELECT to_regclass('footfall.migration') IS NOT NULL")
    if not known:
        return 0
    return int(await connection.fetchval("SELECT COALESCE(max(version), 0) FROM footfall.migration"))


def _day_state(row: Any) -> DayState:
    """Shape a row; a sketch that is damaged is left out, and the logs and counts stay."""
    sketch = row["sketch"]
    damaged = sketch is not None and not (checksum(sketch) == row["checksum"] and is_sound(sketch))
    logs = {log: (number, views) for log, (number, views) in json.loads(row["logs"]).items()}
    return DayState(row["day"], row["visitors"], None if damaged else sketch, logs, damaged)
