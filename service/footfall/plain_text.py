"""Text that others wrote, made safe for a terminal: its control characters are shown and not obeyed."""

import re

# C0 and C1 controls, marks that turn the direction of writing, and halves of characters, which cannot be printed.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_ESCAPES = re.compile(f"[{_CONTROLS}]")
_ESCAPES_AND_LINE_ENDS = re.compile(f"[\t\n{_CONTROLS}]")


def without_escapes(text: str) -> str:
    r"""Return the text with each control character as its code; tabs and line ends stay.

    >>> print(without_escapes("\x1b[31mred"))
    \x1b[31mred
    """
    return _ESCAPES.sub(_code, text)


def one_line(value: str) -> str:
    r"""Return a value without control characters and line ends, so that it cannot forge a second line.

    >>> print(one_line("old\nforged"))
    old\nforged
    """
    return _ESCAPES_AND_LINE_ENDS.sub(_code, value)


def _code(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
