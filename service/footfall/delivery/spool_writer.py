"""Group commit to this host's disk: one transaction, and one fsync, for all that waits."""

import asyncio
import logging
from collections.abc import Sequence

from footfall.errors import StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.batch import Batch
from footfall.stores.spool_store import Spool

logger = logging.getLogger(__name__)


class SpoolWriter:
    """Writes batches to the spool; batches that arrive during a write, of any site, share the next one."""

    def __init__(self, spool: Spool, metrics: Metrics) -> None:
        self._spool = spool
        self._metrics = metrics
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
            await self._spool.write(batches)
        except StoreUnavailable as error:
            self._metrics.store_up.labels("spool").set(0)
            logger.debug("The spool refuses batches. error=%s", error)
            return False
        self._metrics.store_up.labels("spool").set(1)
        return True
