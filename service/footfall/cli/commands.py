"""The command line: `footfall` and `python -m footfall`.

Each command imports what it runs: else a running service would hold the parts of all of them.
"""

import asyncio
import os
import re
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from footfall import __version__, sql_folder
from footfall.cli.given import (
    ENV_FILE,
    EmbeddedOption,
    SiteArgument,
    given_environ,
    given_settings,
    given_site,
    given_stores,
)
from footfall.cli.history_commands import history
from footfall.cli.import_commands import imports
from footfall.cli.report_commands import report, report_token
from footfall.cli.spool_commands import spool
from footfall.cli.terminal import complain, say
from footfall.display import block
from footfall.display.labels import languages_of
from footfall.errors import SettingsError, Stop, StoreUnavailable
from footfall.log_lines import start_logging
from footfall.model.counts import NUMBERS
from footfall.process import serve as serving
from footfall.process.systemd import changed_variables
from footfall.settings.settings import load_settings, settings_file
from footfall.settings.validators import worker_count

HEX_COLOR = re.compile(r"[0-9a-f]{6}")
COMPLETE_VARIABLE = "_FOOTFALL_COMPLETE"
"""With it a shell asks for what completes a line, or for the script that asks so."""

app = typer.Typer(
    epilog="Settings come from footfall.toml, or the file that FOOTFALL_CONFIG names, and from FOOTFALL_… variables.",
    no_args_is_help=True,
    # Its two options, which install a completion, are in no help text: the archive of a release brings the scripts.
    add_completion=COMPLETE_VARIABLE in os.environ,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(spool, name="spool")
app.add_typer(imports, name="import")
app.add_typer(history)
app.command()(report)
app.command("report-token")(report_token)


@app.callback()
def options(
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", metavar="FILE", help="Read variables from a file as well, such as footfall.env."),
    ] = None,
) -> None:
    """Footfall: the visitor counter behind a portal's footer (online, today, this week, all time)."""
    ENV_FILE.set(env_file)


def main() -> None:
    """Run a command; where it fails, print why to standard error and exit with a status."""
    try:
        app(prog_name="footfall")
    except SettingsError as error:
        for problem in error.problems:
            complain(problem)
        sys.exit(error.status)
    except Stop as stop:
        complain(str(stop))
        sys.exit(stop.status)
    except StoreUnavailable as error:
        complain(f"{error} (`footfall doctor` checks the stores)")
        sys.exit(1)


@app.command()
def serve(
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Start a Valkey and a PostgreSQL too, with data in FOOTFALL_DATA_DIR.")
    ] = False,
    demo: Annotated[bool, typer.Option("--demo", help="Serve the demo portal at /, site id portal.")] = False,
    demo_history: Annotated[
        bool, typer.Option("--demo-history", help="Give the demo portal a made year before its first start.")
    ] = False,
    workers: Annotated[
        str | None, typer.Option(metavar="N|auto", help="Worker processes, instead of FOOTFALL_WORKERS.")
    ] = None,
) -> None:
    """Count beacons and serve the numbers, until Ctrl-C or SIGTERM. SIGHUP reads the settings again."""
    try:
        number = None if workers is None else worker_count(workers)
    except ValueError as error:
        raise Stop(f"--workers {error}") from None
    if demo_history and not (embedded and demo):
        raise Stop("--demo-history is made up, and goes with --embedded --demo alone: no real portal gets it")
    start_logging()
    options = serving.Options(given_environ, embedded, demo, demo_history, number)
    asyncio.run(serving.serve(options))


@app.command("check")
def check_settings(
    embedded: Annotated[bool, typer.Option("--embedded", help="For a `footfall serve --embedded`.")] = False,
    running: Annotated[
        int | None, typer.Option(metavar="PID", help="Say which variables a running Footfall has otherwise.")
    ] = None,
) -> None:
    """Check the settings alone: all problems, a sentence each, and exit status 2; no store is asked.

    Run it before a reload; the unit does.
    """
    environ = given_environ()
    file = settings_file(environ)
    settings = load_settings(file, environ, embedded=embedded)
    names = ", ".join(sorted(settings.sites))
    say(f"The settings are right. Sites in {file or 'the environment'}: {names}")
    if running is not None and (changed := changed_variables(running, environ)):
        complain(
            f"{', '.join(changed)}: changed since Footfall started. A reload does not read variables of the service"
            " again; systemctl restart footfall does."
        )


