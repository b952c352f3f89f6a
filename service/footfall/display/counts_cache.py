"""A worker's last known counts per site, which `/counts` serves: prepared once, shared by all requests."""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from footfall.display.labels import labels_for_script, words_for_script
from footfall.errors import StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.clocks import MONOTONIC_CLOCK, WALL_CLOCK, Clock, MonotonicClock
from footfall.model.counts import NUMBERS, Counts, Form, Reading
from footfall.model.periods import Period, period_at, start_of
from footfall.settings.settings import Settings, Site

logger = logging.getLogger(__name__)

REFRESH_AFTER_S = 1.0
WAIT_AFTER_S = 5.0
WAIT_MAX_S = 0.25
"""A page that polls gets the last known numbers after this wait."""

ReadSite = Callable[[Site], Awaitable[Reading]]
"""Reads Redis and passes the reading to `accept`, as every commit does."""


@dataclass(frozen=True)
class PreparedCounts:
    """Counts ready to be sent; each form is made once, on first use."""

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
        "known",
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
        """What is shown; within its periods no later reading may be lower."""
        self.known: Reading | None = None
        """The last one shown that knew the numbers around its day; what it showed of them outlives one that did not."""
        self.period: Period | None = None
        """The day of the reading."""
        self.read_at = self.asked_at = float("-inf")
        self.refreshing: asyncio.Task[None] | None = None


class CountsCache:
    """Shows each site's counts, never lower than before within a period, and refreshes those that are requested."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        read: ReadSite,
        clock: Clock = WALL_CLOCK,
        monotonic: MonotonicClock = MONOTONIC_CLOCK,
    ) -> None:
        self._metrics = metrics
        self._read = read
        self._clock = clock
        self._monotonic = monotonic
        self._entries = {site.id: _Entry(unknown_counts(site, settings)) for site in settings.sites.values()}

    def shown(self, site: Site) -> PreparedCounts:
        """Return the last known counts as they are."""
        return self._entries[site.id].shown

    def reading(self, site: Site) -> Reading | None:
        """Return what is shown, in both measures; None before Redis has answered for the first time."""
        return self._entries[site.id].reading

    async def counts(self, site: Site) -> PreparedCounts:
        """Return counts that are at most a few seconds old, or the last known ones marked stale.

        Redis is read at most once a second per site, one read at a time, however many requests come.
        """
        entry = self._entries[site.id]
        now = self._monotonic()
        is_current = self._is_current(entry)
        if is_current and now - entry.read_at < REFRESH_AFTER_S:
            return entry.shown
        if entry.refreshing is None and now - entry.asked_at >= REFRESH_AFTER_S:
            entry.asked_at = now
            entry.refreshing = asyncio.create_task(self._refresh(site))
        if is_current and now - entry.read_at < WAIT_AFTER_S:
            return entry.shown
        if entry.refreshing is not None:
            await asyncio.wait([entry.refreshing], timeout=WAIT_MAX_S)
        if self._is_current(entry) and self._monotonic() - entry.read_at < WAIT_AFTER_S:
            return entry.shown
        return entry.shown.stale

    def accept(self, site: Site, reading: Reading) -> PreparedCounts:
        """Show a new reading; a reading older than the one shown, from a call that was overtaken, changes nothing."""
        entry = self._entries[site.id]
        now = self._monotonic()
        is_overtaken = entry.reading is not None and reading.at_ms < entry.reading.at_ms
        if is_overtaken and now - entry.read_at < WAIT_AFTER_S:
            return entry.shown
        if entry.period is None or entry.period.day != reading.day_of:
            entry.period = period_at(start_of(reading.day_of, site.zone), site.zone)
        if entry.reading is not None:
            reading, raised = reading.not_below(entry.reading)
            if entry.known is not None and entry.known is not entry.reading and reading.spans is not None:
                reading, of_known = reading.spans_not_below(entry.known)
                raised += of_known
            for number in raised:
                self._metrics.corrected.labels(number).inc()
        entry.reading, entry.read_at = reading, now
        entry.known = reading if reading.spans is not None else entry.known
        entry.shown = PreparedCounts(entry.unknown.with_reading(reading, site.zone))
        return entry.shown

    def accept_saved(self, site: Site, reading: Reading) -> None:
        """Show what Postgres has, marked stale, while Redis has never answered."""
        entry = self._entries[site.id]
        if entry.reading is None:
            entry.shown = PreparedCounts(entry.unknown.with_reading(reading, site.zone)).stale

    def export(self) -> None:
        """Set the gauges of the sites whose counts have changed, where sites have series of their own.

        Of several workers Prometheus believes the one that wrote last, so old counts must not be written again.
        """
        if not self._metrics.per_site:
            return
        for site_id, entry in self._entries.items():
            if entry.exported is entry.shown:
                continue
            entry.exported = entry.shown
            for name in NUMBERS:
                if (number := getattr(entry.shown.counts, name)) is not None:
                    self._metrics.show(site_id, name, number)

    async def close(self) -> None:
        """Wait for the reads in progress."""
        await asyncio.gather(*(entry.refreshing for entry in self._entries.values() if entry.refreshing))

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


def unknown_counts(site: Site, settings: Settings) -> Counts:
    """Return a site's counts before any store has answered."""
    form = Form(
        site=site.id,
        measure=site.measure,
        poll_after_s=settings.poll_after_s,
        ping_after_s=settings.ping_after_s,
        language=site.language,
        visitor_id=site.visitor_id,
        labels=tuple(labels_for_script(site).items()),
        show=site.show,
        words=tuple((language, tuple(names.items())) for language, names in words_for_script(site).items()),
    )
    unknown: dict[str, Any] = dict.fromkeys(NUMBERS)
    return Counts(form, day_of=None, week_of=None, revision=None, as_of=None, stale=True, **unknown)
