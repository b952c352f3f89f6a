"""The blocks of a guide: what is typed into a shell, and what is written into files."""

import re
from collections.abc import Iterator
from pathlib import Path

INDENTED = re.compile(r"^( {4,8})(\S.*)$")


def section(file: Path, title: str) -> str:
    """Return the part of a page from this title to the next one of the same or a higher level."""
    text = file.read_text("utf-8")
    found = re.search(rf"^(#+) {re.escape(title)}\n", text, re.MULTILINE)
    assert found is not None, f"{file.name} has no part {title!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def blocks(text: str) -> Iterator[list[str]]:
    """Yield the indented blocks, in their order, each as its lines.

    >>> list(blocks("Do this:\\n\\n    a\\n    b\\n\\nThen:\\n\\n    c\\n"))
    [['a', 'b'], ['c']]
    """
    lines: list[str] = []
    before = ""
    for line in [*text.splitlines(), ""]:
        found = INDENTED.match(line)
        if found and (lines or not before.strip()):
            lines.append(found[2])
        elif lines:
            yield lines
            lines = []
        before = line
