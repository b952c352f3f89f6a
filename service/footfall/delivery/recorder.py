"""Where beacons enter delivery: each joins the log of its site and day, and is answered once it is stored."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import date

from footfall.delivery.pending import SharedAnswer, View
from footfall.delivery.recent_views import RecentViews
from footfall.delivery.sender import Outlets
from footfall.delivery.site_delivery import SiteDelivery
from footfall.errors import Reason, Refused
from footfall.model.availability import UP
from footfall.model.clocks import MonotonicClock
from footfall.model.counts import Reading
from footfall.model.pages import PageReading
from footfall.model.periods import Periods
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from footfall.sync.repairs import Repairs


class Recorder:
    """The beacons of one worker, from the use case to Redis or the spool."""

    def __init__(
        self,
        sites: Iterable[Site],
        outlets: Outlets,
        repairs: Repairs,
        periods: Periods,
        monotonic: MonotonicClock,
    ) -> None:
        self._queue = outlets.queue
        self._redis = outlets.redis
        self._recent_views = RecentViews(monotonic)
        self._repeated_views = outlets.metrics.repeated_views
        self.sites: dict[SiteId, SiteDelivery] = {
            site.id: SiteDelivery(site, outlets, repairs, periods) for site in sites
        }

    def record(
        self, site: Site, day: date, visitor_id: bytes | None, previous_week_id: bytes | None, view: View | None
    ) -> SharedAnswer:
        """Record one beacon of `day`; what is returned answers once the beacon is in Redis or on this host's disk.

        Without a `view` it is a ping. One that this worker has taken before gets the answer of that time. Of
        others that a page sends again, Redis knows whether another worker has counted them.

        Raises Refused(BUSY) where the queue is full, and Refused(NOT_READY) for a view that is sent again while Redis
        is away: nothing was stored. Awaiting the answer raises
        Refused(SPOOL_FULL) where neither Redis nor the disk takes the beacon. A caller that stops waiting cancels
        nothing: the beacon counts.
        """
        if view is None or not view.id:
            self._queue.enter(site.id)
            return self.sites[site.id].enqueue(day, visitor_id, previous_week_id, view)
        if (answer := self._recent_views.answer(site.id, view.id)) is not None:
            self._repeated_views.inc()
            return answer
        if view.is_repeat and self.sites[site.id].redis is not UP:
            raise Refused(Reason.NOT_READY)
        self._queue.enter(site.id)
        answer = self.sites[site.id].enqueue(day, visitor_id, previous_week_id, view)
        self._recent_views.remember(site.id, view.id, answer)
        return answer

    @property
    def queued(self) -> int:
        """Beacons that wait for an answer now."""
        return self._queue.beacons

    @property
    def retained_bytes(self) -> int:
        """Memory in use by batches that Postgres does not have; pages read from the disk are not among them."""
        logs = (sender.log for site in self.sites.values() for sender in site)
        return sum(log.retained_bytes for log in logs if not log.on_disk)

    async def read(self, site: Site) -> Reading:
        """Read the numbers of a site, restoring it where Redis has lost it; raises StoreUnavailable."""
        return await self.sites[site.id].read()

    async def read_pages(self, site: Site, pages: Sequence[str]) -> PageReading:
        """Read the views of pages of a site; without views while Redis is not ready. Raises StoreUnavailable."""
        return await self._redis.read_pages(site, pages)

    async def settle(self) -> None:
        """Wait until no beacon waits for an answer and no batch is being sent."""
        while tasks := [task for site in self.sites.values() for task in site.tasks]:
            await asyncio.wait(tasks)
