"""What Postgres has of the past of a site, as a report reads it: periods, pages, peak, corrections, events.

Reports have connections of their own: one that takes long holds up no copy from Redis. Nothing is written.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import date, datetime
from typing import NamedTuple

import asyncpg

from footfall.model.event import Event
from footfall.model.peak import Peak
from footfall.model.report_period import By, Days
from footfall.model.site_id import SiteId
from footfall.model.sums import Tally
from footfall.stores.closed_days import peak_of
from footfall.stores.page_journal import CUT_MONTHS, TOP_OF_DAYS, PageViews
from footfall.stores.postgres_connection import PostgresConnections, open_connections
from footfall.stores.postgres_store import Adjustment

STATEMENT_MAX_S = 10.0
REPORT_CONNECTIONS = 2
PAGES_MAX_MS = 1000
"""How long the pages of a period may be added up; a portal of many pages has millions of rows in ten years."""
ROWS_AT_ONCE = 500
LISTED_MAX = 200
"""Corrections, imports and events that a report names, the newest; the page says where there may be more."""
NUMBER_MAX = 2**53 - 1

PERIODS = f"""
    SELECT part.start, part.counted, part.imported, part.views, part.exact, part.visitors, part.most,
        week.visitors AS union_visitors, week.exact AS union_exact
    FROM (
        SELECT date_trunc($4, day)::date AS start, count(*) AS counted, max(visitors) AS most, bool_and(exact) AS exact,
            count(*) FILTER (WHERE footfall.is_imported(logs)) AS imported,
                LEAST(sum(visitors), {NUMBER_MAX})::bigint AS visitors, LEAST(sum(views), {NUMBER_MAX})::bigint AS views
        FROM footfall.site_day WHERE site = $1 AND day BETWEEN $2 AND $3 GROUP BY 1
    ) AS part
    LEFT JOIN footfall.site_week AS week ON $4 = 'week' AND (week.site, week.week) = ($1, part.start)
    ORDER BY part.start
"""  # noqa: S608 - of constants
SUM = f"""
    SELECT count(*) AS counted, COALESCE(bool_and(exact), true) AS exact,
        LEAST(COALESCE(sum(visitors), 0), {NUMBER_MAX})::bigint AS visitors,
        LEAST(COALESCE(sum(views), 0), {NUMBER_MAX})::bigint AS views
    FROM footfall.site_day WHERE site = $1 AND day BETWEEN $2 AND $3
"""  # noqa: S608 - of constants
SINCE = "SELECT min(day) FROM footfall.site_day WHERE site = $1"
UNION = "SELECT visitors FROM footfall.site_week WHERE site = $1 AND week = $2"
COUNTED_DAYS = "SELECT day FROM footfall.site_day WHERE site = $1 AND day BETWEEN $2 AND $3 ORDER BY day"
MOST_ONLINE = """
    SELECT peak_online, peak_online_at FROM footfall.site_day
    WHERE site = $1 AND day BETWEEN $2 AND $3 AND peak_online IS NOT NULL
    ORDER BY peak_online DESC, peak_online_at LIMIT 1
"""
BUSIEST = """
    SELECT day, visitors, views FROM footfall.site_day WHERE site = $1 AND day BETWEEN $2 AND $3
    ORDER BY visitors DESC, day LIMIT 1
"""
CORRECTIONS = """
    SELECT id, amount, reason, made_by, made_at FROM footfall.adjustment WHERE site = $1
    ORDER BY made_at DESC, id LIMIT $2
"""
PAGE_CHANGES = """
    SELECT made_at, made_by, id, pages, views, NULL AS page, NULL AS target FROM (
        SELECT max(made_at) AS made_at, made_by, id, count(DISTINCT page) AS pages, sum(views)::bigint AS views
        FROM footfall.page_import WHERE site = $1 GROUP BY made_by, id, date_trunc('day', made_at)
    ) AS import
    UNION ALL
    SELECT made_at, made_by, NULL, 0, 0, page, target FROM footfall.page_move WHERE site = $1
    ORDER BY made_at DESC, id, page LIMIT $2
"""
"""What one role imported under one name on one day is one line; each move is one."""
SETTINGS_BEFORE = """
    SELECT detail FROM footfall.event WHERE site = $1 AND kind = 'settings' AND at < $2 ORDER BY at DESC LIMIT 1
