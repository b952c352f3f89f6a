"""How cost grows: a beacon, a refresh and a rollup, by sites and by visitors of a day; bytes in both stores.

Below HTTP, in this process, against own servers: one caller, one thing at a time, so each figure is a cost and
not a throughput. What counts is that the rows of a table are alike.
"""

import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis

from service import sql_folder
from service.app import open_services, open_sites
from service.config import Settings, Site
from service.embedded import servers
from service.migrations import migrate
from service.services import Services

SITES = (1, 100, 1000)
VISITORS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
CHANGED_SITES = 10
CALLS = 300
FED_AT_ONCE = 2000


async def measure() -> dict[str, Any]:
    """Return costs by number of sites, and of visitors a day, in microseconds, with bytes."""
    found: dict[str, Any] = {"by_sites": {}, "by_visitors": {}}
    with tempfile.TemporaryDirectory(prefix="footfall-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        async with servers(Path(name) / "data") as urls:
            await migrate(urls.postgres, sql_folder())
            for sites in SITES:
                settings = _settings(urls.redis, urls.postgres, Path(name), [f"s{sites}-{n}" for n in range(sites)])
                async with open_services(settings) as services:
                    await open_sites(services)
                    found["by_sites"][str(sites)] = await _costs(services) | await _rollups(services)
            settings = _settings(urls.redis, urls.postgres, Path(name), ["crowd"])
            async with open_services(settings) as services, Redis.from_url(urls.redis) as redis:
                await open_sites(services)
                fed = 0
                for visitors in VISITORS:
                    fed = await _feed(redis, services, fed, visitors)
                    costs = await _costs(services)
                    found["by_visitors"][str(visitors)] = costs | await _bytes(redis, urls.postgres, services)
    return found


async def _costs(services: Services) -> dict[str, float]:
    sites = list(services.settings.sites.values())

    async def beacon(turn: int) -> None:
        site = _site(sites, turn)
        await services.recorder.record(site, _day(services, site), secrets.token_bytes(16), None, view=True)

    async def refresh(turn: int) -> None:
        await services.recorder.read(_site(sites, turn))

    return {"beacon_us": await _median_us(beacon), "refresh_us": await _median_us(refresh)}


async def _rollups(services: Services) -> dict[str, float]:
    """Time rollups after the same number of sites changed, whatever the number of sites is."""
    sites = list(services.settings.sites.values())
    await services.rollup.step(everything=True)
    took: list[float] = []
    for _ in range(5):
        for turn in range(CHANGED_SITES):
            site = _site(sites, turn)
            await services.recorder.record(site, _day(services, site), secrets.token_bytes(16), None, view=True)
        started = time.perf_counter()
        changed = len(await services.rollup.step())
        took.append((time.perf_counter() - started) / max(1, changed))
    return {"rollup_us_per_changed_site": round(statistics.median(took) * 1e6)}


async def _feed(redis: Redis, services: Services, fed: int, wanted: int) -> int:
    """Add visitors to the day's and the week's sketch directly, as the record script would."""
    site = services.settings.sites["crowd"]
    _, period = services.periods.now(site)
    keys = [f"ff1:{{crowd}}:day:{period.day}:visitors", f"ff1:{{crowd}}:week:{period.week}:visitors"]
    while fed < wanted:
        count = min(FED_AT_ONCE, wanted - fed)
        packed = secrets.token_bytes(16 * count)
        ids = [packed[at : at + 16] for at in range(0, len(packed), 16)]
        async with redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.pfadd(key, *ids)
            await pipeline.execute()
        fed += count
    return fed


async def _bytes(redis: Redis, postgres_url: str, services: Services) -> dict[str, int]:
    site = services.settings.sites["crowd"]
    _, period = services.periods.now(site)
    connection = await asyncpg.connect(postgres_url)
    try:
        before = await connection.fetchval("SELECT pg_current_wal_lsn()")
        services.rollup.note_change("crowd")
        await services.rollup.step()
        await asyncio.sleep(0.3)
        row = await connection.fetchval(
            "SELECT pg_column_size(site_day.*) FROM footfall.site_day WHERE site = 'crowd' AND day = $1", period.day
        )
        wal = await connection.fetchval("SELECT pg_current_wal_lsn() - $1::pg_lsn", before)
    finally:
        await connection.close()
    online = int(await redis.zcard("ff1:{crowd}:online"))
    return {
        "redis_day_bytes": int(await redis.memory_usage(f"ff1:{{crowd}}:day:{period.day}:visitors") or 0),
        "redis_online_bytes_per_1000": (await redis.memory_usage("ff1:{crowd}:online") or 0) * 1000 // max(1, online),
        "postgres_row_bytes": int(row),
        "wal_bytes_per_rollup": int(wal),
    }


async def _median_us(call: Callable[[int], Awaitable[None]]) -> float:
    took = []
    for turn in range(CALLS):
        started = time.perf_counter()
        await call(turn)
        took.append(time.perf_counter() - started)
    return round(statistics.median(took) * 1e6)


def _settings(redis_url: str, postgres_url: str, folder: Path, names: list[str]) -> Settings:
    return Settings.model_validate(
        {
            "redis_url": redis_url,
            "postgres_url": postgres_url,
            "data_dir": folder / "worker",
            "sites": {name: {"name": name, "hosts": ["bench.example.vn"]} for name in names},
        }
    )


def _site(sites: list[Site], turn: int) -> Site:
    return sites[turn * 7919 % len(sites)]


def _day(services: Services, site: Site) -> date:
    return services.periods.now(site)[1].day
