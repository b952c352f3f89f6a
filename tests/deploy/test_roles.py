"""Footfall with only the rights that `deploy/` and `sql/` give it, as real users, and through TLS."""

import asyncio
import re
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from footfall import sql_folder
from footfall.embedded.servers import Postgres, Valkey
from footfall.errors import StoreUnavailable
from footfall.stores.migrations import migrate
from footfall.stores.page_journal import open_page_journal
from footfall.stores.postgres_store import open_postgres
from footfall.stores.redis_store import open_redis
from tests.support.footfall import SITE, FakeClock, serving, settings_for
from tests.support.project import PROJECT

ACL = PROJECT / "deploy" / "redis-acl.conf"
ROLES = PROJECT / "sql" / "roles.sql"
USED_BY_CLIENT = {"evalsha", "script|load", "info", "time", "ping", "select", "bgrewriteaof", "role", "cluster|slots"}
FORBIDDEN_COMMANDS = (
    "FLUSHALL",
    "KEYS *",
    "SCAN 0",
    "CONFIG GET *",
    "SHUTDOWN",
    "GET other",
    "SET other 1",
    "EVAL return(1) 0",
    "ACL LIST",
    "MONITOR",
    "SUBSCRIBE x",
)
FORBIDDEN_STATEMENTS = (
    "DELETE FROM footfall.site_day",
    "UPDATE footfall.site_day SET peak_online = peak_online - 1",
    "UPDATE footfall.site_day SET peak_online = NULL",
    "UPDATE footfall.site_week SET visitors = visitors - 1",
    "UPDATE footfall.site_week SET views = views - 1",
    "UPDATE footfall.site_week SET week = week - 7",
    "DELETE FROM footfall.site_week",
    "UPDATE footfall.site_day SET visitors = visitors - 1",
    "UPDATE footfall.site_day SET views = views - 1",
    "UPDATE footfall.site_day SET views = views + 1",
    "UPDATE footfall.site_day SET logs = '{}'",
    """UPDATE footfall.site_day SET logs = jsonb_set(logs, '{a}', '[1, 5]')""",
    """UPDATE footfall.site_day SET logs = logs || '{"x": ["y", 1]}'""",
    """UPDATE footfall.site_day SET logs = logs || '{"x=9:9 y": [1, 0]}'""",
    """UPDATE footfall.site_day SET logs = logs || '{"x": [1, 9223372036854775807]}'""",
    "UPDATE footfall.site_day SET sketch = decode(repeat('00', 20000), 'hex')",
    "UPDATE footfall.site_day SET day = day - 1",
    "UPDATE footfall.site_day SET site = 'other'",
    "INSERT INTO footfall.site_day (site, day, visitors, views, logs) VALUES ('portal', '2001-01-01', 1, 5, '{}')",
    "SET search_path = pg_temp, footfall; UPDATE footfall.site_day SET visitors = 0",
    "ALTER TABLE footfall.site_day DISABLE TRIGGER guard_day",
    "DROP FUNCTION footfall.guard_day CASCADE",
    "SET session_replication_role = replica",
    "TRUNCATE footfall.site_day",
    "DROP TABLE footfall.site_day",
    "ALTER TABLE footfall.site_day ADD COLUMN address text",
    "DELETE FROM footfall.page_day",
    "INSERT INTO footfall.page_month (site, page, month, views) VALUES ('portal', '/', '2020-01-01', 5)",
    "UPDATE footfall.page_month SET views = 0",
    "DELETE FROM footfall.page_month",
    "SELECT footfall.merge_into_month('portal', '/', '2020-01-01', '{\"01a\": 5}')",
    "SELECT footfall.add_to_page_total('portal', '/', 5)",
    "INSERT INTO footfall.day_journal (site, day, what, visitors, views) VALUES ('portal', '2001-01-01', 'x', 1, 1)",
    "UPDATE footfall.day_journal SET visitors = 0",
    "UPDATE footfall.event SET ended = now()",
    "INSERT INTO footfall.event (site, kind, detail) VALUES ('portal', 'Not a kind', '')",
    "DELETE FROM footfall.page_import",
    "UPDATE footfall.page_import SET views = 0",
    "INSERT INTO footfall.page_import (site, id, page, views, made_by) VALUES ('portal', 'x', '/', 1, 'boss')",
    "INSERT INTO footfall.page_move (site, page, target) VALUES ('portal', '/a', '/b')",
    "DELETE FROM footfall.page_move",
    "DELETE FROM footfall.page_alias",
    "UPDATE footfall.page_total SET views = 0",
    "DELETE FROM footfall.adjustment",
    "UPDATE footfall.adjustment SET amount = 0",
    "INSERT INTO footfall.adjustment (site, id, amount, reason, made_by) VALUES ('portal', 'x', 1, 'y', 'boss')",
    "DELETE FROM footfall.event",
    "UPDATE footfall.event SET detail = ''",
    "INSERT INTO footfall.event (site, at, kind, detail) VALUES ('portal', now(), 'x', 'y')",
    "UPDATE footfall.salt SET key = ''",
    "UPDATE footfall.installation SET id = 'x'",
    "DELETE FROM footfall.migration",
    "CREATE TABLE footfall.mine ()",
    "CREATE TABLE public.mine ()",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "COPY footfall.site_day TO PROGRAM 'cat'",
)


