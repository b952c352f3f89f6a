"""One batch log on its way: its beacons are enqueued, numbered, sent, spilled to the disk, and answered here."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from footfall.delivery.pending import BeaconQueue, PendingBatch, SharedAnswer, StoredIn, View
from footfall.delivery.redis_writer import RedisWriter
from footfall.delivery.spool_writer import SpoolWriter
from footfall.errors import Reason, StoreUnavailable
from footfall.log_throttle import LogThrottle
from footfall.metrics.metrics import Metrics
from footfall.model.batch import VIEW_ID_BYTES, Answer, Batch
from footfall.model.batch_log import NO_PAGES, BatchLog, Need
from footfall.settings.settings import Site
from footfall.stores.spool_store import Spool
from footfall.sync.event_book import EventBook

logger = logging.getLogger(__name__)

GATHERED = 64
"""Beacons that share a script call well: a batch that has so many waits for no more of them."""
PAGE_BATCHES = 64
"""Spooled batches of a log that are in memory while they are sent to Redis."""


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where a worker's senders bring their batches and answers; all senders of a worker share them."""

    redis: RedisWriter
    spool_writer: SpoolWriter
    spool: Spool
    queue: BeaconQueue
    events: EventBook
    metrics: Metrics
    faults: LogThrottle = field(default_factory=LogThrottle)
    """Of the log lines about faults of our own: each batch may fail."""


