"""What Postgres has of the past of many sites at once: their sums, and the sum of them all.

Whole months come from `footfall.site_month`, so that ten years of a thousand sites are 120,000 rows and not millions.
"""

from collections.abc import Mapping, Sequence
from datetime import date

import asyncpg

from footfall.model.report_period import DAY, By, Days
from footfall.model.site_id import SiteId
from footfall.model.sums import Tally
from footfall.stores.history import NUMBER_MAX, Figure, Sum
from footfall.stores.postgres_connection import PostgresConnections

PARTS = """
    SELECT site, month AS at, days, exact_days, visitors, views FROM footfall.site_month
    WHERE site = ANY($1) AND month >= $4 AND month < $5 AND days > 0
    UNION ALL
    SELECT site, day, 1, exact::integer, visitors, views FROM footfall.site_day
    WHERE site = ANY($1) AND day >= $2 AND day < $4
    UNION ALL
    SELECT site, day, 1, exact::integer, visitors, views FROM footfall.site_day
    WHERE site = ANY($1) AND day >= $5 AND day <= $3
"""
"""Whole months, and the days before and after them: $4 is the first month, $5 the day after the last one."""
NUMBERS = f"""
    sum(days)::bigint AS counted, sum(days) = sum(exact_days) AS exact,
    LEAST(sum(visitors), {NUMBER_MAX})::bigint AS visitors, LEAST(sum(views), {NUMBER_MAX})::bigint AS views
"""
SUMS = f"SELECT site, {NUMBERS} FROM ({PARTS}) AS part GROUP BY site"  # noqa: S608 - of constants
SUMS_AND_PERIODS = f"""
    SELECT site, start, {NUMBERS}
    FROM (SELECT *, date_trunc($6, at)::date AS start FROM ({PARTS}) AS part) AS part
    GROUP BY GROUPING SETS ((site), (start)) ORDER BY start
"""  # noqa: S608 - of constants
"""Both in one reading of the rows: a row has either a site or the start of a period."""
SINCE = """
    SELECT site, (SELECT min(day) FROM footfall.site_day AS kept WHERE kept.site = asked.site) AS since
    FROM unnest($1::text[]) AS asked (site)
"""
ON_DAY = "SELECT site, visitors, views FROM footfall.site_day WHERE site = ANY($1) AND day = $2"

IMPORTED = """
    SELECT site, EXISTS (SELECT FROM footfall.event WHERE event.site = asked.site AND kind = 'demo_history') AS made_up
    FROM unnest($1::text[]) AS asked (site)
    WHERE EXISTS (
        SELECT FROM footfall.day_journal AS entry WHERE entry.site = asked.site AND entry.day BETWEEN $2 AND $3
    )
"""


class SitesHistory:
    """Reads the past of many sites; every failure is a StoreUnavailable."""

    def __init__(self, connections: PostgresConnections) -> None:
        self._connections = connections

    async def sums(self, site_ids: Sequence[SiteId], days: Days) -> dict[SiteId, Sum]:
        """Return the numbers of all days together, of each site that has some."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(SUMS, site_ids, *days, *days.whole_months())
        return {row["site"]: _sum(row) for row in rows}

    async def sums_and_figures(
        self, site_ids: Sequence[SiteId], days: Days, by: By
    ) -> tuple[dict[SiteId, Sum], list[Figure]]:
        """Return the sum of each site, and that of all sites in each period, oldest first.

        `counted` are days of sites. Visitors are always the sum over sites and days: a set of people who visit several
        sites does not exist.
        """
        # Months cannot be taken apart into days and weeks.
        after = days.last + DAY
        months = days.whole_months() if by in (By.MONTH, By.YEAR) else (after, after)
        async with self._connections.connection() as connection:
            rows = await connection.fetch(SUMS_AND_PERIODS, site_ids, *days, *months, by.value)
        sums = {row["site"]: _sum(row) for row in rows if row["site"] is not None}
        return sums, [_figure(row, days, by) for row in rows if row["site"] is None]

    async def since(self, site_ids: Sequence[SiteId]) -> Mapping[SiteId, date]:
        """Return the first day of each site that has numbers."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(SINCE, site_ids)
        return {row["site"]: row["since"] for row in rows if row["since"] is not None}

    async def imported(self, site_ids: Sequence[SiteId], days: Days) -> dict[SiteId, bool]:
        """Return the sites with days that were imported or moved, and whether those are made up for the demo."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(IMPORTED, site_ids, *days)
        return {row["site"]: row["made_up"] for row in rows}

    async def day(self, site_ids: Sequence[SiteId], day: date) -> Mapping[SiteId, Tally]:
        """Return the numbers of one day, of each site that has some."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(ON_DAY, site_ids, day)
        return {row["site"]: Tally(row["visitors"], row["views"]) for row in rows}


def _sum(row: asyncpg.Record) -> Sum:
    return Sum(row["counted"], row["exact"], row["visitors"], row["views"])


def _figure(row: asyncpg.Record, days: Days, by: By) -> Figure:
    part = Days(max(row["start"], days.first), min(by.end(row["start"]), days.last))
    return Figure(part, row["visitors"], row["views"], row["counted"], row["exact"])
