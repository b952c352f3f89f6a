"""An outage of Redis in the log: one line for all sites when it begins, and one when it is over."""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from footfall.log_throttle import LogThrottle, some_of
from footfall.model.availability import Away
from footfall.model.clocks import Clock, MonotonicClock
from footfall.model.site_id import SiteId
from footfall.sync.event_book import EVERY_SITE, EventBook

logger = logging.getLogger(__name__)

SITES_NOTED_MAX = 10
"""Sites that come back at once and are noted one by one; of more, one event of every site is noted."""


class _Reported(NamedTuple):
    """A site whose absence the log has, since when, and why."""

    since_s: float
    why: str


class Outage:
    """Compares which sites Redis takes no beacons of with what the log says of them.

    Each begin and each end is at most one line a minute. A site that fails later, for a reason that the log has
    already, belongs to the same outage and gets no line.
    """

    def __init__(self, events: EventBook, clock: Clock, monotonic: MonotonicClock) -> None:
        self._events = events
        self._clock = clock
        self._away: dict[SiteId, float] = {}
        """Sites that Redis takes no beacons of, and since when, whatever the log has."""
        self._began = LogThrottle(monotonic=monotonic)
        self._ended = LogThrottle(monotonic=monotonic)
        self._reported: dict[SiteId, _Reported] = {}

    def look(self, away: Mapping[SiteId, Away]) -> None:
        """Log what changed; `away` has the sites whose beacons go to the disk now."""
        self._note_ends(away)
        if self._reported.keys() - away.keys():
            self._report_end(away)
        new = away.keys() - self._reported.keys()
        known = {reported.why for reported in self._reported.values()}
        if any(away[site].why not in known for site in new) and self._began.happened():
            self._report_begin({site: away[site] for site in new})
        elif known:
            new = {site for site in new if away[site].why in known}
        else:
            return
        self._reported |= {site: _Reported(away[site].since_s, away[site].why) for site in new}

    def close(self) -> None:
        """Note what is not over; the next worker of this host notes how it goes on."""
        self._note_ends({})

    def _note_ends(self, away: Mapping[SiteId, Away]) -> None:
        back = {site: since_s for site, since_s in self._away.items() if site not in away}
        for site, since_s in back.items() if len(back) <= SITES_NOTED_MAX else ():
            self._events.note_lasting("redis_away", self._clock() - since_s, site)
        if len(back) > SITES_NOTED_MAX:  # Redis itself was away
            self._events.note_lasting("redis_away", self._clock() - min(back.values()))
        self._away = {site: self._away.get(site, state.since_s) for site, state in away.items()}
        lasts_s = {site: self._clock() - since_s for site, since_s in self._away.items()}
        if len(lasts_s) > SITES_NOTED_MAX:
            lasts_s = {EVERY_SITE: max(lasts_s.values())}
        self._events.note_running("redis_away", lasts_s)

    def _report_begin(self, away: Mapping[SiteId, Away]) -> None:
        why, _ = Counter(each.why for each in away.values()).most_common(1)[0]
        logger.error("Redis takes no beacons; they go to the disk. sites=%s error=%s", some_of(sorted(away)), why)

    def _report_end(self, away: Mapping[SiteId, Away]) -> None:
        is_over = not self._reported.keys() & away.keys()
        if not self._ended.happened() and not is_over:
            return
        back = {site: self._reported.pop(site) for site in sorted(self._reported.keys() - away.keys())}
        away_s = self._clock() - min(reported.since_s for reported in back.values())
        logger.info(
            "Redis takes beacons again. sites=%s away_s=%.0f still_away=%d", some_of(list(back)), away_s, len(away)
        )
