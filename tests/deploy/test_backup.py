"""The backup drill: an operator saves Postgres alone, and that is enough."""

from datetime import timedelta
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from footfall.stores.postgres_store import open_postgres
from tests.support.footfall import SITE, FakeClock, Footfall, running, settings_for
from tests.support.postgres_programs import run_program

DAYS = 9
"""Longer than a week, so that there are closed days, a closed week and the current week."""
VISITORS_A_DAY = 20
OLD_COUNTER = 1_373_876
DAY_S = timedelta(days=1).total_seconds()


async def count_some_days(footfall: Footfall) -> None:
    """Send visitors and views on every day, one more than on the day before."""
    for day in range(DAYS):
        for visitor in range(VISITORS_A_DAY + day):
            await footfall.see(address=f"10.0.{day // 2}.{visitor}")
        await footfall.services.copy()
        if day < DAYS - 1:
            footfall.clock.advance(DAY_S)


async def saved_days(postgres_url: str) -> list[tuple[object, ...]]:
    """Return what reports read."""
    connection = await asyncpg.connect(postgres_url)
    rows = await connection.fetch("SELECT day, visitors, views FROM footfall.report_day ORDER BY day")
    await connection.close()
    return [tuple(row) for row in rows]


async def test_a_restored_dump_and_an_empty_redis_show_the_same_numbers(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """An operator needs no backup of Redis, and has no two backups to keep in step."""
    settings = settings_for(redis_url, postgres_url, tmp_path, limits={"enabled": False})
    clock = FakeClock()
    async with open_postgres(postgres_url) as postgres, running(settings, clock=clock) as footfall:
        await postgres.adjust(SITE, "old counter", OLD_COUNTER, "the number that the old counter showed")
        await count_some_days(footfall)
        before = await footfall.counts()
    days_before = await saved_days(postgres_url)
    assert len(days_before) == DAYS

    dump = tmp_path / "footfall.dump"
    await run_program(postgres_url, "pg_dump", "--format=custom", f"--file={dump}")
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("DROP SCHEMA footfall CASCADE")
    await connection.close()
    async with Redis.from_url(redis_url) as redis:
        await redis.flushall()
    await run_program(postgres_url, "pg_restore", "--exit-on-error", str(dump))

    assert await saved_days(postgres_url) == days_before
    async with running(settings, clock=clock) as footfall:
        await footfall.services.copy()
        after = await footfall.counts()
        for number in ("today", "week", "total", "views_today", "revision"):
            assert after[number] == before[number], number
        assert after["total"] == OLD_COUNTER + sum(visitors for _, visitors, _ in days_before)  # type: ignore[misc]

        # A visitor from before the loss is recognised: the salt of the visitor hash came back too.
        known = await footfall.see(address=f"10.0.{(DAYS - 1) // 2}.0", kind="ping")
        assert known["today"] == before["today"]
    assert await saved_days(postgres_url) == days_before
