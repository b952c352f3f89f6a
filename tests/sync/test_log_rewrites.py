"""Redis' append-only file: what was counted and deleted does not stay readable in it for longer than a day."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from footfall.embedded.servers import Valkey
from footfall.metrics.metrics import Metrics
from footfall.model.availability import UP, Away, Up
from footfall.model.day_state import Closed
from footfall.model.periods import Period
from footfall.settings.settings import Site
from footfall.stores.redis_store import RedisStore, open_redis
from footfall.sync.log_rewrites import LOOK_EVERY_S, OVERDUE_S, LogRewrites
from tests.support.footfall import NOON, SITE, VIETNAM, FakeClock
from tests.support.storage import TIMEOUT_S, TODAY, batch, packed, period_of, plain_redis, ready_site

DUE = timedelta(hours=2, minutes=30)
"""After midnight: by then the rewrite of a day was due."""
PORTAL: dict[str, Any] = {"id": SITE, "name": "Portal", "hosts": ["portal.example.vn"]}


class Asker:
    """One worker's rewrites, and its clock."""

    def __init__(self, redis: RedisStore, **site: Any) -> None:
        self.redis = redis
        self.clock = FakeClock(NOON)
        self.metrics = Metrics(CollectorRegistry())
        self.rewrites = LogRewrites([Site(**PORTAL | site)], redis, self.metrics, self.clock)

    async def look(self) -> None:
        """Step when the next look is due."""
        self.clock.advance(LOOK_EVERY_S)
        await self.rewrites.step()

    async def finish(self) -> None:
        """Wait for the rewrite that runs, and look."""
        while (await self.redis.facts())[0].aof_rewriting:  # noqa: ASYNC110 (Redis has no event for it)
            await asyncio.sleep(0.01)
        await self.look()

    async def rewrite(self) -> None:
        """Ask, and see the end."""
        await self.look()
        await self.finish()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def asker(own_valkey: Valkey, stack: AsyncExitStack) -> Asker:
    """A worker on a Redis of its own, with an append-only file."""
    return Asker(await stack.enter_async_context(ready_site(own_valkey.url)))


async def asked(valkey: Valkey) -> int:
    """How often Redis was asked for a rewrite."""
    async with plain_redis(valkey.url) as redis:
        statistics = await redis.info("commandstats")
    return int(statistics.get("cmdstat_bgrewriteaof", {"calls": 0})["calls"])


def is_in_files(folder: Path, value: bytes) -> bool:
    return any(value in path.read_bytes() for path in (folder / "valkey").rglob("*") if path.is_file())


async def test_visitor_ids_leave_the_file_with_the_rewrite_of_the_night(own_folder: Path, asker: Asker) -> None:
    """The file has each id that a sketch was fed, beside the salt: who has both can test whether a person was there."""
    period: Period = period_of(TODAY)
    await asker.rewrite()
    await asker.redis.record(SITE, period, 300, batch(visitors=[0xFEED_FACE_CAFE_BEEF << 32]), exact_up_to=0)
    visitor = packed([0xFEED_FACE_CAFE_BEEF << 32])
    assert is_in_files(own_folder, visitor)
    await asker.look()
    assert is_in_files(own_folder, visitor)
    asker.clock.set(datetime.combine(TODAY + timedelta(days=1), datetime.min.time(), VIETNAM) + DUE)
    await asker.rewrite()
    assert not is_in_files(own_folder, visitor)


async def test_the_ids_of_a_small_day_leave_the_file_once_its_salt_has_ended(own_folder: Path, asker: Asker) -> None:
    """They stand in a set until then, so that its size is the number of visitors."""
    visitor = packed([0xFEED_FACE_CAFE_BEEF << 32])
    await asker.redis.record(SITE, period_of(TODAY), 300, batch(visitors=[0xFEED_FACE_CAFE_BEEF << 32]))
    asker.clock.set(datetime.combine(TODAY + timedelta(days=1), datetime.min.time(), VIETNAM) + DUE)
    await asker.rewrite()
    assert is_in_files(own_folder, visitor)
    snapshot = await asker.redis.snapshot(SITE, [], all_days=True)
    assert snapshot is not None
    await asker.redis.confirm(SITE, snapshot.changes, Closed(2, TODAY, 1, 1, 0, "", today=TODAY), {TODAY: 1})
    asker.clock.advance(86400)
    await asker.rewrite()
    assert not is_in_files(own_folder, visitor)


async def test_a_rewrite_is_due_once_a_day_after_salts_end(own_valkey: Valkey, asker: Asker) -> None:
    """On a Monday night that is also after the end of the last week's salt."""
    await asker.rewrite()
    assert await asked(own_valkey) == 1
    for day in range(1, 9):
        midnight = datetime.combine(TODAY + timedelta(days=day), datetime.min.time(), VIETNAM)
        for late in (timedelta(0), timedelta(hours=2), timedelta(hours=2, minutes=9)):
            asker.clock.set(midnight + late)
            await asker.rewrite()
        assert await asked(own_valkey) == day
        asker.clock.set(midnight + DUE)
        await asker.rewrite()
        await asker.rewrite()
        assert await asked(own_valkey) == day + 1


