"""Days from before Footfall: what `footfall import days` and `footfall import log` write, and say."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from footfall.cli.rollup import open_rollup
from footfall.cli.terminal import complain, progress_bar, say
from footfall.errors import Stop, StoreBusy, StoreUnavailable
from footfall.imports.day_file import read_day_file
from footfall.imports.log_days import LogDays
from footfall.imports.table_file import Unreadable
from footfall.model.clocks import WALL_CLOCK
from footfall.model.imported import ImportedDay
from footfall.model.retention import Retention
from footfall.plain_text import one_line
from footfall.settings.settings import Settings, Site
from footfall.stores.day_imports import DayImports, open_day_imports
from footfall.stores.postgres_store import Adjustment, open_postgres
from footfall.stores.redis_store import open_redis

LINES_SHOWN = 20
ATTEMPTS = 5
"""A copy from Redis may hold the same rows for a moment."""
DAYS_AT_ONCE = 31
PAGES_AT_ONCE = 10_000
"""Days, and about so many of their pages, in one transaction, which must not hold rows for long."""
CORRECTED = "imported-days-"
"""Begin of the names of corrections that take imported days out of the old counter's number; an entry follows."""


@dataclass(frozen=True, slots=True)
class DayChoices:
    """How days are imported: for show only, without bad lines."""

    is_dry_run: bool = False
    skips_unreadable: bool = False


@dataclass(slots=True)
class Outcome:
    """What became of the days of an import so far."""

    days: int = 0
    visitors: int = 0
    views: int = 0
    changed: int = 0
    """Days that Postgres had otherwise, or not at all."""
    with_pages: bool = False
    left_out: int = 0
    between: tuple[date, date] = (date.max, date.min)

    def leave_out(self, sentence: str) -> None:
        """Print why a day is left out, of the first ones."""
        self.left_out += 1
        if self.left_out <= LINES_SHOWN:
            complain(sentence)

    def take(self, day: ImportedDay) -> None:
        """Add a day that is imported."""
        self.days += 1
        self.visitors += day.visitors
        self.views += day.views
        self.between = min(self.between[0], day.day), max(self.between[1], day.day)

    def __str__(self) -> str:
        if not self.days:
            return "no day can be imported"
        first, last = self.between
        return f"{self.days:,d} days from {first} to {last} with {self.visitors:,d} visitors and {self.views:,d} views"


async def import_days(settings: Settings, site: Site, path: Path, choices: DayChoices) -> None:
    """Import the days of a CSV file; print what was done, and each line and day that was left out.

    Raises Stop, and nothing is imported then, where lines are not understood, unless they are to be skipped.
    """
    file = read_day_file(path)
    complain_of_lines(file.unreadable)
    if file.unreadable and not (choices.skips_unreadable or choices.is_dry_run):
        raise Stop(
            f"{len(file.unreadable):,d} lines of {path} were not understood; nothing was imported. Mend them, or leave"
            " them out with --skip-unreadable",
            1,
        )
    await write_days(settings, site, "days", file.days, is_dry_run=choices.is_dry_run)


def complain_of_lines(unreadable: Sequence[Unreadable]) -> None:
    """Print the first lines that were not understood, and why."""
    for line, why in unreadable[:LINES_SHOWN]:
        complain(f"line {line}: {why}")
    if (more := len(unreadable) - LINES_SHOWN) > 0:
        complain(f"and {more:,d} lines more")


async def write_days(
    settings: Settings, site: Site, source: str, days: Collection[ImportedDay] | LogDays, *, is_dry_run: bool = False
) -> None:
    """Write the days that may be imported, bring them into the total, and print what was done.

    Only some days are in memory at once. Raises StoreUnavailable; days that were written stay, and the same import
    again writes the others.
    """
    async with open_rollup(settings) as (rollup, _):
        await rollup.roll_up(site)  # a day that Redis alone has was counted live as well
        async with open_day_imports((settings.migrate_url or settings.postgres_url).get_secret_value()) as imports:
            await refuse_without_owner(imports)
            with progress_bar(len(days), "importing") as progress:
                writer = DayWriter(imports, site, source, progress, is_dry_run=is_dry_run)
                outcome = await writer.write(days, Retention.at(WALL_CLOCK(), site.zone).closed_through)
        if (more := outcome.left_out - LINES_SHOWN) > 0:
            complain(f"and {more:,d} days more")
        done = "would be written" if is_dry_run else "written"
        say(
            f"{site.id}: {outcome}; {done}: {outcome.changed:,d} days"
            f"{'' if outcome.changed or not outcome.days else ', as all of them are imported already'}"
        )
        if is_dry_run:
            return
        if outcome.changed:
            await rollup.roll_up(site)
    if outcome.with_pages:
        await _forget_pages(settings, site)
    await _propose_correction(settings, site)


