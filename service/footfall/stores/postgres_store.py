"""What must last, in Postgres. Schema `footfall`; `sql/` has the tables and their meaning."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import asyncpg

from footfall.errors import StoreUnavailable
from footfall.model import visitor_ids
from footfall.model.day_state import Closed, DayState
from footfall.model.pages import PageBase, PageDay
from footfall.model.retention import Retention
from footfall.model.salt import Salt
from footfall.model.site_id import SiteId
from footfall.model.sketch import checksum, is_sound
from footfall.model.sketch import covers as sketch_covers
from footfall.model.snapshot import Snapshot
from footfall.stores.closed_days import peak_of, read_closed
from footfall.stores.postgres_connection import (
    COMMAND_TIMEOUT_S,
    PostgresConnections,
    failure,
    open_connections,
    schema_version,
)

if TYPE_CHECKING:
    from footfall.stores.postgres_connection import Connection

SCHEMA_VERSION = 8
"""The newest migration that this program relies on."""

LIMITS = """
    SELECT set_config(name, most, true)
    FROM (VALUES
        ('lock_timeout', '1s'),                         -- how long we wait for rows that another session holds
        ('idle_in_transaction_session_timeout', '5s'),  -- and others for ours, if this process stops between statements
        ('transaction_timeout', '15s')                  -- or anywhere in it; PostgreSQL 17 or newer
    ) AS own_limit (name, most)
    WHERE current_setting(name, true) IS NOT NULL
"""
"""They end with the transaction, because a pooler hands the session to others."""

AS_EXACT_AS_BEFORE = """
    kept.exact AND (NOT EXCLUDED.exact OR kept.visitors > EXCLUDED.visitors)
        AND kept.logs = EXCLUDED.logs AND COALESCE(kept.sketch = EXCLUDED.sketch, true)
