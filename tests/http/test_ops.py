"""The operators' routes: health, readiness, metrics, version, and who may ask."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from footfall import __version__
from footfall.embedded.servers import Postgres, Valkey
from tests.support.footfall import FakeClock, Footfall, running, serving, settings_for, until

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
