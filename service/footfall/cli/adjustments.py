"""Corrections of a site's all-time total: what `footfall adjust` writes and lists."""

import getpass
import os
from dataclasses import dataclass

from footfall.cli.rollup import open_rollup
from footfall.cli.terminal import say
from footfall.display.saved_counts import read_saved_counts
from footfall.errors import Stop, StoreUnavailable
from footfall.model.clocks import WALL_CLOCK
from footfall.plain_text import one_line
from footfall.settings.settings import Settings, Site
from footfall.stores.postgres_store import Adjustment, PostgresStore, open_postgres
from footfall.sync.rollup import Rollup

AMOUNT_MAX = 2**53
"""JavaScript stores larger whole numbers only in steps of two."""


@dataclass(frozen=True, slots=True)
class Correction:
    """What an operator adds to a total: under which name, how much, why, and who does it."""

    id: str
    amount: int
    reason: str
    by: str

    @property
    def entry(self) -> str:
        """Return the reason as the journal keeps it, with the person.

        PostgreSQL records the role beside it, as which no other role can sign; the person is what the person says.
        """
        return f"{self.reason} (by {self.by})"


def login_name() -> str:
    """Return who is logged in, also behind sudo; where the system knows no name, the number of the account."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"account {os.getuid()}"


async def add_adjustment(settings: Settings, site: Site, correction: Correction, *, is_forced: bool) -> None:
    """Add a correction to the journal, unless it has one of that name, and roll up; print what was done.

    Raises Stop where the total would become negative or more than a page can show, and nothing changes then;
    `is_forced` allows a negative one.
    """
    async with open_rollup(settings) as (rollup, postgres):
        await _refuse_odd_total(rollup, postgres, site, correction, is_forced=is_forced)
        if not await postgres.adjust(site.id, correction.id, correction.amount, correction.entry):
            known = await _known(postgres, site, correction)
            say(f"{correction.id} is in the journal of {site.id} already; nothing changed:\n{_line(known)}")
            return
        say(f"Added {correction.amount:+,d} to the all-time total of {site.id} as {correction.id}.")
        try:
            await rollup.roll_up(site)
        except StoreUnavailable as error:
            say(f"Redis does not have it yet ({error}); the service shows it after its next rollup.")


async def print_journal(settings: Settings, site: Site) -> None:
    """Print the corrections of a site, a line each, and their sum; then what else bears on its numbers: the events."""
    async with open_postgres(settings.postgres_url.get_secret_value()) as postgres:
        journal = await postgres.adjustments(site.id)
        for entry in journal:
            say(_line(entry))
        say(f"{sum(entry.amount for entry in journal):+,d} by {len(journal)} corrections of {site.id}")
        for event in await postgres.events(site.id):
            say(f"{event.at.astimezone():%Y-%m-%d %H:%M %Z}  event {event.kind}: {event.detail}")


async def _refuse_odd_total(
    rollup: Rollup, postgres: PostgresStore, site: Site, correction: Correction, *, is_forced: bool
) -> None:
    """Raise Stop where no page should show the total after the correction."""
    if any(entry.id == correction.id for entry in await postgres.adjustments(site.id)):
        return
    try:
        await rollup.roll_up(site)
        lacking = ""
    except StoreUnavailable as error:
        lacking = f" as far as PostgreSQL has it ({error})"
    reading = await read_saved_counts(postgres, site, WALL_CLOCK())
    counted = reading.total_views if site.measure == "views" else reading.total_visitors
    total = counted + reading.adjustments
    after = total + correction.amount
    sentence = (
        f"--add {correction.amount} would make the all-time total of {site.id} {after:,d}; it is {total:,d} now"
        f"{lacking}. Nothing changed"
    )
    if after >= AMOUNT_MAX:
        raise Stop(f"{sentence}; pages show numbers below 2^53 only")
    if after < min(total, 0) and not is_forced:
        raise Stop(f"{sentence}; --force adds it all the same")


async def _known(postgres: PostgresStore, site: Site, correction: Correction) -> Adjustment:
    return next(entry for entry in await postgres.adjustments(site.id) if entry.id == correction.id)


def _line(entry: Adjustment) -> str:
    made_at = entry.made_at.astimezone()
    name, reason, made_by = map(one_line, (entry.id, entry.reason, entry.made_by))
    return f"{made_at:%Y-%m-%d %H:%M %Z}  {entry.amount:+16,d}  {name}  {reason}  (role {made_by})"
