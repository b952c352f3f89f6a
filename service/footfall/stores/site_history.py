"""What the owner of the tables does to the whole history of a site: forget its beginning, remove, rename or merge it.

Every table of the schema that has a column `site` takes part, so that no later one is left behind.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from footfall.model.imported import IMPORT_LOG
from footfall.model.site_id import SiteId
from footfall.stores.postgres_connection import PostgresConnections, open_connections

if TYPE_CHECKING:
    from footfall.stores.postgres_connection import Connection

STATEMENT_MAX_S = 600.0
"""Years of pages take a while."""

TABLES = """
    SELECT c.relname AS name FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'footfall'::regnamespace AND c.relkind = 'r' AND a.attname = 'site' AND NOT a.attisdropped
    ORDER BY 1
"""
RETOTAL = """
    INSERT INTO footfall.page_total (site, page, views)
    SELECT $1, COALESCE(alias.target, own.page), LEAST(GREATEST(sum(views), 0), 9007199254740991)
    FROM (
        SELECT page, views FROM footfall.page_day WHERE site = $1
        UNION ALL SELECT page, views FROM footfall.page_month WHERE site = $1
        UNION ALL SELECT page, views FROM footfall.page_import WHERE site = $1
    ) AS own LEFT JOIN footfall.page_alias AS alias ON (alias.site, alias.page) = ($1, own.page)
    GROUP BY 2
"""
DERIVED = ("page_total", "site_month")
"""Tables of sums, which follow the others: by triggers, and page_total also by RETOTAL."""
JOURNAL = """
    INSERT INTO footfall.day_journal (site, day, what, visitors, views)
    VALUES ($1, COALESCE($2, CURRENT_DATE), $3, $4, $5) RETURNING entry
"""
FORGET_DAYS = """
    WITH gone AS (DELETE FROM footfall.site_day WHERE site = $1 AND day < $2 RETURNING visitors, views)
    SELECT count(*) AS days, COALESCE(sum(visitors), 0)::bigint AS visitors, COALESCE(sum(views), 0)::bigint AS views
    FROM gone
"""
FORGET_PAGES = """
    WITH days AS (DELETE FROM footfall.page_day WHERE site = $1 AND day < $2 RETURNING page, views),
    months AS (
        DELETE FROM footfall.page_month WHERE site = $1 AND (month + interval '1 month')::date <= $2
        RETURNING page, views
    )
    INSERT INTO footfall.page_import (site, id, page, views)
    SELECT $1, $3, page, sum(views)::bigint FROM (SELECT * FROM days UNION ALL SELECT * FROM months) AS gone
    WHERE page LIKE '/%' GROUP BY page HAVING sum(views) > 0
"""
"""What they were is a starting number now, so that no page shows less than before."""
FORGET_WEEKS = "DELETE FROM footfall.site_week WHERE site = $1 AND week + 7 <= $2"
FORGET_EVENTS = "DELETE FROM footfall.event WHERE site = $1 AND at < $2"
KEEP_TOTAL = """
    INSERT INTO footfall.adjustment (site, id, amount, reason) VALUES ($1, $2, $3, $4)
"""
SUM_OF_LOGS = """(
    SELECT jsonb_object_agg(key, views) FROM (
        SELECT key, sum(views::bigint) AS views
        FROM (SELECT * FROM jsonb_each_text(kept.logs) UNION ALL SELECT * FROM jsonb_each_text(EXCLUDED.logs))
            AS both_logs (key, views) GROUP BY key
    ) AS summed)"""
"""Logs of two sites are never the same, but that of imports, of which both have one."""
IMPORT_OF_BOTH = f"""
    CASE WHEN kept.logs ? '{IMPORT_LOG}' AND moved.logs ? '{IMPORT_LOG}' THEN jsonb_build_object('{IMPORT_LOG}',
        jsonb_build_array(
            GREATEST((kept.logs -> '{IMPORT_LOG}' ->> 0)::bigint, (moved.logs -> '{IMPORT_LOG}' ->> 0)::bigint),
            (kept.logs -> '{IMPORT_LOG}' ->> 1)::bigint + (moved.logs -> '{IMPORT_LOG}' ->> 1)::bigint))
    ELSE '{{}}' END
"""
SHARED_DAYS = """
    SELECT moved.day, moved.sketch IS NOT NULL AND kept.sketch IS NOT NULL AND moved.day >= $3 AS have_sketches
    FROM footfall.site_day AS moved JOIN footfall.site_day AS kept ON (kept.site, kept.day) = ($2, moved.day)
    WHERE moved.site = $1 ORDER BY moved.day
