"""The object that pages read, and the numbers that it is made of."""

import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from footfall.model.counts import NUMBERS, Counts, Reading
from footfall.model.sums import Sums, Tally, spans_of
from tests.support.portal import FORM

COUNTS = Counts(
    form=FORM,
    online=4,
    today=63,
    week=495,
    total=1_373_876,
    views_today=118,
    day_of=date(2026, 11, 23),
    week_of=date(2026, 11, 23),
    revision="9c882ac6-1",
    as_of="2026-11-23T08:31:07.250+07:00",
    stale=False,
    yesterday=51,
    last_week=480,
    month=1600,
    last_month=2100,
    year=20_300,
    views_month=3100,
    views_total=2_500_000,
    peak_online=41,
    peak_online_at="2026-03-02T09:15:00.000+07:00",
)
READING = Reading(
    day_of=date(2026, 11, 24),
    week_of=date(2026, 11, 23),
    online=4,
    today_visitors=63,
    today_views=118,
    week_visitors=495,
    week_views=900,
    total_visitors=1_373_000,
    total_views=2_500_000,
    adjustments=876,
    revision="9c882ac6-1",
    at_ms=1_795_490_000_000,
)
TODAY = {"today_visitors": 60, "today_views": 110}
WEEK = {"week_visitors": 490, "week_views": 890}
TOTAL = {"total_visitors": 1_372_990, "total_views": 2_499_990}


def test_the_json_is_what_a_script_cached_for_a_year_reads() -> None:
    """Names and meanings never change; fields are only added, so this line only ever grows at its end."""
    assert COUNTS.as_json().decode() == (
        '{"site":"portal","online":4,"today":63,"week":495,"total":1373876,"views_today":118,"measure":"visitors",'
        '"day_of":"2026-11-23","week_of":"2026-11-23","revision":"9c882ac6-1","as_of":"2026-11-23T08:31:07.250+07:00",'
        '"stale":false,"poll_after_s":15,"ping_after_s":60,"language":"vi","visitor_id":"network",'
        '"yesterday":51,"last_week":480,"month":1600,"last_month":2100,"year":20300,"views_month":3100,'
        '"views_total":2500000,"peak_online":41,"peak_online_at":"2026-03-02T09:15:00.000+07:00","definitions":2,"exact":[]}'
    )


def test_unknown_is_null_and_never_zero() -> None:
    """A zero would be a claim; a page shows a dash, or the last number that the page knew."""
    names = {*NUMBERS, "peak_online_at", "day_of", "week_of", "as_of"}
    fields: dict[str, Any] = dict.fromkeys(names)
    unknown = COUNTS._replace(**fields)
    answer = json.loads(unknown.as_json())
    assert {name for name, value in answer.items() if value is None} == names


def test_labels_are_written_only_where_the_site_has_its_own() -> None:
    """Most sites have none, and every byte is sent thousands of times."""
    assert "labels" not in json.loads(COUNTS.as_json())
    labelled = COUNTS._replace(form=replace(FORM, labels=(("today", "Hôm nay (lượt)"),))).as_json()
    assert json.loads(labelled)["labels"] == {"today": "Hôm nay (lượt)"}
    assert "Hôm nay".encode() in labelled


@pytest.mark.parametrize("number", [2**31, 2**32 + 1, 2**53 - 1, 2**53])
def test_numbers_up_to_2_to_the_53_are_written_out(number: int) -> None:
    """JavaScript reads them without loss; with an exponent or a fraction a number is no integer."""
    assert f'"total":{number},' in COUNTS._replace(total=number).as_json().decode()


def test_the_time_of_reading_is_in_the_sites_zone_to_the_millisecond() -> None:
    """Also on a whole second, so that the text always has the same length."""
    for ms, second in ((0, "07.000"), (7, "07.007"), (999, "07.999"), (1000, "08.000")):
        reading = READING._replace(at_ms=1_795_397_467_000 + ms)
        as_of = json.loads(COUNTS.with_reading(reading, ZoneInfo("Asia/Ho_Chi_Minh")).as_json())["as_of"]
        assert as_of == f"2026-11-23T08:31:{second}+07:00"


