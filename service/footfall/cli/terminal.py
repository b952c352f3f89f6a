"""What the commands print: text of stores and settings passes through here, so that none of it steers a terminal."""

import csv
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from footfall.log_lines import is_journal, write_at_once
from footfall.plain_text import without_escapes


def say(text: str, *, end: str = "\n") -> None:
    """Print to standard output, at once."""
    write_at_once(f"{without_escapes(text)}{end}", sys.stdout)


def say_rows(rows: Iterable[Iterable[object]]) -> None:
    """Print rows as CSV; a spreadsheet takes no cell for a formula."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([cell(value) for value in row] for row in rows)
    say(text.getvalue(), end="")


@contextmanager
def progress_bar(length: int, label: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that moves a bar on; where standard error is no terminal there is no bar."""
    with typer.progressbar(length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield bar.update


def show(what: RenderableType) -> None:
    """Print what rich lays out; its texts are plain already (`plain_text.py`)."""
    Console().print(what)


def whole_screen() -> Live:
    """Return a display that takes the whole terminal until it is left."""
    return Live(screen=True, auto_refresh=False)


def complain(text: str) -> None:
    """Print the reason of a failure to standard error; in systemd's journal it has the priority of an error."""
    priority = "<3>" if is_journal(sys.stderr, os.environ) else ""
    write_at_once(f"{priority}footfall: {without_escapes(text)}\n", sys.stderr)


def cell(value: object) -> str:
    """Return a value as a cell of a CSV file, which a spreadsheet takes for no formula."""
    text = str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) and not isinstance(value, int) else text
