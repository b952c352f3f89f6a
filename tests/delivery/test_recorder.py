"""From a beacon to its answer, on real servers that hang, refuse, forget and come back."""

import asyncio
import logging
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from footfall import sql_folder
from footfall.delivery.pending import SITE_SHARE, StoredIn, View
from footfall.delivery.sender import GATHERED
from footfall.embedded.servers import Postgres, Valkey
from footfall.errors import Reason, Refused
from footfall.http.services import Services
from footfall.model.batch import Answer
from footfall.settings.settings import Settings
from footfall.stores.migrations import migrate
from footfall.stores.redis_store import day_key
from tests.support.delivery import away, count, metric, open_worker, views
from tests.support.footfall import SITE, FakeClock, running, settings_for
from tests.support.storage import LOG, TODAY, batch, period_of, plain_redis, ready_site

WINDOW_S = 300
LOGS = day_key(SITE, TODAY, "logs")
SKETCH = day_key(SITE, TODAY, "visitors")


@pytest.fixture
async def settings(own_valkey: Valkey, postgres_url: str, tmp_path: Path) -> Settings:
    """A Redis of one's own to hurt; its deadline is short, so that a test is."""
    await migrate(postgres_url, sql_folder())
    return settings_for(own_valkey.url, postgres_url, tmp_path, redis_timeout_s=0.2)


async def count_until_refused(services: Services) -> None:
    """Record ever more visitors, many at once."""
    for first in range(0, 20_000, 500):
        await asyncio.gather(*(count(services, visitor) for visitor in range(first, first + 500)))


async def recover(services: Services) -> None:
    """Probe, and wait for what is sent then."""
    await services.reconciler.quick_step()
    await services.recorder.settle()


async def test_a_beacon_is_answered_once_redis_has_it_and_not_before(settings: Settings, own_valkey: Valkey) -> None:
    """200 means counted: an answer before the commit would promise what a crash takes back."""
    patient = settings.model_copy(update={"redis_timeout_s": 10.0})
    async with open_worker(patient) as services:
        await count(services)
        await services.recorder.settle()
        own_valkey.suspend()
        counting = asyncio.create_task(count(services, 2))
        try:
            await asyncio.wait([counting], timeout=0.3)
            assert not counting.done()
        finally:
            own_valkey.resume()
        assert await counting is StoredIn.REDIS
        assert await views(services) == 2


