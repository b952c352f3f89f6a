"""Takes beacons and brings them to Redis: natural group commit, one batch per log in flight.

While a batch is in flight the next one gathers; nothing waits on a timer. A beacon is answered when its batch is
applied in Redis, or else is on this host's disk. What Redis lacks, new or lost again, goes out in one loop
(`_send`), from the number that Redis has. `reconciler.py` finds out what was lost.
"""

import asyncio
import logging
import time
from datetime import date
from typing import Protocol

from service.board import Board
from service.config import Settings, Site
from service.counts import Reading
from service.errors import Reason, Refused, StoreUnavailable
from service.logs import Batch, Need
from service.metrics import Metrics
from service.periods import Clock, period_at
from service.redis_store import Recorded, RedisStore
from service.spool import Spool
from service.writers import Gathered, SiteWriters, Writer, new_log_id

log = logging.getLogger(__name__)

PAGE_BATCHES = 64
"""Spooled batches of a log that are in memory while they are sent to Redis."""

SITE_SHARE = 4
"""No site may fill more than a quarter of the queue."""

REPAIRS_MAX = 4
"""Joins and restores for one batch before it is left to wait; each answer but GAP needs at most one."""


class Joins(Protocol):
    """The two repairs that a log may need; `rollup.py` does them, with Postgres."""

    async def open_site(self, site: Site) -> bool:
        """Make the site ready in Redis."""

    async def join_days(self, site: Site, days: list[date]) -> None:
        """Bring days back into Redis."""

    def note_change(self, site_id: str) -> None:
        """The next rollup looks at this site."""


