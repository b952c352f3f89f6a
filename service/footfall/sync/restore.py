"""The merge from Postgres to Redis: a site that is not ready, a day that Redis lacks, a key that it cannot read.

It is the same union of day states as the rollup (`rollup.py`), the other way. Nothing half restored exists: one script
call merges a site and makes it ready, so several workers may do it at once, and any of them may stop in the middle.
"""

import logging
from collections.abc import Sequence
from datetime import date

from footfall.errors import StoreUnavailable
from footfall.log_throttle import some_of
from footfall.metrics.metrics import Metrics
from footfall.model.clocks import Clock
from footfall.model.day_state import Closed, DayState
from footfall.model.periods import local_day, week_of
from footfall.model.retention import DAY
from footfall.model.salt import Salt
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from footfall.stores.store_pair import StorePair
from footfall.sync.changed_sites import ChangedSites
from footfall.sync.event_book import EventBook

logger = logging.getLogger(__name__)


class Restore:
    """Brings what Postgres has back into Redis."""

    def __init__(
        self, stores: StorePair, changed: ChangedSites, events: EventBook, metrics: Metrics, clock: Clock
    ) -> None:
        self._stores = stores
        self._changed = changed
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._restored: dict[SiteId, int] = {}
        """Sites that were restored since the last report, with the number of days."""
        self._foreign: set[SiteId] = set()
        """Sites whose Redis holds another installation's state."""
        self._reported: set[SiteId] = set()
        """Those of them that the log has."""

    async def merge_days(self, site: Site, days: Sequence[date]) -> list[DayState]:
        """Merge days into Redis with all that Postgres has of them; return what it has, an empty state for nothing.

        Raises StoreUnavailable.
        """
        saved = {state.day: state for state in await self._stores.postgres.days(site.id, days)}
        states = [saved.get(day, DayState.empty(day)) for day in days]
        await self.merge(site, states)
        return states

    async def merge_day(self, site: Site, day: date) -> DayState:
        """Merge a day into Redis, with the other days of its week for its union; return what Postgres has of the day.

        Raises StoreUnavailable.
        """
        week = [week_of(day) + number * DAY for number in range(7)]
        saved = await self._stores.postgres.days(site.id, week)
        own = next((state for state in saved if state.day == day), DayState.empty(day))
        await self.merge(site, [own, *(state for state in saved if state.day != day and state.sketch)])
        return own

    async def merge(self, site: Site, states: Sequence[DayState]) -> None:
        """Merge day states into Redis; StoreUnavailable where the site is not ready."""
        self._report_damaged(site, states)
        if not await self._stores.redis.merge(site.id, states):
            raise StoreUnavailable("redis", f"is not ready; site={site.id}")
        self._note_merged(site, states)

    async def open_site(self, site: Site, states: Sequence[DayState], closed: Closed, salts: Sequence[Salt]) -> bool:
        """Merge all days that matter and let the site be counted; False when Redis is another installation's.

        Raises StoreUnavailable.
        """
        self._report_damaged(site, states)
        is_open = await self._stores.redis.open(site.id, states, closed, salts)
        if is_open:
            self._note_merged(site, states)
            self._restored[site.id] = len(states)
            self._foreign.discard(site.id)
        else:
            self._foreign.add(site.id)
        return is_open

    async def report(self) -> None:
        """Log which sites were restored, and of which Redis has another installation: one line for all of them."""
        if self._restored:
            sites, days = some_of(sorted(self._restored)), sum(self._restored.values())
            logger.info("Redis was restored from Postgres and is ready. sites=%s days=%d", sites, days)
            self._restored.clear()
        if foreign := sorted(self._foreign - self._reported):
            logger.error(
                "Redis holds another installation: use an empty database, or its own Postgres. sites=%s",
                some_of(foreign),
            )
        self._reported = set(self._foreign)

    async def mend(self, site: Site) -> None:
        """Drop what Redis cannot read of a site, so that it is merged from Postgres, and sent again, as if lost.

        While Postgres is away nothing is touched: it could not be brought back.
        """
        try:
            await self._stores.learn_installation()
            dropped = await self._stores.redis.mend(site.id, local_day(self._clock(), site.zone))
        except StoreUnavailable as error:
            logger.debug("Nothing can be mended now. site=%s error=%s", site.id, error)
            return
        if dropped:
            self._changed.note(site.id)
            self._metrics.damaged.inc(len(dropped))
            self._events.note("keys_damaged", some_of(dropped), site.id)
            logger.error(
                "Keys in Redis were damaged and are dropped; what Postgres and the workers have of them comes back"
                " by itself. Check the memory and the disk of Redis, and which other program writes into it."
                " site=%s keys=%s",
                site.id,
                some_of(dropped),
            )

    def _note_merged(self, site: Site, states: Sequence[DayState]) -> None:
        self._metrics.merged.labels("to_redis").inc(len(states))
        self._changed.note(site.id)

    def _report_damaged(self, site: Site, states: Sequence[DayState]) -> None:
        for state in states:
            if state.damaged:
                self._metrics.damaged.inc()
                logger.error(
                    "The sketch of a day in Postgres is damaged and was not used; its numbers are kept. site=%s day=%s",
                    site.id,
                    state.day,
                )