async def test_a_beacon_is_online_although_the_clock_was_corrected_before_it(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """By a clock that was seven hours ahead, what comes after its correction is seven hours old, and not online."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        assert (await footfall.see(address="203.0.113.1"))["online"] == 1
        footfall.clock.set_back(7 * 3600)
        assert (await footfall.see(address="203.0.113.2"))["online"] == 2


async def test_a_batch_that_arrives_again_late_takes_nothing_back(redis_url: str) -> None:
    """The network may deliver what everybody has given up; views would fall, or count twice."""
    async with ready_site(redis_url) as store:
        for sent in (batch(1, [1]), batch(2, [2])):
            await store.record(SITE, period_of(TODAY), WINDOW_S, sent)
        again = await store.record(SITE, period_of(TODAY), WINDOW_S, batch(1, [1]))
        assert (again.answer, again.acked) == (Answer.DUP, 2)
        assert again.reading is not None
        assert again.reading.today_views == 2


async def test_a_batch_that_fails_in_the_middle_has_counted_nothing(redis_url: str) -> None:
    """A script does not roll back: what is not idempotent has to be one write, the last one."""
    async with ready_site(redis_url) as store, plain_redis(redis_url) as redis:
        online = f"ff1:{{{SITE}}}:online"
        await redis.set(online, "not a sorted set")
        now_ms = int(await store.clock_s() * 1000)
        for _ in range(2):
            with pytest.raises(Exception, match="WRONGTYPE"):
                await store.record(SITE, period_of(TODAY), WINDOW_S, batch(1, [1], seen_ms=now_ms))
        assert await redis.hget(LOGS, LOG) is None
        await redis.delete(online)
        recorded = await store.record(SITE, period_of(TODAY), WINDOW_S, batch(1, [1], seen_ms=now_ms))
        assert recorded.reading is not None
        assert recorded.reading.today_views == 1


async def test_nothing_that_counts_has_an_end_before_postgres_has_it(redis_url: str) -> None:
    """Postgres may be away for longer than any lifetime that one would choose."""
    async with ready_site(redis_url) as store, plain_redis(redis_url) as redis:
        await store.record(SITE, period_of(TODAY), WINDOW_S, batch(1, [1]))
        assert [await redis.ttl(key) for key in (SKETCH, LOGS)] == [-1, -1]


async def test_beacons_that_come_one_in_a_turn_of_the_loop_share_a_call(settings: Settings) -> None:
    """A loop accepts one new connection in a turn: their beacons would make a batch of every few.

    But those of a site that never rests must not wait for each other without end.
    """
    async with open_worker(settings) as services:
        assert await count(services) is StoredIn.REDIS
        before = metric(services, "footfall_flushes_total", answer="ok")
        counting = []
        for visitor in range(GATHERED + 10):
            counting.append(asyncio.create_task(count(services, visitor)))
            await asyncio.sleep(0)
        await asyncio.gather(*counting)
        assert metric(services, "footfall_flushes_total", answer="ok") == before + 2
        assert await views(services) == GATHERED + 11


async def test_what_a_hanging_redis_did_not_answer_counts_once(settings: Settings, own_valkey: Valkey) -> None:
    """It does the work when it wakes up, and gets it again: the number tells that it is the same."""
    async with open_worker(settings) as services:
        own_valkey.suspend()
        try:
            assert await count(services) is StoredIn.DISK
            assert await count(services, 2) is StoredIn.DISK
        finally:
            own_valkey.resume()
        await recover(services)
        assert (away(services), await views(services)) == (False, 2)
        assert await count(services, 3) is StoredIn.REDIS


async def test_a_beacon_counts_although_its_sender_has_gone(settings: Settings, own_valkey: Valkey) -> None:
    """Closing the tab cancels nothing: others share the batch."""
    async with open_worker(settings) as services:
        own_valkey.suspend()
        counting = asyncio.create_task(count(services))
        await asyncio.sleep(0)
        counting.cancel()
        own_valkey.resume()
        await services.recorder.settle()
        await recover(services)
        assert await views(services) == 1
        assert services.recorder.queued == 0


async def test_a_redis_that_can_be_read_but_not_written_is_away_until_it_takes_a_batch(
    settings: Settings, own_valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """Out of memory or a replica: believing its answers to reads, a worker would change its mind twice a second."""
    caplog.set_level(logging.INFO)
    async with plain_redis(own_valkey.url) as redis, open_worker(settings) as services:
        await count(services)
        await redis.config_set("maxmemory", 1)
        for visitor in range(5):
            assert await count(services, visitor) is StoredIn.DISK
            await recover(services)
            await services.watch_redis()
            assert away(services)
        await redis.config_set("maxmemory", 0)
        await recover(services)
        await services.watch_redis()
        assert (away(services), await views(services)) == (False, 6)
    assert sum("Redis takes" in line for line in caplog.messages) == 2


async def test_a_log_of_another_day_stops_nobody(settings: Settings, own_valkey: Valkey) -> None:
    """One damaged day of last week must not send today's visitors to the disk."""
    async with plain_redis(own_valkey.url) as redis, open_worker(settings) as services:
        await redis.set(day_key(SITE, TODAY - timedelta(days=10), "visitors"), "not a sketch")
        assert await count(services, days_ago=10) is StoredIn.DISK
        assert (away(services), await count(services)) == (False, StoredIn.REDIS)


async def test_a_log_that_only_postgres_could_help_is_set_aside(
    own_valkey: Valkey, own_postgres: Postgres, tmp_path: Path
) -> None:
    """Redis went back below what is kept, and Postgres is away for days: visitors are counted under another log."""
    await migrate(own_postgres.url, sql_folder())
    settings = settings_for(own_valkey.url, own_postgres.url, tmp_path).model_copy(update={"keep_max_bytes": 1})
    async with plain_redis(own_valkey.url) as redis, open_worker(settings) as services:
        for visitor in range(3):
            assert await count(services, visitor) is StoredIn.REDIS
        await services.reconciler.quick_step()
        assert metric(services, "footfall_forgotten_batches_total") == 3
        await redis.delete(LOGS, SKETCH)
        own_postgres.kill()
        answers = [await count(services, visitor) for visitor in range(3, 6)]
        assert (answers, away(services)) == ([StoredIn.DISK, StoredIn.REDIS, StoredIn.REDIS], False)
        await own_postgres.start()
        await services.copy()
        await services.recorder.settle()
        assert metric(services, "footfall_lost_batches_total") == 3
        assert await views(services) == 6


async def test_a_log_whose_id_somebody_else_uses_is_left(settings: Settings, own_valkey: Valkey) -> None:
    """A cloned machine goes on with the same logs: taken for duplicates, the beacons of one clone would be lost."""
    async with plain_redis(own_valkey.url) as redis, open_worker(settings) as services:
        await count(services)
        (log,) = {*await redis.hkeys(LOGS)} - {b"f"}
        await redis.hset(LOGS, mapping={log: "3:10", "f": "10:0"})
        assert await count(services, 2) is StoredIn.REDIS
        assert await views(services) == 11
        assert await count(services, 3) is StoredIn.REDIS
        assert await views(services) == 12


async def test_a_full_disk_refuses_and_promises_nothing(settings: Settings, own_valkey: Valkey) -> None:
    """Neither Redis nor the disk: the page may try again, and nothing waits for ever."""
    small = settings.model_copy(update={"spool_max_bytes": 1})
    async with open_worker(small) as services:
        own_valkey.kill()
        with pytest.raises(Refused) as refused:
            await count_until_refused(services)
        assert refused.value.reason is Reason.SPOOL_FULL
        assert all(not sender.is_done for sender in services.recorder.sites[SITE] if sender.is_closed)
        await asyncio.sleep(0)
        await services.recorder.settle()
        assert services.recorder.queued == 0


async def test_a_full_spool_is_said_once_when_it_begins_and_once_when_it_ends(
    settings: Settings, own_valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the only state that loses views: 2,702 beacons were refused without a line."""
    caplog.set_level(logging.INFO)
    clock = FakeClock()
    small = settings.model_copy(update={"spool_max_bytes": 1})
    async with open_worker(small, clock) as services:
        own_valkey.kill()
        refused = 0
        while not refused:
            results = await asyncio.gather(
                *(count(services, visitor) for visitor in range(500)), return_exceptions=True
            )
            refused = sum(isinstance(result, Refused) for result in results)
        for visitor in range(3):
            with pytest.raises(Refused):
                await count(services, visitor)
            clock.advance(60)
        await services.reconciler.quick_step()
        assert messages(caplog) == ["The spool refuses beacons, which get 503 until Redis or the disk takes them"]
        await own_valkey.start()
        await recover(services)
        await services.copy()
        await services.copy()
        await services.reconciler.quick_step()
        ended = [line for line in caplog.messages if line.startswith("The spool takes")]
        assert ended == [f"The spool takes beacons again. refused_beacons={refused + 3} refused_s=180"]
        assert metric(services, "footfall_store_up", store="spool") == 1


async def test_a_worker_that_started_on_a_full_disk_takes_beacons_once_there_is_room(
    settings: Settings, own_valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """Until a restart it refused everything while Redis was away: 244 of 972 views were lost."""
    caplog.set_level(logging.INFO)
    folder = settings.data_dir / "spool"
    folder.touch()
    clock = FakeClock()
    async with open_worker(settings, clock) as services:
        own_valkey.kill()
        with pytest.raises(Refused):
            await count(services)
        folder.unlink()
        assert await count(services, 2) is StoredIn.DISK
        clock.advance(60)
        await services.reconciler.quick_step()
        assert messages(caplog) == [
            "The spool cannot be opened: while Redis is away beacons get 503",
            "The spool refuses beacons, which get 503 until Redis or the disk takes them",
            "The spool can be opened again",
            "The spool takes beacons again",
        ]


async def test_the_size_that_is_shown_is_what_the_folder_takes(settings: Settings, own_valkey: Valkey) -> None:
    """It was 332 KB of 4.4 MB: nearly everything was in a write-ahead log, as a worker of a former version has it."""
    folder = settings.data_dir / "spool"
    async with open_worker(settings) as services:
        with closing(sqlite3.connect(folder / "former.spool")) as former:
            former.executescript("PRAGMA journal_mode = WAL; CREATE TABLE batch (visitors BLOB);")
            with former:
                former.execute("INSERT INTO batch VALUES (zeroblob(1000000))")
            own_valkey.kill()
            assert await count(services) is StoredIn.DISK
            await services.reconciler.quick_step()
            taken = {file.suffix: file.stat().st_blocks * 512 for file in folder.iterdir()}
            assert taken[".spool-wal"] > 1_000_000
            shown = metric(services, "footfall_spool_bytes")
            assert shown == sum(file.stat().st_blocks * 512 for file in folder.iterdir())


async def test_a_disk_that_takes_nothing_is_noticed_while_redis_takes_all(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The next outage of Redis would show it, with refused beacons; until then no alert could know."""
    caplog.set_level(logging.INFO)
    folder, clock = settings.data_dir / "spool", FakeClock()
    async with open_worker(settings, clock) as services:
        await services.copy()
        assert metric(services, "footfall_store_up", store="spool") == 1
        away = folder.rename(folder.with_name("away"))
        clock.advance(60)
        for _ in range(2):
            await services.copy()
        assert await count(services) is StoredIn.REDIS
        assert metric(services, "footfall_store_up", store="spool") == 0
        away.rename(folder)
        await services.copy()
        assert metric(services, "footfall_store_up", store="spool") == 1
        assert messages(caplog) == [
            "The spool takes nothing: while Redis is away, beacons would get 503",
            "The spool takes batches again",
        ]


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the first sentence of each line about the spool."""
    return [line.split(".")[0] for line in caplog.messages if line.startswith("The spool ")]


async def test_one_site_fills_at_most_its_share_of_the_queue(settings: Settings, own_valkey: Valkey) -> None:
    """A rush on one portal leaves room for the others; the excess is told at once."""
    small = settings.model_copy(update={"queue_max_beacons": 8})
    async with open_worker(small) as services:
        own_valkey.suspend()
        counting = [asyncio.create_task(count(services, visitor)) for visitor in range(8 // SITE_SHARE)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            await count(services, 99)
        own_valkey.resume()
        assert refused.value.reason is Reason.BUSY
        await asyncio.gather(*counting)
        assert await count(services, 99) is StoredIn.REDIS


async def test_a_redis_without_its_state_is_joined_before_it_counts(settings: Settings, own_valkey: Valkey) -> None:
    """Counting from zero would show a portal a total of one."""
    async with plain_redis(own_valkey.url) as redis, open_worker(settings) as services:
        await count(services)
        await services.copy()
        await redis.flushall()
        assert await count(services, 2) is StoredIn.REDIS
        assert await views(services) == 2


async def test_on_its_way_out_a_worker_answers_who_waits(settings: Settings, own_valkey: Valkey) -> None:
    """A restart while Redis hangs costs nobody an answer: it comes from the disk."""
    async with open_worker(settings) as services:
        await count(services)
        own_valkey.suspend()
        counting = asyncio.create_task(count(services, 2))
        await asyncio.sleep(0)
        await services.recorder.settle()
        own_valkey.resume()
        assert await counting is StoredIn.DISK


async def test_a_beacon_that_cannot_even_be_numbered_is_refused_and_stops_no_other(settings: Settings) -> None:
    """A defect in what calls the recorder must not leave its client without an answer, nor the next visitor."""
    async with open_worker(settings) as services:
        site = services.settings.sites[SITE]
        with pytest.raises(Refused) as refused:
            await services.recorder.record(site, TODAY, "not bytes", None, View())  # type: ignore[arg-type]
        assert refused.value.reason is Reason.INTERNAL
        assert not away(services)
        assert (await count(services), await views(services)) == (StoredIn.REDIS, 1)
        assert services.recorder.queued == 0
        assert metric(services, "footfall_internal_faults_total") == 2


async def test_a_fault_at_each_batch_is_a_line_a_minute(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """After half an upgrade each batch fails: their tracebacks filled the disk that the beacons wait on."""
    async with open_worker(settings) as services:
        site = services.settings.sites[SITE]
        for _ in range(3):
            with pytest.raises(Refused):
                await services.recorder.record(site, TODAY, "not bytes", None, View())  # type: ignore[arg-type]
        assert metric(services, "footfall_internal_faults_total") == 6
    assert [line.exc_info is not None for line in caplog.records if "A fault in Footfall" in line.message] == [True]
