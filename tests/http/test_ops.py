"""The operators' routes: health, readiness, metrics, status, version, and who may ask."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import gethostname
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from footfall import __version__
from footfall.embedded.servers import Postgres, Valkey
from footfall.model.availability import UP
from footfall.model.counts import NUMBERS
from tests.support.footfall import (
    HOST,
    ORIGIN,
    SITE,
    VIETNAM,
    FakeClock,
    Footfall,
    running,
    serving,
    settings_for,
    until,
)
from tests.support.storage import plain_redis

OPS_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "X-Content-Type-Options": "nosniff",
}
ROUTES = ("/metrics", "/healthz", "/readyz", "/status", "/version")


@pytest.fixture
async def footfall(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Footfall]:
    """A worker whose stores answer."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        yield footfall


async def readiness(footfall: Footfall) -> tuple[int, str, list[dict[str, Any]]]:
    """What /readyz answers: status code, status word, problems."""
    response = await footfall.ops.get("/readyz")
    answer = await response.json()
    return response.status, answer["status"], answer["problems"]


def utc(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")


async def test_ops_answers_are_for_operators_and_for_this_moment(footfall: Footfall) -> None:
    """No page may read them, no cache may keep them, and no answer names the server."""
    for path in ROUTES:
        response = await footfall.ops.get(path)
        assert response.status == 200
        assert OPS_HEADERS.items() <= dict(response.headers).items()
        assert {"Access-Control-Allow-Origin", "Server"}.isdisjoint(response.headers)
        assert (await footfall.ops.head(path)).status == 200
        assert (await footfall.ops.post(path)).status == 405
    for path in ("/", "/seen", "/counts?site=portal", "/footfall.js", "/metrics/"):
        response = await footfall.ops.get(path)
        assert (response.status, await response.json()) == (404, {"error": "not_found"})


async def test_the_version_says_what_runs(footfall: Footfall) -> None:
    """During an upgrade the version distinguishes old workers from new ones."""
    assert (await (await footfall.ops.get("/version")).json())["version"] == __version__


async def test_a_token_guards_every_ops_route(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    """Some operators must open the port wider than loopback; a wrong or odd token is a 401, never an error."""
    token = "mật khẩu"  # noqa: S105 (not in use anywhere)
    async with running(settings_for(redis_url, postgres_url, tmp_path, ops_token=token)) as footfall:
        for path in (*ROUTES, "/nothing"):
            for given in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": token},
                {"Authorization": "Bearer "},
            ):
                response = await footfall.ops.get(path, headers=given)
                assert (response.status, await response.json()) == (401, {"error": "unauthorized"})
                assert response.headers["WWW-Authenticate"] == "Bearer"
        for path in ROUTES:
            assert (await footfall.ops.get(path, headers={"Authorization": f"Bearer {token}"})).status == 200


async def test_health_is_how_late_the_loop_is(footfall: Footfall) -> None:
    """A worker that is stuck in computation answers, late; measuring only the answer itself would call it well."""
    well = await footfall.ops.get("/healthz")
    assert (well.status, (await well.json())["status"]) == (200, "ok")
    time.sleep(1.8)  # noqa: ASYNC251 (the very fault: the loop does not get its turn)
    slow = await footfall.ops.get("/healthz")
    answer = await slow.json()
    assert (slow.status, answer["status"]) == (503, "slow")
    assert answer["loop_lag_s"] > 1
    await until(lambda: footfall.metric("footfall_loop_lag_seconds") > 1)  # set at the next tick, without a request


async def test_ready_is_ok_while_nothing_is_wrong(footfall: Footfall) -> None:
    """The sentence that a monitor is set to."""
    assert await readiness(footfall) == (200, "ok", [])


async def test_readiness_runs_the_real_script(footfall: Footfall, redis_url: str) -> None:
    """A PING is also answered by a Redis that lost its scripts or its state; readiness has both made good."""
    async with Redis.from_url(redis_url) as redis:
        await redis.script_flush()
        await redis.delete("ff1:{portal}:ready")
        assert await readiness(footfall) == (200, "ok", [])
        assert await redis.exists("ff1:{portal}:ready")


async def test_redis_away_is_degraded_and_says_since_when(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """The balancer must not turn a Redis outage, which the spool bridges, into a site outage."""
    async with running(settings_for(own_valkey.url, postgres_url, tmp_path)) as footfall:
        own_valkey.kill()
        since = utc(footfall.clock())
        for _ in range(2):
            status, word, (problem,) = await readiness(footfall)
            assert (status, word, problem["since"]) == (200, "degraded", since)
            assert problem["what"].startswith("redis takes no beacons of site portal: redis: ")
            assert (await footfall.send()).status == 202
            footfall.clock.advance(60)
        await own_valkey.start()
        assert await readiness(footfall) == (200, "ok", [])
        assert (await footfall.send()).status == 200


async def test_only_redis_and_the_spool_away_together_are_unavailable(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """Then a beacon gets 503 and another host may do better; a disk that takes nothing is reported before that."""
    folder = tmp_path / "file"
    folder.touch()
    async with running(settings_for(own_valkey.url, postgres_url, folder)) as footfall:
        first_seen = utc(footfall.clock())
        status, word, (problem,) = await readiness(footfall)
        assert (status, word, problem["since"]) == (200, "degraded", first_seen)
        assert problem["what"].startswith("spool: ")
        footfall.clock.advance(60)
        own_valkey.kill()
        status, word, problems = await readiness(footfall)
        assert (status, word) == (503, "unavailable")
        assert [problem["since"] for problem in problems] == [utc(footfall.clock()), first_seen]
        refused = await footfall.send()
        assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
        assert await refused.json() == {"error": "spool_full"}


async def test_a_background_step_that_fails_is_a_problem_until_it_succeeds(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """A loop whose every step fails copies nothing; the numbers look well until something else breaks."""

    async def fail() -> None:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        failures = footfall.services.failures
        await failures.attempt("copy", fail)
        since = utc(footfall.clock())
        footfall.clock.advance(60)
        what = "the background step copy fails with UnicodeDecodeError; the log says where"
        assert await readiness(footfall) == (200, "degraded", [{"what": what, "since": since}])
        assert footfall.metric("footfall_failing_steps", step="copy") == 1
        await failures.attempt("copy", footfall.services.copy)
        assert await readiness(footfall) == (200, "ok", [])
        assert footfall.metric("footfall_failing_steps", step="copy") == 0


async def test_postgres_away_is_told_and_counting_goes_on(
    redis_url: str, own_postgres: Postgres, tmp_path: Path
) -> None:
    """Postgres away is an alarm, not a reason to leave the balancer."""
    async with running(settings_for(redis_url, own_postgres.url, tmp_path)) as footfall:
        own_postgres.kill()
        await footfall.services.rollup.step()
        since = utc(footfall.clock())
        footfall.clock.advance(60)
        status, word, (problem,) = await readiness(footfall)
        assert (status, word, problem["since"]) == (200, "degraded", since)
        assert problem["what"].startswith("nothing is copied to PostgreSQL: postgres: does not answer: ")
        await footfall.see()
        await own_postgres.start()
        await footfall.services.rollup.step()
        assert await readiness(footfall) == (200, "ok", [])


async def test_pages_that_cannot_be_folded_are_named(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    """Otherwise the tables would grow for years, and only a debug line would say so."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        connection = await asyncpg.connect(postgres_url)
        try:
            await connection.execute("ALTER FUNCTION footfall.fold_pages RENAME TO away")
            await footfall.services.copy()
            status, word, (problem,) = await readiness(footfall)
            assert (status, word) == (200, "degraded")
            assert problem["what"].startswith(f"old days of pages stay unfolded: sites {SITE}: postgres: ")
            await connection.execute("ALTER FUNCTION footfall.away RENAME TO fold_pages")
        finally:
            await connection.close()
        await footfall.services.copy()
        assert await readiness(footfall) == (200, "ok", [])


async def test_a_clock_that_was_ahead_is_named_until_the_calendar_has_caught_up(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """The numbers are right again; the days that a report shows later are not, and the host may do it once more."""
    clock = FakeClock(datetime.now(UTC))
    async with running(settings_for(redis_url, postgres_url, tmp_path), clock=clock) as footfall:
        clock.advance(30 * 3600)
        await footfall.send()
        await footfall.services.copy()
        await footfall.services.clock_watch.step()
        status, word, problems = await readiness(footfall)
        assert (status, word) == (200, "degraded")
        assert [problem["what"].partition(":")[0] for problem in problems] == ["postgres", "redis"]
        clock.set_back(30 * 3600)
        await footfall.send(address="203.0.113.8")
        await footfall.services.copy()
        await footfall.services.clock_watch.step()
        status, word, (problem,) = await readiness(footfall)
        assert (status, word) == (200, "degraded")
        assert "which has not come: a clock was ahead" in problem["what"]
        assert footfall.services.metrics.registry.get_sample_value("footfall_early_days") == 1


async def test_without_a_key_of_the_visitor_hash_nobody_is_ready_and_readiness_finds_it(
    own_valkey: Valkey, own_postgres: Postgres, tmp_path: Path
) -> None:
    """Started while both stores are away, no beacon can be hashed: 503, and no balancer would send the one
    that asks for the key again, so readiness asks itself.
    """
    settings = settings_for(own_valkey.url, own_postgres.url, tmp_path)
    async with running(settings):
        pass
    own_valkey.kill()
    own_postgres.kill()
    async with serving(settings, FakeClock()) as footfall:
        status, word, problems = await readiness(footfall)
        assert (status, word) == (503, "unavailable")
        assert "no key of the visitor hash is known for site portal" in [problem["what"] for problem in problems]
        refused = await footfall.send()
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        assert await refused.json() == {"error": "not_ready"}
        await own_valkey.start()
        await own_postgres.start()
        assert (await readiness(footfall))[:2] == (200, "ok")
        assert (await footfall.send()).status == 200


async def test_one_cause_is_one_problem_however_many_portals_it_has(
    own_valkey: Valkey, own_postgres: Postgres, tmp_path: Path
) -> None:
    """104 portals were 104 lines for one Redis, and 103 more on Monday for keys that the next beacon asks for."""
    ids = [f"portal-{number}" for number in range(12)]
    sites = {site: {"name": site, "hosts": [HOST]} for site in ids}
    settings = settings_for(own_valkey.url, own_postgres.url, tmp_path, sites=sites)
    monday = datetime(2054, 11, 30, 0, 0, 5, tzinfo=VIETNAM)
    async with running(settings, clock=FakeClock(monday - timedelta(days=15))) as footfall:
        footfall.clock.set(monday)
        assert await readiness(footfall) == (200, "ok", [])
        assert [(await footfall.send(site=site)).status for site in ids] == [200] * 12
        own_valkey.kill()
        assert [(await footfall.send(site=site)).status for site in ids] == [202] * 12
        named = (
            "sites portal-0,portal-1,portal-2,portal-3,portal-4,portal-5,portal-6,portal-7,portal-8,portal-9 and 2 more"
        )
        status, word, problems = await readiness(footfall)
        assert (status, word) == (200, "degraded")
        assert [problem["what"].partition(": redis: ")[0] for problem in problems] == [
            "redis takes no beacons of 12 sites of server redis"
        ]
        own_postgres.kill()
        footfall.clock.advance(timedelta(days=14).total_seconds())
        status, word, problems = await readiness(footfall)
        assert (status, word) == (503, "unavailable")
        assert f"no key of the visitor hash is known for {named}" in [problem["what"] for problem in problems]


async def test_a_redis_that_is_full_is_told_from_before_the_first_beacon_until_it_has_room(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """A Redis at maxmemory answers every question and refuses every beacon."""
    async with (
        running(settings_for(own_valkey.url, postgres_url, tmp_path)) as footfall,
        Redis.from_url(own_valkey.url) as redis,
    ):
        await footfall.see()
        await redis.config_set("maxmemory", "1")
        for _ in range(3):
            status, word, problems = await readiness(footfall)
            assert (status, word) == (200, "degraded")
            assert [problem["what"].partition(": OutOf")[0] for problem in problems] == [
                "redis takes no beacons of site portal: redis: is full, at its maxmemory"
            ]
            assert (await footfall.send()).status == 202
            await footfall.services.reconciler.quick_step()
        await redis.config_set("maxmemory", "0")
        await readiness(footfall)  # it sends the batch that waits, whose answer decides
        await until(lambda: all(site.redis is UP for site in footfall.services.recorder.sites.values()))
        assert await readiness(footfall) == (200, "ok", [])
        assert (await footfall.send()).status == 200


async def test_a_site_that_cannot_be_copied_is_told_with_the_reason(
    redis_url: str, own_postgres: Postgres, tmp_path: Path
) -> None:
    """A right that was taken away stops each copy, and Postgres still answers every question."""
    async with running(settings_for(redis_url, own_postgres.url, tmp_path)) as footfall:
        sql = await asyncpg.connect(own_postgres.url)
        await sql.execute("ALTER TABLE footfall.site_day ADD CONSTRAINT none CHECK (views < 0) NOT VALID")
        await footfall.see()
        footfall.clock.advance(60)
        since = utc(footfall.clock())
        await footfall.services.copy()
        footfall.clock.advance(60)
        await footfall.services.copy()
        status, word, (problem,) = await readiness(footfall)
        assert (status, word, problem["since"]) == (200, "degraded", since)
        assert problem["what"].startswith("not copied to PostgreSQL: sites portal: postgres: refuses a value")
        assert "Failing row" not in problem["what"]  # it would repeat what a visitor left
        assert footfall.metric("footfall_sites_not_copied") == 1
        await sql.execute("ALTER TABLE footfall.site_day DROP CONSTRAINT none")
        await sql.close()
        await footfall.services.copy()
        assert await readiness(footfall) == (200, "ok", [])
        assert footfall.metric("footfall_sites_not_copied") == 0


async def test_a_postgres_that_takes_no_writes_is_told(
    redis_url: str, own_postgres: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A standby answers every question; whether a site has changed does not matter, as the next one will."""
    caplog.set_level("INFO")
    async with running(settings_for(redis_url, own_postgres.url, tmp_path)) as footfall:
        await set_read_only(own_postgres, "on")
        await footfall.services.copy()
        status, word, (problem,) = await readiness(footfall)
        assert (status, word) == (200, "degraded")
        assert problem["what"].startswith("nothing is copied to PostgreSQL: postgres: takes no writes")
        assert "does not answer" not in caplog.text
        await footfall.see()
        await footfall.services.copy()
        await set_read_only(own_postgres, "off")
        await footfall.services.copy()
        assert await readiness(footfall) == (200, "ok", [])
    assert caplog.text.count("Nothing is copied to Postgres") == 1
    assert caplog.text.count("Postgres takes copies again") == 1


async def set_read_only(server: Postgres, value: str) -> None:
    """Set what a managed server sets when its disk is nearly full; sessions that are open follow at once."""
    sql = await asyncpg.connect(server.url)
    await sql.execute("SET default_transaction_read_only = off")
    await sql.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    await sql.execute("SELECT pg_reload_conf()")
    await sql.close()
    sql = await asyncpg.connect(server.url)
    while await sql.fetchval("SHOW default_transaction_read_only") != value:  # noqa: ASYNC110 (no event)
        await asyncio.sleep(0.01)
    await sql.close()


async def test_a_proxy_that_hides_its_clients_is_told_until_it_is_mended(footfall: Footfall) -> None:
    """All its visitors are one visitor; a single warning in the log was read by no one."""
    since = utc(footfall.clock())
    assert (await footfall.send(address="not an address")).status == 200
    footfall.clock.advance(3600)
    what = "a trusted proxy sends no X-Forwarded-For that can be read: its visitors share one place and one limit"
    assert await readiness(footfall) == (200, "degraded", [{"what": what, "since": since}])
    await footfall.see()
    assert await readiness(footfall) == (200, "ok", [])


async def test_the_demo_is_opened_on_its_own_machine(
    redis_url: str, postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A newcomer's first look at /readyz, or at the log, must not show a fault."""
    async with running(settings_for(redis_url, postgres_url, tmp_path, demo=True)) as footfall:
        assert (await footfall.send(address="127.0.0.1")).status == 200
        assert await readiness(footfall) == (200, "ok", [])
    assert "proxy" not in caplog.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        pytest.param("127.0.0.1:8081", 200, id="an address"),
        pytest.param("10.4.0.9", 200, id="any address"),
        pytest.param("[::1]:8081", 200, id="an IPv6 address"),
        pytest.param("localhost:8081", 200, id="localhost"),
        pytest.param("LOCALHOST.", 200, id="localhost in another form"),
        pytest.param(gethostname(), 200, id="the name of the machine"),
        pytest.param("metrics.example.vn:8081", 200, id="a name of the setting"),
        pytest.param("ops.example.vn", 200, id="the name that it listens on"),
        pytest.param("evil.example", 421, id="a stranger's name"),
        pytest.param("evil.example:8081", 421, id="with the port"),
        pytest.param("metrics.example.vn.evil.example", 421, id="a name that begins alike"),
        pytest.param("127.0.0.1.evil.example", 421, id="a name that begins with an address"),
        pytest.param("localhost.evil.example", 421, id="a name that begins with localhost"),
        pytest.param("", 421, id="no name"),
        pytest.param("127.0.0.1:x", 421, id="no port"),
    ],
)
async def test_the_ops_routes_answer_to_their_own_names_only(
    redis_url: str, postgres_url: str, tmp_path: Path, host: str, status: int
) -> None:
    """A page whose name points to this machine (DNS rebinding) would make any visitor's browser read them."""
    settings = settings_for(
        redis_url, postgres_url, tmp_path, ops_listen="ops.example.vn:8081", ops_hosts=("metrics.example.vn",)
    )
    async with running(settings) as footfall:
        for path in (*ROUTES, "/nothing"):
            response = await footfall.ops.get(path, headers={"Host": host})
            expected = 404 if (status, path) == (200, "/nothing") else status
            assert response.status == expected
            if status == 421:
                assert await response.json() == {"error": "wrong_host"}


async def test_a_stranger_s_name_is_in_the_log_once_and_not_by_its_name(
    footfall: Footfall, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator whose Prometheus uses another name must find the setting; a flood must not fill the log."""
    for _ in range(50):
        await footfall.ops.get("/metrics", headers={"Host": "evil.example"})
    [line] = [record.getMessage() for record in caplog.records if "ops_hosts" in record.getMessage()]
    assert "evil.example" not in line


async def test_a_unix_socket_answers_to_every_name(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    """No browser connects to one, and clients of a socket write into Host what they like."""
    settings = settings_for(redis_url, postgres_url, tmp_path, ops_listen="unix:/run/footfall/ops.sock")
    async with running(settings) as footfall:
        assert (await footfall.ops.get("/metrics", headers={"Host": "x"})).status == 200


async def test_a_file_that_redis_does_not_rewrite_is_named(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """Visitor ids stay readable in it beside the salt; beacons count meanwhile, so the host stays in the balancer."""
    async with plain_redis(own_valkey.url) as redis:
        await redis.execute_command("ACL", "SETUSER", "kept", "on", ">secret", "~*", "+@all", "-bgrewriteaof")
    settings = settings_for(f"unix://kept:secret@{own_valkey.socket}", postgres_url, tmp_path)
    async with running(settings) as footfall:
        await footfall.services.copy()
        status, word, [problem] = await readiness(footfall)
        assert (status, word, problem["since"]) == (200, "degraded", utc(footfall.clock()))
        assert problem["what"].startswith("redis does not rewrite its append-only file: ")


async def status_of(footfall: Footfall) -> dict[str, Any]:
    """What /status answers."""
    answer: dict[str, Any] = await (await footfall.ops.get("/status")).json()
    return answer


async def test_the_status_has_the_numbers_that_the_pages_show(footfall: Footfall) -> None:
    """One question instead of four, for a screen."""
    await footfall.see()
    footfall.clock.advance(5)
    status = await status_of(footfall)
    (site,) = status["sites"]
    counts = await footfall.counts()
    assert (site["id"], site["stale"], site["online"]) == ("portal", False, 1)
    assert {name: site[name] for name in NUMBERS} == {name: counts[name] for name in NUMBERS}
    assert (status["status"], status["problems"], status["refused"]) == ("ok", [], [])
    assert status["stores"] == {"redis": True, "postgres": True, "spool": True}
    assert status["copied"] is None
    await footfall.services.copy()
    assert (await status_of(footfall))["copied"] == utc(footfall.clock())
    (worker,) = status["workers"]
    assert (worker["pid"], worker["version"]) == (os.getpid(), __version__)


async def test_a_store_that_is_away_is_away_in_the_status(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """The screen is looked at most during an outage; then its numbers are the last known ones."""
    async with running(settings_for(own_valkey.url, postgres_url, tmp_path)) as footfall:
        await footfall.see()
        own_valkey.kill()
        footfall.clock.advance(10)
        assert (await footfall.send()).status == 202
        await footfall.services.reconciler.quick_step()
        status = await status_of(footfall)
        assert (status["status"], status["stores"]["redis"]) == ("degraded", False)
        assert (status["sites"][0]["today"], status["sites"][0]["stale"]) == (1, True)
        assert status["spool_bytes"] > 0


async def test_the_status_names_the_pages_that_were_refused(footfall: Footfall) -> None:
    """A host missing in the settings is the likeliest mistake of a site, and no visitor sees it."""
    for _ in range(3):
        assert (await footfall.send(headers={"Origin": "https://new.example.vn"})).status == 403
    assert (await footfall.send(site="portl")).status == 404
    pixel = await footfall.public.get("/seen.gif", params={"site": "a\x1b[2J" * 99}, headers={"Referer": f"{ORIGIN}/x"})
    assert pixel.status == 404
    first, *others = (await status_of(footfall))["refused"]
    assert (first["site"], first["origin"], first["reason"], first["times"]) == (
        "portal",
        "https://new.example.vn",
        "wrong_origin",
        3,
    )
    assert first["advice"] == 'if the page is yours, add "new.example.vn" to hosts of [sites.portal]'
    assert {(each["site"], each["origin"]) for each in others} == {("portl", ORIGIN), (("a?[2J" * 9)[:32], ORIGIN)}
    metrics = await (await footfall.ops.get("/metrics")).text()
    assert "new.example.vn" not in metrics
    assert "portl" not in metrics
