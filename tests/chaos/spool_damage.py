"""F36: one bit flips in each spool file that killed workers left behind."""

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from footfall.delivery.reconciler import SPOOL_DAMAGED
from footfall.model.batch import Batch
from footfall.model.periods import week_of
from footfall.stores.spool_file import COMPANIONS, SET_ASIDE, SUFFIX, batch_of, beside, locked, remove, sound_rows
from footfall.stores.spool_pages import examine_pages
from tests.chaos.equality import id_of, unequal
from tests.chaos.ledger import Outcome
from tests.chaos.redis_faults import wait_until_counted
from tests.chaos.relay import answer_instead
from tests.chaos.signs import Metric, Signs, expect_named, expect_silent, some
from tests.chaos.stage import Stage
from tests.chaos.traffic import SITES
from tests.chaos.waiting import until

TAKEN_OVER_MAX_S = 60
"""A file whose structure is broken may still be being copied: workers leave it alone for 30 seconds."""
REST_MAX_S = 40
ROLLUP_S = 6
VISITOR_BYTES = 16
KEPT = Signs(
    "ERROR .*A spool file was damaged or incomplete",
    "was damaged and is kept",
    Metric("footfall_damaged_spool_files_total", some, is_counter=True),
)


@dataclass(frozen=True, slots=True)
class LeftFile:
    """A file that a killed worker left, and its batches before the damage."""

    path: Path
    batches: Sequence[Batch]
    pages: Mapping[str, Mapping[str, int]]
    """By log, the views of each page so far."""

    @property
    def last_batches(self) -> list[Batch]:
        """Return the last batch of each log: it has all views of its log so far."""
        return list({batch.log_id: batch for batch in self.batches}.values())

    def pages_without(self, lost: Batch) -> Mapping[str, int]:
        """Return the views of pages that are lost with a batch: none where another batch of its log brings them."""
        others = [batch for batch in self.batches if batch.log_id == lost.log_id and batch != lost]
        return {} if others else self.pages.get(lost.log_id, {})


async def flip_bits(stage: Stage) -> None:
    """Flip a bit in each left file: it may cost the batch that it stands in, and nothing else.

    A lost batch lacks its visitors, its own views if it is the last of its log, and those of its pages if it is all
    that the file has of its log. No loss is silent: the log, a metric and an event name it, and the file is kept, which
    /readyz names until somebody removes it.
    """
    for host in stage.hosts:
        host.redis.requests = answer_instead(b"LOADING the dataset is being read into memory")
    await stage.pause(2, 3)
    async with stage.without_traffic():
        files = await _damage_all(stage)
    await until(lambda: not any(file.path.exists() for file in files), TAKEN_OVER_MAX_S)
    await wait_until_counted(stage)
    kept = [path for host in stage.hosts for path in host.spool.glob(f"*{SET_ASIDE}")]
    if kept:
        await expect_named(stage, KEPT)
        for path in kept:
            remove(path)
    await expect_silent(stage)
    stage.traffic.stop()
    lost = await _account_for_losses(stage, files)
    stage.expect(lost <= len(kept), f"batches of {lost} files were lost, and {len(kept)} files were kept")
    events = await stage.stores.postgres.fetchval("SELECT count(*) FROM footfall.event WHERE kind = $1", SPOOL_DAMAGED)
    stage.expect(events >= len(kept), f"{len(kept)} files were damaged, and {events} events recorded")


async def _damage_all(stage: Stage) -> list[LeftFile]:
    """Kill every Footfall, damage what it left on its disk, and start it again; return the files as they were."""
    await asyncio.gather(*(host.kill() for host in stage.hosts))
    files = [_left(path) for host in stage.hosts for path in sorted(host.spool.glob(f"*{SUFFIX}"))]
    stage.expect(sum(len(file.batches) for file in files) > len(files), "hardly a batch was left behind")
    for file in files:
        content = bytearray(file.path.read_bytes())
        content[stage.chance.randrange(len(content))] ^= 1 << stage.chance.randrange(8)
        file.path.write_bytes(content)
    for host in stage.hosts:
        host.redis.repair()
        host.mark_lines()
    await asyncio.gather(*(host.start() for host in stage.hosts))
    return files


