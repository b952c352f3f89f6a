"""Days from before Footfall, in Postgres: written by the owner of the tables, in a journal of their own.

A day that was counted live is never written. A day that was imported before is replaced, with its pages.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from footfall.errors import Stop
from footfall.model.imported import IMPORT_LOG, ImportedDay
from footfall.model.site_id import SiteId
from footfall.stores.postgres_connection import (
    COMMAND_TIMEOUT_S,
    LIMITS,
    WAIT,
    PostgresConnections,
    open_connections,
)

if TYPE_CHECKING:
    from footfall.stores.postgres_connection import Connection

PAGES_AT_ONCE = 5000
"""Pages in one statement."""

FIRST_COUNTED = "SELECT min(day) FROM footfall.site_day WHERE site = $1 AND NOT footfall.is_imported(logs)"
KNOWN = """
    SELECT day, visitors, views, exact FROM footfall.site_day
    WHERE site = $1 AND day = ANY($2) AND footfall.is_imported(logs)
"""
KNOWN_PAGES = """
    SELECT page, (logs ->> $3)::bigint AS views FROM footfall.page_day WHERE site = $1 AND day = $2 AND logs ? $3
    UNION ALL
    SELECT page, (logs ->> (to_char($2::date, 'DD') || $3))::bigint FROM footfall.page_month
    WHERE site = $1 AND month = date_trunc('month', $2::date)::date AND logs ? (to_char($2::date, 'DD') || $3)
"""
WRITE_DAY = """
    WITH entered AS (
        INSERT INTO footfall.day_journal (site, day, what, visitors, views) VALUES ($1, $2, $3, $4, $5) RETURNING entry
    )
    INSERT INTO footfall.site_day AS kept (site, day, visitors, views, logs, exact, ids_checksum)
    -- Another checksum than before says to guard_exact that this program knows what it writes.
    SELECT $1, $2, $4, $5, jsonb_build_object($7::text, jsonb_build_array(entry, $5::bigint)), $6,
        decode(md5(entry::text), 'hex')
    FROM entered
    ON CONFLICT (site, day) DO UPDATE SET visitors = EXCLUDED.visitors, views = EXCLUDED.views, logs = EXCLUDED.logs,
        exact = EXCLUDED.exact, ids_checksum = EXCLUDED.ids_checksum
    WHERE footfall.is_imported(kept.logs)
"""
FORGET_PAGES = """
    WITH days AS (
        DELETE FROM footfall.page_day WHERE site = $1 AND day = $2 AND logs ? $3 RETURNING page, views
    ), months AS (
        SELECT page, (logs ->> (to_char($2::date, 'DD') || $3))::bigint AS views FROM footfall.page_month
        WHERE site = $1 AND month = date_trunc('month', $2::date)::date AND logs ? (to_char($2::date, 'DD') || $3)
    ), lowered AS (
        UPDATE footfall.page_month AS kept
        SET views = GREATEST(kept.views - months.views, 0), logs = kept.logs - (to_char($2::date, 'DD') || $3)
        FROM months
        WHERE kept.site = $1 AND kept.month = date_trunc('month', $2::date)::date AND kept.page = months.page
    )
    UPDATE footfall.page_total AS total SET views = GREATEST(total.views - less.views, 0)
    FROM (
        SELECT COALESCE(alias.target, own.page) AS page, sum(own.views)::bigint AS views
        FROM (SELECT * FROM days UNION ALL SELECT * FROM months) AS own
        LEFT JOIN footfall.page_alias AS alias ON (alias.site, alias.page) = ($1, own.page)
        GROUP BY 1
    ) AS less
    WHERE total.site = $1 AND total.page = less.page
"""
WRITE_PAGES = """
    INSERT INTO footfall.page_day (site, page, day, views, logs)
    SELECT $1, page, $2, views, jsonb_build_object($5::text, views)
    FROM unnest($3::text[], $4::bigint[]) AS brought (page, views) ORDER BY page
