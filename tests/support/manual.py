"""The manual page of `footfall`, made from the commands themselves."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from footfall import __version__
from footfall.cli.commands import app

SEE_ALSO = (
    "deploy/README.md: installing and running. deploy/SETTINGS.md: every setting. deploy/METRICS.md: every metric."
)
STATUSES = "0: done. 1: a store does not answer, or a check failed. 2: the settings or the command line have a mistake."


def manual() -> str:
    """Return the page in the language of man(7)."""
    root = typer.main.get_command(app)
    context = typer.Context(root, info_name="footfall")
    lines = [
        f'.TH FOOTFALL 1 "" "Footfall {__version__}" "User commands"',
        ".SH NAME",
        r"footfall \- the visitor counter behind a portal's footer",
        ".SH SYNOPSIS",
        ".B footfall",
        r"\fICOMMAND\fR [\fIOPTION\fR]...",
        ".SH OPTIONS",
        *_parameters(root, context),
        ".SH COMMANDS",
        *_commands(root, context),
        ".SH SETTINGS",
        _escaped(root.epilog or ""),
        ".SH EXIT STATUS",
        _escaped(STATUSES),
        ".SH SEE ALSO",
        _escaped(SEE_ALSO),
    ]
    return "\n".join(lines) + "\n"


def _commands(group: Any, context: typer.Context) -> Iterator[str]:
    for name, command in getattr(group, "commands", {}).items():
        inner = typer.Context(command, info_name=name, parent=context)
        if hasattr(command, "commands"):
            yield from _commands(command, inner)
            continue
        yield ".SS " + _escaped(" ".join([inner.command_path, *command.collect_usage_pieces(inner)]))
        for paragraph in (command.help or "").split("\n\n"):
            yield from (_escaped(" ".join(paragraph.split())), ".PP")
        yield from _parameters(command, inner)


def _parameters(command: Any, context: typer.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            yield from (".TP", rf"\fB{_escaped(record[0])}\fR", _escaped(" ".join(record[1].split())))


def _escaped(text: str) -> str:
    """Return a line of text that man(7) takes as it is."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\\", r"\e").replace("-", r"\-").replace("`", r"\(ga")
    return rf"\&{text}" if text.startswith((".", "'")) else text
