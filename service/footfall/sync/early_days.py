"""Days that have not come: a clock was ahead, and what it counted there is right only in the total."""

import logging
from collections.abc import Iterable
from datetime import date

from footfall.log_throttle import some_of
from footfall.metrics.metrics import Metrics
from footfall.model.clocks import Clock
from footfall.model.periods import start_of
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from footfall.sync.event_book import EventBook

logger = logging.getLogger(__name__)

EARLY_MAX_S = 3600
"""A worker whose clock is ahead by less may begin a day before the others do."""
DAY_AHEAD = "day_ahead"
"""Kind of the event; its detail is the day."""


class EarlyDays:
    """The days in Redis that have not come, of each site."""

    def __init__(self, events: EventBook, metrics: Metrics, clock: Clock) -> None:
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self.of_sites: dict[SiteId, set[date]] = {}

    async def note(self, site: Site, present: Iterable[date]) -> None:
        """Report which days of a site in Redis begin to be early, and when none is any more. Raises nothing."""
        early = {day for day in present if start_of(day, site.zone) > self._clock() + EARLY_MAX_S}
        known = self.of_sites.pop(site.id, set())
        if early:
            self.of_sites[site.id] = early
        elif known:
            logger.info("No day is ahead of the calendar any more. site=%s", site.id)
        if early != known:
            self._metrics.early_days.set(sum(map(len, self.of_sites.values())))
        if early - known:
            logger.error(
                "Visitors were counted on days that have not come: a clock was ahead. They are in the total, and on no"
                " other day. Have all hosts set their clocks by NTP. site=%s days=%s",
                site.id,
                some_of([day.isoformat() for day in sorted(early)]),
            )
        for day in sorted(early - known):
            self._events.note(DAY_AHEAD, day.isoformat(), site.id)
        await self._events.write()
