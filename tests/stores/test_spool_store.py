"""Batches on the disk: synced before the answer, adopted by the next worker, within bounds, never discarded."""

import asyncio
import logging
import multiprocessing
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping
from itertools import count
from pathlib import Path

import pytest

from footfall.errors import StoreUnavailable
from footfall.model.batch import Batch
from footfall.stores.spool_orphans import QUIET_S, SpooledLog
from footfall.stores.spool_salvage import PAGE_BYTES
from footfall.stores.spool_store import Spool, open_spool
from tests.support.footfall import SITE, FakeClock
from tests.support.former_spool import former_files
from tests.support.storage import LOG, OTHER_LOG, TODAY, batch

SMALL_BYTES = 256 * 1024


@pytest.fixture
def clock() -> FakeClock:
    """Return the clock of `spool`."""
    return FakeClock()


@pytest.fixture
async def spool(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Spool]:
    """An empty spool in a folder of its own."""
    async with open_spool(tmp_path, "mine", SMALL_BYTES, clock.monotonic) as spool:
        yield spool


async def adopt_later(spool: Spool, clock: FakeClock) -> list[SpooledLog]:
    """Adopt the files that have not changed for a while, as the step of the background work does in the end."""
    adopted = await spool.adopt()
    clock.advance(QUIET_S)
    return adopted + await spool.adopt()


def write_and_die(folder: Path, batches: list[Batch]) -> None:
    """Write as a worker whose machine gives it no time to close its file."""

    async def write() -> None:
        spool = Spool(folder, "dead", SMALL_BYTES)
        spool.open()
        await spool.write(batches)
        os._exit(9)

    asyncio.run(write())


def leave_behind(folder: Path, batches: list[Batch]) -> None:
    """Leave the file of a worker that died in another process."""
    child = multiprocessing.get_context("spawn").Process(target=write_and_die, args=(folder, batches))
    child.start()
    child.join(30)
    assert child.exitcode == 9


async def fill(spool: Spool, log: str = LOG) -> int:
    """Write until the spool refuses; return the last seq that it took."""
    for seq in count(1):
        try:
            await spool.write([batch(seq, range(seq * 100, seq * 100 + 100), log=log)])
        except StoreUnavailable:
            return seq - 1
    raise AssertionError


async def test_batches_are_read_in_order(spool: Spool) -> None:
    """A batch is read as it was written: same bytes, same seq."""
    batches = [batch(seq, [seq, seq + 1], views=2**53 - 9 + seq, previous_week=[7]) for seq in range(1, 8)]
    await spool.write(batches[4:])
    await spool.write(batches[:4])
    await spool.write([batch(1, log=OTHER_LOG)])
    assert await spool.read(LOG, 0, 100) == batches
    assert await spool.read(LOG, 2, 3) == batches[2:5]
    assert await spool.read("unknown", 0, 100) == []


async def test_the_same_seq_again_changes_nothing(spool: Spool) -> None:
    """A worker writes a batch when Redis does not answer, and again at exit."""
    await spool.write([batch(1, [1])])
    await spool.write([batch(1, [1]), batch(2)])
    assert [batch.seq for batch in await spool.read(LOG, 0, 9)] == [1, 2]


async def test_a_batch_survives_the_sudden_end_of_its_worker(tmp_path: Path, spool: Spool) -> None:
    """202 means that the batch is on the disk. Another process adopts the file."""
    batches = [batch(seq, range(50), views=10 * seq) for seq in (4, 5, 6)]
    leave_behind(tmp_path, [*batches, batch(1, log=OTHER_LOG)])
    adopted = await spool.adopt()
    assert sorted(adopted, key=lambda log: log.log_id) == [
        SpooledLog(SITE, TODAY, LOG, 6, 60),
        SpooledLog(SITE, TODAY, OTHER_LOG, 1, 1),
    ]
    assert await spool.read(LOG, 0, 9) == batches
    assert {path.name for path in tmp_path.iterdir()} <= {"lock", "mine.spool", "mine.spool-journal"}
    assert await spool.adopt() == []


