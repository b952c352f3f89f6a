"""The rows of days and weeks: how the copies of many sites, each one look at Redis, are merged into them at once.

Every statement is over all sites of a group, and takes their rows in one order, so that two groups do not wait for each
other in a circle.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import asyncpg

from footfall.model import visitor_ids
from footfall.model.day_state import DayState
from footfall.model.pages import PageDay
from footfall.model.periods import week_of
from footfall.model.retention import Retention
from footfall.model.site_id import SiteId
from footfall.model.sketch import checksum, is_sound
from footfall.model.sketch import covers as sketch_covers
from footfall.model.snapshot import SiteCopy
from footfall.stores.closed_days import peak_of
from footfall.stores.page_rows import save_pages

if TYPE_CHECKING:
    from footfall.stores.postgres_connection import Connection

Rows = dict[tuple[SiteId, date], DayState]

AS_EXACT_AS_BEFORE = """
    kept.exact AND (NOT EXCLUDED.exact OR kept.visitors > EXCLUDED.visitors)
        AND kept.logs = EXCLUDED.logs AND COALESCE(kept.sketch = EXCLUDED.sketch, true)
"""
"""Redis has dropped the ids of a day, and nothing has come since: its estimate says less than the row."""
SAVE = f"""
    INSERT INTO footfall.site_day AS kept
        (site, day, visitors, views, sketch, checksum, logs, peak_online, peak_online_at, ids, ids_checksum, exact)
    SELECT *
    FROM unnest($3::text[], $4::date[], $5::bigint[], $6::bigint[], $7::bytea[], $8::bytea[], $9::jsonb[],
        $10::bigint[], $11::timestamptz[], $12::bytea[], $13::bytea[], $14::boolean[]) AS copy (site, day)
    ORDER BY site, day
    ON CONFLICT (site, day) DO UPDATE SET
        visitors = CASE WHEN {AS_EXACT_AS_BEFORE} THEN kept.visitors
            ELSE LEAST(GREATEST(kept.visitors, EXCLUDED.visitors), 9007199254740991) END,
        views = LEAST(GREATEST(kept.views, EXCLUDED.views), 9007199254740991),
        -- A clock that was ahead may have dropped the sketch of a day that is still young: it is saved again.
        sketch = CASE WHEN kept.sketch IS NOT NULL OR kept.day >= $1 THEN EXCLUDED.sketch END,
        checksum = CASE WHEN kept.sketch IS NOT NULL OR kept.day >= $1 THEN EXCLUDED.checksum END,
        logs = EXCLUDED.logs,
        peak_online = GREATEST(kept.peak_online, EXCLUDED.peak_online),
        peak_online_at = CASE
            WHEN kept.peak_online > COALESCE(EXCLUDED.peak_online, 0) THEN kept.peak_online_at
            WHEN EXCLUDED.peak_online > COALESCE(kept.peak_online, 0) THEN EXCLUDED.peak_online_at
            ELSE LEAST(kept.peak_online_at, EXCLUDED.peak_online_at)
        END,
        ids = CASE WHEN kept.day < $2 THEN NULL
            WHEN {AS_EXACT_AS_BEFORE} THEN kept.ids
            WHEN kept.visitors <= EXCLUDED.visitors THEN EXCLUDED.ids END,
        ids_checksum = CASE WHEN {AS_EXACT_AS_BEFORE}
            THEN kept.ids_checksum ELSE EXCLUDED.ids_checksum END,
        exact = {AS_EXACT_AS_BEFORE} OR EXCLUDED.exact AND kept.visitors <= EXCLUDED.visitors
    WHERE footfall.covers(EXCLUDED.logs, kept.logs)
        AND (kept.logs <> EXCLUDED.logs OR kept.visitors < EXCLUDED.visitors
            OR kept.sketch <> EXCLUDED.sketch OR kept.checksum <> EXCLUDED.checksum
            OR kept.sketch IS NULL AND kept.day >= $1
            OR EXCLUDED.peak_online > COALESCE(kept.peak_online, 0)
            OR EXCLUDED.peak_online = kept.peak_online AND EXCLUDED.peak_online_at < kept.peak_online_at
            OR kept.ids IS NOT NULL AND kept.day < $2
            OR EXCLUDED.exact AND kept.visitors <= EXCLUDED.visitors AND (NOT kept.exact
                OR kept.ids IS DISTINCT FROM EXCLUDED.ids OR kept.ids_checksum IS DISTINCT FROM EXCLUDED.ids_checksum))
