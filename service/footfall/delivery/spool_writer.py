"""Brings beacons to this host's disk while Redis takes none: the other half of `recorder.py`.

What gathers while the disk writes goes along with the next write, of all sites in one transaction. A beacon is
answered once it is there (fsync), or refused where the disk takes nothing.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from footfall.delivery.pending import Gathered, Queue, SiteWriters, StoredIn, Writer
from footfall.errors import StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.batch_log import Batch
from footfall.stores.spool_store import Spool

logger = logging.getLogger(__name__)


class Spooler:
    """Writes what has gathered for the spool, and tells when it is there."""

    def __init__(
        self,
        spool: Spool,
        queue: Queue,
        metrics: Metrics,
        stamp_ms: Callable[[], int],
        stored: Callable[[SiteWriters, Writer], None],
    ) -> None:
        self._spool = spool
        self._queue = queue
        self._metrics = metrics
        self._stamp_ms = stamp_ms
        self._stored = stored
        """Told of each log of which more is on the disk."""
        self._waiting: dict[Writer, SiteWriters] = {}
        self.writing: asyncio.Task[None] | None = None
        """The task that writes, while there is something to write."""

    def wake(self, writers: SiteWriters, writer: Writer) -> None:
        """Have one task write what has gathered for a log."""
        self._waiting[writer] = writers
        if self.writing is None:
            self.writing = asyncio.create_task(self._write_all())

    async def write(self, rows: list[tuple[Batch, Gathered]]) -> bool:
        """Put batches on the disk and answer who waits for them; where it takes nothing, refuse them all: False."""
        try:
            await self._spool.write([batch for batch, _ in rows])
        except StoreUnavailable as error:
            self._metrics.store_up.labels("spool").set(0)
            logger.debug("The spool takes nothing. error=%s", error)
            for batch, gathered in rows:
                self._queue.refuse(batch.site, gathered)
            return False
        self._metrics.store_up.labels("spool").set(1)
        for batch, gathered in rows:
            self._metrics.spooled.inc(batch.beacons)
            self._queue.answer(batch.site, gathered, StoredIn.DISK)
        return True

    async def _write_all(self) -> None:
        """Write what has gathered for the spool, of all sites in one transaction, until nothing gathers."""
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, {}
                rows: list[tuple[Batch, Gathered]] = []
                for writer in waiting:
                    while numbered := writer.number(self._stamp_ms()):
                        rows.append(numbered)
                on_disk = await self.write(rows)
                for writer, writers in waiting.items():
                    if on_disk:
                        writer.log.stored()
                        self._stored(writers, writer)
                    else:
                        self._not_stored(writers, writer)
        finally:
            self.writing = None

    def _not_stored(self, writers: SiteWriters, writer: Writer) -> None:
        """Go on with another log: numbers that may or may not be on the disk are not used again."""
        writer.log.not_stored()
        self._waiting.pop(writer, None)
        late, writer.gathered = writer.gathered, deque()
        writers.set_aside(writer)
        if late:
            fresh = writers.spool_writer(writer.log.day)
            fresh.gathered.extend(late)
            self._waiting[fresh] = writers
