"""Days from before Footfall: what `footfall import days` and `footfall import log` write, and say."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from footfall.cli.rollup import open_rollup
from footfall.cli.terminal import complain, progress_bar, say
from footfall.errors import Stop, StoreBusy, StoreUnavailable
from footfall.imports.day_file import read_day_file
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
"""Days in one transaction; what it writes of pages is held by no other session for longer."""
CORRECTED = "imported-days-"
"""Begin of the names of corrections that take imported days out of the old counter's number; an entry follows."""


@dataclass(frozen=True, slots=True)
class DayChoices:
    """How days are imported: for show only, without bad lines."""

    is_dry_run: bool = False
    skips_unreadable: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of the days of an import."""

    taken: Sequence[ImportedDay]
    """Finished days before Footfall's own first day."""
    changed: Sequence[ImportedDay]
    """Those of them that Postgres has otherwise, or not at all."""


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
    settings: Settings, site: Site, source: str, days: Sequence[ImportedDay], *, is_dry_run: bool = False
) -> None:
    """Write the days that may be imported, bring them into the total, and print what was done.

    Raises StoreUnavailable; days that were written stay, and the same import again writes the others.
    """
    async with open_rollup(settings) as (rollup, _):
        await rollup.roll_up(site)  # a day that Redis alone has was counted live as well
        async with open_day_imports((settings.migrate_url or settings.postgres_url).get_secret_value()) as imports:
            await refuse_without_owner(imports)
            plan = await _plan(imports, site, days)
            if not is_dry_run:
                await _write(imports, site, source, plan.changed)
        done = "would be written" if is_dry_run else "written"
        say(
            f"{site.id}: {_summary(plan.taken)}; {done}: {len(plan.changed):,d} days"
            f"{'' if plan.changed else ', as all of them are imported already'}"
        )
        if is_dry_run:
            return
        if plan.changed:
            await rollup.roll_up(site)
    if any(day.pages for day in plan.changed):
        await _forget_pages(settings, site)
    await _propose_correction(settings, site)


async def refuse_without_owner(imports: DayImports) -> None:
    """Raise Stop where the role may not write days that are over: the service has no such right."""
    if not await imports.may_write():
        raise Stop(
            "Days that are over are written by the owner of the tables alone: give its URL in FOOTFALL_MIGRATE_URL, as"
            " for footfall migrate",
            1,
        )


async def _plan(imports: DayImports, site: Site, days: Sequence[ImportedDay]) -> Plan:
    """Leave out, with a sentence for each day, what is not finished, and what Footfall counted itself."""
    closed_through = Retention.at(WALL_CLOCK(), site.zone).closed_through
    first = await imports.first_counted_day(site.id) or date.max
    left_out = [sentence for day in days if (sentence := _why_not(day.day, closed_through, first))]
    for sentence in left_out[:LINES_SHOWN]:
        complain(sentence)
    if (more := len(left_out) - LINES_SHOWN) > 0:
        complain(f"and {more:,d} days more")
    taken = [day for day in days if not _why_not(day.day, closed_through, first)]
    return Plan(taken, await imports.changed(site.id, taken))


def _why_not(day: date, closed_through: date, first: date) -> str:
    """Return why a day is not imported; empty where it is."""
    if day > closed_through:
        return f"{day} is left out: it is not over, or was over less than two hours ago"
    if day >= first:
        return f"{day} is left out: Footfall itself has counted since {first}, and no import touches that"
    return ""


async def _write(imports: DayImports, site: Site, source: str, days: Sequence[ImportedDay]) -> None:
    with progress_bar(len(days), "importing") as progress:
        for some in (days[at : at + DAYS_AT_ONCE] for at in range(0, len(days), DAYS_AT_ONCE)):
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    await imports.write(site.id, source, some)
                    break
                except StoreBusy:
                    if attempt == ATTEMPTS:
                        raise
                    await asyncio.sleep(1)
            progress(len(some))


def _summary(days: Sequence[ImportedDay]) -> str:
    if not days:
        return "no day can be imported"
    visitors, views = sum(day.visitors for day in days), sum(day.views for day in days)
    between = f"{min(day.day for day in days)} to {max(day.day for day in days)}"
    return f"{len(days):,d} days from {between} with {visitors:,d} visitors and {views:,d} views"


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
