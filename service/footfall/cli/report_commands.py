"""The commands `footfall report` and `footfall report-token`."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from footfall.cli.given import EmbeddedOption, SiteArgument, given_site, given_stores
from footfall.errors import Stop
from footfall.model.report_period import By


def report(  # noqa: PLR0913 - an option each
    site: SiteArgument,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, by the site's calendar.")
    ] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")] = None,
    by: Annotated[By, typer.Option(help="The periods of the table.")] = By.DAY,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the table as CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    page: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the page, to print it.")] = None,
    embedded: EmbeddedOption = False,
) -> None:
    """Show what was counted on a site: days, weeks, months or years, with pages, peak, corrections and gaps.

    Without --from some periods that end today. Today's numbers are included.
    """
    from footfall.cli.report import ReportChoices, make_report

    if as_csv + as_json + (page is not None) > 1:
        raise Stop("choose one of --csv, --json and --html")
    settings = given_stores(embedded=embedded)
    choices = ReportChoices(first and first.date(), last and last.date(), by, as_csv, as_json, page)
    asyncio.run(make_report(settings, given_site(settings, site), choices))


def report_token(
    site: SiteArgument,
    revoke: Annotated[bool, typer.Option("--revoke", help="Make no new token: the present one opens nothing.")] = False,
    embedded: EmbeddedOption = False,
) -> None:
    """Make the token that opens the report of a site whose setting is reports = "token".

    It is shown once, and replaces the one before. The service keeps its hash alone.
    """
    from footfall.cli.report import make_token, revoke_token

    settings = given_stores(embedded=embedded)
    asyncio.run((revoke_token if revoke else make_token)(settings, given_site(settings, site)))
