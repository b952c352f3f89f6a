"""The rows of pages: the views of each page and day, which merge log by log as days do."""

import json
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from footfall.model.pages import PageBase, PageDay
from footfall.model.site_id import SiteId

if TYPE_CHECKING:
    from footfall.stores.postgres_connection import Connection

SAVE_PAGES = """
    INSERT INTO footfall.page_day AS kept (site, page, day, views, logs)
    SELECT site, page, day, footfall.sum_of_views(logs), logs
    FROM unnest($1::text[], $2::text[], $3::date[], $4::jsonb[]) AS copy (site, page, day, logs)
    WHERE NOT EXISTS (
        SELECT FROM footfall.page_day AS known
        WHERE (known.site, known.page, known.day) = (copy.site, copy.page, copy.day)
            AND footfall.most_views(known.logs, copy.logs) = known.logs
    )
    ORDER BY site, page, day
    ON CONFLICT (site, page, day) DO UPDATE SET
        views = footfall.sum_of_views(footfall.most_views(kept.logs, EXCLUDED.logs)),
        logs = footfall.most_views(kept.logs, EXCLUDED.logs)
"""
PAGE_BASES = """
    SELECT asked.page, COALESCE(total.views, 0) - COALESCE(sum(later.views), 0)::bigint AS views,
        COALESCE(jsonb_object_agg(later.day, later.logs) FILTER (WHERE later.day IS NOT NULL), '{}') AS later
    FROM unnest($2::text[]) WITH ORDINALITY AS asked(page, place)
    LEFT JOIN footfall.page_alias AS alias ON (alias.site, alias.page) = ($1, asked.page)
    LEFT JOIN footfall.page_total AS total ON (total.site, total.page) = ($1, COALESCE(alias.target, asked.page))
    LEFT JOIN footfall.page_day AS later ON (later.site, later.page) = ($1, asked.page) AND later.day > $3
    GROUP BY asked.place, asked.page, total.views ORDER BY asked.place
"""


async def save_pages(connection: "Connection", pages: Sequence[tuple[SiteId, PageDay]]) -> None:
    """Merge pages of some sites into their rows, a part of the transaction that saves their days."""
    if pages:
        await connection.execute(
            SAVE_PAGES,
            [site_id for site_id, _ in pages],
            [page.page for _, page in pages],
            [page.day for _, page in pages],
            [json.dumps(page.logs) for _, page in pages],
        )


async def read_page_bases(
    connection: "Connection", site_id: SiteId, through: date, pages: Sequence[str]
) -> list[PageBase]:
    """Read, for each page in the order given, its views up to `through` and those of the days after it."""
    rows = await connection.fetch(PAGE_BASES, site_id, list(pages), through)
    return [PageBase(row["page"], max(0, row["views"]), _later_days(row["later"])) for row in rows]


def _later_days(later: str) -> dict[date, dict[str, int]]:
    return {date.fromisoformat(day): logs for day, logs in json.loads(later).items()}
