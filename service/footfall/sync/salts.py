"""A worker's weekly keys of the visitor hash.

A salt is random, one per site and week. It is made a week ahead, by whichever worker is first, and shared
through Redis and Postgres (`restore.py`). It destroys itself in Redis two hours after its week, the rollup
destroys the copy in Postgres, and a worker drops its own.
"""

import logging
import secrets
from collections.abc import Mapping
from datetime import date, timedelta

from footfall.metrics.metrics import Metrics
from footfall.model.periods import CLOSING_DELAY, local_day, week_end, week_of
from footfall.settings.settings import Site

logger = logging.getLogger(__name__)

SALT_BYTES = 32
WEEK = timedelta(days=7)


def salt_ends_s(site: Site, week: date) -> int:
    """Return when the salt of `week` is destroyed, in seconds since the epoch."""
    return int(week_end(week, site.zone) + CLOSING_DELAY.total_seconds())


def oldest_week(site: Site, at_s: float) -> date:
    """Return the oldest week whose salt may exist: last week's until two hours after its end."""
    return week_of(local_day(at_s - CLOSING_DELAY.total_seconds(), site.zone))


class Salts:
    """Knows the salts in force; without one a beacon is refused, never counted under an invented one."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._known: dict[tuple[str, date], bytes] = {}

    def of(self, site: Site, week: date) -> bytes | None:
        """Return the salt of `week`, None where it is not known."""
        return self._known.get((site.id, week))

    def offers(self, site: Site, at_s: float) -> dict[date, bytes]:
        """Return what this worker proposes for the current and the next week: what it knows, else new keys."""
        week = week_of(local_day(at_s, site.zone))
        return {monday: self.of(site, monday) or secrets.token_bytes(SALT_BYTES) for monday in (week, week + WEEK)}

    def learn(self, site: Site, salts: Mapping[date, bytes]) -> set[date]:
        """Take note of the salts in force; return the weeks whose salt is not the one used until now."""
        replaced = {week for week, salt in salts.items() if self._known.get((site.id, week), salt) != salt}
        self._known |= {(site.id, week): salt for week, salt in salts.items()}
        return replaced

    def alarm(self, site: Site, week: date) -> None:
        """Say that a week's salt was lost and replaced while there were visitors."""
        self._metrics.salts_lost.inc()
        logger.error(
            "The key of the visitor hash was lost and replaced: visitors of this week count twice. site=%s week=%s",
            site.id,
            week,
        )

    def drop_old(self, sites: Mapping[str, Site], at_s: float) -> None:
        """Destroy this worker's copies of salts whose time is over."""
        for site_id, week in list(self._known):
            if week < oldest_week(sites[site_id], at_s):
                del self._known[site_id, week]
