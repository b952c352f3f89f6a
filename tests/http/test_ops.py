"""The operators' routes: health, readiness, metrics, version, and who may ask."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest
from redis.asyncio import Redis

from footfall import __version__
from footfall.embedded.servers import Postgres, Valkey
from tests.support.footfall import FakeClock, Footfall, running, serving, settings_for, until
from tests.support.storage import plain_redis

OPS_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "X-Content-Type-Options": "nosniff",
}
ROUTES = ("/metrics", "/healthz", "/readyz", "/version")


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


async def test_postgres_away_is_told_and_counting_goes_on(
    redis_url: str, own_postgres: Postgres, tmp_path: Path
) -> None:
    """Postgres away is an alarm, not a reason to leave the balancer."""
    async with running(settings_for(redis_url, own_postgres.url, tmp_path)) as footfall:
        own_postgres.kill()
        await footfall.services.rollup.step()
        since = utc(footfall.clock())
        footfall.clock.advance(60)
        problems = [{"what": "postgres does not answer: nothing is rolled up", "since": since}]
        assert await readiness(footfall) == (200, "degraded", problems)
        await footfall.see()
        await own_postgres.start()
        await footfall.services.rollup.step()
        assert await readiness(footfall) == (200, "ok", [])


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
