"""What must last, in Postgres. Schema `footfall`; `sql/` has the tables and their meaning."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from typing import TYPE_CHECKING

import asyncpg

from footfall.errors import StoreUnavailable
from footfall.model.day_state import Closed, DayState
from footfall.model.event import Event
from footfall.model.pages import PageBase
from footfall.model.retention import Retention
from footfall.model.salt import Salt
from footfall.model.site_id import SiteId
from footfall.model.snapshot import SiteCopy
from footfall.stores.closed_days import read_closed
from footfall.stores.day_rows import day_state, save_days, sites_held
from footfall.stores.page_rows import read_page_bases
from footfall.stores.postgres_connection import (
    COMMAND_TIMEOUT_S,
    GROUP_WAIT,
    LIMITS,
    WAIT,
    PostgresConnections,
    failure,
    open_connections,
    schema_version,
)

if TYPE_CHECKING:
    from footfall.stores.postgres_connection import Connection

SCHEMA_VERSION = 11
"""The newest migration that this program relies on."""

SAVE_SALTS = """
    INSERT INTO footfall.salt (site, week, key)
    SELECT * FROM unnest($1::text[], $2::date[], $3::bytea[]) AS copy (site, week)
    WHERE NOT EXISTS (
        SELECT FROM footfall.salt AS kept WHERE (kept.site, kept.week) = (copy.site, copy.week)
    )
    ORDER BY site, week
    ON CONFLICT DO NOTHING
"""
"""It writes only what is missing: a crash of Postgres empties this table, and no worker notices that."""
DROP_SALTS = "DELETE FROM footfall.salt WHERE site = ANY($1) AND week < $2"
DAYS = "SELECT * FROM footfall.site_day WHERE site = $1 AND day = ANY($2) ORDER BY day"
OPEN_DAYS = """
    SELECT * FROM footfall.site_day WHERE site = $1 AND day >= $2 AND NOT footfall.is_imported(logs) ORDER BY day
"""
"""Imported days are closed, and the sums have them: Redis needs none, and an import may lower them."""
BUSIEST = "SELECT site FROM footfall.site_day WHERE site = ANY($1) AND day >= $2 GROUP BY 1 ORDER BY sum(views) DESC"
RECORD_EVENT = "INSERT INTO footfall.event (site, kind, detail) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
RECORD_SETTINGS = """
    INSERT INTO footfall.event (site, kind, detail)
    SELECT site, 'settings', $3 || detail FROM unnest($1::text[], $2::text[]) AS noted(site, detail)
    WHERE detail IS DISTINCT FROM (
        SELECT substr(event.detail, strpos(event.detail, ': ') + 2) FROM footfall.event
        WHERE event.site = noted.site AND event.kind = 'settings' ORDER BY at DESC LIMIT 1
    )
    ON CONFLICT DO NOTHING
"""
ADJUSTMENT_COUNTS = """
    SELECT site, sum(entries)::bigint FROM (
        SELECT site, count(*) AS entries FROM footfall.adjustment GROUP BY site
        UNION ALL SELECT site, count(*) FROM footfall.day_journal GROUP BY site
    ) AS journals GROUP BY site
