"""The pages of a site: what `footfall pages` lists and moves, and `footfall import pages` adds."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from footfall.cli.rollup import open_rollup
from footfall.cli.terminal import complain, progress_bar, say, say_rows
from footfall.errors import Stop, StoreBusy, StoreUnavailable
from footfall.imports.page_file import PageFile, read_page_file
from footfall.ingest.pages import normalise_page
from footfall.plain_text import one_line
from footfall.settings.settings import Settings, Site
from footfall.stores.page_journal import Changed, PageJournal, PageViews, open_page_journal
from footfall.stores.redis_store import open_redis

LINES_SHOWN = 20
ATTEMPTS = 5
"""A copy from Redis may hold the same rows for a moment."""


@dataclass(frozen=True, slots=True)
class Days:
    """The days of a list, both included; None for no bound."""

    first: date | None
    last: date | None

    def __str__(self) -> str:
        bounds = (f"from {self.first}" if self.first else "", f"to {self.last}" if self.last else "")
        return " ".join(filter(None, bounds)) or "of all time"


@dataclass(frozen=True, slots=True)
class ImportChoices:
    """How a file is imported: under which id (None: that of its content), for show only, without bad lines."""

    id: str | None = None
    is_dry_run: bool = False
    skips_unreadable: bool = False


async def print_pages(settings: Settings, site: Site, days: Days, top: int, *, as_csv: bool) -> None:
    """Print the pages with the most views, the most first; what Redis alone has is copied to Postgres before."""
    try:
        async with open_rollup(settings) as (rollup, _):
            await rollup.roll_up(site)
    except StoreUnavailable as error:
        if error.store == "postgres":
            raise
        complain(f"the newest views are missing: {error}")
    async with open_page_journal(settings.postgres_url.get_secret_value()) as journal:
        if days.first or days.last:
            first, last = days.first or date.min, days.last or date.max
            pages = await journal.top_of_days(site.id, first, last, top)
            if cut := await journal.cut_months(site.id, first, last):
                names = ", ".join(f"{month:%Y-%m}" for month in cut)
                complain(
                    f"left out: {names}. Of days that are older than pages_kept_days only whole months are known: begin"
                    " and end with a whole month"
                )
        else:
            pages = await journal.top(site.id, top)
    if as_csv:
        say_rows([PageViews._fields, *pages])
    else:
        _say_table(site, days, pages)


async def move_page(settings: Settings, site: Site, old: str, new: str) -> None:
    """Show the views of one page as those of another; print what was done."""
    old_page, new_page = _page(site, old), _page(site, new)
    async with open_page_journal(settings.postgres_url.get_secret_value()) as journal:
        views = await journal.move(site.id, old_page, new_page)
    if old_page == new_page:
        say(f"{old_page} is a page of its own again, with {views:,d} views.")
    else:
        say(
            f"The views of {old_page} are now shown as those of {new_page}, which has {views:,d}; later ones will be"
            f" too. To take it back: footfall pages {site.id} --move {old_page} {old_page}"
        )
    await _forget(settings, site)


async def import_pages(settings: Settings, site: Site, path: Path, choices: ImportChoices) -> None:
    """Add the starting numbers of a file once; print what was done, and each line that was not understood.

    Raises Stop, and nothing is imported then, where lines are not understood (unless they are to be skipped), and
    where a site has other starting numbers and no id says whether these replace them or add to them.
    """
    file = read_page_file(path, site)
    for line, why in file.unreadable[:LINES_SHOWN]:
        complain(f"line {line}: {why}")
    if (more := len(file.unreadable) - LINES_SHOWN) > 0:
        complain(f"and {more:,d} lines more")
    if file.unreadable and not (choices.skips_unreadable or choices.is_dry_run):
        raise Stop(
            f"{len(file.unreadable):,d} lines of {path} were not understood; nothing was imported. Mend them, or leave"
            " them out with --skip-unreadable",
            1,
        )
    import_id = choices.id or file.id
    async with open_page_journal(settings.postgres_url.get_secret_value()) as journal:
        if choices.id is None:
            await _refuse_second_import(journal, site, import_id)
        changed = await _import(journal, site, import_id, file, is_dry_run=choices.is_dry_run)
    done = "would be imported" if choices.is_dry_run else "imported" if changed.pages else "nothing changed"
    say(
        f"{import_id}: {len(file.views):,d} pages with {sum(file.views.values()):,d} views in {file.lines:,d} lines;"
        f" {done}: {changed.pages:,d} pages change, by {changed.views:+,d} views"
    )
    if not choices.is_dry_run:
        await _forget(settings, site)


async def _import(journal: PageJournal, site: Site, import_id: str, file: PageFile, *, is_dry_run: bool) -> Changed:
    for attempt in range(1, ATTEMPTS + 1):
        with progress_bar(len(file.views), "importing") as progress:
            try:
                return await journal.import_views(
                    site.id, import_id, file.views, progress=progress, is_dry_run=is_dry_run
                )
            except StoreBusy:
                if attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(1)
    raise AssertionError


async def _refuse_second_import(journal: PageJournal, site: Site, import_id: str) -> None:
    """Raise Stop where the site has starting numbers already: a corrected file would count for a second time."""
    imports = await journal.imports(site.id)
    if not imports or any(known.id == import_id for known in imports):
        return
    last = imports[-1]
    raise Stop(
        f"{site.id} has starting numbers already: {one_line(last.id)} with {last.views:,d} views, of"
        f" {last.made_at.astimezone():%Y-%m-%d}. Nothing was imported. To replace them by this file, give"
        f" --id {one_line(last.id)}; to add to them, --id and a new name"
    )


async def _forget(settings: Settings, site: Site) -> None:
    """Make Redis read the changed views from Postgres; without it, it shows what it remembers for up to a day."""
    try:
        async with open_redis(settings.redis_url.get_secret_value(), settings.redis_timeout_s) as redis:
            await redis.forget_pages(site.id)
    except StoreUnavailable as error:
        say(f"Pages show it within a day, as Redis did not hear of it ({error}); the same command again tells it.")


def _page(site: Site, name: str) -> str:
    page = normalise_page(name, site)
    if page is None:
        raise Stop(f"{name!r} is not a page of {site.id}: give a path, such as /tin/1, or a URL of its hosts")
    return page


def _say_table(site: Site, days: Days, pages: Sequence[PageViews]) -> None:
    if not pages:
        say(f"{site.id} has no views of pages {days}.")
        return
    width = max(len(f"{pages[0].views:,d}"), len("views"))
    say(f"{'views':>{width}}  page of {site.id}, {days}")
    for page, views in pages:
        say(f"{views:>{width},d}  {one_line(page)}")
