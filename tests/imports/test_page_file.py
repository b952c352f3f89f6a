"""Files of starting numbers, as people have them."""

from pathlib import Path

import pytest

from footfall.errors import Stop
from footfall.imports.page_file import PageFile, read_page_file
from footfall.imports.table_file import VIEWS_MAX
from tests.support.portal import PORTAL


def read(folder: Path, content: str | bytes) -> PageFile:
    """Write a file and read it."""
    file = folder / "pages.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_page_file(file, PORTAL)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("/tin/1,5\n/đầu,1234\n", id="commas"),
        pytest.param("/tin/1;5\r\n/đầu;1.234\r\n", id="semicolons, thousands, line ends of Windows"),
        pytest.param("\ufeffTrang;Lượt xem\n/tin/1;5\n/đầu;1 234", id="UTF-8 with a mark, a heading, no last line end"),
        pytest.param("page,views\n\n/tin/1,5,\n\n/đầu,1234,,\n", id="blank lines and empty cells"),
        pytest.param('"/tin/1","5"\n"/đầu","1,234"\n', id="quotes"),
        pytest.param("/tin/1\t5\n/đầu\t1234\n".encode("utf-16"), id="Unicode text of a spreadsheet"),
        pytest.param("https://portal.example.vn/tin/1/?utm_source=x,2\n/tin//1,3\n/%C4%91%E1%BA%A7u,1234", id="forms"),
    ],
)
def test_a_file_is_understood(tmp_path: Path, content: str | bytes) -> None:
    """Old counters and spreadsheets write the same numbers in their own ways."""
    found = read(tmp_path, content)
    assert (found.views, found.unreadable) == ({"/tin/1": 5, "/đầu": 1234}, [])


def test_the_same_content_has_the_same_id(tmp_path: Path) -> None:
    """Under another name the file is still the same import."""
    one, other = read(tmp_path, "/a,1\n"), read(tmp_path, "/a,2\n")
    assert one.id == read(tmp_path, "/a,1\n").id != other.id


def test_each_line_that_is_not_understood_is_named_with_its_reason(tmp_path: Path) -> None:
    """An operator mends the file, and needs no one to find the place."""
    lines = [
        "page,views",
        "/a,1",
        "/b",
        "/c,many",
        "/d,-1",
        "/e,1.5",
        "https://other.example/f,1",
        "/g,1,2",
        f"/h,{VIEWS_MAX + 1}",
        ",3",
        '"/i',
        '/j",4',
        "javascript:alert(1),4",
    ]
    found = read(tmp_path, "\n".join(lines))
    assert found.views == {"/a": 1}
    assert [(line, why.partition(":")[0]) for line, why in found.unreadable] == [
        (3, "a line has two columns, a page and its views; here it has 1"),
        (4, "'many' is not a number of views"),
        (5, "'-1' is not a number of views"),
        (6, "'1.5' is not a number of views"),
        (7, "'https"),
        (8, "a line has two columns, a page and its views; here it has 3"),
        (9, "the views are more than a page can show, 2^53 - 1"),
        (10, "'' is not a page of portal"),
        (11, "'/i\\n/j' is not a page of portal"),
        (13, "'javascript"),
    ]


@pytest.mark.parametrize("content", ["", "\n\n", "page,views\n"])
def test_an_empty_file_says_nothing(tmp_path: Path, content: str) -> None:
    """A heading alone is no line that was not understood."""
    found = read(tmp_path, content)
    assert (found.views, found.lines, found.unreadable) == ({}, 0, [])


def test_a_file_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    """Vietnamese in the code page of old Windows would become other letters, and other pages."""
    with pytest.raises(Stop, match=r"is not in UTF-8 \(line 2\)"):
        read(tmp_path, b"/a,1\n/\xe0\x9d,2\n")
    with pytest.raises(Stop, match="cannot be read: No such file"):
        read_page_file(tmp_path / "none.csv", PORTAL)
    with pytest.raises(Stop, match="cannot be read: Is a directory"):
        read_page_file(tmp_path, PORTAL)
