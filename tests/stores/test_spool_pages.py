"""Views of pages on the disk: apart from the batches, in two tables, so that a damaged byte costs none of them."""

import logging
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from footfall.model.batch import Batch
from footfall.model.batch_log import BatchLog
from footfall.model.pages import unpacked
from footfall.stores.spool_orphans import QUIET_S
from footfall.stores.spool_salvage import PAGE_BYTES
from footfall.stores.spool_store import Spool, open_spool
from tests.support.footfall import SITE, FakeClock
from tests.support.former_spool import without_second_table
from tests.support.storage import LOG, OTHER_LOG, TODAY, packed

SPOOL_BYTES = 1 << 22
SINGLE_LOG = "c" * 16
"""Its only batch is all that says of which site and day its pages are."""
RANDOM_FLIPS = 100


@dataclass(frozen=True, slots=True)
class Written:
    """A spool file as a worker left it, and what it holds."""

    content: bytes
    batches: Sequence[Batch]

    def pages_of(self, *logs: str) -> Counter[str]:
        """The views of each page that these logs brought."""
        so_far: dict[tuple[str, str], int] = {}
        for batch in self.batches:
            if batch.log_id in logs:
                so_far |= {(batch.log_id, page): views for page, views in unpacked(batch.pages).items()}
        views = Counter[str]()
        for (_, page), found in so_far.items():
            views[page] += found
        return views


def batches_of(chance: random.Random, log_id: str, number: int) -> list[Batch]:
    """Batches as a worker makes them: cumulative, few pages often and many once, some without a visitor."""
    log = BatchLog(SITE, TODAY, log_id)
    made = []
    for at in range(number):
        pages = Counter(f"/tin/{int(chance.paretovariate(0.7)) % 300}" for _ in range(chance.randint(0, 12)))
        visitors = packed(range(at * 100, at * 100 + chance.choice((0, 1, 40))))
        made.append(log.append(pages.total(), visitors, b"", 0, pages.total(), pages))
    return made


@pytest.fixture
async def written(tmp_path: Path) -> Written:
    """Two logs of many batches, and one of a single batch."""
    chance, folder = random.Random(7), tmp_path / "written"
    batches = [*batches_of(chance, LOG, 60), *batches_of(chance, OTHER_LOG, 40)]
    single = BatchLog(SITE, TODAY, SINGLE_LOG).append(2, packed([1]), b"", 0, 2, {"/tin/1": 1, "/only": 1})
    chance.shuffle(batches)
    async with open_spool(folder, "left", SPOOL_BYTES) as spool:
        for at in range(0, len(batches), 5):
            await spool.write(sorted(batches[at : at + 5], key=lambda batch: batch.seq))
        await spool.write([single])
    in_order = sorted([*batches, single], key=lambda batch: (batch.log_id, batch.seq))
    return Written((folder / "left.spool").read_bytes(), in_order)


def places_of(content: bytes, chance: random.Random) -> list[int]:
    """The first bytes of the file and of each of its parts, which hold its structure, and many others."""
    heads = [first + at for first in range(0, len(content), PAGE_BYTES) for at in (0, 4, 5, 9, 12)]
    return [*range(16, 100, 4), *heads, *(chance.randrange(len(content)) for _ in range(RANDOM_FLIPS))]


@asynccontextmanager
async def unsynced_spool(folder: Path, clock: FakeClock) -> AsyncIterator[Spool]:
    """A spool that takes many damaged files over, one after the other: it need not wait for the disk."""
    async with open_spool(folder, "mine", SPOOL_BYTES, clock.monotonic) as spool:
        own_file(spool).execute("PRAGMA synchronous = OFF")
        yield spool


def put(folder: Path, content: bytes, at: int | None, chance: random.Random) -> None:
    """Leave a file in which one bit has flipped; None for none."""
    damaged = bytearray(content)
    if at is not None:
        damaged[at] ^= 1 << chance.randrange(8)
    (folder / "left.spool").write_bytes(damaged)


async def clear(spool: Spool, folder: Path) -> None:
    """Leave nothing for the next file."""
    for log in (LOG, OTHER_LOG, SINGLE_LOG):
        await spool.delete(log, 1000)
    spool.take_damaged(), spool.take_damaged_files(), spool.take_lost_page_views()
    for path in folder.glob("left.*"):
        path.unlink()


