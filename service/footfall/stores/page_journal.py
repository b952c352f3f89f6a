"""Views of pages in Postgres, as an operator reads and corrects them: top pages, starting numbers, renamed pages."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import NamedTuple

from footfall.model.site_id import SiteId
from footfall.stores.postgres_connection import COMMAND_TIMEOUT_S, PostgresConnections, open_connections

CHUNK = 1000
"""Pages in one statement."""

TOP = "SELECT page, views FROM footfall.page_total WHERE site = $1 AND views > 0 ORDER BY views DESC, page LIMIT $2"
TOP_OF_DAYS = """
    SELECT COALESCE(alias.target, counted.page) AS page, sum(counted.views)::bigint AS views
    FROM (
        SELECT page, views FROM footfall.page_day WHERE site = $1 AND day BETWEEN $2 AND $3
        UNION ALL
        SELECT page, views FROM footfall.page_month
        WHERE site = $1 AND month >= $2 AND (month + interval '1 month')::date - 1 <= $3
    ) AS counted
    LEFT JOIN footfall.page_alias AS alias ON (alias.site, alias.page) = ($1, counted.page)
    GROUP BY 1 HAVING sum(views) > 0 ORDER BY 2 DESC, 1 LIMIT $4
"""
CUT_MONTHS = """
    SELECT DISTINCT month FROM footfall.page_month
    WHERE site = $1 AND month <= $3 AND (month + interval '1 month')::date > $2
        AND NOT (month >= $2 AND (month + interval '1 month')::date - 1 <= $3)
    ORDER BY month
"""
IMPORTS = """
    SELECT id, count(DISTINCT page) AS pages, sum(views)::bigint AS views, min(made_at) AS made_at
    FROM footfall.page_import WHERE site = $1 GROUP BY id ORDER BY made_at, id
"""
IMPORTED = """
    SELECT page, sum(views)::bigint AS views FROM footfall.page_import WHERE site = $1 AND id = $2 GROUP BY page
"""
ADD = """
    INSERT INTO footfall.page_import (site, id, page, views) SELECT $1, $2, * FROM unnest($3::text[], $4::bigint[])
"""
IMPORT_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 0))"


class PageViews(NamedTuple):
    """A page and its views."""

    page: str
    views: int


class PageImport(NamedTuple):
    """An import of starting numbers: what it comes to now, and when it was first made."""

    id: str
    pages: int
    views: int
    made_at: datetime


class Changed(NamedTuple):
    """What an import changes: how many pages, and by how many views in all."""

    pages: int
    views: int


class PageJournal:
    """Reads the views of pages, and adds to their journals; every failure is a StoreUnavailable."""

    def __init__(self, connections: PostgresConnections) -> None:
        self._connections = connections

    async def top(self, site_id: SiteId, limit: int) -> list[PageViews]:
        """Return the pages with the most views of all time, starting numbers included, the most first."""
        async with self._connections.connection() as connection:
            return [PageViews(*row) for row in await connection.fetch(TOP, site_id, limit)]

    async def top_of_days(self, site_id: SiteId, first: date, last: date, limit: int) -> list[PageViews]:
        """Return the pages with the most views from `first` to `last`, both included, the most first.

        A month of which no days are kept counts where it lies in between as a whole.
        """
        async with self._connections.connection() as connection:
            return [PageViews(*row) for row in await connection.fetch(TOP_OF_DAYS, site_id, first, last, limit)]

    async def cut_months(self, site_id: SiteId, first: date, last: date) -> list[date]:
        """Return the months of which no days are kept and only a part lies between `first` and `last`."""
        async with self._connections.connection() as connection:
            return [row["month"] for row in await connection.fetch(CUT_MONTHS, site_id, first, last)]

    async def imports(self, site_id: SiteId) -> list[PageImport]:
        """Return the imports of a site, oldest first."""
        async with self._connections.connection() as connection:
            return [PageImport(*row) for row in await connection.fetch(IMPORTS, site_id)]

    async def import_views(
        self,
        site_id: SiteId,
        import_id: str,
        views: Mapping[str, int],
        *,
        progress: Callable[[int], None],
        is_dry_run: bool = False,
    ) -> Changed:
        """Make `views` the starting numbers of an import, in one transaction; the same import again changes nothing.

        What the import said before is replaced, also for pages that it does not name any more. `progress` is called
        with the number of pages after each thousand. A dry run writes nothing and returns what it would change.
        """
        async with self._connections.connection() as connection, connection.transaction():
            await connection.execute(IMPORT_LOCK, site_id, import_id)
            before = {row["page"]: row["views"] for row in await connection.fetch(IMPORTED, site_id, import_id)}
            # In the order in which copies from Redis write the totals.
            pages = sorted(page for page in {*before, *views} if views.get(page, 0) != before.get(page, 0))
            added = [views.get(page, 0) - before.get(page, 0) for page in pages]
            for at in range(0, 0 if is_dry_run else len(pages), CHUNK):
                some = pages[at : at + CHUNK]
                await connection.execute(ADD, site_id, import_id, some, added[at : at + CHUNK])
                progress(len(some))
        return Changed(len(pages), sum(added))

    async def move(self, site_id: SiteId, old: str, new: str) -> int:
        """Show the views of `old` as those of `new`, past and future ones; return the views of `new` then.

        The move of a page replaces its move before; to itself, it takes that back.
        """
        async with self._connections.connection() as connection:
            return int(await connection.fetchval("SELECT footfall.move_page($1, $2, $3)", site_id, old, new))


@asynccontextmanager
async def open_page_journal(url: str, timeout_s: float = COMMAND_TIMEOUT_S) -> AsyncIterator[PageJournal]:
    """Yield a journal that connects on first use; close its connections at the end."""
    async with open_connections(url, timeout_s) as connections:
        yield PageJournal(connections)
