"""A file of variables as systemd's EnvironmentFile= reads it: `NAME=value` lines, with quotes and comments.

FOOTFALL_OPS_TOKEN="two words"      in double quotes, a backslash stands before " \\ $ `
FOOTFALL_PUBLIC_URL='https://…'     in single quotes nothing is special
# a comment, also behind ;          only at the beginning of a line: the # of a value belongs to the value
"""

import re
from collections.abc import Iterator
from pathlib import Path

from footfall.errors import SettingsError

BLANK = re.compile(r"[ \t\r]*(?:[#;](?:[^\\\n]|\\.)*)?(?:\n|\Z)", re.DOTALL)
NAME = re.compile(r"[ \t]*([A-Za-z_][A-Za-z0-9_]*)[ \t]*=")
QUOTED = re.compile(r"""[ \t]*(?:"((?:[^"\\]|\\.)*)"|'([^']*)')""", re.DOTALL)
PLAIN = re.compile(r"[ \t]*((?:[^\\\n]|\\.)*)(?:\n|\Z)", re.DOTALL)
ESCAPED_IN_QUOTES = re.compile(r'\\(["\\$`\n])')
ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def read_env_file(file: Path) -> dict[str, str]:
    """Return the variables in a file; raises SettingsError with a sentence for each line that is none."""
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError([f"{file}: cannot be read ({why}); --env-file names the file."]) from error
    variables: dict[str, str] = {}
    wrong: list[int] = []
    for line, entry in _entries(text):
        if entry is None:
            wrong.append(line)
        else:
            variables[entry[0]] = entry[1]
    if wrong:  # a line may hold a secret, and is not shown
        raise SettingsError([f"{file}: line {line} is not NAME=value, or its quote does not end." for line in wrong])
    return variables


def parse_env(text: str) -> dict[str, str]:
    r"""Return the variables in a text, leaving out what is no variable.

    >>> parse_env('A="x \\"y\\" #z"\nB=\'$A\' \n; no\nC = a#b c  \nD="a"b\n')
    {'A': 'x "y" #z', 'B': '$A', 'C': 'a#b c', 'D': 'ab'}
    """
    return dict(entry for _, entry in _entries(text) if entry is not None)


def _entries(text: str) -> Iterator[tuple[int, tuple[str, str] | None]]:
    """Yield the number of each line that is not blank, with its name and value; None where it has none."""
    at = 0
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        if blank := BLANK.match(text, at):
            at = blank.end()
            continue
        name = NAME.match(text, at)
        if name is None:
            yield line, None
            at = text.find("\n", at) + 1 or len(text)
            continue
        value, at = _value(text, name.end())
        yield line, None if value is None else (name[1], value)


def _value(text: str, at: int) -> tuple[str | None, int]:
    """Return the value that begins at a place, None where a quote does not end, and the place behind it."""
    value = ""
    while quoted := QUOTED.match(text, at):
        value += ESCAPED_IN_QUOTES.sub(_escaped, quoted[1]) if quoted[1] is not None else quoted[2]
        at = quoted.end()
    rest = PLAIN.match(text, at)
    if rest is None or rest[1].startswith(('"', "'")):
        return None, text.find("\n", at) + 1 or len(text)
    return value + ESCAPED.sub(_escaped, rest[1].rstrip()), rest.end()


def _escaped(found: re.Match[str]) -> str:
    return "" if found[1] == "\n" else found[1]