class Recorder:
    """The beacons of one worker, from the handler to Redis or the spool."""

    def __init__(
        self,
        settings: Settings,
        redis: RedisStore,
        spool: Spool,
        joins: Joins,
        board: Board,
        metrics: Metrics,
        clock: Clock = time.time,
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._spool = spool
        self._joins = joins
        self._board = board
        self._metrics = metrics
        self._clock = clock
        self._skew_s = 0.0
        """Redis' clock minus ours: batches are stamped in Redis' time."""
        self._to_spool: dict[Writer, SiteWriters] = {}
        self._spooling: asyncio.Task[None] | None = None
        self.sites = {site.id: SiteWriters(site) for site in settings.sites.values()}
        self.queued = 0
        self.kept_bytes = 0

    async def record(
        self, site: Site, day: date, visitor: bytes | None, gone: bytes | None, *, view: bool
    ) -> bool:
        """Count one beacon of `day`: True once it is in Redis, False once it is on this host's disk.

        Raises Refused when the queue is full (nothing was stored) or neither Redis nor the disk takes it. The
        batch is never cancelled: it counts even if the caller has gone.
        """
        writers = self.sites[site.id]
        if self.queued >= self._settings.queue_max_beacons or (
            writers.queued >= self._settings.queue_max_beacons // SITE_SHARE
        ):
            raise Refused(Reason.BUSY, retry_after_s=1)
        if writers.away_since_s is None:
            writer = writers.live_writer(day)
            gathered = writer.gather(visitor, gone, view=view)
            self.wake(writers, writer)
        else:
            writer = writers.spool_writer(day)
            gathered = writer.gather(visitor, gone, view=view)
            self._wake_spool(writers, writer)
        self.queued += 1
        writers.queued += 1
        return await asyncio.shield(gathered.done)

    def wake(self, writers: SiteWriters, writer: Writer) -> None:
        """Have one task send what Redis lacks of a log."""
        if writer.sending is None:
            writer.sending = asyncio.create_task(self._send(writers, writer))

    async def probe(self, writers: SiteWriters) -> bool:
        """Ask Redis, with the real script, whether it takes beacons of this site; make it ready if it can be.

        When it does after having been away, everything that waits is sent.
        """
        try:
            await self.read(writers.site)
        except StoreUnavailable as error:
            self._is_away(writers, error)
            return False
        if writers.away_since_s is not None:
            log.info(
                "Redis takes beacons again. site=%s away_s=%.0f",
                writers.site.id,
                self._clock() - writers.away_since_s,
            )
            writers.away_since_s = None
        for writer in writers:
            if writer.log.behind:
                self.wake(writers, writer)
        return True

    async def read(self, site: Site) -> Reading:
        """Read the numbers of a site, making it ready where Redis has lost it; raises StoreUnavailable."""
        writers = self.sites[site.id]
        recorded = await self._call(writers, None)
        if recorded.reading is None:
            await self._open(writers)
            recorded = await self._call(writers, None)
        if recorded.reading is None:
            raise StoreUnavailable("redis", f"is not ready for {site.id}")
        return recorded.reading

    async def settle(self) -> None:
        """Wait until nobody waits for an answer and nothing is being sent."""
        while tasks := [
            task
            for task in [self._spooling, *(writer.sending for site in self.sites.values() for writer in site)]
            if task is not None
        ]:
            await asyncio.wait(tasks)

    async def _send(self, writers: SiteWriters, writer: Writer) -> bool:
        """Send what Redis lacks of a log, one batch at a time, until it lacks nothing; False when it must wait."""
        repairs = 0
        try:
            while (batch := await self._next(writer)) is not None:
                sending = writer.log
                first_time = sending.sending(batch)
                self._count_sending(writer, batch, first_time=first_time)
                writer.unanswered = batch.seq
                recorded = await self._call(writers, batch, hole=sending.hole)
                writer.unanswered = 0
                need = sending.answered(batch, recorded.answer, recorded.applied, first_time=first_time)
                if recorded.reading is not None and need is Need.NOTHING:
                    self._applied(writer, batch)
                    repairs = 0
                elif need is not Need.NOTHING:
                    repairs += 1
                    if repairs > REPAIRS_MAX:
                        raise StoreUnavailable(
                            "redis", f"answers {recorded.answer} whatever is joined into it"
                        )
                    await self._repair(writers, writer, batch, need)
            return True
        except StoreUnavailable as error:
            await self._postpone(writers, writer, error)
            return False
        finally:
            writer.sending = None

    async def _next(self, writer: Writer) -> Batch | None:
        """Return what Redis lacks first: from memory, from the disk, or what has gathered meanwhile."""
        following = writer.log.next_batch()
        if writer.log.on_disk and writer.log.behind and (following is None or writer.log.skips(following)):
            page = await self._spool.read(writer.log.id, writer.log.applied, PAGE_BATCHES)
            writer.log.kept.clear()
            writer.log.kept.extend(page)
            following = writer.log.next_batch()
        if following is not None or writer.log.on_disk:
            return following
        numbered = writer.number(self._stamp_ms())
        if numbered is None:
            return None
        batch, gathered = numbered
        writer.log.keep(batch)
        writer.waiting[batch.seq] = gathered
        self.kept_bytes += batch.size_bytes
        self._metrics.batch_beacons.observe(batch.beacons)
        return batch

    async def _call(self, writers: SiteWriters, batch: Batch | None, *, hole: bool = False) -> Recorded:
        site = writers.site
        try:
            recorded = await self._redis.record(
                site.id, period_at(self._clock(), site.zone), site.online_window_s, batch, hole=hole
            )
        except StoreUnavailable:
            if batch is not None:
                self._metrics.flush("error").inc()
            self._metrics.store_up.labels("redis").set(0)
            raise
        if batch is not None:
            self._metrics.flush(recorded.answer.value).inc()
        if recorded.reading is not None:
            self._metrics.store_up.labels("redis").set(1)
            self._skew_s = recorded.reading.at_ms / 1000 - self._clock()
            self._metrics.clock_skew.set(self._skew_s)
            self._board.accept(site, recorded.reading)
        return recorded

    def _count_sending(self, writer: Writer, batch: Batch, *, first_time: bool) -> None:
        if writer.log.hole and (lost := writer.log.skips(batch)):
            self._metrics.lost.inc(lost)
            log.error(
                "Batches are lost: neither this worker nor Postgres has them. Their views are counted, their"
                " visitors may not be. site=%s day=%s batches=%d",
                batch.site,
                batch.day,
                lost,
            )
        if batch.seq == writer.unanswered:
            self._metrics.retries.inc()
        elif not first_time:
            self._metrics.resent.inc()

    def _applied(self, writer: Writer, batch: Batch) -> None:
        self._joins.note_change(batch.site)
        if writer.log.on_disk:
            self._metrics.drained.inc()
        for seq in [seq for seq in writer.waiting if seq <= writer.log.applied]:
            self._answer(batch.site, writer.waiting.pop(seq), committed=True)

    async def _repair(self, writers: SiteWriters, writer: Writer, batch: Batch, need: Need) -> None:
        if need is Need.RESTORE:
            await self._open(writers)
        elif need is Need.JOIN:
            if writer.log.on_disk:
                writer.log.kept.clear()  # the disk may have what this page has not
                if (following := await self._next(writer)) and not writer.log.skips(following):
                    return
            await self._joins.join_days(writers.site, [batch.day])
            writer.log.joined = True
        else:
            log.error(
                "Somebody else writes under this worker's log, as after cloning a running machine: a new log is"
                " begun. site=%s day=%s",
                batch.site,
                batch.day,
            )
            renewed = Writer(writer.log.renew(new_log_id(), batch))
            renewed.waiting = {seq - batch.seq + 1: gathered for seq, gathered in writer.waiting.items()}
            renewed.gathered, writer.gathered, writer.waiting = writer.gathered, renewed.gathered, {}
            writers.set_aside(writer)
            writers.live[batch.day] = renewed
            self.wake(writers, renewed)

    async def _open(self, writers: SiteWriters) -> None:
        if not await self._joins.open_site(writers.site):
            raise StoreUnavailable("redis", "holds the state of another installation")

    async def _postpone(self, writers: SiteWriters, writer: Writer, error: StoreUnavailable) -> None:
        """Bring all that waits for this log to the disk; `reconciler.py` sends it later."""
        today = period_at(self._clock(), writers.site.zone).day
        if error.store == "redis" or writers.live.get(today) is writer:
            self._is_away(writers, error)
        spool_writer = writers.spool_writer(writer.log.day)
        if spool_writer is not writer and writer.gathered:
            spool_writer.gathered.extend(writer.gathered)
            writer.gathered.clear()
            self._wake_spool(writers, spool_writer)
        waiting = [batch for batch in writer.log.kept if batch.seq in writer.waiting]
        if waiting:
            writer.spilled = True
            await self._to_disk([(batch, writer.waiting.pop(batch.seq)) for batch in waiting])

    def _wake_spool(self, writers: SiteWriters, writer: Writer) -> None:
        self._to_spool[writer] = writers
        if self._spooling is None:
            self._spooling = asyncio.create_task(self._spool_all())

    async def _spool_all(self) -> None:
        """Write what has gathered for the spool, of all sites in one transaction, until nothing gathers."""
        try:
            while self._to_spool:
                waiting, self._to_spool = self._to_spool, {}
                rows: list[tuple[Batch, Gathered]] = []
                for writer in waiting:
                    while numbered := writer.number(self._stamp_ms()):
                        rows.append(numbered)
                on_disk = await self._to_disk(rows)
                for writer, writers in waiting.items():
                    if on_disk:
                        writer.log.stored()
                    else:  # numbers that may or may not be on the disk are not used again
                        writers.set_aside(writer)
        finally:
            self._spooling = None

    async def _to_disk(self, rows: list[tuple[Batch, Gathered]]) -> bool:
        try:
            await self._spool.write([batch for batch, _ in rows])
        except StoreUnavailable as error:
            self._metrics.store_up.labels("spool").set(0)
            log.debug("The spool takes nothing. error=%s", error)
            for batch, gathered in rows:
                self._refuse(batch.site, gathered)
            return False
        self._metrics.store_up.labels("spool").set(1)
        for batch, gathered in rows:
            self._metrics.spooled.inc(batch.beacons)
            self._answer(batch.site, gathered, committed=False)
        return True

    def _answer(self, site_id: str, gathered: Gathered, *, committed: bool) -> None:
        self._leave_queue(site_id, gathered)
        gathered.done.set_result(committed)

    def _refuse(self, site_id: str, gathered: Gathered) -> None:
        self._leave_queue(site_id, gathered)
        gathered.done.set_exception(Refused(Reason.SPOOL_FULL, retry_after_s=10))
        gathered.done.exception()  # its callers may all have gone

    def _leave_queue(self, site_id: str, gathered: Gathered) -> None:
        self.queued -= gathered.beacons
        self.sites[site_id].queued -= gathered.beacons

    def _is_away(self, writers: SiteWriters, error: StoreUnavailable) -> None:
        writers.why_away = str(error)
        if writers.away_since_s is None:
            writers.away_since_s = self._clock()
            log.error("Redis takes no beacons; they go to the disk. site=%s error=%s", writers.site.id, error)

    def _stamp_ms(self) -> int:
        return int((self._clock() + self._skew_s) * 1000)
