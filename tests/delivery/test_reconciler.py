"""Logs, Redis and Postgres kept in step: what is durable is forgotten, what was lost is found and sent again."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from footfall import sql_folder
from footfall.delivery.pending import StoredIn
from footfall.embedded.servers import Postgres, Valkey
from footfall.http.services import Services
from footfall.model.day_state import DayState
from footfall.model.retention import Retention
from footfall.model.sketch import DENSE_BYTES, HEADER_BYTES
from footfall.model.snapshot import Snapshot
from footfall.settings.settings import Settings
from footfall.stores.migrations import migrate
from footfall.stores.postgres_store import PostgresStore, Saved, open_postgres
from footfall.stores.redis_store import day_key
from footfall.stores.spool_orphans import QUIET_S
from footfall.stores.spool_store import open_spool
from footfall.sync.rollup import FULL_EVERY_S
from tests.support.delivery import away, count, metric, open_worker, views
from tests.support.footfall import NOON, SITE, VIETNAM, FakeClock, settings_for
from tests.support.storage import (
    DAY,
    LOG,
    MONDAY,
    TODAY,
    RawRedis,
    batch,
    period_of,
    plain_redis,
    ready_site,
    reference,
    registers,
    save_one,
)

SKETCH, LOGS = day_key(SITE, TODAY, "visitors"), day_key(SITE, TODAY, "logs")
WEEK_SKETCH = f"ff1:{{{SITE}}}:week:{MONDAY}:visitors"
YESTERDAY = TODAY - DAY
LONG_AGO = 10
IMPOSSIBLE = b"HYLL" + bytes(12) + b"\xff" * (DENSE_BYTES - HEADER_BYTES)


@pytest.fixture
async def settings(redis_url: str, postgres_url: str, tmp_path: Path) -> Settings:
    """Empty stores, with the schema in place."""
    await migrate(postgres_url, sql_folder())
    return settings_for(redis_url, postgres_url, tmp_path)


async def copy_of(redis: RawRedis) -> dict[bytes, bytes]:
    """All that Redis holds now."""
    return {key: await redis.dump(key) for key in await redis.keys()}


async def put_back(redis: RawRedis, copy: dict[bytes, bytes]) -> None:
    """What a Redis does that went back to an older copy of its data."""
    await redis.flushall()
    for key, dumped in copy.items():
        await redis.restore(key, 0, dumped)


async def reconcile(services: Services) -> None:
    """One round of the background work, to its end."""
    await services.reconciler.quick_step()
    await services.copy()
    await services.recorder.settle()


async def saved(settings: Settings) -> DayState | None:
    """Today as Postgres has it."""
    async with open_postgres(settings.postgres_url.get_secret_value()) as postgres:
        return next(iter(await postgres.days(SITE, [TODAY])), None)


async def assert_even(settings: Settings, redis: RawRedis, *, views: int) -> None:
    """Both stores have the same logs and the same registers, and all the views."""
    state = await saved(settings)
    assert state is not None
    in_redis = {log.decode(): entry.decode().lstrip("0") for log, entry in (await redis.hgetall(LOGS)).items()}
    assert {log: f"{seq}:{log_views}" for log, (seq, log_views) in state.logs.items()} == in_redis
    assert registers(state.sketch) == registers(await redis.get(SKETCH))
    assert state.views == views


async def test_a_batch_is_forgotten_once_postgres_has_it(settings: Settings, redis: RawRedis) -> None:
    """Not before: until then this worker is what Redis can be filled from again."""
    async with open_worker(settings) as services:
        for visitor in range(3):
            await count(services, visitor)
        assert services.recorder.retained_bytes > 0
        await reconcile(services)
        assert services.recorder.retained_bytes == 0
        await assert_even(settings, redis, views=3)


async def test_an_emptied_redis_gets_everything_again(settings: Settings, redis: RawRedis) -> None:
    """From Postgres what was rolled up, from this worker the rest; no operator has to notice."""
    async with open_worker(settings) as services:
        await count(services, 1)
        await reconcile(services)
        await count(services, 2)
        await redis.flushall()
        await reconcile(services)
        await reconcile(services)
        await assert_even(settings, redis, views=2)


async def test_a_redis_that_went_back_gets_its_newest_beacons_again(settings: Settings, redis: RawRedis) -> None:
    """A crash with `appendfsync everysec`, or a failover to a replica that lags, costs a second or two."""
    async with open_worker(settings) as services:
        await count(services, 1)
        copy = await copy_of(redis)
        for visitor in range(2, 6):
            await count(services, visitor)
        await put_back(redis, copy)
        assert await count(services, 6) is StoredIn.REDIS
        await reconcile(services)
        await assert_even(settings, redis, views=6)


async def test_what_redis_lost_and_postgres_has_comes_back_without_a_visitor(
    settings: Settings, redis: RawRedis
) -> None:
    """On a quiet site nothing is sent that would meet the gap: the numbers would be too low for an hour."""
    async with open_worker(settings) as services:
        await count(services, 1)
        copy = await copy_of(redis)
        await count(services, 2)
        await reconcile(services)
        await put_back(redis, copy)
        await reconcile(services)
        await reconcile(services)
        await assert_even(settings, redis, views=2)


@pytest.mark.parametrize("key", [SKETCH, WEEK_SKETCH], ids=["day", "week"])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda _: b"no sketch", id="another value"),
        pytest.param(lambda sketch: sketch[:-1], id="cut short"),
        pytest.param(lambda sketch: sketch[:4] + b"\x00" + sketch[5:], id="wrong encoding"),
        pytest.param(lambda sketch: sketch + b"\x00", id="runs beyond the last register"),
    ],
)
async def test_a_sketch_that_redis_cannot_read_is_let_go_and_comes_back(
    settings: Settings, redis: RawRedis, damage: Callable[[bytes], bytes], key: str
) -> None:
    """One bad byte must not send a portal's visitors to the disk until somebody deletes a key by hand."""
    async with open_worker(settings) as services:
        await count(services, 1)
        await reconcile(services)
        await count(services, 2)
        await redis.set(key, damage(await redis.get(key)))
        await redis.set(f"ff1:{{{SITE}}}:joining", b"left by a join that failed")
        await count(services, 3)
        await reconcile(services)
        assert await count(services, 4) is StoredIn.REDIS
        await reconcile(services)
        await assert_even(settings, redis, views=4)
        await count(services, 5)
        for sketch in (SKETCH, WEEK_SKETCH):
            assert registers(await redis.get(sketch)) == await reference(redis, range(1, 6))
        assert metric(services, "footfall_damaged_sketches_total") == 1
        assert metric(services, "footfall_lost_batches_total") == 0


