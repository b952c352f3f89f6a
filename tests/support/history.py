"""A past for a portal, written into PostgreSQL as the rollup leaves it."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg

from tests.support.footfall import SITE

DAY = timedelta(days=1)

if TYPE_CHECKING:
    Owner = asyncpg.Connection[asyncpg.Record]
else:
    Owner = asyncpg.Connection

ADD_DAYS = """
    INSERT INTO footfall.site_day (site, day, visitors, views, logs, exact)
    SELECT $1, day, visitors, views, '{}', exact
    FROM unnest($2::date[], $3::bigint[], $4::bigint[], $5::boolean[]) AS one (day, visitors, views, exact)
"""


async def add_days(
    owner: Owner, days: Iterable[tuple[date, int, int]], *, site: str = SITE, exact: bool = False
) -> None:
    """Add days with their visitors and views."""
    known = list(days)
    columns = [list(column) for column in zip(*known, strict=True)] or [[], [], []]
    await owner.execute(ADD_DAYS, site, *columns, [exact] * len(known))


async def add_week(owner: Owner, week: date, visitors: int, *, exact: bool = False) -> None:
    """Add the union of a week."""
    await owner.execute(
        "INSERT INTO footfall.site_week (site, week, visitors, views, exact) VALUES ($1, $2, $3, 0, $4)",
        SITE,
        week,
        visitors,
        exact,
    )


async def add_peak(owner: Owner, day: date, online: int, at: datetime) -> None:
    """Add to a day the most visitors that were online."""
    await owner.execute(
        "UPDATE footfall.site_day SET (peak_online, peak_online_at) = ($3, $4) WHERE site = $1 AND day = $2",
        SITE,
        day,
        online,
        at,
    )


def every_day(first: date, last: date, visitors: int = 10, views: int = 30) -> list[tuple[date, int, int]]:
    """Return days that are all alike."""
    return [(first + n * DAY, visitors, views) for n in range((last - first).days + 1)]