def user_line() -> list[str]:
    """The words of the line that names our user: its name, then its rules."""
    (line,) = re.findall(r"^user footfall (.+)$", ACL.read_text(), re.MULTILINE)
    return ["footfall", *line.split()]


async def execute(redis: Redis, *words: str) -> None:
    """Send a command as a user types it."""
    await redis.execute_command(*words)  # type: ignore[no-untyped-call]


@pytest.fixture
async def restricted_redis(own_valkey: Valkey) -> str:
    """Return the URL of our user, on a server that knows it by the file's own line."""
    async with Redis.from_url(own_valkey.url) as admin:
        await execute(admin, "ACL", "SETUSER", *user_line())
    return own_valkey.url.replace("unix://", "unix://footfall:CHANGE-ME@")


@pytest.fixture
async def restricted_postgres(own_postgres: Postgres) -> str:
    """Return the URL of the service's role, in a database that its owner migrated."""
    admin = await asyncpg.connect(own_postgres.url)
    try:
        await admin.execute("CREATE DATABASE portal")
        in_portal = await asyncpg.connect(own_postgres.url.replace("/postgres?", "/portal?"))
        try:
            await in_portal.execute(ROLES.read_text())
            await migrate(url_for(own_postgres, "footfall_owner"), sql_folder())
            await in_portal.execute(ROLES.read_text())
        finally:
            await in_portal.close()
    finally:
        await admin.close()
    return url_for(own_postgres, "footfall_service")


def url_for(server: Postgres, role: str) -> str:
    """Return the URL of a role in the database of Footfall."""
    return server.url.replace("/postgres?", "/portal?").replace("footfall@", f"{role}@")