def _left(path: Path) -> LeftFile:
    """Read a file on a copy, as a worker that adopts it would."""
    copy = path.with_suffix(".copy")
    for ending in ("", *COMPANIONS):
        if beside(path, ending).exists():
            shutil.copyfile(beside(path, ending), beside(copy, ending))
    with closing(locked(copy, create=False)) as file:
        batches = [batch_of(row) for row in sound_rows(file)]
        pages = defaultdict[str, dict[str, int]](dict)
        for log_id, page, views, _ in examine_pages(file).rows:
            pages[log_id][page] = views
    remove(copy)
    return LeftFile(path, batches, pages)


async def _account_for_losses(stage: Stage, files: Sequence[LeftFile]) -> int:
    """Take from the ledger what one lost batch of each file had; return how many files lost one.

    What is missing beyond these stays in the ledger, so that the comparison of the stores finds it.
    """
    await until(partial(_is_at_rest, stage, files), REST_MAX_S)
    if await _missing_views(stage, files):
        await asyncio.sleep(ROLLUP_S)  # a rollup may stand between two batches of a log
    losers = set[Path]()
    lost_page_views = 0
    for file, last, seq, views in await _missing_views(stage, files):
        if file.path not in losers and seq == last.seq - 1:
            losers.add(file.path)
            stage.ledger.days[last.site_id, last.day].views[Outcome.OK] -= last.views - views
            lost_page_views += await _take_out_pages(stage, file, last)
    counted = await stage.metric("footfall_lost_page_views_total")
    stage.expect(counted >= lost_page_views, f"{lost_page_views} views of pages are lost, and {counted:.0f} counted so")
    for site in SITES:
        missing = await _missing_registers(stage, site)
        for file in files:
            registers = [await _registers_of(stage, batch) for batch in file.batches if batch.site_id == site]
            explained = max((missing & found for found in registers), key=len, default=set())
            if explained:
                losers.add(file.path)
                missing -= explained
                stage.whole_sketches = False
        stage.expect(not missing, f"{site} lacks visitors of more than one batch a file, in {len(missing)} registers")
    return len(losers)


async def _take_out_pages(stage: Stage, file: LeftFile, lost: Batch) -> int:
    """Take from the ledger the views of pages that are lost with a batch; return how many."""
    saved = await stage.stores.pages_in_postgres(lost.site_id, lost.day)
    total = 0
    for page, views in file.pages_without(lost).items():
        missing = views - saved.get(page, {}).get(lost.log_id, 0)
        stage.ledger.days[lost.site_id, lost.day].pages[page][Outcome.OK] -= missing
        total += missing
    return total


async def _is_at_rest(stage: Stage, files: Sequence[LeftFile]) -> bool:
    """Return whether both stores agree, and nothing is missing but what a flip may cost."""
    for site in SITES:
        live, saved = await stage.stores.in_redis(site), await stage.stores.in_postgres(site)
        if live.keys() != saved.keys() or any(list(unequal(live[day], saved[day])) for day in saved):
            return False
    return len(await _missing_views(stage, files)) <= len(files)


async def _missing_views(stage: Stage, files: Sequence[LeftFile]) -> list[tuple[LeftFile, Batch, int, int]]:
    """Return the logs that Postgres lacks the end of: file, last batch, and the seq and views that Postgres has."""
    seqs = dict[str, tuple[int, int]]()
    for site in SITES:
        for copy in (await stage.stores.in_postgres(site)).values():
            seqs.update(copy.logs)
    missing = []
    for file in files:
        for last in file.last_batches:
            seq, views = seqs.get(last.log_id, (0, 0))
            if seq < last.seq:
                missing.append((file, last, seq, views))
    return missing


async def _missing_registers(stage: Stage, site: str) -> set[tuple[int, int]]:
    """Return the registers, each with its value, that the acked visitors have and Postgres lacks."""
    salt = await stage.stores.salt(site, week_of(stage.day))
    assert salt is not None
    acked = stage.ledger.days[site, stage.day].visitors[Outcome.OK]
    expected = await stage.stores.reference(id_of(address, salt) for address in acked)
    saved = (await stage.stores.in_postgres(site))[stage.day].registers
    return {(place, value) for place, value in enumerate(expected) if value > saved[place]}


async def _registers_of(stage: Stage, batch: Batch) -> set[tuple[int, int]]:
    """Return the registers that the visitors of a batch set, each with its value."""
    packed = batch.visitor_ids
    ids = [packed[at : at + VISITOR_BYTES] for at in range(0, len(packed), VISITOR_BYTES)]
    return set(enumerate(await stage.stores.reference(ids))) if ids else set()