@app.command()
def migrate() -> None:
    """Create or update the tables in PostgreSQL, as the role that owns them (FOOTFALL_MIGRATE_URL).

    Run this command before each new version starts. `serve --embedded` runs it by itself.
    """
    from footfall.stores.migrations import migrate as apply_migrations

    settings = given_settings()
    url = (settings.migrate_url or settings.postgres_url).get_secret_value()
    applied = asyncio.run(apply_migrations(url, sql_folder()))
    for name in applied:
        say(f"applied {name}")
    if not applied:
        say("The schema is up to date.")


@app.command()
def rollup(embedded: EmbeddedOption = False) -> None:
    """Copy all days from Redis to PostgreSQL now, and print a line for each site.

    The running service copies by itself; after this command, a backup of PostgreSQL holds every count.
    """
    from footfall.cli.rollup import roll_up_sites

    asyncio.run(roll_up_sites(given_stores(embedded=embedded)))


@app.command()
def adjust(  # noqa: PLR0913 - an option each
    site: SiteArgument,
    add: Annotated[int | None, typer.Option(metavar="N", help="Add to the all-time total; may be negative.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the journal.")] = "",
    name: Annotated[str, typer.Option("--id", help="Your name for this correction; the same name counts once.")] = "",
    by: Annotated[str, typer.Option(metavar="PERSON", help="Who does it, for the journal; default: you.")] = "",
    show: Annotated[bool, typer.Option("--list", help="Show the journal of corrections.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Add it also where the total becomes negative.")] = False,
    embedded: EmbeddedOption = False,
) -> None:
    """Correct the all-time total of a site, or show its corrections.

    The number of the old counter is the first one:
    footfall adjust portal --add 1373876 --reason "số liệu bộ đếm cũ" --id old-counter
    """
    from footfall.cli.adjustments import AMOUNT_MAX, Correction, add_adjustment, login_name, print_journal

    settings = given_stores(embedded=embedded)
    corrected = given_site(settings, site)
    if show and add is None:
        asyncio.run(print_journal(settings, corrected))
        return
    if show or add is None or not reason.strip() or not name.strip():
        raise Stop(
            "say what to add, why, and under which name, or ask for the journal: "
            f'footfall adjust {site} --add 1373876 --reason "…" --id old-counter, or footfall adjust {site} --list'
        )
    if not -AMOUNT_MAX < add < AMOUNT_MAX or add == 0:
        raise Stop("--add must not be 0, and must lie between -2^53 and 2^53")
    correction = Correction(name.strip(), add, reason.strip(), by.strip() or login_name())
    asyncio.run(add_adjustment(settings, corrected, correction, is_forced=force))


@app.command()
def pages(  # noqa: PLR0913 - an option each
    site: SiteArgument,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, by the site's calendar.")
    ] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many pages.")] = 20,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for a spreadsheet.")] = False,
    move: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="OLD NEW", help="Show the views of a renamed page as those of its new address."),
    ] = None,
    embedded: EmbeddedOption = False,
) -> None:
    """List the pages of a site with the most views, or move the views of a page that was renamed.

    Without --from and --to, views of all time and starting numbers. Today's views are included.
    """
    from footfall.cli.pages import Days, move_page, print_pages

    settings = given_stores(embedded=embedded)
    counted = given_site(settings, site)
    days = Days(first.date() if first else None, last.date() if last else None)
    if move is not None:
        if first or last or as_csv:
            raise Stop("--move stands alone: the views of all days are moved")
        asyncio.run(move_page(settings, counted, *move))
        return
    if days.first and days.last and days.first > days.last:
        raise Stop(f"--from {days.first} is after --to {days.last}")
    asyncio.run(print_pages(settings, counted, days, top, as_csv=as_csv))


