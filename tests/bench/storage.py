"""What a site takes in both stores at the turns of its size, and what a day of many pages takes.

Below HTTP, in this process, against own servers. The visitors come through the recorder, as those of beacons do: days
of at most 4,096 visitors keep their ids beside their sketch, and weeks of at most 8,192.
"""

import asyncio
import random
import secrets
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis

from footfall import sql_folder
from footfall.delivery.pending import View
from footfall.embedded.servers import ServerUrls, servers
from footfall.http.services import Services
from footfall.process.app import open_services, open_sites
from footfall.settings.settings import Site
from footfall.stores.migrations import migrate
from tests.bench.quiet import settings_of

VISITORS = (63, 495, 4_096, 4_097)
"""A day and a week of a small portal, and both sides of the turn from ids to the sketch alone."""
PORTAL, PAGES, PAGES_ASKED = "portal", 10_000, 50
CHANGES = (0, 100, 1_000)
"""Pages that change before each rollup."""
ROLLUPS = 6
"""As many as come in a minute."""
READS, PINGS = 200, 20
AT_ONCE = 2_000
"""Fewer beacons than may wait for one site."""
TABLES = ("site_day", "site_week", "page_day", "page_month", "page_total")


@asynccontextmanager
async def opened(sites: Sequence[str]) -> AsyncIterator["Stores"]:
    """Start both stores on an empty folder and open `sites` in them."""
    with tempfile.TemporaryDirectory(prefix="footfall-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # As root, PostgreSQL runs under another account, which must pass through this folder
        async with servers(folder / "data") as urls:
            await migrate(urls.postgres, sql_folder())
            settings = settings_of(urls.redis, urls.postgres, folder / "worker", list(sites))
            pool = asyncpg.create_pool(urls.postgres, min_size=0)
            async with open_services(settings) as services, Redis.from_url(urls.redis) as redis, pool as postgres:
                await open_sites(services)
                yield Stores(redis, postgres, services, urls)


async def measure(visitors: Sequence[int] = VISITORS, pages: int = PAGES) -> dict[str, Any]:
    """Return bytes by visitors of a day, and what a site with `pages` takes."""
    by_size = {number: f"of-{number}" for number in visitors}
    async with opened([PORTAL, *by_size.values()]) as stores:
        return {
            "by_visitors": {str(number): await stores.site_bytes(site, number) for number, site in by_size.items()},
            "pages": await stores.many_pages(pages),
        }


@dataclass(frozen=True, slots=True)
class Stores:
    """Both stores, and the parts of a worker on them."""

    redis: Redis
    postgres: asyncpg.Pool
    services: Services
    urls: ServerUrls

    async def site_bytes(self, name: str, visitors: int) -> dict[str, int]:
        """Return what a site takes after a first day with so many visitors, who are all online still."""
        await self.view_pages(name, [""] * visitors)
        await self.services.rollup.step()
        sizes = await self.redis_bytes(name)
        return {
            "redis": sum(sizes.values()),
            "redis_online": sum(size for key, size in sizes.items() if key.endswith(":online")),
            "redis_ids": sum(size for key, size in sizes.items() if key.endswith(":ids")),
            "postgres": await self.row_bytes(name),
        }

    async def many_pages(self, pages: int) -> dict[str, Any]:
        """Return what a site takes and costs of which every page had a view today."""
        names = [f"/tin-tuc/{number}" for number in range(pages)]
        await self.view_pages(PORTAL, names)
        pings, wal_bytes = await self._rollup([])
        sizes = await self.redis_bytes(PORTAL)
        found: dict[str, Any] = {
            "redis": sum(sizes.values()),
            "redis_pages": sum(size for key, size in sizes.items() if ":pages" in key),
            "first_rollup_pings": round(pings, 1),
            "first_rollup_wal": wal_bytes,
            "postgres": await self.row_bytes(PORTAL),
            "by_changes": {},
        }
        for changes in CHANGES:
            rollups = [await self._rollup(_some(names, changes, turn)) for turn in range(ROLLUPS)]
            found["by_changes"][str(changes)] = {
                "rollup_pings": round(min(pings for pings, _ in rollups), 1),
                "wal_per_minute": sum(wal for _, wal in rollups),
            }
        return found | {"read_ratio": await self._read_ratio(names[:PAGES_ASKED])}

    async def _rollup(self, viewed: Sequence[str]) -> tuple[float, int]:
        """View pages and roll up; return the rollup's time in bare round trips of that moment, and its WAL in bytes."""
        await self.view_pages(PORTAL, viewed or [""])
        ping_s = await _median_s(self.redis.ping, PINGS)
        before = await self.postgres.fetchval("SELECT pg_current_wal_insert_lsn()")
        took_s = await _median_s(self.services.rollup.step, 1)
        wal = await self.postgres.fetchval("SELECT pg_current_wal_insert_lsn() - $1::pg_lsn", before)
        return took_s / ping_s, int(wal)

    async def _read_ratio(self, pages: Sequence[str]) -> float:
        """Return the time of reading pages by that of reading the site's numbers, in turn; both are one round trip."""
        site, recorder = self._site(PORTAL), self.services.recorder
        await self.services.page_views.views(site, pages)  # from here on Redis remembers what Postgres has of them
        numbers_s: list[float] = []
        pages_s: list[float] = []
        for _ in range(READS):
            numbers_s.append(await _median_s(lambda: recorder.read(site), 1))
            pages_s.append(await _median_s(lambda: recorder.read_pages(site, pages), 1))
        return round(statistics.median(pages_s) / statistics.median(numbers_s), 2)

    async def view(self, name: str, visitors: int) -> None:
        """Record one view by each of so many new visitors, with its id, as fast as the queue of a site takes them."""
        site = self._site(name)
        day = self.services.periods.now(site.zone)[1].day
        for first in range(0, visitors, AT_ONCE):
            await asyncio.gather(
                *(
                    self.services.recorder.record(
                        site, day, secrets.token_bytes(16), None, View(id=secrets.token_bytes(8))
                    )
                    for _ in range(min(AT_ONCE, visitors - first))
                )
            )

    async def view_pages(self, name: str, pages: Sequence[str]) -> None:
        """Record one view of each page ("" for none), each by a visitor of its own."""
        site = self._site(name)
        day = self.services.periods.now(site.zone)[1].day
        dice = random.Random(f"{name} {pages[:1]}")  # the same in each run, and so are the estimates of the sketches

        async def record(page: str) -> None:
            await self.services.recorder.record(site, day, dice.randbytes(16), None, View(page))

        for first in range(0, len(pages), AT_ONCE):
            await asyncio.gather(*map(record, pages[first : first + AT_ONCE]))

    async def redis_bytes(self, name: str) -> dict[str, int]:
        """Return the bytes of each key of a site."""
        keys = [key.decode() async for key in self.redis.scan_iter(match=f"ff1:{{{name}}}:*", count=1000)]
        return {key: int(await self.redis.memory_usage(key, samples=0) or 0) for key in keys}

    async def row_bytes(self, name: str) -> int:
        """Return the bytes of all rows of a site, without their indexes."""
        queries = [
            f"SELECT pg_column_size(one.*) AS bytes FROM footfall.{table} AS one WHERE site = $1" for table in TABLES
        ]
        return int(await self.postgres.fetchval(f"SELECT sum(bytes) FROM ({' UNION ALL '.join(queries)})", name))

    def _site(self, name: str) -> Site:
        return next(site for site in self.services.settings.sites.values() if site.id == name)


async def _median_s(call: Callable[[], Awaitable[object]], times: int) -> float:
    took: list[float] = []
    for _ in range(times):
        started = time.perf_counter()
        await call()
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def _some(names: Sequence[str], number: int, turn: int) -> Sequence[str]:
    """Return some of the names, other ones each turn while there are enough.

    >>> _some("abcde", 2, 3)
    'cd'
    """
    first = turn * number % max(1, len(names) - number + 1)
    return names[first : first + number]