async def taken_over(spool: Spool, clock: FakeClock) -> list[Batch]:
    """Adopt what lies in the folder, in the end, and read all of it as a sender does."""
    adopted = await spool.adopt()
    clock.advance(QUIET_S)
    adopted += await spool.adopt()
    found: list[Batch] = []
    for log in sorted({log.log_id for log in adopted}):
        after = 0
        while some := await spool.read(log, after, 16):
            found += some
            after = some[-1].seq
    return found


def views_of(batches: Sequence[Batch]) -> Counter[str]:
    """The views of each page once Redis has these batches: the highest number of each log."""
    highest: dict[tuple[str, str], int] = {}
    for batch in batches:
        for page, views in unpacked(batch.pages).items():
            highest[batch.log_id, page] = max(views, highest.get((batch.log_id, page), 0))
    total = Counter[str]()
    for (_, page), views in highest.items():
        total[page] += views
    return total


async def test_a_damaged_byte_costs_no_view_of_a_page_but_with_the_only_batch_of_its_log(
    written: Written, tmp_path: Path
) -> None:
    """A byte in the structure hid all rows of the pages, and the file's views of pages were lost without a word."""
    chance, clock, wrong = random.Random(11), FakeClock(), []
    async with unsynced_spool(tmp_path / "spool", clock) as spool:
        for at in places_of(written.content, chance):
            put(tmp_path / "spool", written.content, at, chance)
            found = await taken_over(spool, clock)
            lost_batches = len(written.batches) - len(found)
            logs = {batch.log_id for batch in found}
            lost_views = written.pages_of(LOG, OTHER_LOG, SINGLE_LOG) - views_of(found)
            is_right = (
                lost_batches <= 1
                and {LOG, OTHER_LOG} <= logs
                and views_of(found) == written.pages_of(*logs)
                and spool.take_lost_page_views() == lost_views.total()
                and (not lost_batches or spool.take_damaged() == lost_batches)
                and (not lost_batches or len(spool.take_damaged_files()) == 1)
            )
            if not is_right:
                wrong.append((at, lost_batches, lost_views.total()))
            await clear(spool, tmp_path / "spool")
    assert wrong == []


async def test_a_file_of_the_version_before_loses_no_view_of_a_page_in_silence(
    written: Written, tmp_path: Path
) -> None:
    """It has the pages in one table, and does not say how many views they should have."""
    chance, clock, wrong = random.Random(13), FakeClock(), []
    former = without_second_table(written.content, tmp_path / "former.spool")
    async with unsynced_spool(tmp_path / "spool", clock) as spool:
        for at in [None, *places_of(former, chance)]:
            put(tmp_path / "spool", former, at, chance)
            found = await taken_over(spool, clock)
            lost_views = written.pages_of(LOG, OTHER_LOG, SINGLE_LOG) - views_of(found)
            is_whole = not lost_views and len(found) == len(written.batches)
            is_aside = len(spool.take_damaged_files()) == 1
            # One row: a page of one log, or the batch that is all of a log.
            lost_most = 1 if SINGLE_LOG in {batch.log_id for batch in found} else 2
            if not (is_whole or (is_aside and len(lost_views) <= lost_most)) or (at is None and is_aside):
                wrong.append((at, len(written.batches) - len(found), lost_views))
            await clear(spool, tmp_path / "spool")
    assert wrong == []