async def test_a_write_is_synced_before_it_is_answered(spool: Spool) -> None:
    """A batch must survive a crash of the whole machine; by default SQLite may be built to sync less.

    And it must be in the file itself: a log beside the file would end at its first damaged byte.
    """
    file = spool._file  # noqa: SLF001
    assert file is not None
    pragmas = [file.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode", "locking_mode")]
    assert pragmas == [2, "persist", "exclusive"]


async def test_the_file_of_a_living_worker_is_left_alone(tmp_path: Path, spool: Spool) -> None:
    """A worker locks its file while it lives; only a file without a lock is an orphan."""
    async with open_spool(tmp_path, "other", SMALL_BYTES) as other:
        await other.write([batch(1)])
        assert await spool.adopt() == []
        await other.write([batch(2)])
        assert len(await other.read(LOG, 0, 9)) == 2
    assert [log.last_seq for log in await spool.adopt()] == [2]


async def test_many_adopters_and_starters_lose_nothing(tmp_path: Path) -> None:
    """Workers start together and each looks for orphans: one worker adopts a file, and none adopts a new one."""
    for name in range(6):
        async with open_spool(tmp_path, f"ended{name}", SMALL_BYTES) as ended:
            await ended.write([batch(1, log=f"{name:016}")])
    spools = [Spool(tmp_path, f"new{number}", SMALL_BYTES) for number in range(4)]

    async def start(spool: Spool) -> list[SpooledLog]:
        await asyncio.to_thread(spool.open)
        await spool.write([batch(1, log=f"own{spool._path.stem}")])  # noqa: SLF001
        return [log for _ in range(5) for log in await spool.adopt()]

    adopted = [log.log_id for logs in await asyncio.gather(*map(start, spools)) for log in logs]
    assert sorted(adopted) == [f"{name:016}" for name in range(6)]
    for spool in spools:
        assert spool._path.exists()  # noqa: SLF001
        await spool.close()


async def test_the_folder_is_measured_with_all_that_takes_disk(tmp_path: Path) -> None:
    """The number said 332 KB of 4.4 MB: it left out the journal, other workers' files and those kept damaged."""
    (tmp_path / "old.damaged").write_bytes(bytes(300_000))
    async with open_spool(tmp_path, "one", SMALL_BYTES) as one, open_spool(tmp_path, "two", SMALL_BYTES) as two:
        for spool in (one, two):
            await spool.write([batch(1, range(100), log=f"own{spool._path.stem}")])  # noqa: SLF001
        await one.adopt()
        on_disk = {path.name: path.lstat().st_blocks * 512 for path in tmp_path.iterdir()}
        assert {Path(name).suffix for name in on_disk} >= {".damaged", ".spool", ".spool-journal"}
        assert one.folder_bytes == sum(on_disk.values())
        assert 0 < one.used_ratio < 1


async def test_a_full_spool_refuses_until_batches_are_deleted(spool: Spool) -> None:
    """Other services share the disk. A full spool means 503, and its batches stay."""
    last = await fill(spool)
    assert last > 50
    assert SMALL_BYTES - 2 * PAGE_BYTES < spool.used_bytes <= SMALL_BYTES
    assert (await spool.read(LOG, last - 1, 9))[0].seq == last
    with pytest.raises(StoreUnavailable, match="spool"):
        await spool.write([batch(last + 1, range(100))])
    await spool.delete(LOG, last // 2)
    assert not spool.full
    await spool.write([batch(last + 1, range(100))])
    assert [batch.seq for batch in await spool.read(LOG, 0, 1)] == [last // 2 + 1]


async def test_a_full_orphan_is_adopted_all_the_same(tmp_path: Path, spool: Spool) -> None:
    """Its beacons were acked with 202: if its size prevented its adoption, they would never count."""
    async with open_spool(tmp_path, "full", SMALL_BYTES) as full:
        last = await fill(full, OTHER_LOG)
    await spool.write([batch(1)])
    assert [(log.log_id, log.last_seq) for log in await spool.adopt()] == [(OTHER_LOG, last)]
    assert len(await spool.read(OTHER_LOG, 0, last + 1)) == last
    assert spool.full
    with pytest.raises(StoreUnavailable):
        await spool.write([batch(2)])
    await spool.delete(OTHER_LOG, last)
    await spool.write([batch(2)])


@pytest.mark.parametrize("damage", ["no database", "torn page"])
async def test_a_damaged_file_is_kept_aside_and_reported_once(
    tmp_path: Path, spool: Spool, clock: FakeClock, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator may still read beacons out of it; the other files must not wait for that."""
    async with open_spool(tmp_path, "bad", SMALL_BYTES) as bad:
        await fill(bad)
    async with open_spool(tmp_path, "good", SMALL_BYTES) as good:
        await good.write([batch(1, log=OTHER_LOG)])
    path = tmp_path / "bad.spool"
    content = path.read_bytes()
    path.write_bytes(b"x" * 8192 if damage == "no database" else content[:4096] + b"\xff" * (len(content) - 4096))
    left = path.read_bytes()
    caplog.set_level(logging.ERROR)
    assert [log.log_id for log in await spool.adopt()] == [OTHER_LOG]
    assert caplog.records == []
    assert "may still be being copied" in spool.troubles[0]
    assert await adopt_later(spool, clock) == []
    assert await spool.adopt() == []
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "A spool file was damaged or incomplete"
    ]
    assert (tmp_path / "bad.damaged").read_bytes() == left
    assert not path.exists()
    assert [file.kept_as for file in spool.take_damaged_files()] == ["bad.damaged"]
    assert "bad.damaged was damaged and is kept" in spool.troubles[0]
    (tmp_path / "bad.damaged").unlink()
    await spool.adopt()
    assert spool.troubles == ()


COLUMNS = ("site", "day", "log", "seq", "views", "seen_ms", "visitors", "gone", "beacons", "checksum")
"""Their names stay, because a worker adopts files of former versions."""


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("adopted", [True, False])
async def test_a_damaged_batch_is_dropped_and_the_others_stay(
    tmp_path: Path, column: str, adopted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A flipped bit may leave SQLite's structure whole: sent, such a batch would count visitors who never came."""
    batches = [batch(seq, range(seq), previous_week=[seq]) for seq in range(1, 6)]
    async with open_spool(tmp_path, "damaged", SMALL_BYTES) as spool:
        await spool.write(batches)
    value = "'2001-13-77'" if column == "day" else "x'00'" if column in ("visitors", "gone") else "1000000"
    with sqlite3.connect(tmp_path / "damaged.spool") as file:
        file.execute(f"UPDATE batch SET {column} = {value} WHERE seq = 3")
    file.close()
    name = "mine" if adopted else "damaged"
    async with open_spool(tmp_path, name, SMALL_BYTES) as spool:
        if adopted:
            assert await spool.adopt() == [SpooledLog(SITE, TODAY, LOG, 5, 5)]
        assert await spool.read(LOG, 0, 2) == batches[:2]
        last = await spool.read(LOG, 2, 1) + await spool.read(LOG, 4, 9)
        assert last == batches[3:]
        # A row whose log id is damaged is found only by the worker that adopts the file.
        assert spool.take_damaged() == (column != "log" or adopted)
        assert spool.take_damaged() == 0
    assert len(caplog.records) == (column != "log" or adopted)


async def test_a_file_whose_worker_died_at_its_start_is_removed(tmp_path: Path, spool: Spool, clock: FakeClock) -> None:
    """It has no table yet, and no batches; but a copy that has just begun is empty too."""
    (tmp_path / "newborn.spool").touch()
    assert await spool.adopt() == []
    assert (tmp_path / "newborn.spool").exists()
    assert await adopt_later(spool, clock) == []
    assert not (tmp_path / "newborn.spool").exists()


async def test_an_empty_file_is_removed_at_the_end(tmp_path: Path) -> None:
    """Each start makes a file; a healthy service leaves none behind."""
    async with open_spool(tmp_path, "mine", SMALL_BYTES) as spool:
        await spool.write([batch(1)])
        await spool.delete(LOG, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


async def test_a_file_with_batches_stays_at_the_end(tmp_path: Path) -> None:
    """The next worker sends what Postgres lacks."""
    async with open_spool(tmp_path, "mine", SMALL_BYTES) as spool:
        await spool.write([batch(1)])
    with sqlite3.connect(tmp_path / "mine.spool") as file:
        assert file.execute("SELECT log, seq FROM batch").fetchall() == [(LOG, 1)]
    file.close()


async def test_the_check_writes_to_the_disk(tmp_path: Path, spool: Spool) -> None:
    """`/readyz` promises that a beacon can be stored: a check that only reads would promise it on a full disk."""
    before = (tmp_path / "mine.spool").stat()
    await spool.check()
    after = (tmp_path / "mine.spool").stat()
    assert after.st_mtime_ns > before.st_mtime_ns


async def test_a_worker_starts_also_where_the_disk_refuses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a spool a worker counts while Redis answers; one log line says what it cannot do."""
    (tmp_path / "file").touch()
    async with open_spool(tmp_path / "file" / "spool", "mine", SMALL_BYTES) as spool:
        for refused in (spool.write([batch(1)]), spool.check(), spool.adopt(), spool.read(LOG, 0, 1)):
            with pytest.raises(StoreUnavailable, match="spool"):
                await refused
    assert len(caplog.records) == 1


async def test_a_worker_that_started_on_a_full_disk_recovers_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Room comes back hours later; until somebody restarts the worker, an outage of Redis would mean 503."""
    caplog.set_level(logging.INFO)
    folder = tmp_path / "spool"
    folder.touch()
    async with open_spool(folder, "mine", SMALL_BYTES) as spool:
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await spool.write([batch(1)])
        folder.unlink()
        await spool.write([batch(1)])
        assert await spool.read(LOG, 0, 9) == [batch(1)]
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def flipped(content: bytes, at: int) -> bytes:
    """Return a copy with one damaged byte."""
    return content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :]


def put(folder: Path, files: Mapping[str, bytes], name: str = "former") -> None:
    """Write the files of a worker that has ended."""
    for ending, content in files.items():
        (folder / f"{name}{ending}").write_bytes(content)


MANY = [batch(seq, range(seq % 7 * 40), previous_week=[seq]) for seq in range(1, 41)]
"""Some small ones, and some whose visitors need pages of their own."""


async def test_a_file_of_a_former_version_is_adopted(tmp_path: Path, spool: Spool, clock: FakeClock) -> None:
    """An upgrade must not cost what the version before it promised; nearly all of it is in the log beside the file."""
    files = former_files(tmp_path, MANY)
    assert len(files[".spool"]) == PAGE_BYTES
    put(tmp_path, files)
    assert await spool.adopt() == []
    assert await adopt_later(spool, clock) == [SpooledLog(SITE, TODAY, LOG, 40, 40)]
    assert await spool.read(LOG, 0, 99) == MANY
    assert {path.name for path in tmp_path.iterdir()} <= {"lock", "mine.spool", "mine.spool-journal"}
    assert spool.take_damaged_files() == []


async def test_one_damaged_byte_in_a_log_of_a_former_version_costs_one_batch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite reads such a log only up to its first damaged byte: at 2 % of the file, 0 of 40 batches survived."""
    caplog.set_level(logging.ERROR)
    files = former_files(tmp_path, MANY)
    wal = files[".spool-wal"]
    places = [(len(wal) - 1) * part // 39 for part in range(40)]
    for number, at in enumerate(places):
        folder, clock = tmp_path / str(number), FakeClock()
        folder.mkdir()
        put(folder, {**files, ".spool-wal": flipped(wal, at)})
        async with open_spool(folder, "mine", 1 << 20, clock.monotonic) as spool:
            await adopt_later(spool, clock)
            read = await spool.read(LOG, 0, 99)
            assert len(read) >= len(MANY) - 1, at
            assert set(read) <= set(MANY)
            assert [file.kept_as for file in spool.take_damaged_files()] == ["former.damaged"]
        assert flipped(wal, at) == (folder / "former.damaged-wal").read_bytes()
    assert len(caplog.records) == len(places)


async def test_a_file_that_came_without_its_log_is_noticed(
    tmp_path: Path, spool: Spool, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Adopted as empty and removed, it took 478 acked views with it."""
    files = former_files(tmp_path, MANY)
    put(tmp_path, {".spool": files[".spool"]})
    assert await adopt_later(spool, clock) == []
    assert [file.kept_as for file in spool.take_damaged_files()] == ["former.damaged"]
    assert (tmp_path / "former.damaged").read_bytes() == files[".spool"]
    assert "-wal file is missing" in caplog.text


async def test_one_damaged_byte_in_a_file_costs_one_batch_and_never_silently(tmp_path: Path) -> None:
    """A byte in a page's head hides all its rows from SQLite; they are whole all the same."""
    (tmp_path / "whole").mkdir()
    leave_behind(tmp_path / "whole", MANY)
    content = (tmp_path / "whole" / "dead.spool").read_bytes()
    heads = [page + at for page in range(0, len(content), PAGE_BYTES) for at in (0, 4, 9, 30)]
    for number, at in enumerate([16, 18, 19, 20, 28, 52, *heads, *range(17, len(content), len(content) // 40)]):
        folder, clock = tmp_path / str(number), FakeClock()
        folder.mkdir()
        put(folder, {".spool": flipped(content, at)})
        async with open_spool(folder, "mine", 1 << 20, clock.monotonic) as spool:
            await adopt_later(spool, clock)
            read = await spool.read(LOG, 0, 99)
            assert len(read) >= len(MANY) - 1, at
            assert set(read) <= set(MANY)
            is_aside = (folder / "former.damaged").exists()
            assert is_aside or len(read) == len(MANY), at
            assert len(spool.take_damaged_files()) == is_aside


async def test_a_file_that_is_still_being_copied_is_left_alone_until_it_is_whole(
    tmp_path: Path, spool: Spool, clock: FakeClock
) -> None:
    """Half a file that is adopted and removed takes the other half with it."""
    (tmp_path / "host").mkdir()
    leave_behind(tmp_path / "host", MANY)
    content = (tmp_path / "host" / "dead.spool").read_bytes()
    for part in range(12):
        put(tmp_path, {".spool": content[: len(content) * part // 12]})
        assert await spool.adopt() == []
        clock.advance(QUIET_S - 1)
    put(tmp_path, {".spool": content})
    assert [log.last_seq for log in await spool.adopt()] == [40]
    assert await spool.read(LOG, 0, 99) == MANY
    assert spool.take_damaged_files() == []


async def test_a_log_that_is_copied_after_its_file_is_waited_for(
    tmp_path: Path, spool: Spool, clock: FakeClock
) -> None:
    """`cp` takes the file first, and the log beside it, which has nearly everything, second."""
    files = former_files(tmp_path, MANY)
    wal = files[".spool-wal"]
    for part in range(12):
        put(tmp_path, {".spool": files[".spool"], ".spool-wal": wal[: len(wal) * part // 12]})
        assert await spool.adopt() == []
        clock.advance(QUIET_S - 1)
    put(tmp_path, files)
    assert [log.last_seq for log in await adopt_later(spool, clock)] == [40]
    assert await spool.read(LOG, 0, 99) == MANY


@pytest.mark.parametrize("lost", [1, 17, 40])
async def test_a_file_that_lacks_what_it_should_hold_is_noticed(
    tmp_path: Path, spool: Spool, clock: FakeClock, lost: int
) -> None:
    """Whatever took the rows away, and although all that is left is sound."""
    async with open_spool(tmp_path, "bad", 1 << 20) as bad:
        await bad.write([batch(seq) for seq in range(1, 41)])
    with sqlite3.connect(tmp_path / "bad.spool") as file:
        file.execute("DROP TRIGGER batch_dropped")
        file.execute("DELETE FROM batch WHERE seq <= ?", (lost,))
        file.commit()
        file.execute("VACUUM")
    file.close()
    await adopt_later(spool, clock)
    assert len(await spool.read(LOG, 0, 99)) == 40 - lost
    assert spool.take_damaged() == lost
    assert len(spool.take_damaged_files()) == 1


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("CAST(x'ff' AS TEXT)", id="no text"),
        pytest.param("'2026-02-30'", id="no day"),
        pytest.param("x'00ff'", id="bytes"),
        pytest.param("-1", id="a number"),
    ],
)
@pytest.mark.parametrize("column", ["site", "day", "log"])
async def test_no_damage_of_one_file_stops_the_adoption_of_others(
    tmp_path: Path, spool: Spool, clock: FakeClock, column: str, damage: str
) -> None:
    """An error that sqlite3 raises itself has no code, and one of its users raises another kind."""
    async with open_spool(tmp_path, "bad", SMALL_BYTES) as bad:
        await bad.write([batch(1), batch(2)])
    async with open_spool(tmp_path, "good", SMALL_BYTES) as good:
        await good.write([batch(1, log=OTHER_LOG)])
    with sqlite3.connect(tmp_path / "bad.spool") as file:
        file.execute(f"UPDATE batch SET {column} = {damage} WHERE seq = 1")
    file.close()
    adopted = await adopt_later(spool, clock)
    assert {log.log_id: log.last_seq for log in adopted} == {LOG: 2, OTHER_LOG: 1}
    assert spool.take_damaged() == 1


async def test_a_worker_whose_own_file_is_damaged_begins_another(
    tmp_path: Path, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    """It may run for weeks; until its next start neither old nor new beacons could be stored or sent."""
    await spool.write([batch(seq, range(100)) for seq in range(1, 31)])
    file = spool._file  # noqa: SLF001
    assert file is not None
    content = (tmp_path / "mine.spool").read_bytes()
    file.execute("PRAGMA cache_size = 0")
    with (tmp_path / "mine.spool").open("r+b") as raw:
        for page in range(1, len(content) // PAGE_BYTES):
            raw.seek(page * PAGE_BYTES)
            raw.write(b"\x77")
    file.execute("PRAGMA shrink_memory")
    with pytest.raises(StoreUnavailable):
        await spool.read(LOG, 0, 99)
    await spool.write([batch(31)])
    assert len(await spool.read(LOG, 0, 99)) >= 29
    assert (tmp_path / "mine.damaged").exists()
    assert len(caplog.records) == 1


async def test_a_spool_that_was_closed_stays_closed(tmp_path: Path) -> None:
    """A late call at the end of a worker must not open its file again, nor be a fault of its own."""
    async with open_spool(tmp_path, "mine", SMALL_BYTES) as spool:
        await spool.write([batch(1)])
    for late in (spool.write([batch(2)]), spool.read(LOG, 0, 9), spool.adopt(), spool.delete(LOG, 1)):
        with pytest.raises(StoreUnavailable, match="spool: is closed"):
            await late
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "mine.spool"]