"""
"""Redis has dropped the ids of a day, and nothing has come since: its estimate says less than the row."""
SAVE = f"""
    INSERT INTO footfall.site_day AS kept
        (site, day, visitors, views, sketch, checksum, logs, peak_online, peak_online_at, ids, ids_checksum, exact)
    SELECT $1, *
    FROM unnest($2::date[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[], $7::jsonb[],
        $9::bigint[], $10::timestamptz[], $11::bytea[], $12::bytea[], $13::boolean[]) AS copy (day)
    ORDER BY day
    ON CONFLICT (site, day) DO UPDATE SET
        visitors = CASE WHEN {AS_EXACT_AS_BEFORE} THEN kept.visitors
            ELSE LEAST(GREATEST(kept.visitors, EXCLUDED.visitors), 9007199254740991) END,
        views = LEAST(GREATEST(kept.views, EXCLUDED.views), 9007199254740991),
        -- A clock that was ahead may have dropped the sketch of a day that is still young: it is saved again.
        sketch = CASE WHEN kept.sketch IS NOT NULL OR kept.day >= $8 THEN EXCLUDED.sketch END,
        checksum = CASE WHEN kept.sketch IS NOT NULL OR kept.day >= $8 THEN EXCLUDED.checksum END,
        logs = EXCLUDED.logs,
        peak_online = GREATEST(kept.peak_online, EXCLUDED.peak_online),
        peak_online_at = CASE
            WHEN kept.peak_online > COALESCE(EXCLUDED.peak_online, 0) THEN kept.peak_online_at
            WHEN EXCLUDED.peak_online > COALESCE(kept.peak_online, 0) THEN EXCLUDED.peak_online_at
            ELSE LEAST(kept.peak_online_at, EXCLUDED.peak_online_at)
        END,
        ids = CASE WHEN kept.day < $14 THEN NULL
            WHEN {AS_EXACT_AS_BEFORE} THEN kept.ids
            WHEN kept.visitors <= EXCLUDED.visitors THEN EXCLUDED.ids END,
        ids_checksum = CASE WHEN {AS_EXACT_AS_BEFORE}
            THEN kept.ids_checksum ELSE EXCLUDED.ids_checksum END,
        exact = {AS_EXACT_AS_BEFORE} OR EXCLUDED.exact AND kept.visitors <= EXCLUDED.visitors
    WHERE footfall.covers(EXCLUDED.logs, kept.logs)
        AND (kept.logs <> EXCLUDED.logs OR kept.visitors < EXCLUDED.visitors
            OR kept.sketch <> EXCLUDED.sketch OR kept.checksum <> EXCLUDED.checksum
            OR kept.sketch IS NULL AND kept.day >= $8
            OR EXCLUDED.peak_online > COALESCE(kept.peak_online, 0)
            OR EXCLUDED.peak_online = kept.peak_online AND EXCLUDED.peak_online_at < kept.peak_online_at
            OR kept.ids IS NOT NULL AND kept.day < $14
            OR EXCLUDED.exact AND kept.visitors <= EXCLUDED.visitors AND (NOT kept.exact
                OR kept.ids IS DISTINCT FROM EXCLUDED.ids OR kept.ids_checksum IS DISTINCT FROM EXCLUDED.ids_checksum))
"""  # noqa: S608 - of constants
SAVE_WEEKS = """
    INSERT INTO footfall.site_week AS kept (site, week, visitors, exact, views, of_days)
    SELECT $1, week, copy.visitors, copy.exact,
        LEAST(9007199254740991, days.views), LEAST(9007199254740991, days.visitors)
    FROM unnest($2::date[], $3::bigint[], $4::boolean[]) AS copy (week, visitors, exact),
        LATERAL (
            SELECT COALESCE(sum(views), 0) AS views, COALESCE(sum(visitors), 0) AS visitors
            FROM footfall.site_day AS part WHERE part.site = $1 AND day >= week AND day < week + 7
        ) AS days
    ORDER BY week
    ON CONFLICT (site, week) DO UPDATE SET
        visitors = GREATEST(kept.visitors, EXCLUDED.visitors), views = GREATEST(kept.views, EXCLUDED.views),
        of_days = EXCLUDED.of_days, exact = EXCLUDED.exact AND kept.visitors <= EXCLUDED.visitors
    -- Where Redis has dropped the ids of a week, and no day has had a new visitor since, the row knows better.
    WHERE NOT (kept.exact AND NOT EXCLUDED.exact AND kept.of_days = EXCLUDED.of_days AND NOT EXISTS (
            SELECT FROM footfall.site_day AS part
            WHERE part.site = $1 AND day >= kept.week AND day < kept.week + 7 AND NOT part.exact))
        AND (kept.visitors < EXCLUDED.visitors OR kept.views < EXCLUDED.views
            OR kept.of_days IS DISTINCT FROM EXCLUDED.of_days
            OR EXCLUDED.exact AND NOT kept.exact AND kept.visitors <= EXCLUDED.visitors)
"""
SAVE_PAGES = """
    INSERT INTO footfall.page_day AS kept (site, page, day, views, logs)
    SELECT $1, page, day, footfall.sum_of_views(logs), logs
    FROM unnest($2::text[], $3::date[], $4::jsonb[]) AS copy (page, day, logs)
    WHERE NOT EXISTS (
        SELECT FROM footfall.page_day AS known WHERE (known.site, known.page, known.day) = ($1, copy.page, copy.day)
            AND footfall.most_views(known.logs, copy.logs) = known.logs
    )
    ORDER BY page, day
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
DROP_SKETCHES = """
    UPDATE footfall.site_day SET sketch = NULL, checksum = NULL
    WHERE site = $1 AND day < $2 AND sketch IS NOT NULL AND NOT day = ANY($3)
"""
DROP_IDS = (
    "UPDATE footfall.site_day SET ids = NULL WHERE site = $1 AND day < $2 AND ids IS NOT NULL AND NOT day = ANY($3)"
)
"""Once the key that made them is destroyed; that they were all there stays in `exact`."""
FULLER = """
    SELECT kept.*
    FROM footfall.site_day AS kept JOIN unnest($2::date[], $3::bigint[]) AS copy(day, visitors) USING (day)
    WHERE kept.site = $1 AND kept.visitors > copy.visitors AND kept.sketch IS NOT NULL
    ORDER BY day FOR UPDATE OF kept
"""
"""Rows that count more visitors than the copy: of these alone the sketches are compared."""
AHEAD = """
    SELECT kept.*
    FROM footfall.site_day AS kept LEFT JOIN unnest($2::date[], $3::jsonb[]) AS copy(day, logs) USING (day)
    WHERE kept.site = $1 AND (day = ANY($2) OR day >= $4 AND day <> ALL($5))
        AND NOT footfall.covers(copy.logs, kept.logs)
"""
DAYS = "SELECT * FROM footfall.site_day WHERE site = $1 AND day {} ORDER BY day"

PROBES = {
    "site_day": (
        "INSERT INTO footfall.site_day (site, day, visitors, views, logs) VALUES ('~probe', '2000-01-01', 1, 0, '{}')",
        "UPDATE footfall.site_day SET (visitors, sketch, checksum, logs) = (2, NULL, NULL, logs) WHERE site = '~probe'",
        "UPDATE footfall.site_day SET (peak_online, peak_online_at) = (1, now()) WHERE site = '~probe'",
        "UPDATE footfall.site_day SET (ids, ids_checksum, exact) = (NULL, NULL, false) WHERE site = '~probe'",
        "SELECT footfall.covers(logs, logs), sketch FROM footfall.site_day WHERE site = '~probe'",
    ),
    "page_day": (
        "INSERT INTO footfall.page_day (site, page, day, views, logs) VALUES ('~probe', '/', '2000-01-01', 0, '{}')",
        "UPDATE footfall.page_day SET (views, logs) = (1, '{\"probe\": 1}') WHERE site = '~probe'",
        "SELECT views FROM footfall.page_total WHERE site = '~probe'",
        "SELECT views FROM footfall.page_month WHERE site = '~probe'",
    ),
    "fold_pages": ("SELECT footfall.fold_pages('~probe', '2000-01-01', 1)",),
    "site_week": (
        "INSERT INTO footfall.site_week (site, week, visitors, views) VALUES ('~probe', '2000-01-03', 1, 0)",
        "UPDATE footfall.site_week SET (visitors, views) = (2, 1) WHERE site = '~probe'",
        "SELECT visitors FROM footfall.site_week WHERE site = '~probe'",
    ),
    "page_import": (
        "INSERT INTO footfall.page_import (site, id, page, views) VALUES ('~probe', '~probe', '/', 1)",
        "SELECT page, views FROM footfall.page_import WHERE site = '~probe'",
        "SELECT target FROM footfall.page_move JOIN footfall.page_alias USING (site, target) WHERE site = '~probe'",
    ),
    "adjustment": (
        "INSERT INTO footfall.adjustment (site, id, amount, reason) VALUES ('~probe', '~probe', 1, 'probe')",
        "SELECT id, amount, reason, made_by, made_at FROM footfall.adjustment WHERE site = '~probe'",
    ),
    "event": (
        "INSERT INTO footfall.event (site, kind, detail) VALUES ('~probe', '~probe', '~probe')",
        "SELECT kind, detail, at FROM footfall.event WHERE site = '~probe'",
    ),
    "salt": (
        "INSERT INTO footfall.salt (site, week, key) SELECT '~probe', '2000-01-03', decode(repeat('00', 32), 'hex')",
        "SELECT key FROM footfall.salt WHERE site = '~probe'",
        "DELETE FROM footfall.salt WHERE site = '~probe'",
    ),
    "installation": ("SELECT id FROM footfall.installation",),
}
"""What the service does to each table, and by a function alone, with a site that no portal can be called."""


@dataclass(frozen=True, slots=True)
class Saved:
    """The outcome of saving a snapshot: which rows know more than it, and the closed days after it."""

    ahead: Sequence[DayState]
    closed: Closed


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A signed, dated, reasoned correction of a site's all-time total."""

    id: str
    amount: int
    reason: str
    made_by: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """What an honest report about a site must mention: a key that was lost, batches that were lost, ..."""

    kind: str
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True)
class PostgresFacts:
    """The server's version (as 180004), the schema's, the server's clock (seconds since the epoch), the encoding."""

    version: int
    schema: int
    clock_s: float
    encoding: str