"""  # noqa: S608 - of constants
SAVE_WEEKS = """
    INSERT INTO footfall.site_week AS kept (site, week, visitors, exact, views, of_days)
    SELECT copy.site, week, copy.visitors, copy.exact,
        LEAST(9007199254740991, days.views), LEAST(9007199254740991, days.visitors)
    FROM unnest($1::text[], $2::date[], $3::bigint[], $4::boolean[]) AS copy (site, week, visitors, exact),
        LATERAL (
            SELECT COALESCE(sum(views), 0) AS views, COALESCE(sum(visitors), 0) AS visitors
            FROM footfall.site_day AS part WHERE part.site = copy.site AND day >= week AND day < week + 7
        ) AS days
    ORDER BY copy.site, week
    ON CONFLICT (site, week) DO UPDATE SET
        visitors = GREATEST(kept.visitors, EXCLUDED.visitors), views = GREATEST(kept.views, EXCLUDED.views),
        of_days = EXCLUDED.of_days, exact = EXCLUDED.exact AND kept.visitors <= EXCLUDED.visitors
    -- Where Redis has dropped the ids of a week, and no day has had a new visitor since, the row knows better.
    WHERE NOT (kept.exact AND NOT EXCLUDED.exact AND kept.of_days = EXCLUDED.of_days AND NOT EXISTS (
            SELECT FROM footfall.site_day AS part
            WHERE part.site = kept.site AND day >= kept.week AND day < kept.week + 7 AND NOT part.exact))
        AND (kept.visitors < EXCLUDED.visitors OR kept.views < EXCLUDED.views
            OR kept.of_days IS DISTINCT FROM EXCLUDED.of_days
            OR EXCLUDED.exact AND NOT kept.exact AND kept.visitors <= EXCLUDED.visitors)
"""
DROP_SKETCHES = """
    UPDATE footfall.site_day AS kept SET sketch = NULL, checksum = NULL
    WHERE site = ANY($1) AND day < $2 AND sketch IS NOT NULL AND NOT EXISTS (
        SELECT FROM unnest($3::text[], $4::date[]) AS given (site, day)
        WHERE (given.site, given.day) = (kept.site, kept.day))
"""
DROP_IDS = """
    UPDATE footfall.site_day AS kept SET ids = NULL
    WHERE site = ANY($1) AND day < $2 AND ids IS NOT NULL AND NOT EXISTS (
        SELECT FROM unnest($3::text[], $4::date[]) AS given (site, day)
        WHERE (given.site, given.day) = (kept.site, kept.day))
"""
"""Once the key that made them is destroyed; that they were all there stays in `exact`."""
HELD = """
    WITH copy AS (SELECT * FROM unnest($1::text[], $2::date[]) AS copy (site, day)), free AS MATERIALIZED (
        SELECT kept.site, kept.day FROM footfall.site_day AS kept JOIN copy USING (site, day)
        FOR UPDATE OF kept SKIP LOCKED
    )
    SELECT DISTINCT site FROM footfall.site_day JOIN copy USING (site, day)
    WHERE NOT EXISTS (SELECT FROM free WHERE (free.site, free.day) = (copy.site, copy.day))
"""
"""Sites of which another session holds a row now; the rows of the others are ours from here on."""
FULLER = """
    SELECT kept.*
    FROM footfall.site_day AS kept
        JOIN unnest($1::text[], $2::date[], $3::bigint[]) AS copy(site, day, visitors) USING (site, day)
    WHERE kept.visitors > copy.visitors AND kept.sketch IS NOT NULL
    ORDER BY site, day FOR UPDATE OF kept
"""
"""Rows that count more visitors than the copy: of these alone the sketches are compared."""
AHEAD = """
    SELECT kept.*
    FROM footfall.site_day AS kept
        JOIN unnest($1::text[], $2::date[], $3::jsonb[]) AS copy(site, day, logs) USING (site, day)
    WHERE NOT footfall.covers(copy.logs, kept.logs)
    UNION ALL
    SELECT kept.*
    FROM (
        SELECT * FROM footfall.site_day WHERE site = ANY($4) AND day >= $5
        UNION ALL
        SELECT part.*
        FROM unnest($8::text[], $9::date[]) AS late (site, week)
            JOIN footfall.site_day AS part ON part.site = late.site AND day >= week AND day < LEAST(week + 7, $5)
        WHERE sketch IS NOT NULL
    ) AS kept
    WHERE NOT footfall.covers('{}', kept.logs) AND NOT footfall.is_imported(kept.logs) AND NOT EXISTS (
        SELECT FROM unnest($6::text[], $7::date[]) AS present (site, day)
        WHERE (present.site, present.day) = (kept.site, kept.day))
