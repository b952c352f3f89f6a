"""Sends batches to Redis, reads a site's numbers there, and shares every reading that comes back."""

from collections.abc import Awaitable, Sequence
from datetime import date
from typing import NamedTuple

from footfall.display.counts_cache import CountsCache
from footfall.display.page_views import PageViews
from footfall.errors import StoreDamaged, StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.batch import Batch
from footfall.model.clocks import MONOTONIC_CLOCK, MonotonicClock
from footfall.model.pages import PageReading, names_in
from footfall.model.periods import Periods
from footfall.settings.settings import Site
from footfall.stores.redis_store import Recorded, RedisStore
from footfall.sync.restore import Restore


class Displays(NamedTuple):
    """What shows the numbers of a worker, and gets each reading that comes back."""

    counts_cache: CountsCache
    page_views: PageViews


class RedisWriter:
    """The record script as a worker calls it: one call, one answer, never repeated here."""

    def __init__(
        self,
        redis: RedisStore,
        restore: Restore,
        displays: Displays,
        periods: Periods,
        metrics: Metrics,
        monotonic: MonotonicClock = MONOTONIC_CLOCK,
    ) -> None:
        self._redis = redis
        self._restore = restore
        self._counts_cache, self._page_views = displays
        self._periods = periods
        self._metrics = metrics
        self._up = metrics.store_up.labels("redis")
        self._is_up = False
        """What this gauge says."""
        self._monotonic = monotonic
        self._skew_s = 0.0
        self._heard_s = 0.0
        """Redis' time when it last answered, seconds since the epoch."""
        self._heard_at_s = monotonic()

    def now_ms(self) -> int:
        """Return Redis' time, as last heard, in milliseconds since the epoch: batches are stamped with it.

        This host's clock may be set back at any moment: what comes then is not old.
        """
        at_least_s = self._heard_s + self._monotonic() - self._heard_at_s
        return int(max(self._periods.clock() + self._skew_s, at_least_s) * 1000)

    async def record(self, site: Site, batch: Batch, *, skip_gap: bool) -> Recorded:
        """Send a batch; raises StoreUnavailable: Redis may have applied the batch or not."""
        try:
            recorded = await self._call(site, batch, skip_gap=skip_gap)
        except StoreUnavailable:
            self._metrics.flush("error").inc(1)
            raise
        if recorded.pages.views:
            not_known = self._page_views.accept(site.id, names_in(batch.pages), recorded.pages)
            self._page_views.outdate(site.id, not_known)
        self._metrics.flush(recorded.answer).inc(1)
        return recorded

    async def read(self, site: Site) -> Recorded:
        """Read the numbers of a site with the same script; raises StoreUnavailable."""
        return await self._call(site, None)

    async def read_pages(self, site: Site, pages: Sequence[str]) -> PageReading:
        """Read the views of pages, and the numbers of their site with them; raises StoreUnavailable."""
        _, period = self._periods.now(site.zone)
        recorded = await self._heard(site, self._redis.read_pages(site.id, period, site.online_window_s, pages))
        return recorded.pages

    async def acked(self, site: Site, logs: Sequence[tuple[date, str]]) -> list[int]:
        """Read the seq that Redis has of each (day, log id); 0 for one that it does not know."""
        try:
            return await self._redis.acked(site.id, logs)
        except StoreDamaged:
            await self._restore.mend(site)
            raise

    async def _call(self, site: Site, batch: Batch | None, *, skip_gap: bool = False) -> Recorded:
        _, period = self._periods.now(site.zone)
        call = self._redis.record(
            site.id, period, site.online_window_s, batch, exact_up_to=site.exact_up_to, skip_gap=skip_gap
        )
        return await self._heard(site, call)

    async def _heard(self, site: Site, call: Awaitable[Recorded]) -> Recorded:
        """Await an answer, and share the numbers in it."""
        try:
            recorded = await call
        except StoreUnavailable as error:
            self._show(is_up=False)
            if isinstance(error, StoreDamaged):
                await self._restore.mend(site)
            raise
        if recorded.reading is not None:
            self._show(is_up=True)
            self._heard_s, self._heard_at_s = recorded.reading.at_ms / 1000, self._monotonic()
            self._skew_s = self._heard_s - self._periods.clock()
            self._metrics.clock_skew.set(self._skew_s)
            self._counts_cache.accept(site, recorded.reading)
        return recorded

    def _show(self, *, is_up: bool) -> None:
        if is_up is not self._is_up:
            self._is_up = is_up
            self._up.set(is_up)
