"""Folds the views of pages by day into months, once a day for each site: days are kept for `pages_kept_days`.

A step does a bounded part. Nothing is remembered but the day on which a site was done, so that any worker may stop
anywhere, and two may do it at once.
"""

import logging
from collections.abc import Iterable
from datetime import date, timedelta

from footfall.errors import StoreUnavailable
from footfall.model.clocks import Clock
from footfall.model.retention import Retention
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from footfall.stores.store_pair import StorePair

logger = logging.getLogger(__name__)

CHUNK = 100
"""Months of pages in one transaction, of up to 31 days each."""
CHUNKS_MAX = 5
"""Transactions and failures in one step."""


class PageFolding:
    """Folds the pages of one worker's sites."""

    def __init__(self, sites: Iterable[Site], stores: StorePair, clock: Clock) -> None:
        self._sites = list(sites)
        self._stores = stores
        self._clock = clock
        self._done: dict[SiteId, date] = {}
        """The day on which the pages of a site were last folded to the end."""

    async def step(self) -> None:
        """Fold some of what is due; what is left, or fails, has its turn in the next step. Raises nothing."""
        chunks = 0
        for site in self._sites:
            retention = Retention.at(self._clock(), site.zone)
            if self._done.get(site.id) == retention.today:
                continue
            try:
                # It names the days that Redis still has: they stay as they are.
                snapshot = await self._stores.redis.snapshot(site.id, [], all_days=False)
                if snapshot is None:  # not ready
                    continue
                before = min([retention.today - timedelta(days=site.pages_kept_days), *snapshot.present])
                while chunks < CHUNKS_MAX:
                    chunks += 1
                    folded = await self._stores.postgres.fold_pages(site.id, before, CHUNK)
                    if folded is None:  # another worker does it
                        break
                    if folded == 0:
                        self._done[site.id] = retention.today
                        break
            except StoreUnavailable as error:
                logger.debug("No pages are folded now; the next step tries again. site=%s error=%s", site.id, error)
                chunks += 1  # it may have taken a store's whole deadline
            if chunks >= CHUNKS_MAX:
                return
