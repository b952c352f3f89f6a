"""`footfall import`: what another counter, or the log of a web server, knew before."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from footfall.cli.given import EmbeddedOption, SiteArgument, given_site, given_stores
from footfall.errors import Stop

IMPORT_ID_MAX_CHARS = 100

imports = typer.Typer(help="Starting numbers from another counter.", no_args_is_help=True)


@imports.command("pages")
def import_page_views(
    site: SiteArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="CSV in UTF-8 with two columns: page and views.")],
    name: Annotated[
        str | None, typer.Option("--id", help="Your name for this import; the same name again replaces its numbers.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    skip: Annotated[bool, typer.Option("--skip-unreadable", help="Leave out lines that are not understood.")] = False,
    embedded: EmbeddedOption = False,
) -> None:
    """Add the views that pages had at another counter; the same file again adds nothing."""
    from footfall.cli.pages import ImportChoices, import_pages

    settings = given_stores(embedded=embedded)
    if name is not None and not (0 < len(name.strip()) <= IMPORT_ID_MAX_CHARS and name.isprintable()):
        raise Stop(f"--id must be a name of 1 to {IMPORT_ID_MAX_CHARS} characters")
    choices = ImportChoices(name and name.strip(), dry_run, skip)
    asyncio.run(import_pages(settings, given_site(settings, site), file, choices))


@imports.command("days")
def import_site_days(
    site: SiteArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="CSV with three columns: day, visitors and views.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    skip: Annotated[bool, typer.Option("--skip-unreadable", help="Leave out lines that are not understood.")] = False,
    embedded: EmbeddedOption = False,
) -> None:
    """Take over the days that another counter had before Footfall; a day that comes again is replaced.

    Matomo's exports of its visits by day are understood. Needs the owner of the tables (FOOTFALL_MIGRATE_URL).
    """
    from footfall.cli.day_imports import DayChoices, import_days

    settings = given_stores(embedded=embedded)
    asyncio.run(import_days(settings, given_site(settings, site), file, DayChoices(dry_run, skip)))


@imports.command("log")
def import_access_log(
    site: SiteArgument,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Access logs, in any order, also packed: .gz, .bz2, .xz.")
    ],
    line_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="combined, common, vhost_combined, w3c (IIS), json (Caddy, Traefik), goatcounter (its CSV), or the"
            " format as nginx or Apache is told it; without it, what the first lines look like.",
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read everything, and write nothing.")] = False,
    embedded: EmbeddedOption = False,
) -> None:
    """Count the finished days of a web server's logs, from before Footfall, by the rules of a beacon.

    Give all files of a day at once: a day that comes again is replaced. Needs the owner of the tables
    (FOOTFALL_MIGRATE_URL).
    """
    from footfall.cli.log_import import import_log

    settings = given_stores(embedded=embedded)
    asyncio.run(import_log(settings, given_site(settings, site), files, line_format, is_dry_run=dry_run))
