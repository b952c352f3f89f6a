"""What the ids of small days and weeks cost in Redis: a site that keeps them beside one that does not, in one run.

A call of the record script, in Redis' own microseconds and in the instructions of a server under callgrind, at both
sizes: a day that keeps its ids, and one that is beyond them. Without ids (`exact_up_to = 0`) a site has sketches alone.
Beside them stands a PFADD of the same ids, as a script calls it.
"""

import itertools
import random
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from redis.asyncio import Redis

from footfall.embedded.servers import Valkey
from footfall.model.batch import BATCH_MAX_VISITORS, Batch
from footfall.model.day_state import Closed
from footfall.model.periods import Period, period_at
from footfall.model.site_id import SiteId
from footfall.model.visitor_ids import ID_BYTES
from footfall.stores.redis_store import EXACT_UP_TO, RedisStore, open_redis
from tests.bench import callgrind
from tests.bench.callgrind import instructions_in

DAYS = (63, 20_000)
"""Visitors of the days to which further ones are recorded."""
IDS = (1, 16)
KEPT = ("with", "without")
PFADD, NOTHING = "return redis.call('PFADD', KEYS[1], unpack(ARGV))", "return 1"
CALLS, WARMING = 50, 150
"""Calls with new visitors, at most 800 of them, so that a small day stays small; and reads before them.

At every fiftieth call Redis looks for garbage in Lua: that of the beginning of the day must not be among the calls.
"""
ROUNDS = 9
TIMEOUT_S = 60.0
"""Under valgrind a server is slow."""
WINDOW_S = 300
IDS_AT_ONCE = 1000


class CountedValkey(Valkey):
    """A Valkey under callgrind, which counts within script calls: from an ECHO on, up to a LOLWUT.

    So it is asked nothing from outside: that needs the permission to trace, and a server has threads that sleep.
    """

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, {"appendonly": "no"})
        self._out = self.folder / "callgrind"
        self._dumps = 0

    def _command(self) -> list[str]:
        marks = "--toggle-collect=evalShaCommand", "--zero-before=echoCommand", "--dump-before=lolwutCommand"
        return ["valgrind", "--tool=callgrind", *marks, f"--callgrind-out-file={self._out}", *super()._command()]

    async def begin(self, redis: Redis) -> None:
        """Count from now on."""
        await redis.echo("begin")

    async def end(self, redis: Redis) -> int:
        """Return the instructions since `begin`."""
        await redis.lolwut()
        self._dumps += 1
        return instructions_in(Path(f"{self._out}.{self._dumps}").read_text("utf-8"))


async def measure(
    days: Sequence[int] = DAYS, *, rounds: int = ROUNDS, exact_up_to: int = EXACT_UP_TO
) -> dict[str, Any]:
    """Return Redis' cost of a call by visitors of the day, new visitors, and whether up to `exact_up_to` ids are kept.

    `us` are its own microseconds, the least of the means of some rounds; `instructions` are None without valgrind.
    """
    kept = dict(zip(KEPT, (exact_up_to, 0), strict=True))
    with tempfile.TemporaryDirectory(prefix="footfall-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # As root, Valkey runs under another account, which must pass through this folder
        async with Valkey(folder / "timed", {"appendonly": "no"}) as valkey, opened(valkey.url) as day_of:
            us = {case: await timed_us(day_of, *case, kept, rounds) for case in itertools.product(days, IDS)}
        if not callgrind.is_installed():
            return _by_case(us, dict.fromkeys(us))
        async with CountedValkey(folder / "counted") as valkey, opened(valkey.url) as day_of:
            counts = {case: await counted(day_of, valkey, *case, kept) for case in itertools.product(days, IDS)}
    return _by_case(us, counts)


@dataclass(slots=True)
class Day:
    """A day of a site of its own."""

    store: RedisStore
    redis: Redis
    kept: int
    period: Period = field(default_factory=lambda: period_at(time.time(), ZoneInfo("Asia/Ho_Chi_Minh")))
    site: SiteId = field(default_factory=lambda: SiteId(secrets.token_hex(8)))
    seq: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(20261123))
    """The same ids on each day: whether an estimate must be worked out again depends on them."""

    async def open(self, visitors: int) -> None:
        """Begin the day with so many visitors."""
        day_before = self.period.week - timedelta(days=1)
        await self.store.open(self.site, [], Closed(1, day_before, 0, 0, 0, ""))
        for first in range(0, visitors, BATCH_MAX_VISITORS):
            await self.add(min(BATCH_MAX_VISITORS, visitors - first))

    async def add(self, visitors: int) -> None:
        """Record new visitors, all of them in one call."""
        self.seq += 1
        now_ms, ids = int(time.time() * 1000), self.dice.randbytes(ID_BYTES * visitors)
        batch = Batch(self.site, self.period.day, "a" * 16, self.seq, self.seq, now_ms, ids)
        await self.store.record(self.site, self.period, WINDOW_S, batch, exact_up_to=self.kept)

    async def add_again_and_again(self, visitors: int) -> None:
        """Make as many calls as are measured."""
        for _ in range(CALLS):
            await self.add(visitors)