@app.command("events")
def show_events(
    site: Annotated[str, typer.Argument(metavar="[SITE]", help="Id of a configured site; else all events.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for a spreadsheet.")] = False,
    embedded: EmbeddedOption = False,
) -> None:
    """List what a report must mention: stores that were away, lost keys and batches, clocks, starts, settings."""
    from footfall.cli.events import print_events

    settings = given_stores(embedded=embedded)
    asyncio.run(print_events(settings, given_site(settings, site) if site else None, as_csv=as_csv))


@app.command()
def snippet(  # noqa: PLR0913 - an option each
    site: Annotated[str, typer.Argument(metavar="[SITE]", help="Id of a configured site, such as portal.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Print those of all sites, each below its id.")] = False,
    style: Annotated[
        block.Style,
        typer.Option(help="How the block looks; all but plain and image bring the style sheet of Footfall."),
    ] = "plain",
    heading: Annotated[
        int, typer.Option(min=0, max=6, metavar="LEVEL", help="Level of the heading, 2 for h2; 0 for bold text.")
    ] = 0,
    language: Annotated[
        str, typer.Option("--lang", metavar="CODE", help="Another language than the site's, such as en or zh.")
    ] = "",
    show: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Other numbers than the site's, such as online,month,total.")
    ] = "",
    color: Annotated[
        str, typer.Option(metavar="HEX", help="Colour of the numbers in six hexadecimal digits, such as 0b5cad.")
    ] = "",
    embedded: Annotated[
        bool, typer.Option("--embedded", help="For a `footfall serve --embedded` (make run); it need not run.")
    ] = False,
) -> None:
    """Print the lines to paste into the pages of a site; no store is asked."""
    environ = given_environ()
    settings = load_settings(settings_file(environ), environ, embedded=embedded, needs_stores=False)
    if every == bool(site):
        raise Stop(f"name one site, or give --all; configured are: {', '.join(sorted(settings.sites))}")
    preset = _preset(style, heading, show, color)
    for one in settings.sites.values() if language else ():
        if language not in languages_of(one):
            raise Stop(f"--lang must be one of these: {', '.join(languages_of(one))}; labels_in adds others")
    for one in settings.sites.values() if every else [given_site(settings, site)]:
        above = f"<!-- {one.id} -->\n" if every else ""
        say(
            above + block.snippet(one, one.public_url or settings.public_url, replace(preset, language=language)),
            end="",
        )


@app.command()
def doctor(embedded: EmbeddedOption = False) -> None:
    """Check the installation: a line a check, with what to do; the exit status is 1 if a check fails.

    Settings, both stores, their versions, persistence and clocks, the schema, each site's zone, the script.
    """
    from footfall.cli.doctor import print_checks

    if not asyncio.run(print_checks(given_stores(embedded=embedded), settings_file(given_environ()))):
        sys.exit(1)


@app.command("status")
def show_status(
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer of the service, for programs.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")] = False,
) -> None:
    """Show the running service on one screen: its sites with their numbers, stores, spool, workers, and what is wrong.

    It is asked at FOOTFALL_OPS_LISTEN.
    """
    from footfall.cli.status import print_status, watch_status

    environ = given_environ()
    file = settings_file(environ)
    # Without a file it is `make run`, whose sites are its own.
    settings = load_settings(file, environ, embedded=file is None, needs_stores=False)
    if not watch:
        asyncio.run(print_status(settings, as_json=as_json))
        return
    if as_json:
        raise Stop("--json is for one answer: leave out --watch")
    with suppress(KeyboardInterrupt):
        asyncio.run(watch_status(settings))


@app.command()
def version() -> None:
    """Print the version."""
    say(__version__)


def _preset(style: block.Style, heading: int, show: str, color: str) -> block.Preset:
    """Return the look that the options ask for; raises Stop."""
    names = tuple(show.split(",")) if show else ()
    if not set(names) <= set(NUMBERS):
        raise Stop(f"--show must name numbers, with commas between: {', '.join(NUMBERS)}")
    digits = color.removeprefix("#").lower()
    if color and not HEX_COLOR.fullmatch(digits):
        raise Stop("--color must be six hexadecimal digits, such as 0b5cad")
    if digits and style == "plain":
        raise Stop("--color needs a style that has a sheet, or image; plain has the colours of the page")
    return block.Preset(style, show=names, heading=heading, color=digits)