@pytest.mark.parametrize(
    ("changed", "raised"),
    [
        pytest.param({}, TODAY | WEEK | TOTAL, id="same day"),
        pytest.param({"day_of": date(2026, 11, 25)}, WEEK | TOTAL, id="next day"),
        pytest.param({"day_of": date(2026, 12, 1), "week_of": date(2026, 11, 30)}, TOTAL, id="next week"),
        pytest.param({"revision": "9c882ac6-2"}, TODAY | WEEK | TOTAL, id="after an adjustment"),
        pytest.param({"revision": "00000000-1"}, TODAY | WEEK, id="another installation"),
        pytest.param({"revision": "9c882ac6.7-1"}, TODAY | WEEK, id="after an import"),
        pytest.param({"day_of": date(2026, 11, 23)}, WEEK | TOTAL, id="a clock that was set back"),
    ],
)
def test_a_reading_is_raised_within_the_same_period_only(changed: dict[str, Any], raised: dict[str, int]) -> None:
    """A Redis that lost seconds shows no number below one that was shown; a new day begins at zero all the same."""
    lower = READING._replace(**(TODAY | WEEK | TOTAL | changed))
    reading, names = lower.not_below(READING)
    assert names == list(raised)
    assert reading == lower._replace(**{name: getattr(READING, name) for name in raised})


def test_only_lower_numbers_are_raised() -> None:
    """The other numbers of the period are as fresh as the reading."""
    fresh = READING._replace(today_visitors=62, today_views=120, week_views=899)
    reading, names = fresh.not_below(READING)
    assert names == ["today_visitors", "week_views"]
    assert reading == READING._replace(today_views=120)


def test_the_total_of_another_history_has_today_in_it() -> None:
    """Both stores were set back and days imported: the page would show more visitors today than of all time."""
    lost = READING._replace(revision="9c882ac6.1-0", today_visitors=60, today_views=9, total_visitors=1, total_views=2)
    reading, names = lost.not_below(READING)
    assert (reading.today_visitors, reading.total_visitors) == (63, 63)
    assert (reading.today_views, reading.total_views) == (118, 118)
    assert {"total_visitors", "total_views"} <= set(names)


def test_a_reading_that_is_not_lower_is_returned_as_it_is() -> None:
    """This is the case of nearly every beacon."""
    for same in (READING, READING._replace(today_visitors=64, total_views=2_500_001)):
        reading, names = same.not_below(READING)
        assert reading is same
        assert names == []


def test_online_adjustments_and_the_time_are_never_raised() -> None:
    """Visitors leave, and a correction may lower the total."""
    later = READING._replace(online=0, adjustments=-9, revision="9c882ac6-2", at_ms=READING.at_ms - 1000)
    assert later.not_below(READING) == (later, [])


def test_the_history_is_the_first_part_of_the_revision() -> None:
    """It decides which totals may be compared; the other part changes with every adjustment."""
    assert READING.history == "9c882ac6"
    assert READING._replace(revision="9c882ac6.7-1").history == "9c882ac6.7"
    assert READING._replace(revision="").history == ""


def test_a_month_may_fall_where_its_days_were_imported_again() -> None:
    """A corrected import has less of a day; what was shown of the day before is not true any more."""
    day = READING.day_of - timedelta(1)
    tallies = [Tally(90, 100)] * 6
    shown = READING._replace(spans=spans_of(READING.day_of, Sums(day, *tallies), [], 0))
    lower = READING._replace(spans=spans_of(READING.day_of, Sums(day, *[Tally(50, 60)] * 6), [], 0))
    assert lower.not_below(shown)[0].spans == shown.spans
    imported = lower._replace(revision="9c882ac6.1-1")
    assert imported.not_below(shown) == (imported, [])


def test_a_reading_becomes_counts_of_the_sites_measure() -> None:
    """Adjustments are part of the total, of visitors or of views; the moment is given in the site's zone."""
    counts = COUNTS._replace(stale=True).with_reading(READING, ZoneInfo("Asia/Ho_Chi_Minh"))
    assert (counts.online, counts.today, counts.week, counts.total) == (4, 63, 495, 1_373_876)
    assert (counts.views_today, counts.day_of, counts.revision, counts.stale) == (
        118, date(2026, 11, 24), "9c882ac6-1", False,
    )  # fmt: skip
    moment = datetime.fromtimestamp(READING.at_ms / 1000, ZoneInfo("Asia/Ho_Chi_Minh"))
    assert counts.as_of == moment.isoformat(timespec="milliseconds")
    views = COUNTS._replace(form=replace(FORM, measure="views")).with_reading(READING, ZoneInfo("UTC"))
    assert (views.today, views.week, views.total) == (118, 900, 2_500_876)
