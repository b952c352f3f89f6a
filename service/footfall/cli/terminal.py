"""What the commands print: text of stores and settings passes through here, so that none of it steers a terminal."""

import sys

from footfall.plain_text import without_escapes


def say(text: str, *, end: str = "\n") -> None:
    """Print to standard output, at once."""
    print(without_escapes(text), end=end, flush=True)


def complain(text: str) -> None:
    """Print the reason of a failure to standard error."""
    print(f"footfall: {without_escapes(text)}", file=sys.stderr)