class LogSender:
    """Brings the beacons of one batch log to Redis or to the disk, and answers them.

    It holds no task: `SiteDelivery` runs at most one that sends and one that spools.
    """

    __slots__ = (
        "_awaiting",
        "_cleared",
        "_outlets",
        "_pending",
        "_perhaps_applied",
        "_refused",
        "_spilled",
        "_unanswered",
        "is_closed",
        "log",
        "site",
    )

    def __init__(self, site: Site, log: BatchLog, outlets: Outlets) -> None:
        self.site = site
        self.log = log
        self._outlets = outlets
        self._pending: deque[PendingBatch] = deque()
        self._awaiting: dict[int, PendingBatch] = {}
        """Beacons whose batch has a seq and waits to be stored."""
        self._spilled = 0
        """Last seq of a log in memory that is on the disk too; 0 if none is."""
        self._cleared = 0
        """Seq up to which the disk has dropped its batches."""
        self._unanswered = 0
        """Seq of the batch that got no answer; 0 if there is none."""
        self._perhaps_applied = 0
        """Last seq that a Redis may have applied."""
        self._refused = 0
        """Last seq that Redis refused for views that are counted; its beacons were numbered again."""
        self.is_closed = False
        """No new beacons: the next one starts another log."""

    def enqueue(self, visitor_id: bytes | None, previous_week_id: bytes | None, view: View | None) -> SharedAnswer:
        """Add a beacon to the batch that is being filled; return the answer that it will get."""
        if not self._pending or self._pending[-1].is_full:
            self._pending.append(PendingBatch(self.log.site_id))
        pending = self._pending[-1]
        pending.add(visitor_id, previous_week_id, view)
        return pending.answer

    @property
    def has_pending(self) -> bool:
        """Whether beacons wait for a sequence number."""
        return bool(self._pending)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: Postgres has every retained batch, the disk has none, no beacon waits."""
        log = self.log
        if log.on_disk:
            is_durable = log.durable == log.assigned == self._cleared
        else:
            is_durable = not log.retained and self._cleared >= self._spilled
        return is_durable and not self._pending and not self._awaiting

    def close(self) -> None:
        """Accept no new beacons."""
        self.is_closed = True

    def release_pending(self) -> list[PendingBatch]:
        """Give away the beacons that have no seq yet."""
        released = list(self._pending)
        self._pending.clear()
        return released

    def take_over(self, released: Iterable[PendingBatch]) -> None:
        """Carry beacons that another log has released."""
        self._pending.extend(released)

    async def next_batch(self) -> Batch | None:
        """Return what Redis lacks first: from memory, from the disk, or from the beacons that wait.

        Raises StoreUnavailable where the disk cannot be read.
        """
        following = self.log.next_batch()
        if self._uses_disk and self.log.is_behind and (following is None or self.log.gap_before(following)):
            following = await self._read_disk()
        if following is not None or self.log.on_disk:
            return following
        if self._pending:
            await self._gather()
        if (numbered := self._number_pending()) is None:
            return None
        batch, pending = numbered
        self.log.retain(batch)
        self._awaiting[batch.seq] = pending
        self._outlets.metrics.batch_beacons.observe(batch.beacons)
        return batch

    async def _gather(self) -> None:
        """Wait while each turn of the loop brings more beacons for the batch: those already in the sockets come along.

        A loop accepts one new connection in a turn, so that beacons on such connections come one by one.
        """
        filling, before = self._pending[-1], 0
        while before < filling.beacons < GATHERED:
            before = filling.beacons
            await asyncio.sleep(0)

    async def send(self, batch: Batch) -> Need:
        """Send a batch to Redis, answer its beacons if Redis has it, and return what the log needs before the next one.

        Raises StoreUnavailable: Redis may have applied the batch or not, and sending it again settles it.
        """
        log, metrics = self.log, self._outlets.metrics
        skipped = log.gap_before(batch) if log.skip_gap else 0
        if skipped and not log.on_disk:
            batch = log.with_all_pages(batch)
        is_first_time = log.mark_sent(batch)
        if batch.seq == self._unanswered:
            metrics.retries.inc()
        elif not is_first_time:
            metrics.resent.inc()
        self._unanswered = batch.seq
        may_be_applied = batch.seq <= self._perhaps_applied or batch.seq not in self._awaiting
        self._perhaps_applied = max(self._perhaps_applied, batch.seq)
        sent = batch._replace(may_be_applied=True) if may_be_applied and batch.view_ids else batch
        recorded = await self._outlets.redis.record(self.site, sent, skip_gap=log.skip_gap)
        self._unanswered = 0
        if not may_be_applied and recorded.answer not in (Answer.OK, Answer.DUP):
            self._perhaps_applied = batch.seq - 1
        if recorded.answer is Answer.SEEN:
            self._number_again(batch, recorded.seen_ids)
            return Need.NOTHING
        # A copy of what was refused may come late, and be applied by a Redis that has lost the ids.
        is_first_time = is_first_time and batch.seq != self._refused
        need = log.mark_answered(batch, recorded.answer, recorded.acked, is_first_time=is_first_time)
        if log.acked >= batch.seq:
            self._answer_acked()
            self._report_lost(skipped)
        return need

    async def spool_pending(self) -> bool:
        """Write the beacons that wait to the disk and answer them; close the log, and return False, if that fails."""
        numbered: list[tuple[Batch, PendingBatch]] = []
        while one := self._number_pending():
            numbered.append(one)
        if await self._write_to_disk(numbered):
            self.log.mark_stored()
            return True
        self.log.withdraw_unstored()  # they may be on the disk or not, so their seqs are not used again
        self.close()
        return False

    def fail(self) -> None:
        """Refuse the beacons that wait, after a fault of our own, and close the log."""
        self.close()
        for pending in self.release_pending():
            self._outlets.queue.refuse(pending, Reason.INTERNAL)

    async def spill(self) -> None:
        """Write the batches whose beacons wait for Redis to the disk too, and answer them from there."""
        waiting = [batch for batch in self.log.retained if batch.seq in self._awaiting]
        if waiting and await self._write_to_disk([(batch, self._awaiting.pop(batch.seq)) for batch in waiting]):
            self.mark_spilled(waiting)

    def release(self, batch: Batch) -> PendingBatch | None:
        """Give away a batch whose seq another worker has used; return its beacons if any wait."""
        self.log.take_out(batch)
        return self._awaiting.pop(batch.seq, None)

    def carry(self, batch: Batch, views: int, pending: PendingBatch | None) -> Batch:
        """Carry a batch that another log has released, with its own `views`; return it under its new seq."""
        pages = pending.pages if pending is not None else NO_PAGES
        moved = self.log.append(views, batch.visitor_ids, batch.previous_week_ids, batch.seen_ms, batch.beacons, pages)
        self.log.retain(moved)
        if pending is not None:
            self._awaiting[moved.seq] = pending
        return moved

    async def copy_to_disk(self, batch: Batch) -> None:
        """Write a retained batch to the disk too, for which no beacon waits; raises StoreUnavailable."""
        await self._outlets.spool.write([batch])
        self.mark_spilled([batch])

    async def clear_disk(self) -> None:
        """Drop from the disk what Postgres has; raises StoreUnavailable."""
        durable = self.log.durable
        if self._uses_disk and self._cleared < durable:
            await self._outlets.spool.delete(self.log.log_id, durable)
            self._cleared = durable

    @property
    def _uses_disk(self) -> bool:
        """Whether batches of this log may be on the disk."""
        return self.log.on_disk or self._spilled > 0

    def _number_pending(self) -> tuple[Batch, PendingBatch] | None:
        """Assign the next seq to the oldest beacons that wait; None where none wait."""
        if not self._pending:
            return None
        pending = self._pending[0]
        batch = self.log.append(
            pending.views,
            b"".join(pending.visitor_ids),
            b"".join(pending.previous_week_ids),
            self._outlets.redis.now_ms(),
            pending.beacons,
            pending.pages,
        )
        if pending.view_ids:
            repeated = b"".join(pending.repeated_ids)
            batch = batch._replace(view_ids=b"".join(pending.view_ids), repeated_ids=repeated)
        return batch, self._pending.popleft()

    def _number_again(self, batch: Batch, seen_ids: bytes) -> None:
        """Take out of the newest batch the views that another batch has counted, and let the rest wait for its seq.

        Redis has refused the batch untouched, and nothing else has it, so it may change.
        """
        log, pending = self.log, self._awaiting.pop(batch.seq)
        log.withdraw(batch, pending.pages)
        self._refused = batch.seq
        each = (seen_ids[at : at + VIEW_ID_BYTES] for at in range(0, len(seen_ids), VIEW_ID_BYTES))
        self._outlets.metrics.repeated_views.inc(pending.take_out(each))
        self._pending.appendleft(pending)

    async def _read_disk(self) -> Batch | None:
        log, spool = self.log, self._outlets.spool
        if log.on_disk:
            stored = log.stored
            log.load_page(await spool.read(log.log_id, log.acked, PAGE_BATCHES))
            if not log.retained and log.is_behind and stored == log.assigned and not self._pending:
                self._cut_missing_end()
        else:
            with suppress(StoreUnavailable):  # the disk may have what was forgotten here; without it there is a gap
                log.retain_again(await spool.read(log.log_id, log.acked, PAGE_BATCHES))
        return log.next_batch()

    def _cut_missing_end(self) -> None:
        """Give up batches that were damaged on the disk: no process can send them."""
        self.close()
        lost = self.log.cut_missing_end()
        self._outlets.metrics.lost.inc(lost)
        self._note_lost(lost)
        logger.error("The last batches of a spooled log are lost. site=%s batches=%d", self.site.id, lost)

    async def _write_to_disk(self, numbered: Sequence[tuple[Batch, PendingBatch]]) -> bool:
        is_on_disk = await self._outlets.spool_writer.write([batch for batch, _ in numbered])
        for _, pending in numbered:
            if is_on_disk:
                self._outlets.metrics.spooled.inc(pending.beacons)
                self._outlets.queue.answer(pending, StoredIn.DISK)
            else:
                self._outlets.queue.refuse(pending, Reason.SPOOL_FULL)
        return is_on_disk

    def mark_durable(self, seq: int) -> None:
        """Record that Postgres has `seq`; answer the beacons up to it, which count although Redis' answer was lost."""
        self.log.mark_durable(seq)
        self._answer_up_to(self.log.durable)

    def mark_spilled(self, batches: Sequence[Batch]) -> None:
        """Record that the disk has batches of a log in memory: it drops them once they are durable."""
        self._spilled = batches[-1].seq
        self._cleared = min(self._cleared, batches[0].seq - 1)

    def _answer_acked(self) -> None:
        if self.log.on_disk:
            self._outlets.metrics.drained.inc()
        self._answer_up_to(self.log.acked)

    def _answer_up_to(self, last_seq: int) -> None:
        for seq in [seq for seq in self._awaiting if seq <= last_seq]:
            self._outlets.queue.answer(self._awaiting.pop(seq), StoredIn.REDIS)

    def _note_lost(self, batches: int) -> None:
        self._outlets.events.note("batches_lost", f"{self.log.day}: {batches} of {self.log.log_id}", self.site.id)

    def _report_lost(self, batches: int) -> None:
        if batches:
            self._outlets.metrics.lost.inc(batches)
            self._note_lost(batches)
            logger.error(
                "Batches are lost: neither this worker nor Postgres has them. Their views are counted, their"
                " visitors may not be. site=%s day=%s batches=%d",
                self.site.id,
                self.log.day,
                batches,
            )
