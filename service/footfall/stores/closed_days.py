"""What Postgres has of the days that are closed: their sums, for Redis and for pages while Redis is away."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg

from footfall.model.day_state import Closed
from footfall.model.peak import Peak
from footfall.model.periods import week_of
from footfall.model.retention import DAY, Retention
from footfall.model.site_id import SiteId
from footfall.model.sums import Sums, Tally

if TYPE_CHECKING:
    from footfall.stores.postgres_connection import Connection

SUMMED = {
    "": "true",
    "day_": "day = $2",
    "week_": "day >= $4",
    "last_week_": "day >= $4 - 7 AND day < $4",
    "month_": "day >= $5",
    "last_month_": "day >= $6 AND day < $5",
    "year_": "day >= $7",
}
"""Which closed days each sum is over: $2 is the last one; then its week, its month, the month before, its year."""
SUMS = ", ".join(
    f"LEAST(COALESCE(sum({number}) FILTER (WHERE {days}), 0), 9007199254740991)::bigint AS {name}{number}"
    for name, days in SUMMED.items()
    for number in ("visitors", "views")
)
"""Held to what a page can show: an overflow would stop the copies of the site."""
CLOSED = f"""
    SELECT asked.site, (extract(epoch FROM now()) * 1e6)::bigint AS read_at_us,
        sums.*, journal.*, highest.*,
        (SELECT visitors FROM footfall.site_week WHERE site = asked.site AND week = $4) AS week_union,
        (SELECT visitors FROM footfall.site_week WHERE site = asked.site AND week = $4 - 7) AS last_week_union
    FROM unnest($1::text[]) AS asked (site), LATERAL (
        SELECT {SUMS}, COALESCE(bool_and(exact), true) AS exact
        FROM footfall.site_day WHERE site = asked.site AND day <= $2
    ) AS sums, LATERAL (
        SELECT LEAST(GREATEST(COALESCE(sum(amount), 0), -9007199254740991), 9007199254740991)::bigint AS adjustments,
            (SELECT left(id, 8) FROM footfall.installation)
                || (SELECT COALESCE('.' || NULLIF(count(*), 0), '') FROM footfall.day_journal WHERE site = asked.site)
                || '-' || count(*) AS revision
        FROM footfall.adjustment WHERE site = asked.site
    ) AS journal LEFT JOIN LATERAL (
        SELECT peak_online, peak_online_at FROM footfall.site_day
        WHERE site = asked.site AND day <= $3 AND peak_online_at <= now() + interval '1 minute'
        ORDER BY peak_online DESC, peak_online_at LIMIT 1
    ) AS highest ON true
"""  # noqa: S608 - made of this file's own words


def revision_of(installation: str, adjustments: int) -> str:
    """Return the revision of a total after a number of corrections, as `CLOSED` makes it.

    >>> revision_of("a1b2c3d4e5f6", 2)
    'a1b2c3d4-2'
    """
    return f"{installation[:8]}-{adjustments}"


async def read_closed(
    connection: "Connection", site_ids: Sequence[SiteId], retention: Retention
) -> dict[SiteId, Closed]:
    """Read the closed days of some sites, the corrections of their totals, and their highest `online`."""
    through = retention.closed_through
    month = through.replace(day=1)
    rows = await connection.fetch(
        CLOSED,
        list(site_ids),
        through,
        retention.today,
        week_of(through),
        month,
        (month - DAY).replace(day=1),
        through.replace(month=1, day=1),
    )
    return {row["site"]: _closed(row, retention) for row in rows}


def _closed(row: asyncpg.Record, retention: Retention) -> Closed:
    through = retention.closed_through
    return Closed(
        read_at_us=row["read_at_us"],
        through=through,
        visitors=row["visitors"],
        views=row["views"],
        adjustments=row["adjustments"],
        revision=row["revision"],
        exact=row["exact"],
        today=retention.today,
        sums=Sums(
            through,
            day=_tally(row, "day"),
            week=_week_tally(row, "week"),
            last_week=_week_tally(row, "last_week"),
            month=_tally(row, "month"),
            last_month=_tally(row, "last_month"),
            year=_tally(row, "year"),
        ),
        peak=peak_of(row),
    )


def _tally(row: asyncpg.Record, name: str) -> Tally:
    return Tally(row[f"{name}_visitors"], row[f"{name}_views"])


def _week_tally(row: asyncpg.Record, name: str) -> Tally:
    """Return a week's union; unknown where it had visitors before unions were saved."""
    union = row[f"{name}_union"]
    return Tally(0 if union is None and not row[f"{name}_visitors"] else union, row[f"{name}_views"])


def peak_of(row: asyncpg.Record) -> Peak | None:
    """Shape a row's `peak_online` and its moment."""
    online, at = row["peak_online"], row["peak_online_at"]
    return None if online is None or at is None else Peak(online, round(at.timestamp() * 1000))