class PostgresStore:
    """Reads and writes days, salts, adjustments and events; every failure is a StoreUnavailable."""

    def __init__(self, connections: PostgresConnections) -> None:
        self._connections = connections

    async def installation(self) -> str:
        """Return the id of this installation; StoreUnavailable where the schema is older than the program."""
        async with self._connections.connection() as connection:
            version = await schema_version(connection)
            if version < SCHEMA_VERSION:
                raise StoreUnavailable(
                    "postgres",
                    f"schema {version} is older than this program's {SCHEMA_VERSION}: run `footfall migrate`",
                )
            return str(await connection.fetchval("SELECT id FROM footfall.installation"))

    async def incarnation(self) -> str:
        """Return a text that changes when the server was restarted or replaced, or its tables were restored.

        Raises StoreUnavailable also where the server takes no writes, as a standby.
        """
        async with self._connections.connection() as connection:
            ((incarnation, is_read_only),) = await connection.fetch(
                "SELECT pg_postmaster_start_time() || ' ' || pg_relation_filenode('footfall.site_day'),"
                " current_setting('transaction_read_only')::boolean"
            )
            if is_read_only:
                raise asyncpg.ReadOnlySQLTransactionError("transaction_read_only is on")
            return str(incarnation)

    async def probe_writes(self) -> list[str]:
        """Write what the service writes to each table, in a transaction that is rolled back; return what failed.

        Raises StoreUnavailable where not even that can begin.
        """
        failed: list[str] = []
        async with self._connections.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                for table, statements in PROBES.items():
                    try:
                        async with connection.transaction():
                            await connection.execute(LIMITS)
                            for statement in statements:
                                await connection.execute(statement)
                    except asyncpg.PostgresError as error:
                        failed.append(f"{table}: {failure(error).sentence}")
            finally:
                await transaction.rollback()
        return failed

    async def save(self, site_id: SiteId, snapshot: Snapshot, retention: Retention) -> Saved:
        """Merge a snapshot into the rows, in one transaction; after it read the closed days.

        A row is written only where the snapshot covers it, its logs and its sketch; rows that know more come back as
        `ahead`, and so do the needed days that are not in Redis at all. Salts and sketches that are no longer needed
        are destroyed. The pages of the snapshot are merged into theirs, row by row, whatever the days know.

        Raises StoreBusy where another session holds a row for longer than a second: nothing was saved then.
        """
        names = [state.day for state in snapshot.days]
        logs = [json.dumps(state.logs) for state in snapshot.days]
        async with self._connections.connection() as connection:
            # Two rollups of a site may run at once. A process that stops in here holds rows: how long others wait
            # for them is bounded, and so is how long they are held. The order of the days prevents a deadlock.
            async with connection.transaction():
                await connection.execute(LIMITS)
                await connection.execute(DROP_SKETCHES, site_id, retention.sketches_from, names)
                await connection.execute(DROP_IDS, site_id, retention.salts_from, names)
                fuller = await _fuller(connection, site_id, snapshot)
                days = [state for state in snapshot.days if state.day not in fuller]
                ids = [state.ids if state.day >= retention.salts_from else None for state in days]
                await connection.execute(
                    SAVE,
                    site_id,
                    [state.day for state in days],
                    [state.visitors for state in days],
                    [state.views for state in days],
                    [state.sketch for state in days],
                    [state.sketch and checksum(state.sketch) for state in days],
                    [json.dumps(state.logs) for state in days],
                    retention.sketches_from,
                    [state.peak and state.peak.online for state in days],
                    [state.peak and datetime.fromtimestamp(state.peak.at_ms / 1000, UTC) for state in days],
                    ids,
                    [
                        visitor_ids.checksum(listed, state.visitors, state.logs)
                        for listed, state in zip(ids, days, strict=True)
                    ],
                    [state.exact for state in days],
                    retention.salts_from,
                )
                await _save_pages(connection, site_id, snapshot.pages)
                are_exact = [week in snapshot.exact_weeks for week in snapshot.weeks]
                await connection.execute(
                    SAVE_WEEKS, site_id, list(snapshot.weeks), list(snapshot.weeks.values()), are_exact
                )
                rows = await connection.fetch(AHEAD, site_id, names, logs, retention.needed_from, snapshot.present)
                ahead = fuller | {row["day"]: _day_state(row) for row in rows}
            await _save_salts(connection, site_id, snapshot.salts)
            await connection.execute(
                "DELETE FROM footfall.salt WHERE site = $1 AND week < $2", site_id, retention.salts_from
            )
            return Saved(
                ahead=list(ahead.values()),
                closed=await read_closed(connection, site_id, retention),
            )

    async def days(self, site_id: SiteId, wanted: Sequence[date]) -> list[DayState]:
        """Return the rows of `wanted` days; a day that was never saved is missing."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(DAYS.format("= ANY($2)"), site_id, list(wanted))
        return [_day_state(row) for row in rows]

    async def open_days(self, site_id: SiteId, retention: Retention) -> tuple[list[DayState], Closed]:
        """Return the rows of all days that are needed in Redis, and the closed days, both of one moment."""
        async with (
            self._connections.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            rows = await connection.fetch(DAYS.format(">= $2"), site_id, retention.needed_from)
            closed = await read_closed(connection, site_id, retention)
        return [_day_state(row) for row in rows], closed

    async def page_bases(self, site_id: SiteId, through: date, pages: Sequence[str]) -> list[PageBase]:
        """Return, for each page in the order given, its views up to `through` and those of the days after it."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(PAGE_BASES, site_id, list(pages), through)
        return [PageBase(row["page"], max(0, row["views"]), _later_days(row["later"])) for row in rows]

    async def share_salts(self, site_id: SiteId, offers: Sequence[Salt]) -> dict[date, bytes]:
        """Offer salts and return those in force by week, committed: the first that were offered."""
        async with self._connections.connection() as connection:
            await _save_salts(connection, site_id, {salt.week: salt.key for salt in offers})
        return await self.salts(site_id, [salt.week for salt in offers])

    async def salts(self, site_id: SiteId, weeks: Sequence[date]) -> dict[date, bytes]:
        """Return the known salts of `weeks`."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(
                "SELECT week, key FROM footfall.salt WHERE site = $1 AND week = ANY($2)", site_id, list(weeks)
            )
        return {row["week"]: row["key"] for row in rows}

    async def durable(self, logs: Sequence[tuple[SiteId, date, str]]) -> list[int]:
        """Read the seq up to which each (site, day, log id) is saved; 0 for a log that Postgres does not know."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(
                "SELECT COALESCE((kept.logs -> asked.log ->> 0)::bigint, 0) AS seq"
                " FROM unnest($1::text[], $2::date[], $3::text[]) WITH ORDINALITY AS asked(site, day, log, place)"
                " LEFT JOIN footfall.site_day AS kept USING (site, day) ORDER BY place",
                [site_id for site_id, _, _ in logs],
                [day for _, day, _ in logs],
                [log_id for _, _, log_id in logs],
            )
        return [row["seq"] for row in rows]

    async def last_days(self) -> dict[SiteId, date]:
        """Return the last day of each site."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch("SELECT site, max(day) AS day FROM footfall.site_day GROUP BY site")
        return {row["site"]: row["day"] for row in rows}

    async def adjust(self, site_id: SiteId, adjustment_id: str, amount: int, reason: str) -> bool:
        """Add a correction to the journal; False when the journal has that id already, and nothing changed."""
        async with self._connections.connection() as connection:
            status = await connection.execute(
                "INSERT INTO footfall.adjustment (site, id, amount, reason) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT DO NOTHING",
                site_id,
                adjustment_id,
                amount,
                reason,
            )
        return bool(status == "INSERT 0 1")

    async def adjustments(self, site_id: SiteId) -> list[Adjustment]:
        """Return the journal of a site, oldest first."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(
                "SELECT id, amount, reason, made_by, made_at FROM footfall.adjustment"
                " WHERE site = $1 ORDER BY made_at, id",
                site_id,
            )
        return [Adjustment(*row) for row in rows]

    async def adjustment_counts(self) -> dict[SiteId, int]:
        """Return how many corrections each site has: a change means that a total changed."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch("SELECT site, count(*) FROM footfall.adjustment GROUP BY site")
        return {row["site"]: row["count"] for row in rows}

    async def record_event(self, site_id: SiteId, kind: str, detail: str) -> None:
        """Record an event; the same kind and detail again changes nothing, so that workers may report it together."""
        async with self._connections.connection() as connection:
            await connection.execute(
                "INSERT INTO footfall.event (site, kind, detail) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                site_id,
                kind,
                detail,
            )

    async def events(self, site_id: SiteId) -> list[Event]:
        """Return the events of a site, oldest first."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(
                "SELECT kind, detail, at FROM footfall.event WHERE site = $1 ORDER BY at, kind, detail", site_id
            )
        return [Event(*row) for row in rows]

    async def fold_pages(self, site_id: SiteId, before: date, at_most: int) -> int | None:
        """Fold up to `at_most` months of pages that ended before the month of `before`, in one transaction.

        Returns how many were folded, 0 where none are left, and None while another session folds pages of the site.
        Raises StoreUnavailable: they are folded or not, never in part.
        """
        async with self._connections.connection() as connection, connection.transaction():
            await connection.execute(LIMITS)
            folded: int | None = await connection.fetchval(
                "SELECT footfall.fold_pages($1, $2, $3)", site_id, before, at_most
            )
            return folded

    async def facts(self) -> PostgresFacts:
        """Read the versions and the clock of the server."""
        async with self._connections.connection() as connection:
            return PostgresFacts(
                version=int(await connection.fetchval("SHOW server_version_num")),
                schema=await schema_version(connection),
                clock_s=float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())")),
                encoding=str(await connection.fetchval("SHOW server_encoding")),
            )


