"""A worker's last known counts per site, what `/counts` serves: answers prepared once, shared by all who ask."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from footfall.errors import StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.counts import Counts, Reading
from footfall.model.periods import Clock, Period, period_at, start_of
from footfall.settings.settings import Settings, Site

logger = logging.getLogger(__name__)

REFRESH_AFTER_S = 1.0
WAIT_AFTER_S = 5.0
WAIT_MAX_S = 0.25
"""A page that polls rather gets numbers of a few seconds ago than waits longer than this."""

ReadSite = Callable[[Site], Awaitable[Reading]]
"""Reads Redis; the reading is accepted here on the way, as with every commit."""


@dataclass(frozen=True)
class PreparedCounts:
    """An answer ready to be sent; each form is made once, when it is first asked for."""

    counts: Counts

    @cached_property
    def body(self) -> bytes:
        """The JSON."""
        return self.counts.as_json()

    @cached_property
    def etag(self) -> str:
        """A weak ETag over all but `as_of`."""
        timeless = self.counts._replace(as_of=None).as_json()
        return f'W/"{hashlib.blake2b(timeless, digest_size=9).hexdigest()}"'

    @cached_property
    def stale(self) -> "PreparedCounts":
        """The same counts, marked as the last known ones."""
        return PreparedCounts(self.counts._replace(stale=True))


class _Entry:
    """What a worker shows for one site."""

    __slots__ = (
        "asked_at",
        "exported",
        "period",
        "read_at",
        "reading",
        "refreshing",
        "shown",
        "unknown",
    )

    def __init__(self, unknown: Counts) -> None:
        self.unknown = unknown
        self.shown = self.exported = PreparedCounts(unknown)
        self.reading: Reading | None = None
        """What is shown; no later one of its periods may be lower."""
        self.period: Period | None = None
        """The day of the reading."""
        self.read_at = self.asked_at = float("-inf")
        self.refreshing: asyncio.Task[None] | None = None


class CountsCache:
    """Shows each site's counts, never lower than before within a period, and refreshes those that are asked for."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        read: ReadSite,
        clock: Clock = time.time,
        monotonic: Clock = time.monotonic,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._read = read
        self._clock = clock
        self._monotonic = monotonic
        self._entries = {site.id: _Entry(self._unknown(site)) for site in settings.sites.values()}

    def shown(self, site: Site) -> PreparedCounts:
        """Return the last known counts as they are."""
        return self._entries[site.id].shown

    def last_known(self, site: Site) -> PreparedCounts:
        """Return the last known counts, marked stale."""
        return self._entries[site.id].shown.stale

    async def counts(self, site: Site) -> PreparedCounts:
        """Return counts of at most a few seconds ago, or the last known ones marked stale.

        Redis is read at most once a second per site, one read at a time, however many ask.
        """
        entry = self._entries[site.id]
        now = self._monotonic()
        current = self._is_current(entry)
        if current and now - entry.read_at < REFRESH_AFTER_S:
            return entry.shown
        if entry.refreshing is None and now - entry.asked_at >= REFRESH_AFTER_S:
            entry.asked_at = now
            entry.refreshing = asyncio.create_task(self._refresh(site))
        if current and now - entry.read_at < WAIT_AFTER_S:
            return entry.shown
        if entry.refreshing is not None:
            await asyncio.wait([entry.refreshing], timeout=WAIT_MAX_S)
        if self._is_current(entry) and self._monotonic() - entry.read_at < WAIT_AFTER_S:
            return entry.shown
        return entry.shown.stale

    def accept(self, site: Site, reading: Reading) -> PreparedCounts:
        """Show a new reading; an older one than what is shown, from a call that was overtaken, changes nothing."""
        entry = self._entries[site.id]
        now = self._monotonic()
        overtaken = entry.reading is not None and reading.at_ms < entry.reading.at_ms
        if overtaken and now - entry.read_at < WAIT_AFTER_S:
            return entry.shown
        if entry.period is None or entry.period.day != reading.day_of:
            entry.period = period_at(start_of(reading.day_of, site.zone), site.zone)
        entry.reading, entry.read_at = self._guarded(entry, reading), now
        entry.shown = PreparedCounts(_counts(site, entry.unknown, entry.reading))
        return entry.shown

    def accept_saved(self, site: Site, reading: Reading) -> None:
        """Show what Postgres knows, marked stale, while Redis has never answered."""
        entry = self._entries[site.id]
        if entry.reading is None:
            entry.shown = PreparedCounts(_counts(site, entry.unknown, reading)).stale

    def export(self) -> None:
        """Set the gauges of the sites of which something new is shown.

        Of several workers the one that wrote last is believed, so what is old must not be written again.
        """
        for site, entry in self._entries.items():
            if entry.exported is entry.shown:
                continue
            entry.exported = entry.shown
            counts = entry.shown.counts
            for period in ("online", "today", "week", "total", "views_today"):
                if (number := getattr(counts, period)) is not None:
                    self._metrics.visitors.labels(site, period).set(number)

    async def close(self) -> None:
        """Wait for the reads that are on their way."""
        running = [entry.refreshing for entry in self._entries.values() if entry.refreshing]
        await asyncio.gather(*running)

    def _is_current(self, entry: _Entry) -> bool:
        return entry.period is not None and entry.period.holds(self._clock())

    async def _refresh(self, site: Site) -> None:
        entry = self._entries[site.id]
        try:
            await self._read(site)
        except StoreUnavailable as error:
            logger.debug("Counts could not be read; the last known ones are shown. site=%s error=%s", site.id, error)
        finally:
            entry.refreshing = None

    def _guarded(self, entry: _Entry, reading: Reading) -> Reading:
        """Keep what was shown where a reading is lower within the same day, week or installation."""
        shown = entry.reading
        if shown is None:
            return reading
        same_day, same_week = reading.day_of == shown.day_of, reading.week_of == shown.week_of
        same_installation = reading.revision.partition("-")[0] == shown.revision.partition("-")[0]
        kept: dict[str, int] = {}
        for number, is_same in (
            ("today_visitors", same_day),
            ("today_views", same_day),
            ("week_visitors", same_week),
            ("week_views", same_week),
            ("total_visitors", same_installation),
            ("total_views", same_installation),
        ):
            if is_same and getattr(reading, number) < (mark := getattr(shown, number)):
                self._metrics.corrected.labels(number).inc()
                kept[number] = mark
        return reading._replace(**kept)  # type: ignore[arg-type]

    def _unknown(self, site: Site) -> Counts:
        return Counts(
            site=site.id,
            online=None,
            today=None,
            week=None,
            total=None,
            views_today=None,
            measure=site.measure,
            day_of=None,
            week_of=None,
            revision=None,
            as_of=None,
            stale=True,
            poll_after_s=self._settings.poll_after_s,
            ping_after_s=self._settings.ping_after_s,
            language=site.language,
            visitor_id=site.visitor_id,
            labels={str(name): words for name, words in site.labels.items()},
        )


def _counts(site: Site, unknown: Counts, reading: Reading) -> Counts:
    views = site.measure == "views"
    total = reading.total_views if views else reading.total_visitors
    return unknown._replace(
        online=reading.online,
        today=reading.today_views if views else reading.today_visitors,
        week=reading.week_views if views else reading.week_visitors,
        total=reading.adjustments + total,
        views_today=reading.today_views,
        day_of=reading.day_of,
        week_of=reading.week_of,
        revision=reading.revision,
        as_of=datetime.fromtimestamp(reading.at_ms / 1000, UTC).astimezone(site.zone),
        stale=False,
    )
