"""What `footfall doctor` finds: each mistake of an operator, made on purpose."""

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from redis.asyncio import Redis

from footfall import sql_folder
from footfall.cli.browser_checks import check_address, is_private
from footfall.cli.checks import Check, Level
from footfall.cli.doctor import (
    REFUSED_SHOWN_MAX,
    check_demo,
    check_memory,
    check_ops_access,
    check_persistence,
    check_redis_version,
    check_refused_pages,
    check_rewrite,
    check_schema,
    check_spool,
    check_zone,
    examine,
)
from footfall.embedded.servers import Valkey
from footfall.model.clocks import WALL_CLOCK, Clock
from footfall.model.site_id import SiteId
from footfall.settings.settings import Settings, Site
from footfall.stores.migrations import migrate
from footfall.stores.redis_store import RedisFacts
from tests.support.footfall import FakeClock, running, settings_for

GOOD = RedisFacts(version=(7, 2, 4), maxmemory=0, maxmemory_policy="noeviction", aof=True, role="master")


def facts(**changes: object) -> RedisFacts:
    """A good Redis, but for these."""
    values = {name: getattr(GOOD, name) for name in RedisFacts.__slots__}
    return RedisFacts(**values | changes)


async def findings(settings: Settings, clock: Clock = WALL_CLOCK) -> dict[str, Check]:
    """All checks by what they look at."""
    return {check.what: check async for check in examine(settings, None, clock)}


@pytest.fixture
async def migrated(postgres_url: str) -> str:
    """Return the URL of a database with the tables."""
    await migrate(postgres_url, sql_folder())
    return postgres_url


@pytest.mark.parametrize(
    ("check", "level", "words"),
    [
        pytest.param(check_redis_version(GOOD), Level.OK, "7.2.4", id="recent"),
        pytest.param(check_redis_version(facts(version=(6, 0, 16))), Level.FAIL, "Redis 6.2 or newer", id="old"),
        pytest.param(check_redis_version(facts(role="slave")), Level.FAIL, "the primary's address", id="replica"),
        pytest.param(check_memory(GOOD), Level.OK, "not limited", id="no limit"),
        pytest.param(check_memory(facts(maxmemory=1 << 28)), Level.OK, "256 MiB", id="limit without eviction"),
        pytest.param(
            check_memory(facts(maxmemory=1, maxmemory_policy="allkeys-lru")), Level.FAIL, "noeviction", id="evicts"
        ),
        pytest.param(
            check_memory(facts(maxmemory_policy="allkeys-lru")), Level.OK, "not limited", id="would evict, never does"
        ),
        pytest.param(check_persistence(GOOD), Level.OK, "append-only file", id="append-only"),
        pytest.param(check_persistence(facts(aof=False)), Level.WARN, "appendonly yes", id="memory only"),
        pytest.param(check_rewrite(GOOD, 0, 9e5), Level.OK, "every day", id="not rewritten yet"),
        pytest.param(check_rewrite(GOOD, 9e5 - 7200, 9e5), Level.OK, "2 hours ago", id="rewritten"),
        pytest.param(check_rewrite(GOOD, 9e5 - 50 * 3600, 9e5), Level.WARN, "50 hours ago", id="not rewritten"),
        pytest.param(check_rewrite(facts(aof_rewrite_ok=False), 9e5, 9e5), Level.FAIL, "failed", id="a failed rewrite"),
        pytest.param(check_schema(0), Level.FAIL, "footfall migrate", id="no tables"),
        pytest.param(check_schema(10_000), Level.OK, "newer", id="newer schema"),
    ],
)
def test_a_finding_says_what_to_do(check: Check, level: Level, words: str) -> None:
    """An operator acts on the line alone."""
    assert check.level is level
    assert words in check.found
    assert str(check).startswith(f"{level}  {check.what}: ")


