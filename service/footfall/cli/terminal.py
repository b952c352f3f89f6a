"""What the commands print: text of stores and settings passes through here, so that none of it steers a terminal."""

import os
import sys

from footfall.log_lines import is_journal
from footfall.plain_text import without_escapes


def say(text: str, *, end: str = "\n") -> None:
    """Print to standard output, at once."""
    print(without_escapes(text), end=end, flush=True)


def complain(text: str) -> None:
    """Print the reason of a failure to standard error; in systemd's journal it has the priority of an error."""
    priority = "<3>" if is_journal(sys.stderr, os.environ) else ""
    print(f"{priority}footfall: {without_escapes(text)}", file=sys.stderr)