"""

PROBES = {
    "site_day": (
        "INSERT INTO footfall.site_day (site, day, visitors, views, logs) VALUES ('~probe', '2000-01-01', 1, 0, '{}')",
        "UPDATE footfall.site_day SET (visitors, sketch, checksum, logs) = (2, NULL, NULL, logs) WHERE site = '~probe'",
        "UPDATE footfall.site_day SET (peak_online, peak_online_at) = (1, now()) WHERE site = '~probe'",
        "UPDATE footfall.site_day SET (ids, ids_checksum, exact) = (NULL, NULL, false) WHERE site = '~probe'",
        "SELECT footfall.covers(logs, logs), sketch FROM footfall.site_day WHERE site = '~probe'",
        "SELECT visitors FROM footfall.site_month WHERE site = '~probe'",
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
        "SELECT count(*) FROM footfall.day_journal WHERE site = '~probe'",
    ),
    "event": (
        "INSERT INTO footfall.event (site, kind, detail) VALUES ('~probe', '~probe', '~probe')",
        "SELECT kind, detail, at, began, ended, running FROM footfall.event WHERE site = '~probe'",
    ),
    "note_lasting": ("SELECT footfall.note_lasting('~probe', '~probe', now(), now())",),
    "note_running": ("SELECT footfall.note_running('~probe', '~probe', now(), now())",),
    "report_token": (
        "INSERT INTO footfall.report_token (site, hash) SELECT '~probe', decode(repeat('00', 32), 'hex')",
        "UPDATE footfall.report_token SET (hash, made_by, made_at) = (hash, DEFAULT, DEFAULT) WHERE site = '~probe'",
        "DELETE FROM footfall.report_token WHERE site = '~probe'",
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

    def give_up(self) -> None:
        """End all calls now and from here on, each with StoreUnavailable: this process has no time left."""
        self._connections.give_up()

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
                            await connection.execute(LIMITS, WAIT)
                            for statement in statements:
                                await connection.execute(statement)
                    except asyncpg.PostgresError as error:
                        failed.append(f"{table}: {failure(error).sentence}")
            finally:
                await transaction.rollback()
        return failed

    async def save(self, copies: Sequence[SiteCopy]) -> dict[SiteId, Saved]:
        """Merge the copies of some sites into their rows, in one transaction; after it read their closed days.

        Rows that know more than a copy come back as `ahead`, and so do the needed days that are not in Redis at all.
        The pages of a copy are saved with its days. Old sketches, ids and salts are destroyed where a copy is due.

        Of several sites, those of which another session holds a row are left out, without waiting. Raises StoreBusy
        where a session holds rows for longer than `lock_timeout`, and StoreRefused where Postgres refuses something in
        the transaction: then nothing of any site was saved.
        """
        async with self._connections.connection() as connection:
            # Two rollups of a site may run at once. A process that stops in here holds rows: how long others wait
            # for them is bounded, and so is how long they are held.
            async with connection.transaction():
                await connection.execute(LIMITS, WAIT if len(copies) == 1 else GROUP_WAIT)
                if len(copies) > 1:
                    held = await sites_held(connection, copies)
                    copies = [copy for copy in copies if copy.site_id not in held]
                kinds = [(retention, list(same)) for retention, same in groupby(copies, lambda copy: copy.retention)]
                ahead = [await save_days(connection, same, retention) for retention, same in kinds]
            closed: dict[SiteId, Closed] = {}
            for retention, same in kinds:
                await _save_salts(connection, [(copy.site_id, copy.snapshot.salts) for copy in same])
                if due := [copy.site_id for copy in same if copy.is_due]:
                    await connection.execute(DROP_SALTS, due, retention.salts_from)
                closed |= await read_closed(connection, [copy.site_id for copy in same], retention)
        return {site_id: Saved(rows, closed[site_id]) for of_kind in ahead for site_id, rows in of_kind.items()}

    async def days(self, site_id: SiteId, wanted: Sequence[date]) -> list[DayState]:
        """Return the rows of `wanted` days; a day that was never saved is missing."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(DAYS, site_id, list(wanted))
        return [day_state(row) for row in rows]

    async def open_days(self, site_id: SiteId, retention: Retention) -> tuple[list[DayState], Closed]:
        """Return the rows of all days that are needed in Redis, and the closed days, both of one moment."""
        async with (
            self._connections.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            rows = await connection.fetch(OPEN_DAYS, site_id, retention.needed_from)
            closed = await read_closed(connection, [site_id], retention)
        return [day_state(row) for row in rows], closed[site_id]

    async def page_bases(self, site_id: SiteId, through: date, pages: Sequence[str]) -> list[PageBase]:
        """Return, for each page in the order given, its views up to `through` and those of the days after it."""
        async with self._connections.connection() as connection:
            return await read_page_bases(connection, site_id, through, pages)

    async def share_salts(self, site_id: SiteId, offers: Sequence[Salt]) -> dict[date, bytes]:
        """Offer salts and return those in force by week, committed: the first that were offered."""
        async with self._connections.connection() as connection:
            await _save_salts(connection, [(site_id, {salt.week: salt.key for salt in offers})])
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
        return [seq for seq, _ in await self.durable_views(logs)]

    async def durable_views(self, logs: Sequence[tuple[SiteId, date, str]]) -> list[tuple[int, int]]:
        """Read the same with the views of each log up to there; (0, 0) for a log that Postgres does not know."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(
                "SELECT COALESCE((kept.logs -> asked.log ->> 0)::bigint, 0) AS seq,"
                " COALESCE((kept.logs -> asked.log ->> 1)::bigint, 0) AS views"
                " FROM unnest($1::text[], $2::date[], $3::text[]) WITH ORDINALITY AS asked(site, day, log, place)"
                " LEFT JOIN footfall.site_day AS kept USING (site, day) ORDER BY place",
                [site_id for site_id, _, _ in logs],
                [day for _, day, _ in logs],
                [log_id for _, _, log_id in logs],
            )
        return [(row["seq"], row["views"]) for row in rows]

    async def last_days(self) -> dict[SiteId, date]:
        """Return the last day of each site."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch("SELECT site, max(day) AS day FROM footfall.site_day GROUP BY site")
        return {row["site"]: row["day"] for row in rows}

    async def busiest(self, sites: Sequence[SiteId], since: date) -> list[SiteId]:
        """Return those of the sites that have had views since a day, the busiest first."""
        async with self._connections.connection() as connection:
            return [row["site"] for row in await connection.fetch(BUSIEST, sites, since)]

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
        """Return how many corrections and imported days each site has: a change means that a total changed."""
        async with self._connections.connection() as connection:
            return {row["site"]: row["sum"] for row in await connection.fetch(ADJUSTMENT_COUNTS)}

    async def record_event(self, site_id: SiteId, kind: str, detail: str) -> None:
        """Record an event; the same kind and detail again changes nothing, so that workers may report it together."""
        async with self._connections.connection() as connection:
            await connection.execute(RECORD_EVENT, site_id, kind, detail)

    async def record_lasting_event(self, site_id: SiteId, kind: str, began: datetime, ended: datetime) -> None:
        """Record what lasted; where it meets an event of the same site and kind, that one is extended."""
        async with self._connections.connection() as connection:
            await connection.execute("SELECT footfall.note_lasting($1, $2, $3, $4)", site_id, kind, began, ended)

    async def record_running_event(self, site_id: SiteId, kind: str, began: datetime, now: datetime) -> None:
        """Record what goes on, as `record_lasting_event` does for what is over."""
        async with self._connections.connection() as connection:
            await connection.execute("SELECT footfall.note_running($1, $2, $3, $4)", site_id, kind, began, now)

    async def record_settings(self, of_sites: Mapping[SiteId, str], today: date) -> None:
        """Record what the settings of sites mean from today on, where the newest such event of a site says another."""
        async with self._connections.connection() as connection:
            await connection.execute(RECORD_SETTINGS, list(of_sites), list(of_sites.values()), f"{today}: ")

    async def events(self, *site_ids: SiteId) -> list[Event]:
        """Return the events of some sites, without sites those of all, in the order in which they began."""
        async with self._connections.connection() as connection:
            rows = await connection.fetch(
                "SELECT kind, detail, at, began, ended, site, running FROM footfall.event"
                " WHERE site = ANY($1) OR $1 = '{}' ORDER BY COALESCE(began, at), kind, detail",
                list(site_ids),
            )
        return [Event(*row) for row in rows]

    async def fold_pages(self, site_id: SiteId, before: date, at_most: int) -> int | None:
        """Fold up to `at_most` months of pages that ended before the month of `before`, in one transaction.

        Returns how many were folded, 0 where none are left, and None while another session folds pages of the site.
        Raises StoreUnavailable: they are folded or not, never in part.
        """
        async with self._connections.connection() as connection, connection.transaction():
            await connection.execute(LIMITS, WAIT)
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


async def _save_salts(connection: "Connection", salts: Iterable[tuple[SiteId, Mapping[date, bytes]]]) -> None:
    pairs = [(site_id, week, key) for site_id, of_site in salts for week, key in of_site.items()]
    await connection.execute(
        SAVE_SALTS, [site_id for site_id, _, _ in pairs], [week for _, week, _ in pairs], [key for _, _, key in pairs]
    )