"""
IMPORTED = """
    SELECT COALESCE(sum(visitors), 0)::bigint AS visitors, COALESCE(sum(views), 0)::bigint AS views,
        COALESCE(max((logs -> $2 ->> 0)::bigint), 0) AS entry
    FROM footfall.site_day WHERE site = $1 AND footfall.is_imported(logs)
"""


@dataclass(frozen=True, slots=True)
class Imported:
    """What all imported days of a site come to, and the newest entry of the journal among them."""

    visitors: int
    views: int
    entry: int


class DayImports:
    """Reads and writes imported days; every failure is a StoreUnavailable."""

    def __init__(self, connections: PostgresConnections) -> None:
        self._connections = connections

    async def may_write(self) -> bool:
        """Return whether the role of this connection may import days: the owner may, the service may not."""
        async with self._connections.connection() as connection:
            return bool(await connection.fetchval("SELECT has_table_privilege('footfall.day_journal', 'INSERT')"))

    async def first_counted_day(self, site_id: SiteId) -> date | None:
        """Return the first day of a site that Footfall counted itself; None where it counted none."""
        async with self._connections.connection() as connection:
            day: date | None = await connection.fetchval(FIRST_COUNTED, site_id)
        return day

    async def is_empty(self, site_id: SiteId) -> bool:
        """Return whether Postgres knows no day of a site, and never did."""
        async with self._connections.connection() as connection:
            return not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM footfall.site_day WHERE site = $1)"
                " OR EXISTS (SELECT FROM footfall.day_journal WHERE site = $1)",
                site_id,
            )

    async def imported(self, site_id: SiteId) -> Imported:
        """Return what all imported days of a site come to."""
        async with self._connections.connection() as connection:
            (row,) = await connection.fetch(IMPORTED, site_id, IMPORT_LOG)
        return Imported(**row)

    async def changed(self, site_id: SiteId, days: Iterable[ImportedDay]) -> list[ImportedDay]:
        """Return those of `days` that an import would change, new ones among them."""
        days = list(days)
        async with self._connections.connection() as connection:
            rows = await connection.fetch(KNOWN, site_id, [day.day for day in days])
            known = {row["day"]: (row["visitors"], row["views"], row["exact"]) for row in rows}
            return [
                day
                for day in days
                if known.get(day.day) != (day.visitors, day.views, day.exact)
                or await _pages(connection, site_id, day.day) != dict(day.pages)
            ]

    async def write(self, site_id: SiteId, source: str, days: Sequence[ImportedDay]) -> None:
        """Write days with their pages, all in one transaction; what an earlier import said of them is replaced.

        Raises Stop where a day was counted live meanwhile, and StoreBusy where rows are in use: nothing was written
        then.
        """
        async with self._connections.connection() as connection, connection.transaction():
            await connection.execute(LIMITS, WAIT)
            for day in sorted(days, key=lambda day: day.day):
                status = await connection.execute(
                    WRITE_DAY, site_id, day.day, source, day.visitors, day.views, day.exact, IMPORT_LOG
                )
                if status != "INSERT 0 1":
                    raise Stop(f"{day.day} is a day that Footfall has counted meanwhile: run the same command again", 1)
                await connection.execute(FORGET_PAGES, site_id, day.day, IMPORT_LOG)
                pages = sorted(day.pages.items())
                for at in range(0, len(pages), PAGES_AT_ONCE):
                    some = pages[at : at + PAGES_AT_ONCE]
                    names, views = [page for page, _ in some], [views for _, views in some]
                    await connection.execute(WRITE_PAGES, site_id, day.day, names, views, IMPORT_LOG)


async def _pages(connection: "Connection", site_id: SiteId, day: date) -> dict[str, int]:
    return {row["page"]: row["views"] for row in await connection.fetch(KNOWN_PAGES, site_id, day, IMPORT_LOG)}


@asynccontextmanager
async def open_day_imports(url: str, timeout_s: float = COMMAND_TIMEOUT_S) -> AsyncIterator[DayImports]:
    """Yield imports that connect on first use; close their connections at the end. `url` is the owner's."""
    async with open_connections(url, timeout_s) as connections:
        yield DayImports(connections)
