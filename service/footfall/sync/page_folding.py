"""Folds the views of pages by day into months, once a day for each site: days are kept for `pages_kept_days`.

A step does a bounded part. Only the day on which a site was done is remembered, and which sites fail, so that any
worker may stop anywhere, and two may do it at once.
"""

import logging
from collections.abc import Iterable
from datetime import date, timedelta

from footfall.errors import StoreUnavailable
from footfall.log_throttle import ReportedFailures, some_of
from footfall.metrics.metrics import Metrics
from footfall.model.clocks import Clock
from footfall.model.retention import Retention
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from footfall.stores.store_pair import StorePair
from footfall.sync.site_failures import Failure, failures_by_reason

logger = logging.getLogger(__name__)

CHUNK = 100
"""Months of pages in one transaction, of up to 31 days each."""
CHUNKS_MAX = 5
"""Transactions and failures in one step."""


class PageFolding:
    """Folds the pages of one worker's sites."""

    def __init__(self, sites: Iterable[Site], stores: StorePair, metrics: Metrics, clock: Clock) -> None:
        self._sites = list(sites)
        self._stores = stores
        self._metrics = metrics
        self._clock = clock
        self._done: dict[SiteId, date] = {}
        """The day on which the pages of a site were last folded to the end."""
        self._failed: dict[SiteId, Exception] = {}
        self._failed_since_s: dict[SiteId, float] = {}
        self._reported = ReportedFailures()

    async def step(self) -> None:
        """Fold some of what is due; what is left, or fails, has its turn in the next step. Raises nothing."""
        chunks = 0
        for site in self._sites:
            if self._done.get(site.id) == Retention.at(self._clock(), site.zone).today:
                continue
            try:
                chunks += await self._fold(site, CHUNKS_MAX - chunks)
            except Exception as error:  # noqa: BLE001 - one site's failure, whatever it is, must not stop the others
                chunks += 1  # it may have taken a store's whole deadline
                await self._note_failure(site, error)
            else:
                self._failed.pop(site.id, None)
                self._failed_since_s.pop(site.id, None)
            if chunks >= CHUNKS_MAX:
                break
        self._report_failures()

    def failures(self) -> list[Failure]:
        """Return why the pages of sites cannot be folded, one entry a reason."""
        return failures_by_reason(self._failed, self._failed_since_s, self._clock())

    async def _fold(self, site: Site, chunks_max: int) -> int:
        """Fold pages of a site in a bounded number of transactions, and return how many it took."""
        retention = Retention.at(self._clock(), site.zone)
        # It names the days that Redis still has: they stay as they are.
        snapshot = await self._stores.redis.snapshot(site.id, [], all_days=False)
        if snapshot is None:  # not ready
            return 0
        before = min([retention.today - timedelta(days=site.pages_kept_days), *snapshot.present])
        for chunk in range(chunks_max):
            folded = await self._stores.postgres.fold_pages(site.id, before, CHUNK)
            if folded is None:  # another worker does it
                return chunk + 1
            if folded == 0:
                self._done[site.id] = retention.today
                return chunk + 1
        return chunks_max

    async def _note_failure(self, site: Site, error: Exception) -> None:
        """Note why a site fails, unless a store is away or Redis is damaged: the rollup reports these."""
        if isinstance(error, StoreUnavailable):
            logger.debug("No pages are folded now; the next step tries again. site=%s error=%s", site.id, error)
            if error.store != "postgres":
                return
            try:
                await self._stores.postgres.incarnation()
            except StoreUnavailable:
                return
        self._failed[site.id] = error
        self._failed_since_s.setdefault(site.id, self._clock())

    def _report_failures(self) -> None:
        """Log which sites began to fail and which recovered: one line each, however often they are tried."""
        failing = {site_id: self._failed[site_id] for failure in self.failures() for site_id in failure.site_ids}
        self._metrics.sites_not_folded.set(len(failing))
        if began := self._reported.began(failing.keys()):
            error = failing[SiteId(began[0])]
            logger.warning(
                "Old days of pages cannot be folded into months and are tried again: no view is lost, and PostgreSQL's"
                " tables grow. `footfall doctor` checks the rights. sites=%s error=%r",
                some_of(began),
                error,
                exc_info=None if isinstance(error, StoreUnavailable) else error,
            )
        if ended := self._reported.ended(failing.keys()):
            logger.info("Old days of pages are folded again. sites=%s", some_of(ended))
