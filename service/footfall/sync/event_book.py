"""What an honest report must mention: noted where it is noticed, and written to Postgres when Postgres takes it.

Postgres may be the store that is away: until then events wait in memory, a bounded number of them. Workers notice the
same things; Postgres makes one event of them (`sql/0009_history.sql`).
"""

import asyncio
import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from footfall.errors import StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.clocks import Clock
from footfall.model.event import RUNNING_EVERY_S
from footfall.model.site_id import SiteId
from footfall.stores.postgres_store import PostgresStore

logger = logging.getLogger(__name__)

EVERY_SITE = SiteId("*")
"""An event of the whole installation; no site can have this id."""
WAITING_MAX = 1000
"""Events that wait in memory; later ones are left out, and the metric has them."""

KINDS: Mapping[str, str] = {
    "redis_away": "Redis took no beacons; they went to the disk and were counted later",
    "postgres_away": "PostgreSQL took no copies; they were made later",
    "spool_full": "The disk refused beacons while Redis took none: these beacons are not counted",
    "spool_damaged": "A file of waiting beacons was damaged: some of them may not be counted",
    "batches_lost": "Batches of beacons were lost: their views are counted, their visitors may not be",
    "keys_damaged": "Keys in Redis were damaged and made again from PostgreSQL and the workers",
    "salt_lost": "The key of the visitor hash was lost and replaced: visitors of the week count twice",
    "day_ahead": "Visitors were counted on a day that had not come: a clock was ahead",
    "redis_clock_apart": "The clocks of Redis and of a host of Footfall differed by more than a minute",
    "postgres_clock_apart": "The clocks of PostgreSQL and of a host of Footfall differed by more than a minute",
    "started": "Footfall started",
    "stopped": "Footfall was stopped",
    "demo_history": "These days are made up for the demo, and nobody was counted on them",
    "settings": "Settings that change what the numbers mean",
}
"""Every kind of event, and what it says."""


class Noted(NamedTuple):
    """An event that Postgres does not have yet."""

    site_id: SiteId
    kind: str
    detail: str
    began_s: float | None = None
    """Of what lasted, seconds since the epoch; None for a moment."""
    ended_s: float | None = None


class EventBook:
    """Takes notes of one worker's events, and writes them."""

    def __init__(self, postgres: PostgresStore, metrics: Metrics, clock: Clock) -> None:
        self._postgres = postgres
        self._metrics = metrics
        self._clock = clock
        self._waiting: dict[Noted, None] = {}
        self._settings: dict[SiteId, str] = {}
        """What the settings of sites mean, until Postgres was asked whether that is new."""
        self._writing = asyncio.Lock()
        self.running: dict[tuple[str, SiteId], float] = {}
        """What goes on, by kind and site, and since when."""
        self._told: dict[tuple[str, SiteId], float] = {}
        """When Postgres was last told that it goes on."""

    def note(self, kind: str, detail: str, site_id: SiteId = EVERY_SITE) -> None:
        """Note something that happened; the same kind and detail of a site is one event, whoever notes it."""
        self._take(Noted(site_id, kind, detail))

    def note_lasting(self, kind: str, lasted_s: float, site_id: SiteId = EVERY_SITE) -> None:
        """Note something that is over now, after so many seconds; what other workers note of it is the same event."""
        now_s = self._clock()
        for running in (self.running, self._told):
            running.pop((kind, site_id), None)
        self._take(Noted(site_id, kind, "", now_s - max(0.0, lasted_s), now_s))

    def note_settings(self, detail: str, site_id: SiteId) -> None:
        """Note the settings of a site that change a meaning; they are an event where they are other than the last."""
        self._settings[site_id] = detail

    def note_running(self, kind: str, lasts_s: Mapping[SiteId, float]) -> None:
        """Note all that goes on of this kind: for how long already, in seconds, by site.

        What a call does not name any more is over. `note_lasting` says when; else it is over since Postgres was last
        told that it goes on.
        """
        now_s = self._clock()
        for other in [key for key in self.running if key[0] == kind and key[1] not in lasts_s]:
            del self.running[other]
        for site_id, seconds in lasts_s.items():
            self.running.setdefault((kind, site_id), now_s - seconds)

    async def write(self) -> None:
        """Write what waits; what Postgres does not take now waits for the next time. Raises nothing.

        A call while another one writes returns at once: sites that open together would write the same events each.
        """
        if self._writing.locked():
            return
        try:
            async with self._writing:
                await self._write_settings()
                while self._waiting:
                    noted = next(iter(self._waiting))
                    await self._write(noted)
                    self._waiting.pop(noted, None)
                await self._write_running()
        except StoreUnavailable as error:
            logger.debug("Events are written later. events=%d error=%s", len(self._waiting), error)

    async def _write_settings(self) -> None:
        noted = dict(self._settings)
        if noted:
            await self._postgres.record_settings(noted, datetime.fromtimestamp(self._clock(), UTC).date())
            self._settings = {site: detail for site, detail in self._settings.items() if noted.get(site) != detail}

    async def _write(self, noted: Noted) -> None:
        if noted.began_s is not None and noted.ended_s is not None:
            began, ended = (datetime.fromtimestamp(at_s, UTC) for at_s in (noted.began_s, noted.ended_s))
            await self._postgres.record_lasting_event(noted.site_id, noted.kind, began, ended)
        else:
            await self._postgres.record_event(noted.site_id, noted.kind, noted.detail)

    async def _write_running(self) -> None:
        """Say what goes on, at once where it is new and each minute again, and what is over."""
        now_s = self._clock()
        for (kind, site_id), told_s in list(self._told.items()):
            if (kind, site_id) not in self.running:
                told = datetime.fromtimestamp(told_s, UTC)
                await self._postgres.record_lasting_event(site_id, kind, told, told)
                del self._told[kind, site_id]
        for (kind, site_id), began_s in list(self.running.items()):
            told_s = self._told.get((kind, site_id), -math.inf)
            if not told_s <= now_s < told_s + RUNNING_EVERY_S:  # also after a clock was set back
                began, now = (datetime.fromtimestamp(at_s, UTC) for at_s in (began_s, now_s))
                await self._postgres.record_running_event(site_id, kind, began, now)
                self._told[kind, site_id] = now_s

    def _take(self, noted: Noted) -> None:
        if noted.kind not in KINDS:
            raise KeyError(noted.kind)
        self._metrics.events.labels(noted.kind).inc()
        if len(self._waiting) < WAITING_MAX:
            self._waiting[noted] = None