@pytest.mark.parametrize("table", ["page", "page_copy"])
@pytest.mark.parametrize("damage", ["views = views + 200", "views = 0", "page = page || 'x'", "log = 'other'"])
async def test_a_damaged_row_is_mended_from_the_other_table(
    tmp_path: Path, table: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In the file of a worker that runs, too; the log says once that the disk is damaged."""
    async with open_spool(tmp_path, "mine", SPOOL_BYTES) as spool:
        log = BatchLog(SITE, TODAY, LOG)
        await spool.write([log.append(3, packed([1]), b"", 0, 3, {"/a": 2, "/b": 1}) for _ in range(3)])
        with own_file(spool) as file:
            file.execute("DROP TRIGGER page_raised")
            file.execute(f"UPDATE {table} SET {damage} WHERE page = '/a'")
        for _ in range(2):
            assert views_of(await spool.read(LOG, 0, 9)) == Counter({"/a": 6, "/b": 3})
        assert spool.take_lost_page_views() == 0
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_views_of_a_page_that_are_damaged_in_both_tables_are_lost_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only what both copies lost is lost; the number is what an operator may give back."""
    async with open_spool(tmp_path, "mine", SPOOL_BYTES) as spool:
        log = BatchLog(SITE, TODAY, LOG)
        await spool.write([log.append(3, packed([1]), b"", 0, 3, {"/a": 2, "/b": 1}) for _ in range(3)])
        with own_file(spool) as file:
            file.execute("DROP TRIGGER page_raised")
            for table in ("page", "page_copy"):
                file.execute(f"UPDATE {table} SET checksum = checksum + 1 WHERE page = '/a'")
        for _ in range(2):
            assert views_of(await spool.read(LOG, 0, 9)) == Counter({"/b": 3})
        assert (spool.take_lost_page_views(), spool.take_lost_page_views()) == (6, 0)
        assert "page_views_lost=6" in caplog.text
        # The next view of the page brings all of them back.
        await spool.write([log.append(1, packed([1]), b"", 0, 1, {"/a": 1})])
        assert views_of(await spool.read(LOG, 0, 9)) == Counter({"/a": 7, "/b": 3})


async def test_pages_that_a_file_lacks_in_both_tables_are_lost_and_counted(tmp_path: Path) -> None:
    """Whatever took them away, and although all that is left is sound."""
    log, clock = BatchLog(SITE, TODAY, LOG), FakeClock()
    async with open_spool(tmp_path, "left", SPOOL_BYTES) as left:
        await left.write([log.append(2, packed([1]), b"", 0, 2, {f"/{at}": 1, "/a": 1}) for at in range(9)])
    with closing(sqlite3.connect(tmp_path / "left.spool")) as file, file:
        file.executescript("DROP TRIGGER page_dropped; DELETE FROM page WHERE page = '/a';")
        file.executescript("DELETE FROM page_copy WHERE page = '/a'; VACUUM;")
    async with open_spool(tmp_path, "mine", SPOOL_BYTES, clock.monotonic) as spool:
        assert len(await taken_over(spool, clock)) == 9
        assert spool.take_lost_page_views() == 9
        assert len(spool.take_damaged_files()) == 1


async def test_the_first_and_the_last_batch_of_a_read_carry_the_pages(tmp_path: Path) -> None:
    """A worker may die after the first, and the last may be damaged: then its log has sent all pages already."""
    log = BatchLog(SITE, TODAY, LOG)
    async with open_spool(tmp_path, "mine", SPOOL_BYTES) as spool:
        await spool.write([log.append(1, packed([at]), b"", 0, 1, {f"/{at}": 1}) for at in range(4)])
        expected = {f"/{at}": 1 for at in range(4)}
        found = await spool.read(LOG, 0, 3)
        assert [unpacked(batch.pages) for batch in found] == [expected, {}, expected]
        assert [unpacked(batch.pages) for batch in await spool.read(LOG, 3, 3)] == [expected]


async def test_a_batch_that_memory_forgot_comes_back_from_the_disk_with_its_pages(tmp_path: Path) -> None:
    """The disk may have later ones too, which memory still has: those are not taken from there."""
    log = BatchLog(SITE, TODAY, LOG)
    async with open_spool(tmp_path, "mine", SPOOL_BYTES) as spool:
        batches = [log.append(1, packed([at]), b"", 0, 1, {f"/{at}": 1}) for at in range(3)]
        await spool.write(batches)
        log.retain(batches[2])
        log.retain_again(await spool.read(LOG, 0, 9))
        assert [batch.seq for batch in log.retained] == [1, 2, 3]
        assert views_of(list(log.retained)) == Counter({"/0": 1, "/1": 1, "/2": 1})


def own_file(spool: Spool) -> sqlite3.Connection:
    """The file that a spool has open, as damage finds it."""
    file = spool._file  # noqa: SLF001
    assert file is not None
    return file
