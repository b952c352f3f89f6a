"""A worker's last known views of pages, and the reads that refresh them.

Redis answers the views of a page where it remembers what Postgres has of its closed days; else Postgres is asked, and
Redis remembers. Pages that are asked for at the same time are read together, one read of a site at a time.
"""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import date

from footfall.errors import StoreUnavailable
from footfall.model.clocks import MONOTONIC_CLOCK, MonotonicClock
from footfall.model.pages import PageReading
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from footfall.stores.store_pair import StorePair

logger = logging.getLogger(__name__)

REFRESH_AFTER_S = 1.0
UNSEEN_REFRESH_AFTER_S = 10.0
"""Of a page without views, which Redis does not remember: names that are made up must not become load on Postgres."""
WAIT_AFTER_S = 5.0
WAIT_MAX_S = 0.25
"""A page that asks gets the last known views after this wait."""
UNKNOWN_WAIT_MAX_S = 2.0
"""Where none are known, a page gets null, and its reader a dash for a minute: a store that is slow is waited for."""
REMEMBERED_MAX = 20_000
"""Pages that a worker remembers, of all sites; the least recently used is forgotten."""
PAGES_AT_ONCE = 200
OUTDATED = -math.inf
"""When views were read that lack counted ones."""

ReadPages = Callable[[Site, Sequence[str]], Awaitable[PageReading]]
"""Reads Redis; every reading is passed to `accept`, as every commit does."""


class _Known:
    """What is known of one page. It changes in place, because each batch brings some for each of its pages."""

    __slots__ = ("read_at_s", "views")

    def __init__(self, views: int, read_at_s: float) -> None:
        self.views = views
        self.read_at_s = read_at_s

    def is_fresh(self, now_s: float) -> bool:
        """Whether it needs no new read."""
        return now_s - self.read_at_s < (REFRESH_AFTER_S if self.views else UNSEEN_REFRESH_AFTER_S)

    def is_recent(self, now_s: float) -> bool:
        """Whether it may be shown while a new read is under way."""
        return now_s - self.read_at_s < max(WAIT_AFTER_S, UNSEEN_REFRESH_AFTER_S if not self.views else 0)


class _Rounds:
    """Gathers pages while a question is on its way, and asks for all of them together when its answer is there."""

    __slots__ = ("_ask", "_done", "_pages", "_site", "task")

    def __init__(self, site: Site, ask: Callable[[Site, Sequence[str]], Awaitable[None]]) -> None:
        self._site = site
        self._ask = ask
        self._pages: dict[str, None] = {}
        self._done: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None

    def want(self, pages: Iterable[str]) -> asyncio.Future[None]:
        """Have pages asked for; what is returned is done when they were."""
        if self._done is None:
            self._done = asyncio.get_running_loop().create_future()
        self._pages |= dict.fromkeys(pages)
        if self.task is None:
            self.task = asyncio.create_task(self._run())
        return self._done

    async def _run(self) -> None:
        try:
            while self._done is not None:
                pages, done = list(self._pages), self._done
                self._pages, self._done = {}, None
                try:
                    for first in range(0, len(pages), PAGES_AT_ONCE):
                        await self._ask(self._site, pages[first : first + PAGES_AT_ONCE])
                except StoreUnavailable as error:
                    logger.debug("Views of pages could not be read; the last known ones are shown. error=%s", error)
                finally:
                    done.set_result(None)
        finally:
            self.task = None