"""
RAISE_PEAKS = """
    UPDATE footfall.site_day AS kept SET peak_online = moved.peak_online, peak_online_at = moved.peak_online_at
    FROM footfall.site_day AS moved
    WHERE moved.site = $1 AND (kept.site, kept.day) = ($2, moved.day)
        AND moved.peak_online > COALESCE(kept.peak_online, 0)
"""
DROP_UNITED = "DELETE FROM footfall.site_day WHERE site = $1 AND day = ANY($2)"
SUM_DAYS = f"""
    WITH moved AS (
        DELETE FROM footfall.site_day AS moved USING footfall.site_day AS kept
        WHERE moved.site = $1 AND (kept.site, kept.day) = ($2, moved.day) RETURNING moved.*
    )
    UPDATE footfall.site_day AS kept SET
        visitors = LEAST(kept.visitors + moved.visitors, 9007199254740991),
        views = LEAST(kept.views + moved.views, 9007199254740991),
        logs = kept.logs || moved.logs || {IMPORT_OF_BOTH},
        sketch = NULL, checksum = NULL, ids = NULL, exact = false, ids_checksum = decode(md5(random()::text), 'hex')
    FROM moved WHERE (kept.site, kept.day) = ($2, moved.day)
"""  # noqa: S608 - of constants
MERGE: Sequence[str] = (
    "UPDATE footfall.site_day SET site = $2 WHERE site = $1",
    """
    INSERT INTO footfall.site_week AS kept (site, week, visitors, views, exact, of_days)
    SELECT $2, week, visitors, views, exact, of_days FROM footfall.site_week WHERE site = $1
    ON CONFLICT (site, week) DO UPDATE SET visitors = kept.visitors + EXCLUDED.visitors,
        views = kept.views + EXCLUDED.views, exact = false, of_days = kept.of_days + EXCLUDED.of_days
    """,
    f"""
    INSERT INTO footfall.page_month AS kept (site, page, month, views, logs)
    SELECT $2, page, month, views, logs FROM footfall.page_month WHERE site = $1
    ON CONFLICT (site, page, month) DO UPDATE SET views = kept.views + EXCLUDED.views, logs = {SUM_OF_LOGS}
    """,  # noqa: S608 - of constants
    f"""
    INSERT INTO footfall.page_day AS kept (site, page, day, views, logs)
    SELECT $2, page, day, views, logs FROM footfall.page_day WHERE site = $1
    ON CONFLICT (site, page, day) DO UPDATE SET views = kept.views + EXCLUDED.views, logs = {SUM_OF_LOGS}
    """,  # noqa: S608 - of constants
    """
    INSERT INTO footfall.page_alias SELECT $2, page, target FROM footfall.page_alias WHERE site = $1
    ON CONFLICT DO NOTHING
    """,
    "UPDATE footfall.page_import SET site = $2 WHERE site = $1",
    "UPDATE footfall.page_move SET site = $2 WHERE site = $1",
    "UPDATE footfall.adjustment SET site = $2, id = $1 || ': ' || id WHERE site = $1",
    "UPDATE footfall.day_journal SET site = $2 WHERE site = $1",
    """
    INSERT INTO footfall.event (site, at, kind, detail, began, ended)
    SELECT $2, at, kind, detail, began, ended FROM footfall.event WHERE site = $1 ON CONFLICT DO NOTHING
    """,
)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a site Postgres has."""

    days: int
    visitors: int
    views: int


