"""Takes beacons and brings them to Redis: natural group commit, one batch per log in flight.

While a batch is in flight the next one gathers; nothing waits on a timer. A beacon is answered when its batch is
applied in Redis, or else is on this host's disk. What Redis lacks, new or lost again, goes out in one loop
(`_send`), from the number that Redis has. `reconciler.py` finds out what was lost.
"""

import asyncio
import logging
from contextlib import suppress
from datetime import date

from footfall.delivery.pending import Queue, SiteWriters, StoredIn, Writer
from footfall.delivery.spool_writer import Spooler
from footfall.display.counts_cache import CountsCache
from footfall.errors import Reason, Refused, StoreDamaged, StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.batch_log import Batch, Need
from footfall.model.counts import Reading
from footfall.model.periods import Periods
from footfall.settings.settings import Settings, Site
from footfall.stores.redis_store import Recorded, RedisStore
from footfall.stores.spool_store import Spool
from footfall.sync.restore import Restore

logger = logging.getLogger(__name__)

PAGE_BATCHES = 64
"""Spooled batches of a log that are in memory while they are sent to Redis."""

SITE_SHARE = 4
"""No site may fill more than a quarter of the queue."""

REPAIRS_MAX = 4
"""Joins and restores for one batch before its log is left to wait; each answer but GAP needs at most one."""


