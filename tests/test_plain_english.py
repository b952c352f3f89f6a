"""The English of comments and docstrings, and the length of documents, measured."""

from pathlib import Path

import pytest

from tests.support.plain_english import (
    PROSE_FOLDERS,
    Line,
    Prose,
    cells,
    document_cells,
    documents,
    javascript_prose,
    lua_prose,
    python_prose,
    read_prose,
    sql_prose,
)
from tests.support.project import PROJECT

VAGUE_PER_1000_MAX = 2
README_LINES_MAX = 200
CELL_CHARACTERS_MAX = 200

PYTHON = '''"""Module: nobody."""
LIMIT = 3  # whoever  # noqa: S104
"""An attribute's text."""
MESSAGE = "told # said"


def found() -> str:
    """First line.

    Third line, gone.
    """
    return "goes"
'''


@pytest.mark.parametrize("name", PROSE_FOLDERS)
def test_comments_name_who_does_what(name: str) -> None:
    """A sentence that hides its subject needs a second reading."""
    prose = read_prose(PROSE_FOLDERS[name])
    print(f"{name}: {prose.per_1000:.1f} vague words per 1,000, of {prose.words:,} words")
    words, per_1000 = prose.words, prose.per_1000
    assert words > 1000
    assert per_1000 <= VAGUE_PER_1000_MAX, "\n".join(prose.worst())


def test_the_readme_is_short() -> None:
    """A reader who has never heard of Footfall decides within a few pages whether to try it."""
    lines = len((PROJECT / "README.md").read_text("utf-8").splitlines())
    print(f"README.md: {lines} lines")
    assert lines <= README_LINES_MAX


def test_no_table_cell_is_a_paragraph() -> None:
    """A table is read by looking; a paragraph in a cell makes its column unreadable."""
    lengths = [(f"{cell.file}:{cell.number}", len(cell.text)) for cell in document_cells()]
    assert lengths
    assert [cell for cell in lengths if cell[1] > CELL_CHARACTERS_MAX] == []


def test_comments_and_docstrings_of_python_are_read_and_other_texts_are_not() -> None:
    """A message that a user sees is not a comment, and neither is the check that a comment switches off."""
    assert sorted(python_prose(PYTHON)) == [
        (1, "Module: nobody."),
        (2, "whoever"),
        (3, "An attribute's text."),
        (8, "First line."),
        (10, "Third line, gone."),
    ]


@pytest.mark.parametrize(
    ("read", "source", "lines"),
    [
        pytest.param(lua_prose, "local a = '-- no' -- yes\n--[[ and\nthis ]]", [(1, "yes"), (2, "and"), (3, "this")]),
        pytest.param(sql_prose, "SELECT '-- it''s no' -- yes\n/* and\nthis */", [(1, "yes"), (2, "and"), (3, "this")]),
        pytest.param(
            javascript_prose,
            "get('http://a', \"//b\", `//c\n//d`) // yes\n/* and\n * this */",
            [(2, "yes"), (3, "and"), (4, "this")],
        ),
    ],
    ids=["Lua", "SQL", "JavaScript"],
)
def test_comments_of_other_languages_are_read(read: object, source: str, lines: list[tuple[int, str]]) -> None:
    """A mark of a comment inside a string starts no comment."""
    assert callable(read)
    assert list(read(source)) == lines


def test_vague_words_are_counted_per_1000_words() -> None:
    """Upper case counts too; a word that only contains a vague one does not."""
    file = Path("a.py")
    prose = Prose((Line(file, 1, "Nobody goes there"), Line(file, 2, "aforesaid, undergone foregoes 12 a_b")))
    assert prose.words == 8
    assert prose.per_1000 == 1000 * 2 / 8
    assert prose.worst() == ["a.py:1: Nobody goes there"]
    assert Prose(()).per_1000 == 0


def test_the_worst_lines_come_first() -> None:
    """The report of a failure shows where to begin."""
    file = Path("a.py")
    prose = Prose((Line(file, 1, "said"), Line(file, 2, "plain"), Line(file, 3, "told and said")))
    assert prose.worst() == ["a.py:3: told and said", "a.py:1: said"]
    assert prose.worst(1) == ["a.py:3: told and said"]


def test_cells_are_found_in_tables_alone() -> None:
    """A pipe that is escaped, or in a fenced example, ends no cell."""
    text = "a | b\n\n```\n| no |\n```\n\n| x | y\\|z |\n|---|---|\n"
    assert [(cell.number, cell.text) for cell in cells(Path("a.md"), text)] == [
        (7, "x"),
        (7, "y\\|z"),
        (8, "---"),
        (8, "---"),
    ]


def test_the_documents_of_every_folder_are_found() -> None:
    """A document that is not looked at may have cells of any length."""
    assert PROJECT / "README.md" in documents()
    assert {file.suffix for file in documents()} == {".md"}
