"""Group commit to this host's disk: one transaction, and one fsync, for all that waits."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from footfall.errors import StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.batch import Batch
from footfall.stores.spool_store import Spool
from footfall.sync.event_book import EVERY_SITE, EventBook

logger = logging.getLogger(__name__)

CALM_S = 10.0
"""A disk that is all but full takes small batches only: it takes beacons again after this time without a refusal."""
CHECK_EVERY_S = 60.0
"""How often a disk is looked at that nothing is written to: it is there for the next outage of Redis."""


@dataclass(slots=True)
class Refusing:
    """The disk refuses batches: since when, how many beacons so far, and when last."""

    since_s: float
    last_s: float
    beacons: int = 0


class SpoolWriter:
    """Writes batches to the spool; batches that arrive during a write, of any site, share the next one.

    The log has one line when the disk begins to refuse them, and one when it takes them again, with what was refused.
    """

    def __init__(
        self, spool: Spool, events: EventBook, metrics: Metrics, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.spool = spool
        self._events = events
        self._metrics = metrics
        self._monotonic = monotonic
        self._refusing: Refusing | None = None
        self._check_at_s = float("-inf")
        self._is_reported = False
        """Whether the log has a line that a look found the disk to take nothing."""
        self._waiting: list[tuple[Sequence[Batch], asyncio.Future[bool]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def write(self, batches: Sequence[Batch]) -> bool:
        """Write batches; return True once they are on the disk (fsynced), False where the disk refused them.

        After False they may be on the disk all the same.
        """
        on_disk: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((batches, on_disk))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        return await on_disk

    async def look(self) -> None:
        """Note that the disk takes batches again, although none may come now that would show it."""
        refusing = self._refusing
        if refusing is None or self._monotonic() - refusing.last_s < CALM_S:
            return
        try:
            await self.spool.check()
        except StoreUnavailable:
            return
        self._refusing = None
        self._metrics.store_up.labels("spool").set(1)
        self._events.note_lasting("spool_full", self._monotonic() - refusing.since_s)
        logger.info(
            "The spool takes beacons again. refused_beacons=%d refused_s=%.0f",
            refusing.beacons,
            self._monotonic() - refusing.since_s,
        )

    async def check(self) -> None:
        """Note now and then whether the disk takes batches: while Redis takes all, none comes that would show it."""
        if self._refusing is not None or self._monotonic() < self._check_at_s:
            return
        try:
            await self.spool.check()
        except StoreUnavailable as error:
            self._metrics.store_up.labels("spool").set(0)
            if not (self._is_reported or self.spool.refused_open):
                self._is_reported = True
                logger.error("The spool takes nothing: while Redis is away, beacons would get 503. error=%s", error)
            return
        self._check_at_s = self._monotonic() + CHECK_EVERY_S
        if self._refusing is None:
            self._metrics.store_up.labels("spool").set(1)
        if self._is_reported:
            self._is_reported = False
            logger.info("The spool takes batches again.")

    def close(self) -> None:
        """Note that the disk refuses beacons, where it still does."""
        if self._refusing is not None:
            self._events.note_lasting("spool_full", self._monotonic() - self._refusing.since_s)

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                is_on_disk = await self._write([batch for batches, _ in waiting for batch in batches])
                for _, on_disk in waiting:
                    if not on_disk.done():
                        on_disk.set_result(is_on_disk)
        finally:
            self._writing = None

    async def _write(self, batches: Sequence[Batch]) -> bool:
        try:
            await self.spool.write(batches)
        except StoreUnavailable as error:
            self._note_refused(batches, error)
            return False
        except Exception as error:  # noqa: BLE001 - whatever the fault is, the beacons that wait get an answer
            self._metrics.internal_faults.inc()
            self._note_refused(batches, error)
            return False
        self._metrics.store_up.labels("spool").set(1)
        return True

    def _note_refused(self, batches: Sequence[Batch], error: Exception) -> None:
        self._metrics.store_up.labels("spool").set(0)
        now_s = self._monotonic()
        if self._refusing is None:
            self._refusing = Refusing(now_s, now_s)
            self._events.note_running("spool_full", {EVERY_SITE: 0})
            logger.error(
                "The spool refuses beacons, which get 503 until Redis or the disk takes them. error=%s",
                error,
                exc_info=None if isinstance(error, StoreUnavailable) else error,
            )
        self._refusing.last_s = now_s
        self._refusing.beacons += sum(batch.beacons for batch in batches)
