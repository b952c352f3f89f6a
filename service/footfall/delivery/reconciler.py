"""Keeps a worker's logs in step with Redis and Postgres: forgets what is durable, sends again what was lost.

It runs beside the rollup, whichever worker does the rollup. It knows no faults, only sequence numbers: what Postgres
has of each log is forgotten here, what Redis lacks is sent again.
"""

import asyncio
import logging
import random
from collections import Counter
from heapq import heapify, heappop, heappush

from footfall.background import raise_all, run_each
from footfall.delivery.recorder import Recorder
from footfall.delivery.sender import LogSender
from footfall.delivery.spool_writer import SpoolWriter
from footfall.errors import StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.availability import UP
from footfall.model.batch import Batch
from footfall.model.batch_log import BatchLog
from footfall.model.site_id import SiteId
from footfall.stores.spool_orphans import SpooledLog
from footfall.stores.store_pair import StorePair
from footfall.sync.repairs import Repairs

logger = logging.getLogger(__name__)

PROBES_AT_ONCE = 16
FAILURES_MAX = 3
"""Sites of one server that may fail before its others wait for the next step: each may take its whole deadline."""
SPOOL_DAMAGED = "spool_damaged"
"""Kind of the event: a spool file was not whole; the detail is its name."""
MEMORY_AFTER_FORGETTING = 0.9
"""Part of `keep_max_bytes` that stays in use when batches had to be forgotten."""


