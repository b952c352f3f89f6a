"""Corrections of a site's all-time total: what `footfall adjust` writes and lists."""

from footfall.cli.rollup import open_rollup
from footfall.errors import StoreUnavailable
from footfall.settings.settings import Settings, Site
from footfall.stores.postgres_store import Adjustment, open_postgres


async def add_adjustment(settings: Settings, site: Site, name: str, amount: int, reason: str) -> None:
    """Add a correction to the journal, unless it has one of that name, and roll up; print what was done."""
    async with open_rollup(settings) as (rollup, postgres):
        if not await postgres.adjust(site.id, name, amount, reason):
            known = next(entry for entry in await postgres.adjustments(site.id) if entry.id == name)
            print(f"{name} is in the journal of {site.id} already; nothing changed:\n{_line(known)}")
            return
        print(f"Added {amount:+,d} to the all-time total of {site.id} as {name}.")
        try:
            await rollup.roll_up(site)
        except StoreUnavailable as error:
            print(f"Redis does not have it yet ({error}); the service shows it after its next rollup.")


async def print_journal(settings: Settings, site: Site) -> None:
    """Print the corrections of a site, a line each, and their sum."""
    async with open_postgres(settings.postgres_url.get_secret_value()) as postgres:
        journal = await postgres.adjustments(site.id)
    for entry in journal:
        print(_line(entry))
    print(f"{sum(entry.amount for entry in journal):+,d} by {len(journal)} corrections of {site.id}")


def _line(entry: Adjustment) -> str:
    made_at = entry.made_at.astimezone()
    return f"{made_at:%Y-%m-%d %H:%M %Z}  {entry.amount:+16,d}  {entry.id}  {entry.reason}  (by {entry.made_by})"
