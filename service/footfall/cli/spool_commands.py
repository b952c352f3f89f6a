"""The commands `footfall spool list` and `footfall spool adopt`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from footfall.cli.given import EmbeddedOption, given_settings, given_stores

spool = typer.Typer(help="Batches that wait on a disk.", no_args_is_help=True)


@spool.command("list")
def list_spool(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="A spool folder of another host; else this host's own.")
    ] = None,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, metavar="SECONDS", help="Wait so long until PostgreSQL has all of it.")
    ] = 0,
    embedded: EmbeddedOption = False,
) -> None:
    """List what waits in a spool folder, by file and day, and what of it PostgreSQL lacks.

    Run it as the account of the service. Exit status 1 where PostgreSQL lacks something, or a file is not whole.
    """
    from footfall.cli.spool import list_folder

    asyncio.run(list_folder(given_stores(embedded=embedded), folder, wait_s))


@spool.command("adopt")
def adopt_spool(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder spool of the other host's data folder.")],
    force: Annotated[bool, typer.Option("--force", help="Take over what can be read, though it is not whole.")] = False,
) -> None:
    """Take over the spool of a host that is lost, after a check that it is whole.

    Run it as the account of the service. The running workers then send what is in it.
    """
    from footfall.cli.spool import adopt_folder

    adopt_folder(given_settings(), folder, force=force)