class SiteHistory:
    """Changes the history of sites; every failure is a StoreUnavailable, and then nothing was changed."""

    def __init__(self, connections: PostgresConnections) -> None:
        self._connections = connections

    async def may_write(self) -> bool:
        """Return whether the role of this connection owns the tables."""
        async with self._connections.connection() as connection:
            return bool(await connection.fetchval("SELECT has_table_privilege('footfall.site_day', 'DELETE')"))

    async def extent(self, site_id: SiteId) -> Extent:
        """Return how much of a site Postgres has."""
        async with self._connections.connection() as connection:
            (row,) = await connection.fetch(
                "SELECT count(*) AS days, COALESCE(sum(visitors), 0)::bigint AS visitors,"
                " COALESCE(sum(views), 0)::bigint AS views FROM footfall.site_day WHERE site = $1",
                site_id,
            )
        return Extent(**row)

    async def tables(self) -> list[str]:
        """Return the names of the tables that hold something of a site."""
        async with self._connections.connection() as connection:
            return [row["name"] for row in await connection.fetch(TABLES)]

    async def rows(self, table: str, site_id: SiteId) -> AsyncIterator[Sequence[Any]]:
        """Yield the rows of a table for a file: first the names of the columns, without sketches, ids and keys."""
        async with self._connections.connection() as connection, connection.transaction(readonly=True):
            columns = await connection.fetch(
                "SELECT column_name::text AS name FROM information_schema.columns WHERE table_schema = 'footfall'"
                " AND table_name = $1 AND data_type <> 'bytea' ORDER BY ordinal_position",
                table,
            )
            names = [row["name"] for row in columns]
            yield names
            listed = ", ".join(f'"{name}"' for name in names)
            async for row in connection.cursor(f'SELECT {listed} FROM footfall."{table}" WHERE site = $1', site_id):  # noqa: S608
                yield tuple(row)

    async def forget(self, site_id: SiteId, before: date, measure: Literal["visitors", "views"]) -> Extent:
        """Remove the days of a site before a day, with their pages; the totals stay, as corrections."""
        name = f"forgotten-before-{before}"
        async with self._connections.connection() as connection, connection.transaction():
            (row,) = await connection.fetch(FORGET_DAYS, site_id, before)
            gone = Extent(**row)
            await connection.execute(FORGET_PAGES, site_id, before, name)
            await connection.execute(FORGET_WEEKS, site_id, before)
            await connection.execute(FORGET_EVENTS, site_id, before)
            await self._retotal(connection, site_id)
            if gone.days:
                entry = await connection.fetchval(JOURNAL, site_id, before, name, gone.visitors, gone.views)
                amount = gone.views if measure == "views" else gone.visitors
                if amount:
                    reason = f"days before {before}, forgotten"
                    await connection.execute(KEEP_TOTAL, site_id, f"{name}-{entry}", amount, reason)
        return gone

    async def remove(self, site_id: SiteId) -> None:
        """Remove everything of a site."""
        tables = await self.tables()
        async with self._connections.connection() as connection, connection.transaction():
            for table in tables:
                await connection.execute(f'DELETE FROM footfall."{table}" WHERE site = $1', site_id)  # noqa: S608

    async def rename(self, old: SiteId, new: SiteId) -> None:
        """Move everything of a site to a site that has nothing yet, the keys of its visitor hash included."""
        tables = await self.tables()
        async with self._connections.connection() as connection, connection.transaction():
            for table in tables:
                if table not in DERIVED:
                    await connection.execute(f'UPDATE footfall."{table}" SET site = $2 WHERE site = $1', old, new)  # noqa: S608
            for table in DERIVED:
                await connection.execute(f"DELETE FROM footfall.{table} WHERE site = $1", old)  # noqa: S608
            await self._retotal(connection, new)
            await connection.execute(JOURNAL, new, None, f"renamed from {old}", 0, 0)

    async def shared_days(self, source: SiteId, target: SiteId, sketches_from: date) -> tuple[list[date], list[date]]:
        """Return the days that both sites have: those with two sketches, and those without."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(SHARED_DAYS, source, target, sketches_from)
        united = [row["day"] for row in rows if row["have_sketches"]]
        return united, [row["day"] for row in rows if not row["have_sketches"]]

    async def merge(self, source: SiteId, target: SiteId, united: Sequence[date]) -> Extent:
        """Move everything of `source` into `target`, whose rows of the `united` days hold it already.

        Other days that both have are summed, and are no exact numbers any more.
        """
        extent, tables = await self.extent(source), await self.tables()
        async with self._connections.connection() as connection, connection.transaction():
            await connection.execute(RAISE_PEAKS, source, target)
            await connection.execute(DROP_UNITED, source, list(united))
            await connection.execute(SUM_DAYS, source, target)
            for statement in MERGE:
                await connection.execute(statement, source, target)
            for table in tables:
                await connection.execute(f'DELETE FROM footfall."{table}" WHERE site = $1', source)  # noqa: S608
            await self._retotal(connection, target)
            await connection.execute(JOURNAL, target, None, f"merged from {source}", extent.visitors, extent.views)
        return extent

    async def _retotal(self, connection: "Connection", site_id: SiteId) -> None:
        await connection.execute("DELETE FROM footfall.page_total WHERE site = $1", site_id)
        await connection.execute(RETOTAL, site_id)


@asynccontextmanager
async def open_site_history(url: str) -> AsyncIterator[SiteHistory]:
    """Yield a history that connects on first use; close its connections at the end. `url` is the owner's."""
    async with open_connections(url, STATEMENT_MAX_S) as connections:
        yield SiteHistory(connections)
