"""Both stores opened without a service around them, batches to put into them, and a look at what they hold."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from footfall import sql_folder
from footfall.metrics.metrics import Metrics
from footfall.model.batch import Batch
from footfall.model.counts import Reading
from footfall.model.day_state import Closed
from footfall.model.periods import Period, period_at, start_of
from footfall.model.retention import Retention
from footfall.model.site_id import SiteId
from footfall.model.sketch import HEADER_BYTES
from footfall.model.snapshot import SiteCopy, Snapshot
from footfall.settings.settings import Settings, Site
from footfall.stores.migrations import migrate
from footfall.stores.postgres_store import PostgresStore, Saved, open_postgres
from footfall.stores.redis_store import Recorded, RedisStore, day_key, open_redis
from footfall.stores.store_pair import StorePair
from footfall.sync.changed_sites import ChangedSites
from footfall.sync.event_book import EventBook
from footfall.sync.group_rollup import RolledUp
from footfall.sync.repairs import Repairs
from footfall.sync.restore import Restore
from footfall.sync.rollup import Rollup
from footfall.sync.salts import Salts
from footfall.sync.site_opener import SiteOpener
from tests.support.footfall import NOON, SITE, VIETNAM, FakeClock, settings_for

TODAY = NOON.date()
"""A Wednesday; the clock of the tests starts at its noon."""
DAY = timedelta(days=1)
TOMORROW = TODAY + DAY
MONDAY = TODAY - 2 * DAY
LOG = "a" * 16
OTHER_LOG = "b" * 16
TIMEOUT_S = 5.0
RawRedis = Any
"""A plain client; its own types say bytes or str of every answer, whatever it decodes."""


def packed(visitors: Iterable[int]) -> bytes:
    """Visitor ids as a batch carries them, 16 bytes each.

    >>> len(packed([1, 2, 3]))
    48
    """
    return b"".join(visitor.to_bytes(16, "big") for visitor in visitors)


def batch(  # noqa: PLR0913 - a builder: each field of a batch by its name
    seq: int = 1,
    visitors: Iterable[int] = (),
    *,
    day: date = TODAY,
    log: str = LOG,
    views: int | None = None,
    seen_ms: int = 0,
    previous_week: Iterable[int] = (),
) -> Batch:
    """The batch `seq` of a log that brings one view each time, long ago for those who look at `online`."""
    return Batch(SITE, day, log, seq, seq if views is None else views, seen_ms, packed(visitors), packed(previous_week))


async def save_one(postgres: PostgresStore, site_id: SiteId, snapshot: Snapshot, retention: Retention) -> Saved:
    """Save the copy of one site, as a group of one."""
    return (await postgres.save([SiteCopy(site_id, snapshot, retention)]))[site_id]


def period_of(day: date) -> Period:
    """The period of a day in the zone of the tests."""
    return period_at(start_of(day, VIETNAM), VIETNAM)


@asynccontextmanager
async def ready_site(redis_url: str) -> AsyncIterator[RedisStore]:
    """Redis alone, with a site that is ready; the days before its week are closed."""
    async with open_redis(redis_url, TIMEOUT_S) as store:
        store.installation = "ours"
        await store.open(SITE, [], Closed(1, MONDAY - DAY, 0, 0, 0, "first"))
        yield store


def plain_redis(url: str) -> RawRedis:
    """A client to look at Redis with, and to break it."""
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0))


def registers(sketch: bytes | None) -> bytes:
    """What a sketch has seen, without the count that it remembers."""
    assert sketch is not None
    return sketch[HEADER_BYTES:]


async def everything_in(redis: RawRedis) -> dict[bytes, bytes]:
    """All keys with their content, to see that nothing was written."""
    return {key: await redis.dump(key) for key in await redis.keys()}


async def reference(redis: RawRedis, visitors: Iterable[int]) -> bytes:
    """The registers of a sketch that saw exactly these visitors."""
    await redis.delete("reference")
    await redis.pfadd("reference", *(packed([visitor]) for visitor in visitors))
    sketch: bytes = await redis.getdel("reference")
    return registers(sketch)


@dataclass(frozen=True, slots=True)
class Worker:
    """The part of a worker that this suite is about: its salts and its rollup, over stores of its own."""

    site: Site
    redis: RedisStore
    postgres: PostgresStore
    salts: Salts
    opener: SiteOpener
    restore: Restore
    changed: ChangedSites
    rollup: Rollup
    metrics: Metrics
    clock: FakeClock

    async def send(self, counted: Batch | None = None) -> Recorded:
        """Send a batch as the recorder does, in the period that the clock says."""
        period = period_at(self.clock(), self.site.zone)
        return await self.redis.record(self.site.id, period, self.site.online_window_s, counted)

    async def count(self, counted: Batch | None = None) -> Reading:
        """Send a batch that must be counted, and return the numbers."""
        recorded = await self.send(counted)
        assert recorded.reading is not None, recorded
        return recorded.reading

    async def roll_up_all_days(self) -> RolledUp:
        """Roll up every day of the site, as the hourly rollup does."""
        return await self.rollup.roll_up(self.site, all_days=True)

    def metric(self, name: str, **labels: str) -> float:
        """Read one sample; 0 where nothing has happened yet."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@dataclass(frozen=True, slots=True)