PREFIX = f"ff1:{{{SITE}}}:"
SALT_KEY = f"{PREFIX}salt:{MONDAY}"


async def other_type(redis: RawRedis, key: str) -> None:
    """Put a list there, which no key of ours is."""
    await redis.delete(key)
    await redis.rpush(key, "another program's")


DAMAGES: dict[str, Callable[[RawRedis], Awaitable[object]]] = {
    **{
        f"{key.removeprefix(PREFIX)}: another type": partial(other_type, key=key)
        for key in (
            SKETCH,
            LOGS,
            WEEK_SKETCH,
            SALT_KEY,
            *(PREFIX + name for name in ("ready", "online", "days", "dirty", "closed")),
        )
    },
    "days and dirty: another type": lambda redis: asyncio.gather(
        other_type(redis, f"{PREFIX}days"), other_type(redis, f"{PREFIX}dirty")
    ),
    "the day lost, its logs there": lambda redis: redis.delete(SKETCH),
    "the day lost, its logs garbage": lambda redis: asyncio.gather(redis.delete(SKETCH), other_type(redis, LOGS)),
    "the logs lost, the day there": lambda redis: redis.delete(LOGS),
    "closed: lost": lambda redis: redis.delete(f"{PREFIX}closed"),
    "closed: no number": lambda redis: redis.hset(f"{PREFIX}closed", "visitors", "many"),
    "closed: no day": lambda redis: redis.hset(f"{PREFIX}closed", "through", "tomorrow"),
    "closed: a field lost": lambda redis: redis.hdel(f"{PREFIX}closed", "read_at"),
    "days: lost": lambda redis: redis.delete(f"{PREFIX}days"),
    "days: no day": lambda redis: redis.sadd(f"{PREFIX}days", "2054-02-31", "garbage", b"\xff\x00", "20541125"),
    "dirty: no day": lambda redis: redis.hset(f"{PREFIX}dirty", "2054-11-2x", "1"),
    "dirty: a day that is not there": lambda redis: redis.hset(f"{PREFIX}dirty", str(YESTERDAY), "1"),
    "logs: garbage under an id": lambda redis: redis.hset(LOGS, LOG, "garbage"),
    "logs: an id that is none": lambda redis: redis.hset(LOGS, "no id", "1:1"),
    "salt: too short": lambda redis: redis.set(SALT_KEY, b"short"),
    "day: registers that no hash can have": lambda redis: redis.set(SKETCH, IMPOSSIBLE),
    "week: registers that no hash can have": lambda redis: redis.set(WEEK_SKETCH, IMPOSSIBLE),
}