class DayWriter:
    """Writes the days of one import, some in each transaction."""

    def __init__(
        self, imports: DayImports, site: Site, source: str, progress: Callable[[int], None], *, is_dry_run: bool
    ) -> None:
        self._imports = imports
        self._site = site
        self._source = source
        self._progress = progress
        self._is_dry_run = is_dry_run

    async def write(self, days: Iterable[ImportedDay], closed_through: date) -> Outcome:
        """Write what changes; leave out, with a sentence for each day, what is not over and what was counted live.

        `closed_through` is the last day that is over.
        """
        first = await self._imports.first_counted_day(self._site.id) or date.max
        outcome, some, pages = Outcome(), list[ImportedDay](), 0
        for day in days:
            if sentence := _why_not(day.day, closed_through, first):
                outcome.leave_out(sentence)
                self._progress(1)
                continue
            outcome.take(day)
            some.append(day)
            pages += len(day.pages)
            if len(some) == DAYS_AT_ONCE or pages >= PAGES_AT_ONCE:
                await self._write_some(some, outcome)
                some, pages = [], 0
        await self._write_some(some, outcome)
        return outcome

    async def _write_some(self, days: Sequence[ImportedDay], outcome: Outcome) -> None:
        changed = await self._imports.changed(self._site.id, days)
        outcome.changed += len(changed)
        outcome.with_pages = outcome.with_pages or any(day.pages for day in changed)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if changed and not self._is_dry_run:
                    await self._imports.write(self._site.id, self._source, changed)
                break
            except StoreBusy:
                if attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(1)
        self._progress(len(days))


async def refuse_without_owner(imports: DayImports) -> None:
    """Raise Stop where the role may not write days that are over: the service has no such right."""
    if not await imports.may_write():
        raise Stop(
            "Days that are over are written by the owner of the tables alone: give its URL in FOOTFALL_MIGRATE_URL, as"
            " for footfall migrate",
            1,
        )


def _why_not(day: date, closed_through: date, first: date) -> str:
    """Return why a day is not imported; empty where it is."""
    if day > closed_through:
        return f"{day} is left out: it is not over, or was over less than two hours ago"
    if day >= first:
        return f"{day} is left out: Footfall itself has counted since {first}, and no import touches that"
    return ""


async def _forget_pages(settings: Settings, site: Site) -> None:
    try:
        async with open_redis(settings.redis_url.get_secret_value(), settings.redis_timeout_s) as redis:
            await redis.forget_pages(site.id)
    except StoreUnavailable as error:
        say(f"Pages show it within a day, as Redis did not hear of it ({error}); the same command again tells it.")


async def _propose_correction(settings: Settings, site: Site) -> None:
    """Say where the total may have imported days twice, and which command takes them out; change nothing."""
    url = settings.postgres_url.get_secret_value()
    async with open_postgres(url) as postgres, open_day_imports(url) as imports:
        journal, imported = await postgres.adjustments(site.id), await imports.imported(site.id)
    if proposal := correction_of(journal, imported.views if site.measure == "views" else imported.visitors):
        entry, amount = proposal
        say(
            f"The total of {site.id} may have these days twice: the correction {one_line(entry.id)} of"
            f" {entry.amount:+,d} ({one_line(entry.reason)}) is in it as well. If that is the number of the old"
            f" counter, take the imported days out of it:\n"
            f'footfall adjust {site.id} --add {amount} --reason "imported days, which {one_line(entry.id)} holds too"'
            f" --id {CORRECTED}{imported.entry}"
        )


def correction_of(journal: Sequence[Adjustment], imported: int) -> tuple[Adjustment, int] | None:
    """Return the correction that may hold imported days as well, and what takes them out of it; None for none.

    It is the largest positive one. What earlier corrections of this kind took out stays out, and no more is taken out
    than it brought.
    """
    made = [entry for entry in journal if entry.id.startswith(CORRECTED)]
    others = [entry for entry in journal if entry not in made and entry.amount > 0]
    if not others:
        return None
    largest = max(others, key=lambda entry: entry.amount)
    amount = -min(imported, largest.amount) - sum(entry.amount for entry in made)
    return (largest, amount) if amount else None
