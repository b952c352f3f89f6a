"""Text that others wrote, made safe for a terminal: its control characters are shown and not obeyed."""

import logging
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


class PlainFormatter(logging.Formatter):
    """Formats log lines without control characters; only the traceback, which follows the line, has line ends."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name is logging's)
        """Return the line itself."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802 (the name is logging's)
        """Return the traceback."""
        return without_escapes(super().formatException(ei))  # type: ignore[arg-type]


def _code(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