class Reconciler:
    """Reads the sequence numbers of both stores for every log of a worker, and acts on them."""

    def __init__(
        self,
        retained_max_bytes: int,
        recorder: Recorder,
        stores: StorePair,
        spool_writer: SpoolWriter,
        repairs: Repairs,
        metrics: Metrics,
    ) -> None:
        self._retained_max_bytes = retained_max_bytes
        self._recorder = recorder
        self._stores = stores
        self._spool_writer = spool_writer
        self._spool = spool_writer.spool
        self._changed = repairs.changed
        self._events = repairs.events
        self._metrics = metrics
        self._redis = ""
        """Which Redis it was when logs that are durable were last compared."""
        self._put: set[Batch] = set()
        """Batches that were put on the disk because this worker ends."""
        self._to_compare: set[SiteId] = set()
        """Sites whose durable logs are still to be compared: Redis is another server, or was emptied."""

    async def step(self) -> None:
        """Forget what Postgres has, adopt logs that were left behind, send again what Redis lacks, look at the disk.

        Each of these runs although another one failed; what they raised is raised at the end.
        """
        await run_each(
            self._adopt,
            self._record_damaged_files,
            self._spool_writer.check,
            self._forget_durable,
            self._clear_disk,
            self._resend_missing,
            self._retire,
        )

    async def quick_step(self) -> None:
        """Ask Redis again where it took no beacons, and keep memory within its bound."""
        await run_each(self._free_memory, self._probe, self._spool_writer.look, self._export)

    async def _probe(self) -> None:
        away = [site for site in self._recorder.sites.values() if site.redis is not UP]
        self._metrics.not_ready.set(len(away))
        random.shuffle(away)  # so that sites which stay away do not hide others that are back
        faults: list[Exception] = []
        for first in range(0, len(away), PROBES_AT_ONCE):
            some = away[first : first + PROBES_AT_ONCE]
            opened = await asyncio.gather(*(site.probe() for site in some), return_exceptions=True)
            faults += [error for error in opened if isinstance(error, Exception)]
            if True not in opened:
                break
        raise_all(faults)

    async def _export(self) -> None:
        self._metrics.queue_beacons.set(self._recorder.queued)
        self._metrics.retained_bytes.set(self._recorder.retained_bytes)
        self._metrics.spool_bytes.set(self._spool.folder_bytes)
        self._metrics.spool_used_ratio.set(self._spool.used_ratio)
        self._metrics.damaged_batches.inc(self._spool.take_damaged())
        self._metrics.lost_page_views.inc(self._spool.take_lost_page_views())

    async def close(self) -> None:
        """Drop from the disk what Postgres has by now, and put there what it has not, if anything came since."""
        self._spool_writer.close()
        await run_each(self._forget_durable, self._clear_disk, self.put_on_disk)

    async def put_on_disk(self) -> None:
        """Leave nothing in memory alone: put on the disk what Postgres does not have, as far as this worker knows."""
        in_memory = [sender for sender in self._senders() if not sender.log.on_disk]
        # First what Redis lacks: the rest is needed only if Redis loses it.
        for is_acked in (False, True):
            left = {sender: self._only_here(sender.log, is_acked=is_acked) for sender in in_memory}
            batches = [batch for of_log in left.values() for batch in of_log]
            if not batches:
                continue
            try:
                await self._spool.write(batches)
            except StoreUnavailable as error:
                logger.error(
                    "Batches that Postgres does not have yet could not be put on the disk. batches=%d error=%s",
                    len(batches),
                    error,
                )
                continue
            self._put.update(batches)
            for sender, of_log in left.items():
                if of_log:
                    sender.mark_spilled(of_log)

    def _only_here(self, log: BatchLog, *, is_acked: bool) -> list[Batch]:
        return [batch for batch in log.retained if (batch.seq <= log.acked) is is_acked and batch not in self._put]

    def _senders(self) -> list[LogSender]:
        return [sender for site in self._recorder.sites.values() for sender in site]

    async def _forget_durable(self) -> None:
        senders = [sender for sender in self._senders() if sender.log.durable < sender.log.stored]
        if not senders:
            return
        logs = [(sender.log.site_id, sender.log.day, sender.log.log_id) for sender in senders]
        try:
            seqs = await self._stores.postgres.durable(logs)
        except StoreUnavailable as error:
            logger.debug("Postgres did not answer which batches are durable; all are retained. error=%s", error)
            return
        for sender, seq in zip(senders, seqs, strict=True):
            sender.mark_durable(seq)

    async def _clear_disk(self) -> None:
        faults: list[Exception] = []
        for sender in self._senders():
            try:
                await sender.clear_disk()
            except StoreUnavailable as error:
                logger.debug("The spool drops nothing now; the next step tries again. error=%s", error)
                break
            except Exception as error:  # noqa: BLE001 - one log must not stop the others; raised below
                faults.append(error)
        raise_all(faults)

    async def _adopt(self) -> None:
        try:
            adopted = await self._spool.adopt()
        except StoreUnavailable as error:
            logger.debug("No spool file can be taken over now. error=%s", error)
            return
        faults: list[Exception] = []
        for found in adopted:
            try:
                self._continue(found)
            except Exception as error:  # noqa: BLE001 - one log must not stop the others; raised below
                faults.append(error)
        raise_all(faults)

    def _continue(self, found: SpooledLog) -> None:
        site = self._recorder.sites.get(found.site_id)
        if site is None:
            logger.error("A spooled log belongs to a site that is not configured; it is kept. site=%s", found.site_id)
            return
        site.adopt(BatchLog.adopted(found.site_id, found.day, found.log_id, found.last_seq, found.views))
        self._changed.note(found.site_id)  # its worker may have counted what no rollup has copied
        logger.info(
            "A spooled log was taken over. site=%s day=%s batches_to=%d",
            found.site_id,
            found.day,
            found.last_seq,
        )

    async def _record_damaged_files(self) -> None:
        """Record, for reports, that batches may be lost: of every site where the file does not say of which."""
        for file in self._spool.take_damaged_files():
            self._metrics.damaged_spool_files.inc()
            sites = (file.site_ids & self._recorder.sites.keys()) or self._recorder.sites.keys()
            for site_id in sorted(sites):
                self._events.note(SPOOL_DAMAGED, file.kept_as, site_id)
        await self._events.write()

    async def _resend_missing(self) -> None:
        """Compare what is not durable; what is, only with a Redis that may have lost it: idle sites cost nothing."""
        await self._look_which_redis()
        failed, faults = Counter[str](), list[Exception]()
        for site_id, site in self._recorder.sites.items():
            server = self._stores.redis.server_of(site_id)
            if site.redis is not UP or failed[server] >= FAILURES_MAX:
                continue
            try:
                await site.resend_missing(durable_too=site_id in self._to_compare)
            except StoreUnavailable as error:
                failed[server] += 1
                logger.debug("A site's logs could not be compared. site=%s error=%s", site_id, error)
            except Exception as error:  # noqa: BLE001 - one site must not stop the others; raised below
                faults.append(error)
            else:
                self._to_compare.discard(site_id)
        raise_all(faults)

    async def _look_which_redis(self) -> None:
        try:
            redis = await self._stores.redis.identity()
        except StoreUnavailable as error:
            logger.debug("Redis does not say which server it is. error=%s", error)
            return
        if redis != self._redis:
            self._redis = redis
            self._to_compare = set(self._recorder.sites)

    async def _retire(self) -> None:
        for site in self._recorder.sites.values():
            site.retire()

    async def _free_memory(self) -> None:
        """Forget the oldest batches that Redis has while memory is over its bound."""
        in_use = self._recorder.retained_bytes
        if in_use <= self._retained_max_bytes:
            return
        goal = int(self._retained_max_bytes * MEMORY_AFTER_FORGETTING)
        logs = [sender.log for sender in self._senders() if not sender.log.on_disk]
        oldest_first = [(log.retained[0].seen_ms, place) for place, log in enumerate(logs) if log.retained]
        heapify(oldest_first)
        while oldest_first and in_use > goal:
            _, place = heappop(oldest_first)
            # A batch that Redis lacks is never forgotten; the queue's limit bounds them.
            if batch := logs[place].forget_oldest():
                in_use -= batch.size_bytes
                self._metrics.forgotten.inc()
                if retained := logs[place].retained:
                    heappush(oldest_first, (retained[0].seen_ms, place))