"""
EVERY_SITE = "*"
"""Under this name stand the events of an installation, such as a store that was away."""
EVENTS = f"""
    SELECT kind, detail, at, began, ended, site, running FROM footfall.event
    WHERE site IN ($1, '{EVERY_SITE}') AND COALESCE(ended, at) >= $2 AND COALESCE(began, at) < $3
    ORDER BY COALESCE(began, at) DESC, kind, detail LIMIT $4
"""  # noqa: S608 - of constants
IMPORTS = """
    SELECT what, made_by, max(made_at) AS made_at, min(day) AS first, max(day) AS last, count(DISTINCT day) AS days,
        sum(views)::bigint AS views
    FROM footfall.day_journal WHERE site = $1 AND day BETWEEN $2 AND $3
    GROUP BY what, made_by, date_trunc('day', made_at) ORDER BY 3 DESC, 1, 2 LIMIT $4
"""
"""What was imported on one day by one role is one line; a day that was imported again is one day in it."""


class Figure(NamedTuple):
    """The numbers of a period of a report."""

    days: Days
    visitors: int
    views: int
    counted: int
    """Of how many of its days there are numbers."""
    exact: bool
    """Whether `visitors` is no estimate."""
    is_union: bool = False
    """Whether `visitors` are the different people of the whole period; else the sum of those of its days."""
    imported: int = 0
    """How many of its days were not counted here, but imported."""


class Sum(NamedTuple):
    """The numbers of days together; visitors are the sum of those of the days."""

    counted: int
    exact: bool
    visitors: int
    views: int


class Busiest(NamedTuple):
    """The day with the most visitors."""

    day: date
    visitors: int
    views: int


class Import(NamedTuple):
    """Days that were taken over from another counter or from a log, moved from another site, or forgotten."""

    what: str
    made_by: str
    made_at: datetime
    first: date
    last: date
    days: int
    views: int


class PageChange(NamedTuple):
    """Starting numbers of pages that were imported, or a page whose views are shown as those of another one."""

    made_at: datetime
    made_by: str
    id: str | None
    """Of an import; None for a move."""
    pages: int
    views: int
    page: str | None
    """Of a move; None for an import."""
    target: str | None
    """Where the views of `page` are shown; the same page where an earlier move was taken back."""


class TopPages(NamedTuple):
    """The pages with the most views, and the months that are left out, being cut by the period."""

    pages: Sequence[PageViews]
    cut_months: Sequence[date]


class History:
    """Reads what a report says of the past; every failure is a StoreUnavailable."""

    def __init__(self, connections: PostgresConnections) -> None:
        self._connections = connections

    async def since(self, site_id: SiteId) -> date | None:
        """Return the first day that has numbers; None where there is none."""
        async with self._connections.connection() as connection:
            first: date | None = await connection.fetchval(SINCE, site_id)
            return first

    async def figures(self, site_id: SiteId, days: Days, by: By) -> AsyncIterator[Figure]:
        """Yield the periods of `days` that have numbers, oldest first, as a cursor brings them.

        The visitors of a whole week are those of its union, where it was kept; of every other period the sum of days.
        """
        async with self._connections.connection() as connection, connection.transaction(readonly=True):
            async for row in connection.cursor(PERIODS, site_id, *days, by.value, prefetch=ROWS_AT_ONCE):
                yield _figure(row, days, by)

    async def sum(self, site_id: SiteId, days: Days) -> Sum:
        """Return the numbers of all days together."""
        async with self._connections.connection() as connection:
            (row,) = await connection.fetch(SUM, site_id, *days)
            return Sum(*row)

    async def counted_days(self, site_id: SiteId, days: Days) -> list[date]:
        """Return the days that have numbers, oldest first; the others are gaps."""
        async with self._connections.connection() as connection:
            return [row["day"] for row in await connection.fetch(COUNTED_DAYS, site_id, *days)]

    async def day(self, site_id: SiteId, day: date) -> Tally | None:
        """Return the numbers of one day, as far as they are copied."""
        busiest = await self.busiest(site_id, Days(day, day))
        return busiest and Tally(busiest.visitors, busiest.views)

    async def union(self, site_id: SiteId, week: date) -> int | None:
        """Return the different visitors of the week that begins on Monday `week`, as far as they are copied."""
        async with self._connections.connection() as connection:
            visitors: int | None = await connection.fetchval(UNION, site_id, week)
            return visitors

    async def most_online(self, site_id: SiteId, days: Days) -> Peak | None:
        """Return the most visitors that were online at once, and when."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(MOST_ONLINE, site_id, *days)
            return peak_of(rows[0]) if rows else None

    async def busiest(self, site_id: SiteId, days: Days) -> Busiest | None:
        """Return the day with the most visitors, of equal ones the first."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(BUSIEST, site_id, *days)
            return Busiest(*rows[0]) if rows else None

    async def top_pages(self, site_id: SiteId, days: Days, limit: int) -> TopPages | None:
        """Return the pages with the most views; None where there are too many rows to add up within a second."""
        async with self._connections.connection() as connection:
            try:
                async with connection.transaction(readonly=True):
                    await connection.execute("SELECT set_config('statement_timeout', $1, true)", str(PAGES_MAX_MS))
                    rows = await connection.fetch(TOP_OF_DAYS, site_id, *days, limit)
                    cut = await connection.fetch(CUT_MONTHS, site_id, *days)
            except asyncpg.QueryCanceledError:
                return None
        return TopPages([PageViews(*row) for row in rows], [row["month"] for row in cut])

    async def corrections(self, site_id: SiteId) -> list[Adjustment]:
        """Return the corrections of the all-time total, the newest first, and at most `LISTED_MAX` of them."""
        async with self._connections.connection() as connection:
            return [Adjustment(*row) for row in await connection.fetch(CORRECTIONS, site_id, LISTED_MAX)]

    async def imports(self, site_id: SiteId, days: Days) -> list[Import]:
        """Return what was imported, moved or forgotten of these days, the newest first; at most `LISTED_MAX` lines."""
        async with self._connections.connection() as connection:
            return [Import(*row) for row in await connection.fetch(IMPORTS, site_id, *days, LISTED_MAX)]

    async def page_changes(self, site_id: SiteId) -> list[PageChange]:
        """Return the imports and the moves of pages, the newest first, and at most `LISTED_MAX` of them."""
        async with self._connections.connection() as connection:
            return [PageChange(*row) for row in await connection.fetch(PAGE_CHANGES, site_id, LISTED_MAX)]

    async def settings_before(self, site_id: SiteId, moment: datetime) -> str:
        """Return the detail of the last event of settings before a moment; empty for none."""
        async with self._connections.connection() as connection:
            return await connection.fetchval(SETTINGS_BEFORE, site_id, moment) or ""

    async def events(self, site_id: SiteId, since: datetime, before: datetime) -> list[Event]:
        """Return what happened or lasted between two moments, the newest first, and at most `LISTED_MAX` of it."""
        async with self._connections.connection() as connection:
            return [Event(*row) for row in await connection.fetch(EVENTS, site_id, since, before, LISTED_MAX)]


@asynccontextmanager
async def open_history(url: str) -> AsyncIterator[History]:
    """Yield a history that connects on first use; close its connections at the end."""
    async with open_report_connections(url) as connections:
        yield History(connections)


def open_report_connections(url: str) -> AbstractAsyncContextManager[PostgresConnections]:
    """Return the connections of a worker's reports."""
    return open_connections(url, STATEMENT_MAX_S, REPORT_CONNECTIONS)


def _figure(row: asyncpg.Record, days: Days, by: By) -> Figure:
    start: date = row["start"]
    part = Days(max(start, days.first), min(by.end(start), days.last))
    # The union has the visitors of the days that were counted here, and none of an imported day.
    if row["union_visitors"] is None or row["imported"] or not part.is_whole(by):
        return Figure(part, row["visitors"], row["views"], row["counted"], row["exact"], imported=row["imported"])
    # A batch that came late is in its day before it is in the union.
    union = max(row["union_visitors"], row["most"])
    exact = row["union_exact"] and union == row["union_visitors"]
    return Figure(part, union, row["views"], row["counted"], exact, is_union=True, imported=row["imported"])