@asynccontextmanager
async def open_postgres(url: str, timeout_s: float = COMMAND_TIMEOUT_S) -> AsyncIterator[PostgresStore]:
    """Yield a store that connects on first use; close its connections at the end."""
    async with open_connections(url, timeout_s) as connections:
        yield PostgresStore(connections)


async def _save_salts(connection: "Connection", site_id: SiteId, salts: Mapping[date, bytes]) -> None:
    await connection.execute(
        "INSERT INTO footfall.salt (site, week, key) SELECT $1, * FROM unnest($2::date[], $3::bytea[])"
        " ON CONFLICT DO NOTHING",
        site_id,
        list(salts),
        list(salts.values()),
    )


async def _save_pages(connection: "Connection", site_id: SiteId, pages: Sequence[PageDay]) -> None:
    if pages:
        await connection.execute(
            SAVE_PAGES,
            site_id,
            [page.page for page in pages],
            [page.day for page in pages],
            [json.dumps(page.logs) for page in pages],
        )


def _later_days(later: str) -> dict[date, dict[str, int]]:
    return {date.fromisoformat(day): logs for day, logs in json.loads(later).items()}


async def _fuller(connection: "Connection", site_id: SiteId, snapshot: Snapshot) -> dict[date, DayState]:
    """Return the rows whose sketch has visitors that the snapshot's lacks: Redis has lost them, and not its logs."""
    copies = {state.day: state for state in snapshot.days}
    rows = await connection.fetch(FULLER, site_id, list(copies), [state.visitors for state in snapshot.days])
    fuller = {}
    for row in rows:
        saved, copy = _day_state(row), copies[row["day"]].sketch
        if saved.sketch is not None and copy is not None and not sketch_covers(copy, saved.sketch):
            fuller[saved.day] = saved
    return fuller


def _day_state(row: asyncpg.Record) -> DayState:
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