class PageViews:
    """Shows the views of pages, never lower than before unless they were corrected."""

    def __init__(self, stores: StorePair, read: ReadPages, monotonic: MonotonicClock = MONOTONIC_CLOCK) -> None:
        self._stores = stores
        self._read = read
        self._monotonic = monotonic
        self._known: OrderedDict[tuple[SiteId, str], _Known] = OrderedDict()
        self._corrected: dict[SiteId, str] = {}
        self._rounds: dict[SiteId, tuple[_Rounds, _Rounds]] = {}
        """Of each site: the questions to Redis, and those to Postgres."""

    def shown(self, site_id: SiteId, page: str) -> int | None:
        """Return the last known views of a page, None where this worker knows none."""
        known = self._known.get((site_id, page))
        return None if known is None else known.views

    async def views(self, site: Site, pages: Sequence[str]) -> Mapping[str, int | None]:
        """Return views that are at most a few seconds old, or the last known ones; None is not known now."""
        now_s = self._monotonic()
        known = {page: self._known.get((site.id, page)) for page in pages}
        if stale := [page for page, found in known.items() if found is None or not found.is_fresh(now_s)]:
            done = self._rounds_of(site)[0].want(stale)
            if None in known.values():
                await self._wait(site, pages, done, UNKNOWN_WAIT_MAX_S)
            elif not all(found.is_recent(now_s) for found in known.values() if found):
                await self._wait(site, pages, done, WAIT_MAX_S)
        return {page: self.shown(site.id, page) for page in pages}

    def accept(self, site_id: SiteId, pages: Sequence[str], reading: PageReading) -> list[str]:
        """Show a new reading of pages; return those of which Redis knows the open days only."""
        if not reading.views:
            return list(pages)
        if reading.corrected and reading.corrected != self._corrected.get(site_id):
            self._corrected[site_id] = reading.corrected  # page counts were moved or imported: they may fall
            for key in [key for key in self._known if key[0] == site_id]:
                del self._known[key]
        unknown: list[str] = []
        known, now_s = self._known, self._monotonic()
        for page, views in zip(pages, reading.views, strict=True):
            if views is None:
                unknown.append(page)
                continue
            key = site_id, page
            shown = known.get(key)
            if shown is None:
                known[key] = _Known(views, now_s)
                continue
            if shown.views < views:  # noqa: PLR1730 - a call of max takes several times as long
                shown.views = views
            shown.read_at_s = now_s
            known.move_to_end(key)
        while len(known) > REMEMBERED_MAX:
            known.popitem(last=False)
        return unknown

    def outdate(self, site_id: SiteId, pages: Iterable[str]) -> None:
        """Read pages again when they are shown next: views of them were counted, and their sum did not come back."""
        for page in pages:
            if known := self._known.get((site_id, page)):
                known.read_at_s = OUTDATED

    def whole(self, site_id: SiteId, page: str) -> int | None:
        """Return the last known views of a page, None where they lack counted ones or none are known."""
        known = self._known.get((site_id, page))
        return None if known is None or known.read_at_s == OUTDATED else known.views

    async def close(self) -> None:
        """Wait for the reads in progress."""
        for rounds in self._rounds.values():
            await asyncio.gather(*(each.task for each in rounds if each.task))

    async def _wait(self, site: Site, pages: Sequence[str], done: asyncio.Future[None], at_most_s: float) -> None:
        """Wait for Redis and, where it does not remember a page, for Postgres."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + at_most_s
        await asyncio.wait([done], timeout=at_most_s)
        if unknown := [page for page in pages if self.whole(site.id, page) is None]:
            done = self._rounds_of(site)[1].want(unknown)
            await asyncio.wait([done], timeout=max(0.0, ends_s - loop.time()))

    def _rounds_of(self, site: Site) -> tuple[_Rounds, _Rounds]:
        if site.id not in self._rounds:
            self._rounds[site.id] = _Rounds(site, self._ask_redis), _Rounds(site, self._ask_postgres)
        return self._rounds[site.id]

    async def _ask_redis(self, site: Site, pages: Sequence[str]) -> None:
        self.accept(site.id, pages, await self._read(site, pages))

    async def _ask_postgres(self, site: Site, pages: Sequence[str]) -> None:
        reading = await self._read(site, pages)
        unknown = self.accept(site.id, pages, reading)
        if unknown and reading.through:
            bases = await self._stores.postgres.page_bases(site.id, date.fromisoformat(reading.through), unknown)
            self.accept(site.id, unknown, await self._stores.redis.remember_pages(site.id, reading, bases))
