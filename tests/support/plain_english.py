"""Measures the English of comments and docstrings, and the length of documents.

    python -m tests.support.plain_english

prints the figures that `tests/test_plain_english.py` compares with their limits.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.project import PROJECT

VAGUE = re.compile(r"\b(?:nobody|whoever|told|said|gone|goes)\b", re.IGNORECASE)
"""Words that nearly always hide who does what."""
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
DIRECTIVE = re.compile(r"\bnoqa: [A-Z]+[0-9]+(?:, [A-Z]+[0-9]+)*|\btype: ignore\[[^\]]*\]")

DOCUMENT_FOLDERS = ("deploy", "tests", "service", ".github")
FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CELL_END = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a comment or docstring."""

    file: Path
    number: int
    text: str

    @property
    def words(self) -> int:
        """The number of its words."""
        return len(WORD.findall(self.text))

    @property
    def vague(self) -> list[str]:
        """The vague words in it, as written."""
        return VAGUE.findall(self.text)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table in a document."""

    file: Path
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Prose:
    """The comments and docstrings of some files."""

    lines: tuple[Line, ...]

    @property
    def words(self) -> int:
        """The number of words in all lines."""
        return sum(line.words for line in self.lines)

    @property
    def per_1000(self) -> float:
        """The number of vague words in 1,000 words; 0 without any word."""
        return 1000 * sum(len(line.vague) for line in self.lines) / max(1, self.words)

    def worst(self, most: int = 20) -> list[str]:
        """Return the lines with the most vague words, as `file:line: text`."""
        vague = sorted((line for line in self.lines if line.vague), key=lambda line: -len(line.vague))
        return [f"{line.file}:{line.number}: {line.text}" for line in vague[:most]]


def python_prose(source: str) -> Iterator[tuple[int, str]]:
    """Return the lines of the comments, the docstrings and the texts below attributes, each with its number."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and (text := DIRECTIVE.sub("", token.string).strip("#! ")):
            yield token.start[0], text
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from _numbered(node.value.value, node.lineno)


def _comments(comment: str, string: str) -> Callable[[str], Iterator[tuple[int, str]]]:
    """Return a reader of one language; a comment's mark inside a string starts no comment."""
    token = re.compile(f"(?P<string>{string})|(?P<comment>{comment})", re.DOTALL | re.MULTILINE)

    def read(source: str) -> Iterator[tuple[int, str]]:
        for found in token.finditer(source):
            if text := found["comment"]:
                yield from _numbered(text, source.count("\n", 0, found.start()) + 1)

    return read


def _numbered(text: str, first: int) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), first):
        if stripped := line.strip("-*/ \t[]"):
            yield number, stripped


QUOTED = r"'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\""
lua_prose = _comments(r"--\[\[.*?\]\]|--[^\n]*", QUOTED)
sql_prose = _comments(r"--[^\n]*|/\*.*?\*/", r"'(?:''|[^'])*'")
javascript_prose = _comments(r"//[^\n]*|/\*.*?\*/", rf"{QUOTED}|`(?:\\.|[^`\\])*`")

READERS = {".py": python_prose, ".lua": lua_prose, ".sql": sql_prose, ".js": javascript_prose}
"""How the comments of a file are found, by the ending of its name."""


def read_prose(folders: Iterable[Path]) -> Prose:
    """Return the comments and docstrings of every Python, Lua, SQL and JavaScript file in `folders`."""
    files = sorted(file for folder in folders for file in folder.rglob("*") if file.suffix in READERS)
    return Prose(
        tuple(
            Line(file.relative_to(PROJECT), number, text)
            for file in files
            for number, text in READERS[file.suffix](file.read_text("utf-8"))
        )
    )


def documents() -> list[Path]:
    """Return the Markdown files of the project; those of installed packages are not the project's."""
    nested = (file for folder in DOCUMENT_FOLDERS for file in (PROJECT / folder).rglob("*.md"))
    return sorted([*PROJECT.glob("*.md"), *nested])


def cells(file: Path, text: str) -> list[Cell]:
    r"""Return the cells of every table in a document; a table inside a fenced example is none.

    >>> [cell.text for cell in cells(Path("a.md"), "| a | b\\|c |\n|---|---|")]
    ['a', 'b\\|c', '---', '---']
    """
    blank = FENCED.sub(lambda fenced: "\n" * fenced[0].count("\n"), text)
    return [
        Cell(file, number, cell.strip())
        for number, line in enumerate(blank.splitlines(), 1)
        if line.lstrip().startswith("|")
        for cell in CELL_END.split(line.strip())
        if cell
    ]


def document_cells() -> list[Cell]:
    """Return the table cells of all documents."""
    return [cell for file in documents() for cell in cells(file.relative_to(PROJECT), file.read_text("utf-8"))]


PROSE_FOLDERS = {
    "service and sql": (PROJECT / "service", PROJECT / "sql"),
    "tests": (PROJECT / "tests",),
}


def main() -> None:
    """Print the figures."""
    for name, folders in PROSE_FOLDERS.items():
        prose = read_prose(folders)
        print(f"{name}: {prose.per_1000:.1f} vague words per 1,000, of {prose.words:,} words")
        for line in prose.worst():
            print(f"    {line}")
    print(f"README.md: {len((PROJECT / 'README.md').read_text('utf-8').splitlines())} lines")
    print(f"longest table cell: {max(len(cell.text) for cell in document_cells())} characters")


if __name__ == "__main__":
    main()