async def test_footfall_needs_no_more_rights_than_it_is_given(
    restricted_redis: str, restricted_postgres: str, tmp_path: Path
) -> None:
    """Counting, rolling up, correcting, restoring and closing a day work as an operator runs them."""
    settings = settings_for(restricted_redis, restricted_postgres, tmp_path)
    clock = FakeClock()
    async with serving(settings, clock) as footfall:
        assert (await footfall.see(page="/"))["total"] == 1
        await footfall.services.copy()
        async with open_postgres(restricted_postgres) as postgres:
            assert await postgres.probe_writes() == []
            assert await postgres.fold_pages(SITE, date(2020, 1, 1), 9) == 0
            assert await postgres.adjust(SITE, "old-counter", 1000, "the old one")
            assert not await postgres.adjust(SITE, "old-counter", 1000, "the old one")
            for _ in range(2):
                await postgres.record_event(SITE, "salt_lost", "2054-11-23")
            (event,) = await postgres.events(SITE)
            assert (event.kind, event.detail) == ("salt_lost", "2054-11-23")
        async with open_page_journal(restricted_postgres) as journal:
            await journal.import_views(SITE, "old-counter", {"/old": 5}, progress=lambda _: None)
            assert await journal.move(SITE, "/old", "/") == 6
            assert [entry.id for entry in await journal.imports(SITE)] == ["old-counter"]
            assert await journal.top(SITE, 9) == [("/", 6)]
            assert await journal.top_of_days(SITE, date.min, date.max, 9) == [("/", 1)]
            assert await journal.cut_months(SITE, date.min, date.max) == []
        await footfall.services.copy()
        assert (await footfall.see())["total"] == 1001
        clock.advance(8 * 86400)
        assert (await footfall.see(address="203.0.113.8"))["total"] == 1002
        await footfall.services.copy()
        await footfall.services.reconciler.quick_step()
        async with Redis.from_url(restricted_redis) as redis:
            await redis.delete("ff1:{portal}:ready")
        assert (await footfall.see(address="203.0.113.9"))["total"] == 1003
        assert (await footfall.ops.get("/readyz")).status == 200
    async with open_redis(restricted_redis, 1) as redis_store:
        assert [facts.role for facts in await redis_store.facts()] == ["master"]
        assert await redis_store.clock_s() > 0


async def test_a_stolen_redis_password_opens_nothing_else(restricted_redis: str) -> None:
    """Several services often share a Redis: one FLUSHALL deletes the data of all."""
    async with Redis.from_url(restricted_redis) as redis:
        for command in FORBIDDEN_COMMANDS:
            with pytest.raises(NoPermissionError):
                await execute(redis, *command.split())
        with pytest.raises(ResponseError, match="ACL failure in script"):
            await redis.register_script("return redis.call('GET', 'other')")()


async def test_a_redis_that_includes_the_file_lets_no_other_user_in(own_folder: Path) -> None:
    """The file is what an operator copies: the server itself has to accept it, word by word."""
    server = Valkey(own_folder, {"include": str(ACL)})
    starting = asyncio.create_task(server.start())
    try:
        url = server.url
        async with asyncio.timeout(20):
            while True:
                with suppress(OSError, ConnectionError, StoreUnavailable):
                    async with open_redis(url.replace("unix://", "unix://footfall:CHANGE-ME@"), 1) as store:
                        await store.clock_s()
                        break
                assert not starting.done(), starting
                await asyncio.sleep(0.01)
        async with Redis.from_url(url) as redis:
            with pytest.raises(RedisError, match=r"(?i)authenticat"):
                await redis.ping()
    finally:
        # The server answers only our own user, so a wait for its PONG would never end.
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting


def test_the_acl_lists_what_the_scripts_call_and_no_more() -> None:
    """A script has the rights of its user: a command missing here would fail at an operator's site."""
    scripts = "".join(file.read_text() for file in (PROJECT / "service" / "footfall/stores/scripts").glob("*.lua"))
    called = {name.lower() for name in re.findall(r"redis\.p?call\('(\w+)'", scripts)}
    allowed = {word.removeprefix("+") for word in user_line() if word.startswith("+")}
    assert allowed == called | USED_BY_CLIENT


async def test_a_stolen_postgres_password_changes_no_history(restricted_postgres: str) -> None:
    """The service adds days, corrections and events; it cannot change, date or delete one, or make tables."""
    connection = await asyncpg.connect(restricted_postgres)
    try:
        await connection.execute(
            "INSERT INTO footfall.site_day (site, day, visitors, views, logs, peak_online)"
            """ VALUES ('portal', '2054-11-01', 7, 12, '{"a": [2, 10], "b": [1, 2]}', 3)"""
        )
        await connection.execute(
            "INSERT INTO footfall.site_week (site, week, visitors, views) VALUES ('portal', '2054-10-26', 7, 12)"
        )
        before = await connection.fetch("SELECT * FROM footfall.site_day JOIN footfall.site_week USING (site)")
        for statement in FORBIDDEN_STATEMENTS:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        assert await connection.fetch("SELECT * FROM footfall.site_day JOIN footfall.site_week USING (site)") == before
        # What remains: a day may be raised, as a late batch raises it, within what a page can show.
        await connection.execute(
            "UPDATE footfall.site_day SET visitors = 9, peak_online = 4,"
            """ logs = logs || '{"c": [1, 5]}', views = views + 5"""
        )
        await connection.execute("UPDATE footfall.site_week SET visitors = 9, views = 17")
    finally:
        await connection.close()