"""
"""Days that Redis needs and lacks: the young ones and, where a day of an earlier week has changed, the others of that
week. Without them the union that Redis has of it may lack who came on those days only.
"""


async def sites_held(connection: "Connection", copies: Sequence[SiteCopy]) -> set[SiteId]:
    """Return the sites of which another session holds a row, without waiting for it."""
    pairs = [(copy.site_id, state.day) for copy in copies for state in copy.snapshot.days]
    rows = await connection.fetch(HELD, [site_id for site_id, _ in pairs], [day for _, day in pairs])
    return {row["site"] for row in rows}


async def save_days(
    connection: "Connection", copies: Sequence[SiteCopy], retention: Retention
) -> Mapping[SiteId, Sequence[DayState]]:
    """Merge copies that share a retention into the rows, with their weeks and pages; return the rows that know more.

    A row is written only where the copy covers it, its logs and its sketch. The pages are merged into theirs, row by
    row, whatever the days know.
    """
    given = [(copy.site_id, state) for copy in copies for state in copy.snapshot.days]
    site_ids, names = [site_id for site_id, _ in given], [state.day for _, state in given]
    if due := [copy.site_id for copy in copies if copy.is_due]:
        await connection.execute(DROP_SKETCHES, due, retention.sketches_from, site_ids, names)
        await connection.execute(DROP_IDS, due, retention.salts_from, site_ids, names)
    fuller = await _fuller(connection, given)
    await _save_rows(connection, [pair for pair in given if (pair[0], pair[1].day) not in fuller], retention)
    await save_pages(connection, pages_in(copies))
    present = [(copy.site_id, day) for copy in copies for day in copy.snapshot.present]
    late = {
        (copy.site_id, week_of(day)) for copy in copies for day in copy.snapshot.changes if day < retention.needed_from
    }
    rows = await connection.fetch(
        AHEAD,
        site_ids,
        names,
        [json.dumps(state.logs) for _, state in given],
        [copy.site_id for copy in copies],
        retention.needed_from,
        [site_id for site_id, _ in present],
        [day for _, day in present],
        [site_id for site_id, _ in late],
        [week for _, week in late],
    )
    ahead: dict[SiteId, list[DayState]] = {copy.site_id: [] for copy in copies}
    for (site_id, _), state in (fuller | {(row["site"], row["day"]): day_state(row) for row in rows}).items():
        ahead[site_id].append(state)
    await _save_weeks(connection, copies, ahead)
    return ahead


def pages_in(copies: Iterable[SiteCopy]) -> list[tuple[SiteId, PageDay]]:
    """Return the pages of some copies, each with its site."""
    return [(copy.site_id, page) for copy in copies for page in copy.snapshot.pages]


async def _save_rows(connection: "Connection", given: Sequence[tuple[SiteId, DayState]], retention: Retention) -> None:
    days = [state for _, state in given]
    ids = [state.ids if state.day >= retention.salts_from else None for state in days]
    await connection.execute(
        SAVE,
        retention.sketches_from,
        retention.salts_from,
        [site_id for site_id, _ in given],
        [state.day for state in days],
        [state.visitors for state in days],
        [state.views for state in days],
        [state.sketch for state in days],
        [state.sketch and checksum(state.sketch) for state in days],
        [json.dumps(state.logs) for state in days],
        [state.peak and state.peak.online for state in days],
        [state.peak and datetime.fromtimestamp(state.peak.at_ms / 1000, UTC) for state in days],
        ids,
        [visitor_ids.checksum(listed, state.visitors, state.logs) for listed, state in zip(ids, days, strict=True)],
        [state.exact for state in days],
    )


async def _save_weeks(
    connection: "Connection", copies: Sequence[SiteCopy], ahead: Mapping[SiteId, Sequence[DayState]]
) -> None:
    """Save the weeks of the copies; where Redis lacks something of a week, its set is not all of it."""
    weeks = [(copy, week, visitors) for copy in copies for week, visitors in copy.snapshot.weeks.items()]
    lacking = {(site_id, week_of(state.day)) for site_id, states in ahead.items() for state in states}
    await connection.execute(
        SAVE_WEEKS,
        [copy.site_id for copy, _, _ in weeks],
        [week for _, week, _ in weeks],
        [visitors for _, _, visitors in weeks],
        [week in copy.snapshot.exact_weeks and (copy.site_id, week) not in lacking for copy, week, _ in weeks],
    )


async def _fuller(connection: "Connection", given: Iterable[tuple[SiteId, DayState]]) -> Rows:
    """Return the rows whose sketch has visitors that the copy's lacks: Redis has lost them, and not its logs."""
    copies = {(site_id, state.day): state for site_id, state in given}
    rows = await connection.fetch(
        FULLER,
        [site_id for site_id, _ in copies],
        [day for _, day in copies],
        [state.visitors for state in copies.values()],
    )
    fuller: Rows = {}
    for row in rows:
        key = row["site"], row["day"]
        saved, copy = day_state(row), copies[key].sketch
        if saved.sketch is not None and copy is not None and not sketch_covers(copy, saved.sketch):
            fuller[key] = saved
    return fuller


def day_state(row: asyncpg.Record) -> DayState:
    """Shape a row; a sketch or ids that are damaged are left out, and the logs and counts stay."""
    sketch = row["sketch"]
    is_damaged = sketch is not None and not (checksum(sketch) == row["checksum"] and is_sound(sketch))
    logs = {log_id: (seq, views) for log_id, (seq, views) in json.loads(row["logs"]).items()}
    ids = row["ids"]
    # An older version of this program writes logs, and not the checksum of their ids: then they are not all.
    are_all = (
        ids is not None
        and visitor_ids.checksum(ids, row["visitors"], logs) == row["ids_checksum"]
        and visitor_ids.is_sound(ids)
    )
    return DayState(
        row["day"],
        row["visitors"],
        None if is_damaged else sketch,
        logs,
        is_damaged,
        peak_of(row),
        ids if are_all else None,
        row["exact"],
    )