async def test_everything_is_well_where_everything_is_well(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    """Operators stop running a doctor that always complains."""
    settings = settings_for(redis_url, postgres_url, tmp_path)
    async with running(settings, clock=FakeClock()) as footfall:
        here = {
            "public_url": str(footfall.public.make_url("")).rstrip("/"),
            "ops_listen": f"127.0.0.1:{footfall.ops.port}",
        }
        found = await findings(settings.model_copy(update=here), clock=FakeClock())
    # The clock of this test stands still in another year, which one check must find.
    assert {what for what, check in found.items() if check.level is not Level.OK} == {"clocks"}
    assert "too few beacons" in found["busiest network"].found


@pytest.mark.parametrize(
    ("listen", "token", "level"),
    [
        pytest.param("127.0.0.1:9090", None, Level.OK, id="this machine"),
        pytest.param("unix:/run/footfall/ops.sock", None, Level.OK, id="socket"),
        pytest.param("0.0.0.0:9090", "abc", Level.OK, id="token"),
        pytest.param("0.0.0.0:9090", None, Level.WARN, id="open"),
        pytest.param("[::]:9090", None, Level.WARN, id="open, IPv6"),
        pytest.param("count.example.vn:9090", None, Level.WARN, id="open, by name"),
    ],
)
def test_reports_that_are_open_to_other_machines_are_found(
    listen: str, token: str | None, level: Level, tmp_path: Path
) -> None:
    """Metrics and status name portals and pages; a listener for all without a token is seldom meant."""
    settings = settings_for("unix:///nowhere", "postgresql:///nowhere", tmp_path, ops_listen=listen, ops_token=token)
    assert check_ops_access(settings).level is level


@pytest.mark.parametrize("demo", [False, True])
async def test_the_demo_is_named(redis_url: str, postgres_url: str, tmp_path: Path, demo: bool) -> None:
    """A demo that is left running in the place of a portal counts visitors of nothing."""
    settings = settings_for(redis_url, postgres_url, tmp_path).model_copy(update={"demo": demo})
    async with running(settings, clock=FakeClock()) as footfall:
        here = settings.model_copy(update={"ops_listen": f"127.0.0.1:{footfall.ops.port}", "demo": False})
        check = await check_demo(here)
    assert (check.level, "--demo" in check.found) == ((Level.WARN, True) if demo else (Level.OK, False))


async def test_stores_that_cannot_be_reached_are_found_and_the_rest_is_checked(tmp_path: Path) -> None:
    """One mistake must not hide the next; and a finding must not show the password in a URL."""
    settings = settings_for("redis://user:secret1@127.0.0.1:1/0", "postgresql://user:secret2@127.0.0.1:1/db", tmp_path)
    found = await findings(settings)
    failed = {what for what, check in found.items() if check.level is Level.FAIL}
    assert failed == {"redis", "postgres", "installation", "clocks", "script"}
    assert "FOOTFALL_REDIS_URL" in found["redis"].found
    assert "FOOTFALL_POSTGRES_URL" in found["postgres"].found
    assert "secret" not in "".join(map(str, found.values()))


async def test_a_database_without_tables_is_found(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    """Operators forget this step most often."""
    found = await findings(settings_for(redis_url, postgres_url, tmp_path))
    assert (found["schema"].level, "footfall migrate" in found["schema"].found) == (Level.FAIL, True)


async def test_the_redis_of_another_portal_is_found(redis_url: str, migrated: str, tmp_path: Path) -> None:
    """Two installations on one Redis would mix their numbers; Footfall refuses, and the doctor says why."""
    async with Redis.from_url(redis_url) as redis:
        await redis.set("ff1:{portal}:ready", "somebody-else")
    found = await findings(settings_for(redis_url, migrated, tmp_path))
    assert found["installation"].level is Level.FAIL
    assert "its own Redis" in found["installation"].found


async def test_an_empty_redis_is_no_mistake(redis_url: str, migrated: str, tmp_path: Path) -> None:
    """Redis is empty before the first start."""
    found = await findings(settings_for(redis_url, migrated, tmp_path))
    assert found["installation"].level is Level.OK
    assert "does not hold portal yet" in found["installation"].found


def test_a_damaged_spool_file_is_found_until_it_is_removed(tmp_path: Path) -> None:
    """Beacons may be lost, and the log line of last month is not read by anyone."""
    settings = settings_for("unix:///nowhere", "postgresql:///nowhere", tmp_path)
    assert check_spool(settings).level is Level.OK
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "abc.damaged").touch()
    assert check_spool(settings).level is Level.WARN
    assert "abc.damaged" in check_spool(settings).found


def test_a_disk_without_room_for_the_spool_is_found(tmp_path: Path) -> None:
    """It is full just when Redis is away."""
    settings = settings_for("unix:///nowhere", "postgresql:///nowhere", tmp_path, spool_max_bytes=1 << 40)
    assert check_spool(settings).level is Level.WARN
    assert "MiB free" in check_spool(settings).found


async def test_clocks_that_differ_are_found(redis_url: str, migrated: str, tmp_path: Path) -> None:
    """A host that is an hour ahead counts its beacons into tomorrow."""
    hour_ahead = FakeClock()
    hour_ahead.set(datetime.now(ZoneInfo("UTC")))
    hour_ahead.advance(3600)
    found = await findings(settings_for(redis_url, migrated, tmp_path), clock=hour_ahead)
    assert found["clocks"].level is Level.FAIL
    assert "NTP" in found["clocks"].found
    assert "-3600" in found["clocks"].found or "-3599" in found["clocks"].found


async def test_a_day_that_has_not_come_is_found(redis_url: str, migrated: str, tmp_path: Path) -> None:
    """A clock was ahead and is right again: only the days that it left show it."""
    connection = await asyncpg.connect(migrated)
    await connection.execute(
        "INSERT INTO footfall.site_day (site, day, visitors, views, logs) VALUES ('portal', $1, 1, 1, '{}')",
        date.today() + timedelta(days=3),  # noqa: DTZ011 - three days are ahead in every zone
    )
    await connection.close()
    found = await findings(settings_for(redis_url, migrated, tmp_path))
    assert found["days"].level is Level.WARN
    assert "site portal has" in found["days"].found


async def test_a_redis_that_evicts_is_found(own_folder: Path, migrated: str) -> None:
    """The check reads INFO, because providers forbid CONFIG."""
    options: Mapping[str, str] = {"maxmemory": "50mb", "maxmemory-policy": "volatile-ttl", "appendonly": "no"}
    async with Valkey(own_folder, options) as valkey:
        found = await findings(settings_for(valkey.url, migrated, own_folder))
    assert found["redis memory"].level is Level.FAIL
    assert found["redis persistence"].level is Level.WARN


async def test_a_redis_that_is_full_is_found(own_folder: Path, migrated: str) -> None:
    """It answers every question of the doctor and no beacon."""
    async with Valkey(own_folder) as valkey, Redis.from_url(valkey.url) as redis:
        found = await findings(settings_for(valkey.url, migrated, own_folder))
        assert found["redis writes"].level is Level.OK
        keys = await redis.keys()
        assert len(keys) == 6
        assert all([0 < await redis.pttl(key) <= 10_000 for key in keys])
        await redis.config_set("maxmemory", "1")
        found = await findings(settings_for(valkey.url, migrated, own_folder))
    assert found["redis writes"].level is Level.FAIL
    assert "is full, at its maxmemory" in found["redis writes"].found


@pytest.mark.parametrize(
    "right",
    [
        *("INSERT ON footfall.site_day", "UPDATE ON footfall.site_day", "INSERT ON footfall.event"),
        *("DELETE ON footfall.salt", "INSERT ON footfall.adjustment", "SELECT ON footfall.installation"),
        "EXECUTE ON FUNCTION footfall.fold_pages",
        "EXECUTE ON FUNCTION footfall.note_lasting",
    ],
)
async def test_a_right_that_is_missing_is_found(right: str, redis_url: str, migrated: str, tmp_path: Path) -> None:
    """Every rollup failed, and the doctor, which only read, said that all was well."""
    sql = await asyncpg.connect(migrated)
    role = f"service_{uuid4().hex}"
    try:
        await sql.execute(f"CREATE ROLE {role} LOGIN")
        await sql.execute(f"GRANT USAGE ON SCHEMA footfall TO {role}")
        await sql.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA footfall TO {role}")
        await sql.execute(
            f"GRANT EXECUTE ON FUNCTION footfall.fold_pages, footfall.note_lasting, footfall.note_running TO {role}"
        )
        settings = settings_for(redis_url, migrated.replace("footfall@", f"{role}@"), tmp_path)
        found = await findings(settings)
        assert found["postgres writes"].level is Level.OK, found["postgres writes"]
        await sql.execute(f"REVOKE {right} FROM {role}")
        found = await findings(settings)
        assert found["postgres writes"].level is Level.FAIL
        table = right.rpartition(".")[2]
        assert re.match(rf"{table}: its role lacks a right, see sql/roles.sql", found["postgres writes"].found)
        for name in ("site_day", "event", "adjustment", "salt"):
            assert await sql.fetchval(f"SELECT count(*) FROM footfall.{name}") == 0
    finally:
        await sql.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await sql.close()


async def test_a_postgres_that_takes_no_writes_is_found(redis_url: str, migrated: str, tmp_path: Path) -> None:
    """A standby, or a managed server whose disk is nearly full."""
    sql = await asyncpg.connect(migrated)
    database = await sql.fetchval("SELECT current_database()")
    await sql.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    await sql.close()
    found = await findings(settings_for(redis_url, migrated, tmp_path))
    assert found["postgres writes"].level is Level.FAIL
    assert "takes no writes, being a standby or set to default_transaction_read_only" in found["postgres writes"].found


async def test_what_the_running_service_says_is_told(redis_url: str, migrated: str, tmp_path: Path) -> None:
    """It knows of failures that a look at the stores from outside cannot see."""
    settings = settings_for(redis_url, migrated, tmp_path)
    async with running(settings, clock=FakeClock()) as footfall:
        settings = settings.model_copy(update={"ops_listen": f"127.0.0.1:{footfall.ops.port}"})
        assert (await findings(settings))["service"].level is Level.OK
        sql = await asyncpg.connect(migrated)
        await sql.execute("ALTER TABLE footfall.site_day ADD CONSTRAINT none CHECK (site = '~probe') NOT VALID")
        await footfall.see()
        await footfall.services.copy()
        found = await findings(settings)
        await sql.execute("ALTER TABLE footfall.site_day DROP CONSTRAINT none")
        await sql.close()
    assert found["postgres writes"].level is Level.OK
    assert found["service"].level is Level.FAIL
    assert "not copied to PostgreSQL: sites portal: postgres: refuses a value" in found["service"].found


async def test_hundreds_of_sites_are_one_line_and_those_that_differ_are_named(
    migrated: str, redis_url: str, tmp_path: Path
) -> None:
    """A report of ten thousand lines hides the one that matters."""
    sites = {f"site-{number}": {"name": "A", "hosts": ["a.vn"]} for number in range(300)}
    sites["far"] = {"name": "B", "hosts": ["b.vn"], "time_zone": "Europe/Berlin"}
    found = await findings(settings_for(redis_url, migrated, tmp_path, sites=sites))
    assert "Asia/Ho_Chi_Minh" in found["zone of 300 sites"].found
    assert "Europe/Berlin" in found["site far"].found
    assert len(found) < 40
    assert all(len(str(check)) < 500 for check in found.values())


def test_a_site_s_day_and_week_are_shown_in_its_zone() -> None:
    """An operator sees by the clock that a zone is wrong; here a day of 25 hours at the end of summer time."""
    site = Site(id=SiteId("portal"), name="Portal", hosts=("portal.example.vn",), time_zone="Europe/Berlin")
    check = check_zone(site, datetime(2026, 10, 25, 12, tzinfo=ZoneInfo("Europe/Berlin")).timestamp())
    assert "today is 2026-10-25, 2026-10-25 00:00+02:00 to 2026-10-26 00:00+01:00" in check.found
    assert "week of 2026-10-19 until 2026-10-26 00:00+01:00" in check.found


@pytest.mark.parametrize(
    ("share", "level", "words"),
    [
        pytest.param("0.92", Level.WARN, "92% .* FOOTFALL_TRUSTED_PROXIES", id="a proxy that is not trusted"),
        pytest.param("0.07", Level.OK, "7%", id="many networks"),
        pytest.param("0.0", Level.OK, "too few", id="no traffic yet"),
    ],
)
async def test_one_network_that_sends_most_is_found(
    share: str, level: Level, words: str, redis_url: str, migrated: str, own_folder: Path
) -> None:
    """Behind an untrusted proxy the whole country is one visitor. The metrics here ask for a token."""
    asked: list[str] = []

    async def metrics(request: web.Request) -> web.Response:
        asked.append(request.headers["Authorization"])
        return web.Response(text=f"# HELP x y\nfootfall_busiest_network_share {share}\n")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    own_folder.mkdir()
    try:
        await web.UnixSite(runner, str(own_folder / "ops.sock")).start()
        listener = f"unix:{own_folder / 'ops.sock'}"
        settings = settings_for(redis_url, migrated, own_folder, ops_listen=listener, ops_token="abc")  # noqa: S106
        found = await findings(settings)
    finally:
        await runner.cleanup()
    assert asked == ["Bearer abc"]
    check = found["busiest network"]
    assert check.level is level
    assert re.search(words, check.found)


async def test_an_address_that_answers_with_something_else_is_found(
    redis_url: str, migrated: str, tmp_path: Path
) -> None:
    """A portal's friendly "not found" page has status 200, too."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/footfall.js", page)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        found = await findings(settings_for(redis_url, migrated, tmp_path, public_url=f"http://127.0.0.1:{port}"))
    finally:
        await runner.cleanup()
    assert found["script"].level is Level.FAIL
    assert "text/html, not the script" in found["script"].found


async def test_the_pages_that_were_refused_are_listed_with_the_line_to_add(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """The likeliest mistake of a site shows nowhere else: its pages simply count nothing."""
    settings = settings_for(redis_url, postgres_url, tmp_path)
    async with running(settings, clock=FakeClock()) as footfall:
        for number in range(REFUSED_SHOWN_MAX + 2):
            await footfall.send(headers={"Origin": f"https://new{number}.example.vn"})
        await footfall.send(headers={"Origin": "https://new1.example.vn"})
        here = settings.model_copy(update={"ops_listen": f"127.0.0.1:{footfall.ops.port}"})
        refused = await check_refused_pages(here)
    assert str(refused[0]) == (
        "warn  refused pages: https://new1.example.vn names site portal, and was refused 2 times, last at"
        ' 2054-11-25T05:00:00+00:00: if the page is yours, add "new1.example.vn" to hosts of [sites.portal]'
    )
    assert len(refused) == REFUSED_SHOWN_MAX + 1
    assert refused[-1].found.startswith("and 2 more")


async def test_what_another_program_answers_at_the_ops_address_is_not_believed(tmp_path: Path) -> None:
    """A wrong port may lead anywhere; a list that could not be read is not an empty list."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"refused": [{"origin": 5}]})

    app = web.Application()
    app.router.add_get("/status", answer)
    async with TestServer(app) as server:
        settings = settings_for("redis://127.0.0.1:1", "postgresql://127.0.0.1:1/x", tmp_path)
        (check,) = await check_refused_pages(settings.model_copy(update={"ops_listen": f"127.0.0.1:{server.port}"}))
    assert (check.level, check.found.startswith("not known")) == (Level.WARN, True)


@pytest.mark.parametrize(
    ("hosts", "url", "level"),
    [
        pytest.param(("1.1.1.1", "10.0.0.4"), "http://10.1.2.3:8080", Level.WARN, id="public pages, private counter"),
        pytest.param(("10.0.0.4", "*.local.invalid"), "http://10.1.2.3", Level.OK, id="an intranet"),
        pytest.param(("1.1.1.1",), "https://1.0.0.1", Level.OK, id="public"),
        pytest.param(("localhost",), "http://127.0.0.1:8080", Level.OK, id="one machine"),
        pytest.param(("1.1.1.1",), "https://[fd00::1]", Level.WARN, id="public pages, private IPv6"),
        pytest.param(("1.1.1.1",), "https://count.invalid", Level.OK, id="a name that is not known here"),
    ],
)
async def test_a_private_address_in_public_pages_is_named(hosts: tuple[str, ...], url: str, level: Level) -> None:
    """Chrome asks each visitor whether the page may reach the local network, and most say no."""
    check = await check_address(Site(id=SiteId("a"), name="A", hosts=hosts), url, is_private=await is_private(url))
    assert check.level is level, check
    assert (level is Level.WARN) == ("public_url" in check.found)