async def garble_every_entry(redis: RawRedis) -> None:
    """What no script of ours wrote, in place of how far each log is applied."""
    for log in await redis.hkeys(LOGS):
        await redis.hset(LOGS, log, "garbage")


DAMAGES["logs: garbage in every entry"] = garble_every_entry


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("quiet", [False, True], ids=["with beacons", "quiet"])
async def test_every_damaged_key_heals_by_itself_and_loses_nothing(
    settings: Settings, redis: RawRedis, damage: Callable[[RawRedis], Awaitable[object]], quiet: bool
) -> None:
    """Everything is in Postgres and in the workers: a portal must not wait for an operator who deletes a key."""
    clock = FakeClock(NOON)
    async with open_worker(settings, clock) as services:
        await services.stores.postgres.adjust(SITE, "old", 1000, "old counter")
        await count(services, 1, days_ago=1)
        await reconcile(services)
        await count(services, 2)
        await reconcile(services)
        salt = await redis.get(SALT_KEY)
        await count(services, 3)  # Redis has it, Postgres does not yet
        await damage(redis)
        if not quiet:
            await count(services, 4)
        clock.advance(FULL_EVERY_S)
        for _ in range(3):
            await reconcile(services)
        await count(services, 5)  # of a quiet site the first beacon may be what finds the damage
        await reconcile(services)
        assert await count(services, 6) is StoredIn.REDIS
        await reconcile(services)
        visitors = {2, 3, 5, 6} | (set() if quiet else {4})
        await assert_even(settings, redis, views=len(visitors))
        assert registers(await redis.get(SKETCH)) == await reference(redis, visitors)
        reading = await services.recorder.read(services.settings.sites[SITE])
        assert (reading.today_visitors, reading.today_views) == (len(visitors), len(visitors))
        assert (reading.week_visitors, reading.week_views) == (len(visitors) + 1, len(visitors) + 1)
        assert (reading.total_visitors, reading.adjustments) == (len(visitors) + 1, 1000)
        assert await redis.get(SALT_KEY) == salt
        assert await redis.hlen(f"{PREFIX}dirty") == 0
        assert await redis.smembers(f"{PREFIX}days") == {str(YESTERDAY).encode(), str(TODAY).encode()}
        assert not services.rollup.failures.errors
        assert metric(services, "footfall_lost_batches_total") == 0
        assert metric(services, "footfall_internal_faults_total") == 0


