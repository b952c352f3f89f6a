"""Makes a site ready to be counted: its salts are known and shared, and Redis has all days that matter."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date

from footfall.errors import Reason, Refused, StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.clocks import Clock
from footfall.model.day_state import DayState
from footfall.model.retention import Retention
from footfall.model.salt import Salt
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from footfall.stores.store_pair import StorePair
from footfall.sync.event_book import EventBook
from footfall.sync.restore import Restore
from footfall.sync.salts import Salts

logger = logging.getLogger(__name__)

SALT_LOST = "salt_lost"
"""Kind of the event; its detail is the week."""


class SiteOpener:
    """Opens each site at most once at a time, however many beacons wait for it."""

    def __init__(
        self, stores: StorePair, restore: Restore, salts: Salts, events: EventBook, metrics: Metrics, clock: Clock
    ) -> None:
        self._stores = stores
        self._events = events
        self._restore = restore
        self.salts = salts
        """The salts that this worker knows, without asking the stores."""
        self._metrics = metrics
        self._clock = clock
        self._opening: dict[SiteId, asyncio.Task[bool]] = {}

    async def open(self, site: Site) -> bool:
        """Make sure that `site` may be counted and its salts are known; False when Redis is another installation's.

        Raises StoreUnavailable.
        """
        task = self._opening.get(site.id)
        if task is None:
            task = self._opening[site.id] = asyncio.create_task(self._open(site))
            task.add_done_callback(lambda _: self._opening.pop(site.id, None))
        return await asyncio.shield(task)

    async def salt(self, site: Site, week: date) -> bytes:
        """Return the salt of `week`, asking the stores; Refused(NOT_READY) where neither store has it."""
        try:
            await self.open(site)
        except StoreUnavailable as error:
            logger.debug("A site could not be opened. site=%s error=%s", site.id, error)
        key = self.salts.of(site, week)
        if key is None:
            raise Refused(Reason.NOT_READY, retry_after_s=5)
        return key

    def destroy_old_salts(self, sites: Mapping[SiteId, Site]) -> None:
        """Destroy this worker's copies of salts whose time is over."""
        self.salts.destroy_old(sites, self._clock())

    async def close(self) -> None:
        """Wait for the openings in progress."""
        await asyncio.gather(*self._opening.values(), return_exceptions=True)

    async def _open(self, site: Site) -> bool:
        retention = Retention.at(self._clock(), site.zone)
        await self._learn_saved_salts(site, retention)
        had_salt = self.salts.of(site, retention.week) is not None
        offers = self.salts.offers(site, retention.shared_weeks)
        keys = await self._stores.redis.share_salts(site.id, offers)
        if keys is None:
            keys = await self._restore_site(site, retention, offers)
        elif not had_salt and keys.get(retention.week) == offers[0].key:
            await self._look_for_visitors_without_salt(site, retention)  # Redis had lost it, of all that it has
        if keys is None:
            return False
        if retention.week in self.salts.learn(site, keys):
            await self._report_lost_salt(site, retention.week)
        return True

    async def _learn_saved_salts(self, site: Site, retention: Retention) -> None:
        """Learn from Postgres what this worker does not know: Redis may be away, or may have lost its salts."""
        unknown = [week for week in retention.shared_weeks if self.salts.of(site, week) is None]
        if unknown:
            with suppress(StoreUnavailable):
                self.salts.learn(site, await self._stores.postgres.salts(site.id, unknown))

    async def _restore_site(self, site: Site, retention: Retention, offers: list[Salt]) -> dict[date, bytes] | None:
        """Restore a site from Postgres; return the salts in force, None when Redis is another installation's."""
        if not self._stores.redis.installation:
            await self._stores.learn_installation()
        keys = await self._stores.postgres.share_salts(site.id, offers)
        days, closed = await self._stores.postgres.open_days(site.id, retention)
        if self.salts.of(site, retention.week) is None:
            await self._report_salt_of(site, days, retention.week)
        in_force = [salt._replace(key=keys[salt.week]) for salt in offers if salt.week in keys]
        return keys if await self._restore.open_site(site, days, closed, in_force) else None

    async def _look_for_visitors_without_salt(self, site: Site, retention: Retention) -> None:
        """Look whether this week, with a new key, has visitors already; while Postgres is away nothing says so."""
        with suppress(StoreUnavailable):
            days, _ = await self._stores.postgres.open_days(site.id, retention)
            await self._report_salt_of(site, days, retention.week)

    async def _report_salt_of(self, site: Site, days: Iterable[DayState], week: date) -> None:
        """Report the salt of a week as lost, where its days have visitors: nothing remembers the one that made them."""
        if any(state.visitors for state in days if state.day >= week):
            await self._report_lost_salt(site, week)

    async def _report_lost_salt(self, site: Site, week: date) -> None:
        """Raise the alarm that a week's salt was lost and replaced while there were visitors, and record the event."""
        self._metrics.salts_lost.inc()
        logger.error(
            "The key of the visitor hash was lost and replaced: visitors of this week count twice. site=%s week=%s",
            site.id,
            week,
        )
        self._events.note(SALT_LOST, week.isoformat(), site.id)
        await self._events.write()
