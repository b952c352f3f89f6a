"""How cost grows with the sites and with the visitors of a day: a beacon, a refresh, a rollup; bytes in both stores.

Below HTTP, in this process, against own servers: one caller, one call at a time, so each figure is a cost and
not a throughput. The rows of a table should be alike. The rows are minutes apart and the machine's speed changes,
so each figure also stands beside a bare PING of the same moment.
"""

import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis

from footfall import sql_folder
from footfall.delivery.pending import View
from footfall.embedded.servers import servers
from footfall.http.services import Services
from footfall.process.app import open_services, open_sites
from footfall.settings.settings import Settings, Site
from footfall.stores.migrations import migrate

SITES = (1, 100, 1000)
VISITORS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
CROWD = "crowd"
"""The site that gets the visitors."""
CHANGED_SITES = 10
ROLLUPS = 7
ONLINE = 4000
"""Nearly as many beacons as may wait for one site."""
CALLS = 500
PINGS = 20
FED_AT_ONCE = 2000


async def measure(sites: Sequence[int] = SITES, visitors: Sequence[int] = VISITORS) -> dict[str, Any]:
    """Return costs in microseconds and sizes in bytes, by number of sites and by visitors of a day."""
    found: dict[str, Any] = {"by_sites": {}, "by_visitors": {}}
    with tempfile.TemporaryDirectory(prefix="footfall-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # As root, PostgreSQL runs under another account, which must pass through this folder
        async with servers(Path(name) / "data") as urls:
            await migrate(urls.postgres, sql_folder())
            for number in sites:
                settings = _settings(urls.redis, urls.postgres, Path(name), [f"s{number}-{n}" for n in range(number)])
                async with open_services(settings) as services, Redis.from_url(urls.redis) as redis:
                    await open_sites(services)
                    found["by_sites"][str(number)] = await _costs(redis, services) | await _all_change(redis, services)
            settings = _settings(urls.redis, urls.postgres, Path(name), [CROWD])
            connecting = asyncpg.create_pool(urls.postgres, min_size=0)
            async with open_services(settings) as services, Redis.from_url(urls.redis) as redis, connecting as postgres:
                await open_sites(services)
                fed = 0
                for wanted in visitors:
                    fed = await _feed(redis, services, fed, wanted)
                    costs = await _costs(redis, services)
                    found["by_visitors"][str(wanted)] = costs | await _bytes(redis, postgres, services)
                found["redis_bytes_per_1000_online"] = await _online_bytes(redis, services)
    beacons = [row["beacon_pings"] for rows in (found["by_sites"], found["by_visitors"]) for row in rows.values()]
    few, many = (found["by_sites"][str(number)]["rollup_pings_per_changed_site"] for number in sites[-2:])
    return found | {
        "beacon_spread": round(max(beacons) / min(beacons), 2),
        "rollup_growth": round(many / few, 2),
    }


async def _costs(redis: Redis, services: Services) -> dict[str, float]:
    sites = list(services.settings.sites.values())

    async def beacon(turn: int) -> None:
        await _record(services, _site(sites, turn))

    async def refresh(turn: int) -> None:
        await services.recorder.read(_site(sites, turn))

    beacon_us, beacon_pings = await _cost(beacon, redis)
    refresh_us, refresh_pings = await _cost(refresh, redis)
    rollup_us, rollup_pings = await _rollup(redis, services, CHANGED_SITES)
    return {
        "beacon_us": beacon_us,
        "beacon_pings": beacon_pings,
        "refresh_us": refresh_us,
        "refresh_pings": refresh_pings,
        "rollup_us_per_changed_site": rollup_us,
        "rollup_pings_per_changed_site": rollup_pings,
    }


async def _all_change(redis: Redis, services: Services) -> dict[str, float]:
    """Time rollups after all sites changed."""
    rollup_us, rollup_pings = await _rollup(redis, services, len(services.settings.sites))
    return {"rollup_of_all_ms_per_site": round(rollup_us / 1000, 2), "rollup_of_all_pings_per_site": rollup_pings}


async def _rollup(redis: Redis, services: Services, changing: int) -> tuple[float, float]:
    """Time rollups after so many sites changed, however many there are; per changed site.

    The quickest in microseconds, and the median in PINGs of the same moments.
    """
    await services.rollup.step()  # leaves nothing of the feeding for the rollups that are timed
    took: list[float] = []
    pings: list[float] = []
    for _ in range(ROLLUPS):
        await _change(services, changing)
        for _ in range(PINGS):
            started = time.perf_counter()
            await redis.ping()
            pings.append(time.perf_counter() - started)
        started = time.perf_counter()
        changed = len(await services.rollup.step())
        took.append((time.perf_counter() - started) / max(1, changed))
    return round(min(took) * 1e6), round(statistics.median(took) / statistics.median(pings), 2)


async def _change(services: Services, changing: int) -> None:
    sites = list(services.settings.sites.values())
    for turn in range(changing):
        await _record(services, _site(sites, turn))


async def _record(services: Services, site: Site) -> None:
    day = services.periods.now(site.zone)[1].day
    await services.recorder.record(site, day, secrets.token_bytes(16), None, View())


async def _feed(redis: Redis, services: Services, fed: int, wanted: int) -> int:
    """Add visitors to the day's and the week's sketch directly, as the record script would."""
    site = services.settings.sites[CROWD]
    _, period = services.periods.now(site.zone)
    keys = [f"ff1:{{{CROWD}}}:{part}:visitors" for part in (f"day:{period.day}", f"week:{period.week}")]
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


async def _bytes(redis: Redis, postgres: asyncpg.Pool, services: Services) -> dict[str, int]:
    """Return the sizes of one site that has had one day."""
    keys = [key.decode() async for key in redis.scan_iter(match=f"ff1:{{{CROWD}}}:*") if not key.endswith(b":online")]
    sizes = {key: int(await redis.memory_usage(key, samples=0) or 0) for key in keys}
    wal: list[int] = []
    for _ in range(ROLLUPS):
        await _change(services, CHANGED_SITES)
        before = await postgres.fetchval("SELECT pg_current_wal_insert_lsn()")
        await services.rollup.step()
        wal.append(int(await postgres.fetchval("SELECT pg_current_wal_insert_lsn() - $1::pg_lsn", before)))
    row, sketch = [
        int(await postgres.fetchval(f"SELECT pg_column_size({what}) FROM footfall.site_day WHERE site = $1", CROWD))
        for what in ("site_day.*", "sketch")
    ]
    return {
        "redis_bytes_per_site": sum(sizes.values()),
        "redis_bytes_per_day": sum(size for key, size in sizes.items() if ":day:" in key),
        "postgres_row_bytes": row,
        "postgres_old_row_bytes": row - sketch,
        "wal_bytes_per_rollup": int(statistics.median(wal)),
    }


async def _online_bytes(redis: Redis, services: Services) -> int:
    """Return Redis' memory for 1,000 visitors online."""
    site = services.settings.sites[CROWD]
    await asyncio.gather(*(_record(services, site) for _ in range(ONLINE)))
    online = int(await redis.zcard(f"ff1:{{{CROWD}}}:online"))
    size = int(await redis.memory_usage(f"ff1:{{{CROWD}}}:online", samples=0) or 0)
    return size * 1000 // online


async def _cost(call: Callable[[int], Awaitable[None]], redis: Redis) -> tuple[float, float]:
    """Return medians of some calls: in microseconds, and in PINGs sent in turn with them."""
    took, pings = [], []
    for turn in range(CALLS):
        started = time.perf_counter()
        await redis.ping()
        pings.append((between := time.perf_counter()) - started)
        await call(turn)
        took.append(time.perf_counter() - between)
    cost_s = statistics.median(took)
    return round(cost_s * 1e6), round(cost_s / statistics.median(pings), 2)


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
