"""The delivery of one site: whether Redis takes its beacons, and the batch logs that carry them."""

import asyncio
import logging
import secrets
from collections.abc import Iterator
from datetime import date

from footfall.delivery.pending import SharedAnswer, View
from footfall.delivery.sender import LogSender, Outlets
from footfall.errors import StoreDamaged, StoreUnavailable
from footfall.model.availability import UP, Availability, Away
from footfall.model.batch import Batch
from footfall.model.batch_log import BatchLog, Need
from footfall.model.counts import Reading
from footfall.model.periods import Periods
from footfall.model.retention import Retention
from footfall.settings.settings import Site
from footfall.sync.repairs import Repairs

logger = logging.getLogger(__name__)

REPAIRS_MAX = 4
"""Merges and restores for one batch before its log waits; each answer but GAP needs at most one."""


class SiteDelivery:
    """Sends what Redis lacks of a site, one batch of each log at a time, or brings it to the disk.

    While a batch of a log is in flight the next one fills, so no beacon waits for a timer. Beacons go to the `live`
    log of their day; while Redis is away, to a `spooling` log on the disk. Each log has at most one task that sends.
    """

    def __init__(self, site: Site, outlets: Outlets, repairs: Repairs, periods: Periods) -> None:
        self.site = site
        self.redis: Availability = UP
        """Whether Redis takes the beacons of this site."""
        self._outlets = outlets
        self._repairs = repairs
        self._periods = periods
        self._live: dict[date, LogSender] = {}
        self._spooling: dict[date, LogSender] = {}
        self._closed: list[LogSender] = []
        """Logs without new beacons: replaced, or adopted from a worker that has ended."""
        self._sends: dict[LogSender, asyncio.Task[None]] = {}
        self._spools: dict[LogSender, asyncio.Task[None]] = {}

    def __iter__(self) -> Iterator[LogSender]:
        """Iterate over all senders, those that beacons wait for first."""
        yield from [*self._live.values(), *self._spooling.values(), *self._closed]

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What is being sent or written to the disk now."""
        return [*self._sends.values(), *self._spools.values()]

    def enqueue(
        self, day: date, visitor_id: bytes | None, previous_week_id: bytes | None, view: View | None
    ) -> SharedAnswer:
        """Add a beacon to the day's log for Redis or, while Redis is away, to its log on the disk."""
        if self.redis is UP:
            if (sender := self._live.get(day)) is None or sender.is_closed:
                sender = self.live_sender(day)
            answer = sender.enqueue(visitor_id, previous_week_id, view)
            if sender not in self._sends:
                self._start_sending(sender)
        else:
            sender = self.spooling_sender(day)
            answer = sender.enqueue(visitor_id, previous_week_id, view)
            self._start_spooling(sender)
        return answer

    def live_sender(self, day: date) -> LogSender:
        """Return the sender of the day's log that is sent to Redis directly."""
        sender = self._live.get(day)
        return sender if sender is not None and not sender.is_closed else self._new_sender(self._live, day)

    def spooling_sender(self, day: date) -> LogSender:
        """Return the sender of the day's log that is written to the disk first."""
        sender = self._spooling.get(day)
        return sender if sender is not None and not sender.is_closed else self._new_sender(self._spooling, day)

    def adopt(self, log: BatchLog) -> LogSender:
        """Continue a log of a worker that has ended; the next comparison with the stores sends it."""
        adopted = LogSender(self.site, log, self._outlets)
        adopted.close()
        self._closed.append(adopted)
        return adopted

    def retire(self) -> None:
        """Let go of logs that are done: no beacon will come for them, and Postgres has all of them."""
        today = self._today()
        for senders in (self._live, self._spooling):
            for day, sender in list(senders.items()):
                if self._is_done(sender) and (day < today or sender.is_closed):
                    del senders[day]
        self._closed = [sender for sender in self._closed if not self._is_done(sender)]

    async def read(self) -> Reading:
        """Read the numbers of the site, restoring it where Redis has lost it; raises StoreUnavailable."""
        recorded = await self._outlets.redis.read(self.site)
        if recorded.reading is None:
            await self._open()
            recorded = await self._outlets.redis.read(self.site)
        if recorded.reading is None:
            raise StoreUnavailable("redis", f"is not ready for {self.site.id}")
        return recorded.reading

    async def probe(self) -> bool:
        """Ask Redis, with the real script, whether it counts this site; restore the site if possible.

        A reading is no proof that Redis also takes beacons. A batch that waits for Redis is: if there is one it is
        sent, and its answer decides.
        """
        try:
            await self.read()
        except StoreUnavailable as error:
            self._mark_away(error)
            return False
        live = self._live.get(self._today())
        if live is not None and live.log.is_behind:
            self._start_sending(live)
        else:
            self._mark_up()
        return True

    async def resend_missing(self, *, durable_too: bool = True) -> None:
        """Compare what Redis has of each log with what was sent, and send again what it lost.

        Logs of which Postgres has everything are compared on demand. What only Postgres still has is merged back from
        there. Raises StoreUnavailable.
        """
        asked = [
            sender
            for sender in self
            if sender.log.stored > (0 if durable_too else sender.log.durable) and sender not in self._sends
        ]
        if not asked:
            return
        known = [sender.log.acked for sender in asked]
        seqs = await self._outlets.redis.acked(self.site, [(s.log.day, s.log.log_id) for s in asked])
        needed_from = Retention.at(self._periods.clock(), self.site.zone).needed_from
        forgotten: list[tuple[BatchLog, int]] = []
        for sender, before, seq in zip(asked, known, seqs, strict=True):
            log = sender.log
            if sender in self._sends or log.acked != before:
                continue  # a batch was sent meanwhile, and its answer is newer
            if seq < min(before, log.durable) and log.day >= needed_from:
                forgotten.append((log, seq))  # Redis lost batches that this worker forgot, as Postgres has them
                continue
            log.mark_acked(seq)
            if seq > before:  # applied, but its answer was lost: no rollup has been asked for it
                self._repairs.changed.note(self.site.id)
            if log.is_behind:
                self._start_sending(sender)
        if forgotten:
            await self.read()  # Redis may have lost the whole site: it is restored then, before a day is merged
            await self._repairs.restore.merge_days(self.site, sorted({log.day for log, _ in forgotten}))
            for log, seq in forgotten:
                log.mark_acked(seq)

    def _start_sending(self, sender: LogSender) -> None:
        if sender not in self._sends:
            self._sends[sender] = asyncio.create_task(self._send_all(sender))

    def _start_spooling(self, sender: LogSender) -> None:
        if sender not in self._spools:
            self._spools[sender] = asyncio.create_task(self._spool_all(sender))

    async def _send_all(self, sender: LogSender) -> None:
        """Send what Redis lacks of a log, one batch at a time, until it lacks nothing or the log has to wait."""
        repairs = 0
        try:
            while (batch := await sender.next_batch()) is not None:
                need = await sender.send(batch)
                if sender.log.acked >= batch.seq:
                    repairs = 0
                    self._note_acked(sender)
                if need is not Need.NOTHING:
                    repairs += 1
                    await self._repair(sender, batch, need, repairs)
        except StoreUnavailable as error:
            await self._postpone(sender, error)
        except Exception as error:  # noqa: BLE001 - whatever the fault is, the beacons that wait get an answer
            self._report_fault(error)
            await self._postpone(sender, None)
        finally:
            del self._sends[sender]
            if sender.log.on_disk:
                sender.log.unload_page()

    async def _spool_all(self, sender: LogSender) -> None:
        """Write the beacons of a log to the disk until none waits; after a failure the later ones begin a new log."""
        try:
            while sender.has_pending:
                if not await sender.spool_pending():
                    self._pass_on(sender, to_disk=True)
                elif self.redis is UP:
                    self._start_sending(sender)
        except Exception as error:  # noqa: BLE001 - whatever the fault is, the beacons that wait get an answer
            self._report_fault(error)
            sender.fail()
        finally:
            del self._spools[sender]

    def _pass_on(self, sender: LogSender, *, to_disk: bool) -> None:
        """Pass the beacons that wait for one log to another log of its day."""
        if not sender.has_pending:
            return
        fresh = self.spooling_sender(sender.log.day) if to_disk else self.live_sender(sender.log.day)
        fresh.take_over(sender.release_pending())
        if to_disk:
            self._start_spooling(fresh)
        else:
            self._start_sending(fresh)

    def _note_acked(self, sender: LogSender) -> None:
        self._repairs.changed.note(self.site.id)
        if self._live.get(sender.log.day) is sender and not sender.is_closed:
            self._mark_up()

    async def _repair(self, sender: LogSender, batch: Batch, need: Need, repairs: int) -> None:
        """Do what a log needs before it can go on; StoreUnavailable of "postgres" where only this log must wait."""
        if repairs > REPAIRS_MAX:
            store = "redis" if need is Need.RESTORE else "postgres"
            raise StoreUnavailable(store, "what it has of a day does not help Redis to take the next batch")
        if need is Need.RESTORE:
            await self._open()
        elif need is Need.MERGE:
            state = await self._repairs.restore.merge_day(self.site, batch.day)
            sender.log.merged = state.seq_of(batch.log_id)
        else:
            await self._begin_new_log(sender, batch)

    async def _begin_new_log(self, sender: LogSender, batch: Batch) -> None:
        logger.error(
            "Another process writes under this worker's log, as after cloning a running machine: a new log begins."
            " site=%s day=%s",
            self.site.id,
            batch.day,
        )
        sender.close()
        fresh = self.live_sender(batch.day)
        moved = fresh.carry(batch, sender.log.sent_batch_views, sender.release(batch))
        self._start_sending(fresh)
        if sender.log.on_disk:
            await fresh.copy_to_disk(moved)
        else:
            fresh.take_over(sender.release_pending())

    async def _open(self) -> None:
        try:
            is_open = await self._repairs.opener.open(self.site)
        except StoreUnavailable as error:
            if isinstance(error, StoreDamaged):
                await self._repairs.restore.mend(self.site)
            raise StoreUnavailable("redis", f"is not ready; {error}") from error
        if not is_open:
            raise StoreUnavailable("redis", "holds the state of another installation")

    async def _postpone(self, sender: LogSender, error: StoreUnavailable | None) -> None:
        """Answer from the disk all beacons that wait for this log; `probe` or the reconciler sends it later.

        Redis is away when it does not take today's beacons. Where only this log has to wait for Postgres, new
        beacons begin another log; a log of another day, or a fault of our own (no `error`), stops no other log.
        """
        sender.log.mark_unanswered()
        waits_for_postgres = error is not None and error.store == "postgres"
        if waits_for_postgres:
            sender.close()
        elif error is not None and self._live.get(self._today()) is sender:
            self._mark_away(error)
        await sender.spill()
        if not sender.log.on_disk:  # last of all: from here on a new beacon starts a new task for this log
            self._pass_on(sender, to_disk=not waits_for_postgres)

    def _report_fault(self, error: Exception) -> None:
        self._outlets.metrics.internal_faults.inc()
        if times := self._outlets.faults.happened():
            logger.error(
                "A fault in Footfall itself stopped a batch. site=%s times=%d", self.site.id, times, exc_info=error
            )

    def _mark_away(self, error: StoreUnavailable) -> None:
        since_s = self.redis.since_s if isinstance(self.redis, Away) else self._periods.clock()
        self.redis = Away(since_s, str(error))

    def _mark_up(self) -> None:
        if not isinstance(self.redis, Away):
            return
        self.redis = UP
        for sender in self:
            if sender.log.is_behind:
                self._start_sending(sender)

    def _new_sender(self, senders: dict[date, LogSender], day: date) -> LogSender:
        if (old := senders.get(day)) is not None and not self._is_done(old):
            self._closed.append(old)
        log = BatchLog(self.site.id, day, new_log_id(), on_disk=senders is self._spooling)
        senders[day] = LogSender(self.site, log, self._outlets)
        return senders[day]

    def _is_done(self, sender: LogSender) -> bool:
        return sender.is_done and sender not in self._sends

    def _today(self) -> date:
        return self._periods.now(self.site.zone)[1].day


def new_log_id() -> str:
    """Draw an id that no other worker uses: 64 random bits, in hex."""
    return secrets.token_hex(8)
