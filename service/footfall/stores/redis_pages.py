"""Views of pages in Redis, beside the record script that counts them: confirmed, remembered, forgotten."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from footfall.model.pages import NO_PAGES, PageBase, PageDay, PageReading, as_text
from footfall.model.site_id import SiteId
from footfall.stores.redis_connection import RedisCalls, Script
from footfall.stores.redis_values import day_key, page_reading_of, reading_values, ready_key

PAGES_AT_ONCE = 2000
"""Pages that one call confirms."""


class RedisPages:
    """The part of a RedisStore that is about pages alone."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls
        self.installation = ""
        """Whose state may be counted into; while it is unknown (empty), any. Set by `sync.installation` alone."""
        self._confirm_pages = Script("pages", "confirm_pages")
        self._remember_pages = Script("pages", "remember_pages")
        self._forget_pages = Script("pages", "forget_pages")

    async def confirm_pages(self, site_id: SiteId, pages: Iterable[PageDay]) -> None:
        """Confirm that Postgres has committed pages of a snapshot as they were in it; raises StoreUnavailable."""
        changed = [page for page in pages if page.changed]
        for some in (changed[first : first + PAGES_AT_ONCE] for first in range(0, len(changed), PAGES_AT_ONCE)):
            arguments: list[Any] = [self.installation]
            for page in some:
                arguments += [page.day.isoformat(), page.page, page.changed]
            await self._calls.run(self._confirm_pages, ready_key(site_id), arguments)

    async def remember_pages(self, site_id: SiteId, asked: PageReading, bases: Iterable[PageBase]) -> PageReading:
        """Remember what Postgres has of pages, and return their views in the same order.

        `asked` is the reading that found them missing: where Redis has forgotten or closed something since, it
        remembers nothing, and the views are None. Raises StoreUnavailable.
        """
        arguments: list[Any] = [self.installation, asked.generation, asked.through]
        for base in bases:
            later = ";".join(f"{day.isoformat()} {as_text(logs)}" for day, logs in base.later.items() if logs)
            arguments += [base.page, base.views, later]
        answer, *rest = await self._calls.run(self._remember_pages, ready_key(site_id), arguments)
        with reading_values(site_id):
            return page_reading_of(rest[0]) if answer == b"OK" else NO_PAGES

    async def page_names(self, site_id: SiteId, days: Sequence[date]) -> set[str]:
        """Read the pages that were viewed on some days; raises StoreUnavailable."""
        commands = [("HKEYS", day_key(site_id, day, "pages")) for day in days]
        found = await self._calls.ask(ready_key(site_id), *commands)
        with reading_values(site_id):
            return {name.decode() for names in found for name in names}

    async def forget_pages(self, site_id: SiteId) -> None:
        """Forget what Redis remembers of Postgres' pages, which were corrected; then they may be lower than before.

        Raises StoreUnavailable.
        """
        await self._calls.run(self._forget_pages, ready_key(site_id), [self.installation])
