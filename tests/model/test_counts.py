"""The object that pages read."""

import json
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from footfall.model.counts import Counts

COUNTS = Counts(
    site="portal",
    online=4,
    today=63,
    week=495,
    total=1_373_876,
    views_today=118,
    measure="visitors",
    day_of=date(2026, 11, 23),
    week_of=date(2026, 11, 23),
    revision="9c882ac6-1",
    as_of=datetime(2026, 11, 23, 8, 31, 7, 250_000, ZoneInfo("Asia/Ho_Chi_Minh")),
    stale=False,
    poll_after_s=15,
    ping_after_s=60,
    language="vi",
    visitor_id="network",
    labels={},
)


def test_the_json_is_what_a_script_cached_for_a_year_reads() -> None:
    """Names and meanings never change; fields are only added, so this line only ever grows at its end."""
    assert COUNTS.as_json().decode() == (
        '{"site":"portal","online":4,"today":63,"week":495,"total":1373876,"views_today":118,"measure":"visitors",'
        '"day_of":"2026-11-23","week_of":"2026-11-23","revision":"9c882ac6-1","as_of":"2026-11-23T08:31:07.250+07:00",'
        '"stale":false,"poll_after_s":15,"ping_after_s":60,"language":"vi","visitor_id":"network"}'
    )


def test_unknown_is_null_and_never_zero() -> None:
    """A zero would be a claim; a page shows a dash, or the last number that it knew."""
    unknown = COUNTS._replace(
        online=None, today=None, week=None, total=None, views_today=None, day_of=None, week_of=None, as_of=None
    )
    answer = json.loads(unknown.as_json())
    assert {name for name, value in answer.items() if value is None} == {
        "online", "today", "week", "total", "views_today", "day_of", "week_of", "as_of"
    }  # fmt: skip


def test_labels_come_along_only_where_the_site_has_its_own() -> None:
    """Most sites have none, and every byte is sent thousands of times."""
    assert "labels" not in json.loads(COUNTS.as_json())
    labelled = COUNTS._replace(labels={"today": "Hôm nay (lượt)"}).as_json()
    assert json.loads(labelled)["labels"] == {"today": "Hôm nay (lượt)"}
    assert "Hôm nay".encode() in labelled


@pytest.mark.parametrize("number", [2**31, 2**32 + 1, 2**53 - 1, 2**53])
def test_numbers_up_to_2_to_the_53_are_written_out(number: int) -> None:
    """JavaScript reads them without loss; an exponent or a fraction would not be an integer any more."""
    assert f'"total":{number},' in COUNTS._replace(total=number).as_json().decode()


def test_the_time_of_reading_is_in_the_sites_zone_to_the_millisecond() -> None:
    """Also on a whole second, so that its length never changes."""
    assert COUNTS.as_of is not None
    whole = COUNTS._replace(as_of=COUNTS.as_of.replace(microsecond=0))
    assert json.loads(whole.as_json())["as_of"] == "2026-11-23T08:31:07.000+07:00"