class Days:
    """Makes days in one Redis."""

    def __init__(self, store: RedisStore, redis: Redis) -> None:
        self._store, self.redis = store, redis

    async def __call__(self, visitors: int, kept: int) -> Day:
        """Return a day with so many visitors, whose numbers have been read."""
        day = Day(self._store, self.redis, kept)
        await day.open(visitors)
        for _ in range(WARMING):
            await self._store.record(day.site, day.period, WINDOW_S, exact_up_to=kept)
        return day


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Days]:
    """Open one Redis for days."""
    async with open_redis(url, TIMEOUT_S) as store, Redis.from_url(url) as redis:
        store.installation = "bench"
        yield Days(store, redis)


async def timed_us(day_of: Days, visitors: int, ids: int, kept: Mapping[str, int], rounds: int) -> dict[str, float]:
    """Return Redis' own microseconds for a call, with ids and without, in turn."""
    found: dict[str, list[float]] = {name: [] for name in kept}
    for _ in range(rounds):
        for name, most in kept.items():
            day = await day_of(visitors, most)
            before = await _script_us(day_of.redis)
            await day.add_again_and_again(ids)
            found[name].append((await _script_us(day_of.redis) - before) / CALLS)
    return {name: round(min(us), 1) for name, us in found.items()}


async def counted(
    day_of: Days, valkey: CountedValkey, visitors: int, ids: int, kept: Mapping[str, int]
) -> dict[str, int]:
    """Return Redis' instructions for a call, with ids and without, and for a PFADD of as many."""
    found: dict[str, int] = {}
    for name, most in kept.items():
        day = await day_of(visitors, most)
        await valkey.begin(day_of.redis)
        await day.add_again_and_again(ids)
        found[name] = round(await valkey.end(day_of.redis) / CALLS)
    adding, nothing = [await _of_script(day_of.redis, valkey, source, visitors, ids) for source in (PFADD, NOTHING)]
    return found | {"pfadd": adding - nothing}


async def _of_script(redis: Redis, valkey: CountedValkey, source: str, visitors: int, ids: int) -> int:
    """Return the instructions of a script that gets new ids and a sketch of so many."""
    sketch, digest, dice = secrets.token_hex(8), await redis.script_load(source), random.Random(20261123)

    def some(number: int) -> list[bytes]:
        return [dice.randbytes(ID_BYTES) for _ in range(number)]

    for _ in range(0, visitors, IDS_AT_ONCE):
        await redis.pfadd(sketch, *some(min(visitors, IDS_AT_ONCE)))
    await valkey.begin(redis)
    for _ in range(CALLS):
        await redis.evalsha(digest, 1, sketch, *some(ids))
    return round(await valkey.end(redis) / CALLS)


async def _script_us(redis: Redis) -> int:
    stats: int = (await redis.info("commandstats"))["cmdstat_evalsha"]["usec"]
    return stats


def _by_case(us: dict[tuple[int, int], Any], counts: dict[tuple[int, int], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for (day, ids), timed in us.items():
        found.setdefault(str(day), {})[str(ids)] = {"us": timed, "instructions": counts[day, ids]}
    return found
