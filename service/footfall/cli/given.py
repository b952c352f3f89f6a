"""What every command is given: the settings, the variables, and the site that its line names."""

import os
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import typer

from footfall.embedded.servers import running_servers
from footfall.errors import Stop
from footfall.process import serve as serving
from footfall.settings.env_file import read_env_file
from footfall.settings.settings import Settings, Site, load_settings, settings_file

ENV_FILE: ContextVar[Path | None] = ContextVar("env_file", default=None)
"""What --env-file names; each command reads it once, and `serve` at each SIGHUP."""

SiteArgument = Annotated[str, typer.Argument(metavar="SITE", help="Id of a configured site, such as portal.")]
EmbeddedOption = Annotated[
    bool,
    typer.Option(
        "--embedded",
        help="Use the stores of the running `footfall serve --embedded` (make run), found by FOOTFALL_DATA_DIR.",
    ),
]


def given_environ() -> Mapping[str, str]:
    """Return the variables, those of the file that --env-file names last."""
    file = ENV_FILE.get()
    return os.environ if file is None else {**os.environ, **read_env_file(file)}


def given_settings(*, embedded: bool = False) -> Settings:
    """Return the checked settings; raises SettingsError."""
    environ = given_environ()
    return load_settings(settings_file(environ), environ, embedded=embedded)


def given_stores(*, embedded: bool) -> Settings:
    """Return the settings; if `embedded`, the servers of a running `serve --embedded` are the stores."""
    settings = given_settings(embedded=embedded)
    return serving.with_stores(settings, running_servers(settings.data_dir) if embedded else None)


def given_site(settings: Settings, site_id: str) -> Site:
    """Return the configured site of that id; raises Stop where none is called so."""
    if site_id not in settings.sites:
        raise Stop(f"no site is called {site_id}; configured are: {', '.join(sorted(settings.sites))}")
    return settings.sites[site_id]