async def test_damage_is_logged_once_with_its_keys(
    settings: Settings, redis: RawRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault that heals is still a fault of the host, or of another program in the same Redis."""
    async with open_worker(settings) as services:
        await count(services, 1)
        await other_type(redis, LOGS)
        for _ in range(4):
            await reconcile(services)
        (record,) = [record for record in caplog.records if "Keys in Redis were damaged" in record.getMessage()]
        assert LOGS in record.getMessage()
        assert metric(services, "footfall_damaged_sketches_total") == 1


async def test_only_what_is_damaged_is_let_go(own_valkey: Valkey, postgres_url: str, tmp_path: Path) -> None:
    """A Redis out of memory refuses to read sketches too: taken for damage, it would cost the whole week."""
    await migrate(postgres_url, sql_folder())
    settings = settings_for(own_valkey.url, postgres_url, tmp_path)
    async with plain_redis(own_valkey.url) as redis, open_worker(settings) as services:
        await count(services, 1)
        await redis.config_set("maxmemory", 1)
        await services.repairs.restore.mend(services.settings.sites[SITE])
        assert await redis.exists(SKETCH, WEEK_SKETCH, LOGS) == 3
        await redis.config_set("maxmemory", 0)
        await services.repairs.restore.mend(services.settings.sites[SITE])
        assert await redis.exists(SKETCH, WEEK_SKETCH, LOGS) == 3
        assert await count(services, 2) is StoredIn.REDIS


async def test_while_postgres_is_away_a_damaged_sketch_is_left_alone(
    redis_url: str, own_postgres: Postgres, tmp_path: Path
) -> None:
    """Nobody could bring its day back: the views in it must not be thrown away."""
    await migrate(own_postgres.url, sql_folder())
    settings = settings_for(redis_url, own_postgres.url, tmp_path)
    async with plain_redis(redis_url) as redis, open_worker(settings) as services:
        await count(services, 1)
        await own_postgres.stop()
        await redis.set(SKETCH, b"no sketch")
        for visitor in (2, 3):
            assert await count(services, visitor) is StoredIn.DISK
            await reconcile(services)
        assert len(await redis.hkeys(LOGS)) == 2  # a log, and the sum
        await own_postgres.start()
        for _ in range(3):
            await reconcile(services)
        await assert_even(settings, redis, views=3)
        assert registers(await redis.get(SKETCH)) == await reference(redis, range(1, 4))


async def test_two_rollups_that_commit_in_reverse_order_take_nothing_back(
    settings: Settings, redis: RawRedis, redis_url: str
) -> None:
    """A worker may stand still between its snapshot and its commit; sketches cannot be merged by Postgres."""
    postgres_url = settings.postgres_url.get_secret_value()
    async with ready_site(redis_url) as store, open_postgres(postgres_url) as postgres:

        async def look(seq: int) -> Snapshot:
            await store.record(SITE, period_of(TODAY), 300, batch(seq, [seq]))
            snapshot = await store.snapshot(SITE, [], all_days=True)
            assert snapshot is not None
            return snapshot

        older, newer = await look(1), await look(2)
        await save(postgres, newer)
        late = await save(postgres, older)
        state = await saved(settings)
        assert state is not None
        assert (state.logs, state.views) == ({LOG: (2, 2), "f": (2, 0)}, 2)
        assert registers(state.sketch) == registers(await redis.get(SKETCH))
        assert [ahead.day for ahead in late.ahead] == [TODAY]


async def save(postgres: PostgresStore, snapshot: Snapshot) -> Saved:
    """Commit a snapshot as the rollup does."""
    return await save_one(postgres, SITE, snapshot, Retention.at(NOON.timestamp(), VIETNAM))


async def test_the_spool_of_a_worker_that_is_gone_is_sent_by_another(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """A beacon that got 202 counts although its worker never came back."""
    await migrate(postgres_url, sql_folder())
    settings = settings_for(own_valkey.url, postgres_url, tmp_path)
    async with open_worker(settings) as gone:
        own_valkey.kill()
        assert [await count(gone, visitor) for visitor in range(3)] == [StoredIn.DISK] * 3
    await own_valkey.start()
    async with open_worker(settings) as services:
        await reconcile(services)
        assert await views(services) == 3
        assert metric(services, "footfall_drained_batches_total") > 0
        await reconcile(services)
        await reconcile(services)
        assert not [sender for sender in services.recorder.sites[SITE] if sender.is_closed]
    assert not list(tmp_path.rglob("*.spool"))


def damage(file: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Change a byte in each of some batches of the log that has the most."""
    with file:
        (log,) = file.execute("SELECT log FROM batch GROUP BY log ORDER BY count(*) DESC").fetchone()
        for number in numbers:
            file.execute("UPDATE batch SET views = views + 1 WHERE log = ? AND seq = ?", (log, number))


@pytest.mark.parametrize("damaged", [(2,), (4,), (3, 4), (1, 2, 3, 4)])
@pytest.mark.parametrize("adopted", [True, False], ids=["adopted", "its own"])
async def test_batches_that_were_damaged_on_the_disk_hold_up_no_other(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path, damaged: tuple[int, ...], adopted: bool
) -> None:
    """At any place in a log: it is said, the rest counts, and no log waits for them for ever."""
    await migrate(postgres_url, sql_folder())
    settings = settings_for(own_valkey.url, postgres_url, tmp_path)
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_worker(settings))
        own_valkey.kill()
        assert [await count(services, visitor) for visitor in range(5)] == [StoredIn.DISK] * 5
        await services.spool._run(lambda file: damage(file, damaged))  # noqa: SLF001
        if adopted:
            await stack.aclose()
        await own_valkey.start()
        if adopted:
            services = await stack.enter_async_context(open_worker(settings))
        for _ in range(4):
            await reconcile(services)
        await services.reconciler.quick_step()
        async with plain_redis(own_valkey.url) as redis:
            expected = await reference(redis, set(range(5)) - set(damaged))
            assert registers(await redis.get(SKETCH)) == expected
        assert metric(services, "footfall_damaged_batches_total") == len(damaged)
        assert not away(services)
        assert not [sender for sender in services.recorder.sites[SITE] if sender.is_closed]
        assert await count(services, 9) is StoredIn.REDIS
    assert not list(tmp_path.rglob("*.spool"))