class Stores:
    """Two stores that any number of workers share, and a plain client for each."""

    redis_url: str
    postgres_url: str
    redis: RawRedis
    sql: asyncpg.Connection
    clock: FakeClock
    stack: AsyncExitStack

    async def worker(
        self,
        clock: FakeClock | None = None,
        *,
        sites: Iterable[str] = (SITE,),
        time_zone: str = VIETNAM.key,
        every_s: float = 0.0,
    ) -> Worker:
        """One more worker, that knows nothing yet; the first of its sites is the one that it counts.

        With an interval `every_s` it leaves to the others what they rolled up a moment ago.
        """
        portals = {site: {"name": site, "hosts": [f"{site}.example.vn"], "time_zone": time_zone} for site in sites}
        settings: Settings = settings_for(self.redis_url, self.postgres_url, Path(), sites=portals)
        redis = await self.stack.enter_async_context(open_redis(self.redis_url, TIMEOUT_S))
        postgres = await self.stack.enter_async_context(open_postgres(self.postgres_url))
        metrics = Metrics(CollectorRegistry())
        clock = clock or self.clock
        pair, changed, salts = StorePair(redis, postgres), ChangedSites(), Salts()
        events = EventBook(postgres, metrics, clock)
        restore = Restore(pair, changed, events, metrics, clock)
        opener = SiteOpener(pair, restore, salts, events, metrics, clock)
        repairs = Repairs(opener, restore, changed, events)
        rollup = Rollup(settings.sites.values(), pair, repairs, metrics, clock, every_s)
        first = next(iter(settings.sites.values()))
        return Worker(first, redis, postgres, salts, opener, restore, changed, rollup, metrics, clock)

    async def row(self, day: date = TODAY) -> asyncpg.Record:
        """What Postgres has of a day, with `xmin`: the transaction that wrote it."""
        row = await self.sql.fetchrow(
            "SELECT *, xmin::text::bigint AS written_by FROM footfall.site_day WHERE day = $1", day
        )
        assert row is not None
        return row

    async def salts(self) -> dict[date, bytes]:
        """The salts that Postgres has, by week."""
        return {row["week"]: row["key"] for row in await self.sql.fetch("SELECT week, key FROM footfall.salt")}

    async def sketch(self, day: date = TODAY) -> bytes:
        """The registers that Redis has of a day."""
        return registers(await self.redis.get(day_key(SITE, day, "visitors")))

    async def logs(self, day: date = TODAY) -> dict[bytes, bytes]:
        """The logs that Redis has of a day, without their marks and their sum."""
        return {log_id: entry for log_id, entry in (await self.entries(day)).items() if log_id != b"f"}

    async def entries(self, day: date = TODAY) -> dict[bytes, bytes]:
        """The logs that Redis has of a day with their sum, without their marks."""
        logs: dict[bytes, bytes] = await self.redis.hgetall(day_key(SITE, day, "logs"))
        return {log_id: entry.lstrip(b"0") for log_id, entry in logs.items()}

    async def agree(self, *days: date) -> bool:
        """Whether both stores hold the same of each day, byte by byte."""
        for day in days:
            row = await self.row(day)
            sums = await self.sql.fetchval(
                "SELECT jsonb_object_agg(key, (value ->> 0) || ':' || (value ->> 1))::text"
                " FROM footfall.site_day, jsonb_each(logs) WHERE day = $1",
                day,
            )
            in_order = sorted((await self.entries(day)).items(), key=lambda log: (len(log[0]), log[0]))  # as in jsonb
            flat = ", ".join(f'"{k.decode()}": "{v.decode()}"' for k, v in in_order)
            if registers(row["sketch"]) != await self.sketch(day) or sums != f"{{{flat}}}":
                return False
        return True


@asynccontextmanager
async def open_stores(redis_url: str, postgres_url: str, at: datetime = NOON) -> AsyncIterator[Stores]:
    """Migrate, and hand out the stores."""
    await migrate(postgres_url, sql_folder())
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(plain_redis(redis_url))
        sql = await asyncpg.connect(postgres_url)
        stack.push_async_callback(sql.close)
        yield Stores(redis_url, postgres_url, redis, sql, FakeClock(at), stack)
