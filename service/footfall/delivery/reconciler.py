"""Keeps a worker's logs, Redis and Postgres in step: forgets what is durable, finds what was lost, sends it again.

It runs beside the rollup, whoever does the rollup. It knows no faults, only numbers: how far Postgres has each
log (forget up to there) and how far Redis has it (send on from there).
"""

import asyncio
import logging
import random
from heapq import heapify, heappop, heappush

from footfall.delivery.pending import SiteWriters, Writer
from footfall.delivery.recorder import Recorder
from footfall.errors import StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.batch_log import Log
from footfall.model.periods import Clock, local_day
from footfall.settings.settings import Settings
from footfall.stores.postgres_store import PostgresStore
from footfall.stores.redis_store import RedisStore
from footfall.stores.spool_store import Spool
from footfall.sync.restore import Restore, first_needed_day
from footfall.sync.rollup import Rollup

logger = logging.getLogger(__name__)

PROBES_AT_ONCE = 16
FAILURES_MAX = 3
"""Sites that may fail before the rest waits for the next time: each may take Redis' whole deadline."""
ROOM_AFTER_FORGETTING = 0.9
"""Part of `keep_max_bytes` that is left in use when batches had to be forgotten."""


class Reconciler:
    """Reads both stores' numbers for every log of a worker, and acts on them."""

    def __init__(
        self,
        settings: Settings,
        redis: RedisStore,
        postgres: PostgresStore,
        spool: Spool,
        recorder: Recorder,
        restore: Restore,
        rollup: Rollup,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._postgres = postgres
        self._spool = spool
        self._recorder = recorder
        self._restore = restore
        self._rollup = rollup
        self._metrics = metrics
        self._clock = clock

    async def step(self) -> None:
        """Roll up, then forget what Postgres has, adopt what is left behind, and send again what Redis lacks."""
        await self._rollup.step()
        await self._adopt()
        await self._forget_durable()
        await self._clear_disk()
        await self._send_again()
        for writers in self._recorder.sites.values():
            writers.retire(local_day(self._clock(), writers.site.zone))

    async def quick_step(self) -> None:
        """Ask Redis again where it took no beacons, and keep memory within its bound."""
        self._forget_for_room()
        away = [writers for writers in self._recorder.sites.values() if writers.away_since_s is not None]
        random.shuffle(away)  # so that sites which stay away do not hide others that are back
        for first in range(0, len(away), PROBES_AT_ONCE):
            some = away[first : first + PROBES_AT_ONCE]
            if not any(await asyncio.gather(*map(self._recorder.probe, some))):
                break
        self._metrics.queue_beacons.set(self._recorder.queued)
        self._metrics.kept_bytes.set(self._recorder.kept_bytes)
        self._metrics.spool_bytes.set(self._spool.used_bytes)
        self._metrics.damaged_batches.inc(self._spool.take_damaged())
        self._metrics.not_ready.set(len(away))

    async def close(self) -> None:
        """Leave nothing behind in memory: send, roll up, and put on the disk what Postgres does not have yet."""
        await self._recorder.settle()
        await self._rollup.step()
        await self._forget_durable()
        await self._clear_disk()
        in_memory = [writer.log for writer in self._writers() if not writer.log.on_disk]
        # First what Redis has not: the rest is needed only if Redis loses it.
        for applied in (False, True):
            left = [batch for log in in_memory for batch in log.kept if (batch.seq <= log.applied) is applied]
            if not left:
                continue
            try:
                await self._spool.write(left)
            except StoreUnavailable as error:
                logger.error(
                    "Batches that Postgres does not have yet could not be put on the disk. batches=%d error=%s",
                    len(left),
                    error,
                )

    def _writers(self) -> list[Writer]:
        return [writer for writers in self._recorder.sites.values() for writer in writers]

    async def _forget_durable(self) -> None:
        asked = [writer for writer in self._writers() if writer.log.durable < writer.log.written]
        if not asked:
            return
        try:
            numbers = await self._postgres.durable([(w.log.site, w.log.day, w.log.id) for w in asked])
        except StoreUnavailable as error:
            logger.debug("What is durable could not be told; it is kept. error=%s", error)
            return
        for writer, number in zip(asked, numbers, strict=True):
            freed = writer.log.postgres_has(number)
            if not writer.log.on_disk:
                self._recorder.kept_bytes -= freed

    async def _clear_disk(self) -> None:
        try:
            for writer in self._writers():
                durable = writer.log.durable
                if writer.uses_disk and writer.cleared < durable:
                    await self._spool.delete(writer.log.id, durable)
                    writer.cleared = durable
        except StoreUnavailable as error:
            logger.debug("The spool drops nothing now; it is told again. error=%s", error)

    async def _adopt(self) -> None:
        try:
            adopted = await self._spool.adopt()
        except StoreUnavailable as error:
            logger.debug("No spool file can be taken over now. error=%s", error)
            return
        for found in adopted:
            writers = self._recorder.sites.get(found.site)
            if writers is None:
                logger.error("A spooled log belongs to a site that is not configured; it is kept. site=%s", found.site)
                continue
            orphan = Log.left_behind(found.site, found.day, found.log, found.last, found.views)
            writers.others.append(Writer(orphan))
            self._restore.note_change(found.site)  # its worker may have counted what nobody has rolled up
            logger.info(
                "A spooled log was taken over. site=%s day=%s batches_to=%d",
                found.site,
                found.day,
                found.last,
            )

    async def _send_again(self) -> None:
        failed = 0
        for writers in self._recorder.sites.values():
            if writers.away_since_s is None and failed < FAILURES_MAX:
                try:
                    await self._compare(writers)
                except StoreUnavailable as error:
                    failed += 1
                    logger.debug("A site's logs could not be compared. site=%s error=%s", writers.site.id, error)

    async def _compare(self, writers: SiteWriters) -> None:
        asked = [writer for writer in writers if writer.log.written and writer.sending is None]
        if not asked:
            return
        site, known = writers.site, [writer.log.applied for writer in asked]
        numbers = await self._redis.applied(site.id, [(w.log.day, w.log.id) for w in asked])
        fallen = []
        for writer, before, number in zip(asked, known, numbers, strict=True):
            if writer.sending is not None or writer.log.applied != before:
                continue  # a batch went out since, and its answer tells more
            if number < min(before, writer.log.durable) and writer.log.day >= first_needed_day(site, self._clock()):
                fallen.append((writer.log, number))
                continue
            writer.log.redis_has(number)
            if writer.log.behind:
                self._recorder.wake(writers, writer)
        if fallen:  # Redis lost what was forgotten here since Postgres has it
            await self._restore.join_days(site, sorted({fell.day for fell, _ in fallen}))
            for fell, number in fallen:
                fell.redis_has(number)

    def _forget_for_room(self) -> None:
        if self._recorder.kept_bytes <= self._settings.keep_max_bytes:
            return
        goal = int(self._settings.keep_max_bytes * ROOM_AFTER_FORGETTING)
        in_memory = [writer.log for writer in self._writers() if not writer.log.on_disk]
        oldest_first = [(log.kept[0].seen_ms, place) for place, log in enumerate(in_memory) if log.kept]
        heapify(oldest_first)
        while oldest_first and self._recorder.kept_bytes > goal:
            _, place = heappop(oldest_first)
            # What is not in Redis yet is never forgotten; the queue's limit bounds it.
            if batch := in_memory[place].forget_oldest():
                self._recorder.kept_bytes -= batch.size_bytes
                self._metrics.forgotten.inc()
                if kept := in_memory[place].kept:
                    heappush(oldest_first, (kept[0].seen_ms, place))