async def test_a_spooled_beacon_of_a_day_that_left_redis_counts(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """A host may stand still for weeks with beacons on its disk; their day was closed long ago."""
    await migrate(postgres_url, sql_folder())
    settings = settings_for(own_valkey.url, postgres_url, tmp_path)
    async with open_worker(settings) as gone:
        own_valkey.kill()
        assert await count(gone, days_ago=LONG_AGO) is StoredIn.DISK
    await own_valkey.start()
    async with open_worker(settings) as services:
        await reconcile(services)
        await reconcile(services)
        assert not away(services)
        async with open_postgres(postgres_url) as postgres:
            (state,) = await postgres.days(SITE, [TODAY - timedelta(days=LONG_AGO)])
        assert state.views == 1


async def test_what_postgres_lacks_at_the_end_is_on_the_disk(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """The promise outlives the process: 200 counts although Redis loses its data while nobody runs."""
    settings = settings_for(own_valkey.url, postgres_url, tmp_path)
    await migrate(postgres_url, sql_folder())
    async with open_worker(settings) as stopping:
        assert await count(stopping) is StoredIn.REDIS
        own_valkey.kill()
    await own_valkey.start()
    async with plain_redis(own_valkey.url) as redis:
        await redis.flushall()
    async with open_worker(settings) as services:
        await reconcile(services)
        assert await views(services) == 1


async def test_only_what_redis_has_is_forgotten_for_room_and_the_oldest_first(settings: Settings) -> None:
    """Memory is bounded; what nobody else has is never the thing to drop."""
    small = settings.model_copy(update={"keep_max_bytes": 1200})
    clock = FakeClock(NOON)
    async with open_worker(small, clock) as services:
        for visitor in range(4):
            await count(services, visitor)
            clock.advance(1)
        await services.reconciler.quick_step()
        (sender,) = services.recorder.sites[SITE]
        assert [batch.seq for batch in sender.log.retained] == [3, 4]
        assert metric(services, "footfall_forgotten_batches_total") == 2
        assert services.recorder.retained_bytes == sum(batch.size_bytes for batch in sender.log.retained)


async def test_beacons_of_a_site_that_is_not_configured_are_kept(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A typing error in the settings must not cost what visitors were promised."""
    caplog.set_level(logging.ERROR)
    await migrate(postgres_url, sql_folder())
    settings = settings_for(own_valkey.url, postgres_url, tmp_path)
    async with open_worker(settings) as gone:
        own_valkey.kill()
        await count(gone)
    await own_valkey.start()
    other = settings_for(
        own_valkey.url, postgres_url, tmp_path, sites={"other": {"name": "Other", "hosts": ["other.example.vn"]}}
    )
    async with open_worker(other) as mistaken:
        await mistaken.reconciler.step()
    assert any("is not configured; it is kept" in line for line in caplog.messages)
    async with open_worker(settings) as services:
        await reconcile(services)
        assert await views(services) == 1


async def test_a_damaged_spool_file_stops_no_part_of_the_reconciliation(
    settings: Settings, redis: RawRedis, tmp_path: Path
) -> None:
    """One byte in a file that was left behind stopped adoption, forgetting and resending for ever, silently."""
    folder = tmp_path / "spool"
    for name, log_id in (("damaged", "d" * 16), ("whole", "e" * 16)):
        async with open_spool(folder, name, 1 << 20) as spool:
            await spool.write([batch(seq, [seq], log=log_id) for seq in (1, 2)])
    (folder / "none.spool").write_bytes(b"x" * 8192)
    with sqlite3.connect(folder / "damaged.spool") as file:
        file.execute("UPDATE batch SET site = CAST(x'ff' AS TEXT) WHERE seq = 1")
    file.close()
    clock = FakeClock(NOON)
    async with open_worker(settings, clock) as services:
        await count(services, 3)
        await reconcile(services)
        clock.advance(QUIET_S)
        await reconcile(services)
        await reconcile(services)
        await assert_even(settings, redis, views=5)
        assert registers(await redis.get(SKETCH)) == await reference(redis, (1, 2, 3))
        assert services.recorder.retained_bytes == 0
        assert metric(services, "footfall_damaged_batches_total") == 1
        assert metric(services, "footfall_damaged_spool_files_total") == 2
        assert len(services.spool.troubles) == 2
        events = await services.stores.postgres.events(SITE)
        assert [(event.kind, event.detail) for event in events] == [
            ("spool_damaged", "damaged.damaged"),
            ("batches_lost", f"{NOON.date()}: 1 of dddddddddddddddd"),
            ("spool_damaged", "none.damaged"),
        ]