class Recorder:
    """The beacons of one worker, from the handler to Redis or the spool."""

    def __init__(
        self,
        settings: Settings,
        redis: RedisStore,
        spool: Spool,
        restore: Restore,
        counts_cache: CountsCache,
        metrics: Metrics,
        periods: Periods,
    ) -> None:
        self._queue_max = settings.queue_max_beacons
        self._redis = redis
        self._spool = spool
        self._restore = restore
        self._counts_cache = counts_cache
        self._metrics = metrics
        self._redis_up = metrics.store_up.labels("redis")
        self._periods = periods
        self._clock = periods.clock
        self._skew_s = 0.0
        """Redis' clock minus ours: batches are stamped in Redis' time."""
        self.sites: dict[str, SiteWriters] = {site.id: SiteWriters(site) for site in settings.sites.values()}
        self._queue = Queue(self.sites, metrics)
        self._spooler = Spooler(spool, self._queue, metrics, self._stamp_ms, self._stored)
        self.kept_bytes = 0

    def record(
        self, site: Site, day: date, visitor_id: bytes | None, previous_week_id: bytes | None, *, is_view: bool
    ) -> asyncio.Future[StoredIn]:
        """Count one beacon of `day`; the answer comes once it is in Redis or on this host's disk.

        Raises Refused when the queue is full (nothing was stored); what is awaited does where neither Redis nor the
        disk takes it. The batch is never cancelled: it counts even if the caller has gone.
        """
        writers = self.sites[site.id]
        if self._queue.beacons >= self._queue_max or writers.queued >= self._queue_max // SITE_SHARE:
            raise Refused(Reason.BUSY, retry_after_s=1)
        if writers.away_since_s is None:
            writer = writers.live_writer(day)
            gathered = writer.gather(visitor_id, previous_week_id, is_view=is_view)
            self.wake(writers, writer)
        else:
            writer = writers.spool_writer(day)
            gathered = writer.gather(visitor_id, previous_week_id, is_view=is_view)
            self._spooler.wake(writers, writer)
        self._queue.beacons += 1
        writers.queued += 1
        return gathered.done

    @property
    def queued(self) -> int:
        """Beacons that wait for an answer now."""
        return self._queue.beacons

    def wake(self, writers: SiteWriters, writer: Writer) -> None:
        """Have one task send what Redis lacks of a log."""
        if writer.sending is None:
            writer.sending = asyncio.create_task(self._send(writers, writer))

    async def probe(self, writers: SiteWriters) -> bool:
        """Ask Redis, with the real script, whether it counts this site; make it ready if it can be.

        Reading is no proof that it also takes beacons. A batch that waits for it is: if there is one it is sent, and
        its answer tells whether Redis is back.
        """
        try:
            await self.read(writers.site)
        except StoreUnavailable as error:
            self._is_away(writers, error)
            return False
        live = writers.live.get(self._today(writers))
        if live is not None and live.log.behind:
            self.wake(writers, live)
        else:
            self._is_back(writers)
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
            for task in [self._spooler.writing, *(writer.sending for site in self.sites.values() for writer in site)]
            if task is not None
        ]:
            await asyncio.wait(tasks)

    async def _send(self, writers: SiteWriters, writer: Writer) -> None:
        """Send what Redis lacks of a log, one batch at a time, until it lacks nothing or the log has to wait."""
        repairs = 0
        try:
            while (batch := await self._next(writer)) is not None:
                need = await self._send_one(writers, writer, batch)
                if writer.log.applied >= batch.seq:
                    repairs = 0
                if need is not Need.NOTHING:
                    repairs += 1
                    await self._repair(writers, writer, batch, need, repairs)
        except StoreUnavailable as error:
            await self._postpone(writers, writer, error)
        except Exception as error:
            logger.exception("A batch could not be sent; it waits. site=%s", writers.site.id)
            await self._postpone(writers, writer, StoreUnavailable("redis", type(error).__name__))
        finally:
            writer.sending = None
            if writer.log.on_disk:
                writer.log.kept.clear()

    async def _send_one(self, writers: SiteWriters, writer: Writer, batch: Batch) -> Need:
        sending = writer.log
        skipped = sending.skips(batch) if sending.hole else 0
        first_time = sending.sending(batch)
        if batch.seq == writer.unanswered:
            self._metrics.retries.inc()
        elif not first_time:
            self._metrics.resent.inc()
        writer.unanswered = batch.seq
        recorded = await self._call(writers, batch, hole=sending.hole)
        writer.unanswered = 0
        need = sending.answered(batch, recorded.answer, recorded.applied, first_time=first_time)
        if sending.applied >= batch.seq:
            self._applied(writers, writer, lost=skipped)
        return need

    async def _next(self, writer: Writer) -> Batch | None:
        """Return what Redis lacks first: from memory, from the disk, or what has gathered meanwhile."""
        following = writer.log.next_batch()
        if writer.uses_disk and writer.log.behind and (following is None or writer.log.skips(following)):
            following = await self._look_on_disk(writer)
        if following is not None or writer.log.on_disk:
            return following
        if writer.gathered:
            await asyncio.sleep(0)  # one turn of the loop: what stands in the sockets already comes along
        numbered = writer.number(self._stamp_ms())
        if numbered is None:
            return None
        batch, gathered = numbered
        writer.log.keep(batch)
        writer.waiting[batch.seq] = gathered
        self.kept_bytes += batch.size_bytes
        self._metrics.batch_beacons.observe(batch.beacons)
        return batch

    async def _look_on_disk(self, writer: Writer) -> Batch | None:
        if writer.log.on_disk:
            written = writer.log.written
            writer.log.turn_page(await self._spool.read(writer.log.id, writer.log.applied, PAGE_BATCHES))
            if not writer.log.kept and writer.log.behind and written == writer.log.numbered and not writer.gathered:
                self._give_up(writer)
        else:
            with suppress(StoreUnavailable):  # it may have what was dropped here for room; without it there is a gap
                page = await self._spool.read(writer.log.id, writer.log.applied, PAGE_BATCHES)
                self.kept_bytes += writer.log.put_back(page)
        return writer.log.next_batch()

    def _give_up(self, writer: Writer) -> None:
        """Let go of the end of a log that was damaged on the disk; nobody would ever send it."""
        self.sites[writer.log.site].set_aside(writer)
        lost = writer.log.disk_ends()
        self._metrics.lost.inc(lost)
        logger.error("The last batches of a spooled log are lost. site=%s batches=%d", writer.log.site, lost)

    async def _call(self, writers: SiteWriters, batch: Batch | None, *, hole: bool = False) -> Recorded:
        site = writers.site
        _, period = self._periods.now(site.zone)
        try:
            recorded = await self._redis.record(site.id, period, site.online_window_s, batch, hole=hole)
        except StoreUnavailable as error:
            if batch is not None:
                self._metrics.flush("error").inc()
            self._redis_up.set(0)
            if isinstance(error, StoreDamaged):
                await self._restore.mend(site)
            raise
        if batch is not None:
            self._metrics.flush(recorded.answer.value).inc()
        if recorded.reading is not None:
            self._redis_up.set(1)
            self._skew_s = recorded.reading.at_ms / 1000 - self._clock()
            self._metrics.clock_skew.set(self._skew_s)
            self._counts_cache.accept(site, recorded.reading)
        return recorded

    def _applied(self, writers: SiteWriters, writer: Writer, *, lost: int) -> None:
        self._restore.note_change(writers.site.id)
        if writer.log.on_disk:
            self._metrics.drained.inc()
        for seq in [seq for seq in writer.waiting if seq <= writer.log.applied]:
            self._queue.answer(writers.site.id, writer.waiting.pop(seq), StoredIn.REDIS)
        if lost:
            self._metrics.lost.inc(lost)
            logger.error(
                "Batches are lost: neither this worker nor Postgres has them. Their views are counted, their"
                " visitors may not be. site=%s day=%s batches=%d",
                writers.site.id,
                writer.log.day,
                lost,
            )
        if writers.live.get(writer.log.day) is writer:
            self._is_back(writers)

    async def _repair(self, writers: SiteWriters, writer: Writer, batch: Batch, need: Need, repairs: int) -> None:
        """Do what a log needs before it can go on; StoreUnavailable of "postgres" where only this log must wait."""
        if repairs > REPAIRS_MAX:
            store = "redis" if need is Need.RESTORE else "postgres"
            raise StoreUnavailable(store, "what it has of a day does not help Redis to take the next batch")
        if need is Need.RESTORE:
            await self._open(writers)
        elif need is Need.JOIN:
            known = (await self._restore.join_days(writers.site, [batch.day])).get(batch.day)
            writer.log.joined = known.logs.get(writer.log.id, (0, 0))[0] if known else 0
        else:
            await self._begin_anew(writers, writer, batch)

    async def _begin_anew(self, writers: SiteWriters, writer: Writer, batch: Batch) -> None:
        logger.error(
            "Somebody else writes under this worker's log, as after cloning a running machine: a new log is begun."
            " site=%s day=%s",
            batch.site,
            batch.day,
        )
        writers.set_aside(writer)
        fresh = writers.live_writer(batch.day)
        moved = fresh.log.number(writer.log.brought, batch.visitors, batch.gone, batch.seen_ms, batch.beacons)
        fresh.log.keep(moved)
        if (gathered := writer.waiting.pop(batch.seq, None)) is not None:
            fresh.waiting[moved.seq] = gathered
        writer.log.take_out(batch)
        self.wake(writers, fresh)
        if writer.log.on_disk:
            self.kept_bytes += moved.size_bytes
            await self._spool.write([moved])
            fresh.on_disk_too(moved.seq, moved.seq)
        else:
            writer.hand_over(fresh)

    async def _open(self, writers: SiteWriters) -> None:
        try:
            opened = await self._restore.open_site(writers.site)
        except StoreUnavailable as error:
            raise StoreUnavailable("redis", f"is not ready; {error}") from error
        if not opened:
            raise StoreUnavailable("redis", "holds the state of another installation")

    async def _postpone(self, writers: SiteWriters, writer: Writer, error: StoreUnavailable) -> None:
        """Answer all who wait for this log from the disk; `probe` or `reconciler.py` sends it later.

        Redis is away when it does not take today's beacons. Where only one log cannot go on, because Postgres would
        have to be asked, new beacons go to another log instead; and a log of another day stops nobody.
        """
        writer.log.unanswered()
        if error.store == "postgres":
            writers.set_aside(writer)
        elif writers.live.get(self._today(writers)) is writer:
            self._is_away(writers, error)
        waiting = [batch for batch in writer.log.kept if batch.seq in writer.waiting]
        if waiting and await self._spooler.write([(batch, writer.waiting.pop(batch.seq)) for batch in waiting]):
            writer.on_disk_too(waiting[0].seq, waiting[-1].seq)
        if writer.gathered and not writer.log.on_disk:  # last of all: from here on nobody finds this log busy
            if error.store == "postgres":
                fresh = writers.live_writer(writer.log.day)
                writer.hand_over(fresh)
                self.wake(writers, fresh)
            else:
                spool_writer = writers.spool_writer(writer.log.day)
                writer.hand_over(spool_writer)
                self._spooler.wake(writers, spool_writer)

    def _stored(self, writers: SiteWriters, writer: Writer) -> None:
        """What is on the disk now may be sent."""
        if writers.away_since_s is None:
            self.wake(writers, writer)

    def _is_away(self, writers: SiteWriters, error: StoreUnavailable) -> None:
        writers.why_away = str(error)
        if writers.away_since_s is None:
            writers.away_since_s = self._clock()
            logger.error("Redis takes no beacons; they go to the disk. site=%s error=%s", writers.site.id, error)

    def _is_back(self, writers: SiteWriters) -> None:
        if writers.away_since_s is None:
            return
        away_s = self._clock() - writers.away_since_s
        logger.info("Redis takes beacons again. site=%s away_s=%.0f", writers.site.id, away_s)
        writers.away_since_s = None
        for writer in writers:
            if writer.log.behind:
                self.wake(writers, writer)

    def _today(self, writers: SiteWriters) -> date:
        return self._periods.now(writers.site.zone)[1].day

    def _stamp_ms(self) -> int:
        return int((self._clock() + self._skew_s) * 1000)
