"""`footfall forget`, `retire`, `rename` and `merge-sites`: what is done to the whole history of a site."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from footfall.cli.given import EmbeddedOption, SiteArgument, given_site, given_stores
from footfall.errors import Stop
from footfall.model.site_id import SiteId
from footfall.settings.validators import site_id

history = typer.Typer()


@history.command()
def forget(
    site: SiteArgument,
    before: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], metavar="DATE", help="The first day that is kept.")],
    embedded: EmbeddedOption = False,
) -> None:
    """Remove the days of a site before a date, with their pages and events; the totals stay.

    Needs the owner of the tables (FOOTFALL_MIGRATE_URL), as do retire, rename and merge-sites.
    """
    from footfall.cli.site_history import forget_days

    settings = given_stores(embedded=embedded)
    asyncio.run(forget_days(settings, given_site(settings, site), before.date()))


@history.command()
def retire(
    site: Annotated[str, typer.Argument(metavar="SITE", help="Id of a site that is in no settings any more.")],
    folder: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="Where its files go: CSV, one for each table.")
    ],
    yes: Annotated[str, typer.Option("--yes", metavar="SENTENCE", help="The sentence that the command asks for.")] = "",
    embedded: EmbeddedOption = False,
) -> None:
    """Export everything of a site, then remove it from both stores; without the sentence nothing is removed."""
    from footfall.cli.site_history import retire_site

    settings = given_stores(embedded=embedded)
    asyncio.run(retire_site(settings, _id(site), folder, yes))


@history.command()
def rename(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Id that the site had; in no settings any more.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new id, in the settings.")],
    embedded: EmbeddedOption = False,
) -> None:
    """Give a site another id. Stop Footfall, change the id in the settings, type this, and start it again."""
    from footfall.cli.site_history import rename_site

    settings = given_stores(embedded=embedded)
    asyncio.run(rename_site(settings, _id(old), given_site(settings, new)))


@history.command("merge-sites")
def merge(
    sites: Annotated[list[str], typer.Argument(metavar="SITE…", help="Ids of sites that are in no settings any more.")],
    into: Annotated[str, typer.Option("--into", metavar="SITE", help="Id of the configured site that takes them in.")],
    embedded: EmbeddedOption = False,
) -> None:
    """Merge sites into one: totals, days, pages, corrections, events. It cannot be taken back; back up before."""
    from footfall.cli.site_history import merge_sites

    settings = given_stores(embedded=embedded)
    asyncio.run(merge_sites(settings, [_id(site) for site in sites], given_site(settings, into)))


def _id(text: str) -> SiteId:
    try:
        return site_id(text)
    except ValueError as error:
        raise Stop(f"{text!r} is no id of a site: {error}") from None