async def test_one_worker_of_many_asks(own_valkey: Valkey, asker: Asker, stack: AsyncExitStack) -> None:
    """Each rewrite forks Redis and writes all of it to the disk."""
    others = [Asker(await stack.enter_async_context(open_redis(own_valkey.url, TIMEOUT_S))) for _ in range(3)]
    await asyncio.gather(*(worker.look() for worker in (asker, *others)))
    for worker in (asker, *others):
        await worker.finish()
    for worker in (asker, *others):
        await worker.look()
        assert worker.rewrites.state is UP
    assert await asked(own_valkey) == 1


async def test_the_age_is_known_to_every_worker(asker: Asker) -> None:
    """Doctor and the metric show it; INFO does not have it."""
    asked_at_s = asker.clock() + LOOK_EVERY_S
    await asker.rewrite()
    assert await asker.redis.rewritten_at_s() == int(asked_at_s)
    assert asker.metrics.registry.get_sample_value("footfall_redis_log_rewritten_timestamp_seconds") == int(asked_at_s)


@pytest.mark.parametrize("value", [b"soon", b"99999999999", None], ids=["garbage", "from the future", "a list"])
async def test_a_damaged_record_is_written_again(own_valkey: Valkey, asker: Asker, value: bytes | None) -> None:
    """Nothing in Redis may stop the rewrites: no clock that was ahead, no key of a wrong type."""
    async with plain_redis(own_valkey.url) as redis:
        await (redis.lpush("ff1:rewritten", 1) if value is None else redis.set("ff1:rewritten", value))
    await asker.rewrite()
    assert await asked(own_valkey) == 1
    assert 0 < await asker.redis.rewritten_at_s() <= asker.clock()


async def test_a_clock_that_was_ahead_does_not_stop_the_looks(own_valkey: Valkey, asker: Asker) -> None:
    """Else no rewrite would be asked for until the calendar catches up."""
    asker.clock.set(NOON + timedelta(days=40))
    await asker.rewrite()
    asker.clock.set(NOON)
    await asker.rewrite()
    assert await asked(own_valkey) == 2


async def test_without_an_append_only_file_nothing_is_asked(own_valkey: Valkey, asker: Asker) -> None:
    """A provider may keep none, and a rewrite would write one."""
    async with plain_redis(own_valkey.url) as redis:
        await redis.config_set("appendonly", "no")
    await asker.rewrite()
    assert await asked(own_valkey) == 0
    assert asker.rewrites.state is UP
    assert asker.metrics.registry.get_sample_value("footfall_redis_log_rewritten_timestamp_seconds") == asker.clock()


async def test_a_provider_that_forbids_it_is_reported_until_it_allows_it(
    own_valkey: Valkey, stack: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    """The ids stay readable meanwhile, and only an operator can change that."""
    caplog.set_level(logging.INFO)
    redis = await stack.enter_async_context(plain_redis(own_valkey.url))
    await redis.execute_command("ACL", "SETUSER", "kept", "on", ">secret", "~*", "+@all", "-bgrewriteaof")
    url = f"unix://kept:secret@{own_valkey.socket}"
    asker = Asker(await stack.enter_async_context(open_redis(url, TIMEOUT_S)))
    for _ in range(3):
        await asker.look()
    why = asker.rewrites.state.why if isinstance(asker.rewrites.state, Away) else ""
    assert "NoPermission" in why
    await redis.execute_command("ACL", "SETUSER", "kept", "+bgrewriteaof")
    await redis.delete("ff1:rewriting")
    await asker.rewrite()
    assert isinstance(asker.rewrites.state, Up)
    lines = [record.getMessage() for record in caplog.records if record.name == "footfall.sync.log_rewrites"]
    assert [line.partition(":")[0].partition(",")[0] for line in lines] == [
        "Redis does not rewrite its append-only file",
        "Redis rewrites its append-only file again.",
    ]


async def test_a_worker_reports_what_another_worker_did_not_achieve(own_valkey: Valkey, asker: Asker) -> None:
    """The worker that asked may be another than the one that answers /readyz."""
    async with plain_redis(own_valkey.url) as redis:
        await redis.set("ff1:rewriting", 1)
    states = []
    for wait_s in (0, OVERDUE_S):
        asker.clock.advance(wait_s)
        await asker.look()
        states.append(type(asker.rewrites.state))
    assert states == [Up, Away]


async def test_each_time_zone_of_the_sites_has_its_moment(asker: Asker) -> None:
    """The salt of a site ends by its own midnight."""
    zones = {"a": "Asia/Ho_Chi_Minh", "b": "Europe/Berlin", "c": "Asia/Ho_Chi_Minh"}
    sites = [Site(**PORTAL | {"id": name, "time_zone": zone}) for name, zone in zones.items()]
    rewrites = LogRewrites(sites, asker.redis, asker.metrics, asker.clock)
    midnight = datetime.combine(TODAY, datetime.min.time(), VIETNAM).timestamp()
    moments = {rewrites.due_s(midnight + 3600 * hour) - midnight for hour in range(3, 24)}
    assert len(moments) == 2
    early, late = sorted(moments)
    assert 2 * 3600 + 600 <= early < 2.5 * 3600
    assert late - early == 6 * 3600