async def test_a_stolen_postgres_password_folds_no_young_day_and_loses_no_view(restricted_postgres: str) -> None:
    """The service may fold what is older than 31 days by the server's own clock, and a late copy still adds to it."""
    connection = await asyncpg.connect(restricted_postgres)
    insert = (
        "INSERT INTO footfall.page_day (site, page, day, views, logs)"
        " VALUES ('portal', '/', CURRENT_DATE - $1::int, 5, $2)"
    )
    try:
        for age in (0, 30, 100):
            await connection.execute(insert, age, '{"a": 5}')
        await connection.fetch("SELECT footfall.fold_pages('portal', CURRENT_DATE + 9999, 1000)")
        ages = await connection.fetch("SELECT CURRENT_DATE - day AS age FROM footfall.page_day ORDER BY age")
        assert [row["age"] for row in ages] == [0, 30]
        await connection.execute(insert.replace("5, $2", "7, $2"), 100, '{"a": 7}')
        assert await connection.fetchval("SELECT views FROM footfall.page_month") == 7
        assert await connection.fetchval("SELECT views FROM footfall.page_total") == 17
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="no page"):
            await connection.execute(insert.replace("'/'", "'no page'"), 100, '{"a": 5}')
    finally:
        await connection.close()


async def test_no_correction_is_larger_than_a_page_can_show(restricted_postgres: str) -> None:
    """One of 9 * 10^18 made the sum overflow, and its site was never copied again."""
    connection = await asyncpg.connect(restricted_postgres)
    insert = "INSERT INTO footfall.adjustment (site, id, amount, reason) VALUES ('portal', 'x', $1, 'y')"
    try:
        for amount in (2**53, -(2**53), 9 * 10**18, -9 * 10**18):
            with pytest.raises(asyncpg.CheckViolationError):
                await connection.execute(insert, amount)
    finally:
        await connection.close()


async def test_an_endless_script_of_a_stolen_password_is_ended_by_an_administrator(
    restricted_redis: str, own_valkey: Valkey
) -> None:
    """Footfall needs scripts, so its user can load one that does not end; it does not have to be restarted for it."""
    async with Redis.from_url(own_valkey.url) as admin, Redis.from_url(restricted_redis) as thief:
        await admin.config_set("busy-reply-threshold", "50")
        digest = await thief.script_load("while true do end")
        endless: asyncio.Task[Any] = asyncio.create_task(thief.evalsha(digest, 0))  # type: ignore[arg-type]
        while not endless.done():
            with suppress(ResponseError):
                await admin.script_kill()
                break
            await asyncio.sleep(0.02)
        with pytest.raises(ResponseError, match=r"(?i)killed"):
            await endless
        assert await admin.ping()


async def test_a_report_reads_the_days_and_nothing_else(own_postgres: Postgres, restricted_postgres: str) -> None:
    """People make reports; reports need neither sketches nor salts."""
    admin = await asyncpg.connect(url_for(own_postgres, "footfall"))
    try:
        await admin.execute("SET ROLE footfall_report")
        assert await admin.fetch("SELECT site, day, visitors, views FROM footfall.report_day") == []
        assert await admin.fetch("SELECT site, month, page, views FROM footfall.report_page_month") == []
        for table in ("salt", "site_day", "page_month", "adjustment", "event"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await admin.fetch(f"SELECT * FROM footfall.{table}")
    finally:
        await admin.close()
