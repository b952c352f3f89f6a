"""Files of days, as other counters and spreadsheets write them."""

from datetime import date
from pathlib import Path

import pytest

from footfall.errors import Stop
from footfall.imports.day_file import DayFile, read_day_file
from footfall.model.imported import ImportedDay

DAYS = [ImportedDay(date(2026, 1, 30), 5, 12), ImportedDay(date(2026, 1, 31), 1234, 5678)]


def read(folder: Path, content: str | bytes) -> DayFile:
    """Write a file and read it."""
    file = folder / "days.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_day_file(file)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("day,visitors,views\n2026-01-30,5,12\n2026-01-31,1234,5678\n", id="our own"),
        pytest.param("2026-01-31;1.234;5.678\r\n2026-01-30;5;12\r\n", id="no heading, thousands, any order"),
        pytest.param("\ufeffNgày;Người truy cập;Lượt xem\n30/01/2026;5;12\n31/1/2026;1 234;5 678", id="Vietnamese"),
        pytest.param(
            "date,nb_uniq_visitors,nb_users,nb_visits,nb_actions,nb_visits_converted,bounce_count\n"
            "2026-01-30,5,0,6,12,0,1\n2026-01-31,1234,0,1300,5678,0,2\n".encode("utf-16"),
            id="Matomo, VisitsSummary by day",
        ),
        pytest.param(
            "Date,Visits,Unique visitors,Pageviews,Unique Pageviews,Actions\n"
            "2026-01-30,6,5,12,9,99\n2026-01-31,1300,1234,5678,99,9999\n",
            id="Matomo, translated, with page views beside actions",
        ),
        pytest.param("Views,Day,Visitors\n12,20260130,5\n5678,20260131,1234\n", id="another order, days without signs"),
        pytest.param("day\tvisitors\tviews\n2026-01-30T00:00:00Z\t5\t12\n2026-01-31 00:00\t1234\t5678", id="moments"),
    ],
)
def test_a_file_is_understood(tmp_path: Path, content: str | bytes) -> None:
    """What another counter wrote is taken as it is, in the order of the days."""
    assert read(tmp_path, content) == DayFile(DAYS, [])


def test_lines_that_are_no_day_are_named_with_their_reason(tmp_path: Path) -> None:
    """An operator mends a line only where its number and its fault stand beside each other."""
    found = read(
        tmp_path,
        "day,visitors,views\n2026-01-30,5,12\n2026-02-30,1,1\n01/31/2026,1,1\n2026-01-30,6,13\n2026-01-31,-1,3\n"
        "2026-01-31,7\n\nTotal,12,25\n2026-01-31,9,0\n",
    )
    assert found.days == DAYS[:1]
    assert [(line, why.partition(":")[0]) for line, why in found.unreadable] == [
        (3, "'2026-02-30' is not a day"),
        (4, "'01/31/2026' is not a day"),
        (5, "2026-01-30 is in the file already, and a day has one line"),
        (6, "'-1' is not a number of visitors"),
        (7, "a line has a day, its visitors and its views; here it has 2 columns"),
        (9, "'Total' is not a day"),
        (10, "9 visitors without a view"),
    ]


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    """Visits are not visitors: a column of another meaning is not taken for one of ours."""
    with pytest.raises(Stop, match="no column is called visitors; its heading has Date, Visits, Pageviews"):
        read(tmp_path, "Date,Visits,Pageviews\n2026-01-30,5,12\n")
    with pytest.raises(Stop, match=r"not in UTF-8 \(line 1\)"):
        read(tmp_path, "Ngày;Khách;Lượt xem\n".encode("cp1258", "replace"))
    with pytest.raises(Stop, match="cannot be read: No such file"):
        read_day_file(tmp_path / "nowhere.csv")
