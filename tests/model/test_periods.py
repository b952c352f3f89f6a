"""Days and weeks in a site's own zone: where clocks jump, where a year ends, and while UTC has another day."""

import math
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from footfall.model.periods import Period, local_day, period_at, start_of, week_end, week_of

HANOI = ZoneInfo("Asia/Ho_Chi_Minh")
# Half hours, jumps at midnight in both directions, a day that never was, and the zones furthest from UTC.
ZONES = (
    "Asia/Ho_Chi_Minh",
    "UTC",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "America/Havana",
    "Africa/Cairo",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    "Antarctica/Troll",
    "Africa/Casablanca",
)
MOMENTS = st.floats(datetime(2000, 1, 1, tzinfo=UTC).timestamp(), datetime(2100, 1, 1, tzinfo=UTC).timestamp())


def moment(text: str, zone: ZoneInfo) -> float:
    """Return a local time, written in ISO, in seconds since the epoch."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    ("local", "day"),
    [
        pytest.param("2026-11-23T23:59:59.999", date(2026, 11, 23), id="just before midnight"),
        pytest.param("2026-11-24T00:00:00.000", date(2026, 11, 24), id="midnight"),
        pytest.param("2026-11-23T06:00:00", date(2026, 11, 23), id="06:00, yesterday in UTC"),
    ],
)
def test_today_is_the_sites_day(local: str, day: date) -> None:
    """In Vietnam it is Monday morning for seven hours while UTC still has Sunday."""
    assert local_day(moment(local, HANOI), HANOI) == day


@pytest.mark.parametrize(
    ("day", "monday"),
    [
        pytest.param(date(2026, 11, 23), date(2026, 11, 23), id="a Monday"),
        pytest.param(date(2026, 11, 29), date(2026, 11, 23), id="a Sunday is the last day"),
        pytest.param(date(2026, 12, 31), date(2026, 12, 28), id="New Year's Eve"),
        pytest.param(date(2027, 1, 1), date(2026, 12, 28), id="New Year's Day"),
        pytest.param(date(2027, 1, 3), date(2026, 12, 28), id="the Sunday after"),
        pytest.param(date(2027, 1, 4), date(2027, 1, 4), id="the next week"),
    ],
)
def test_a_week_is_named_by_its_monday(day: date, monday: date) -> None:
    """Week numbers restart at New Year; Mondays do not."""
    assert week_of(day) == monday


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        pytest.param("Europe/Berlin", date(2026, 3, 29), 23, id="spring"),
        pytest.param("Europe/Berlin", date(2026, 10, 25), 25, id="autumn"),
        pytest.param("America/Sao_Paulo", date(2018, 11, 4), 23, id="midnight is skipped"),
        pytest.param("America/Sao_Paulo", date(2018, 2, 17), 25, id="the last hour comes twice"),
        pytest.param("America/Havana", date(2025, 11, 2), 25, id="the first hour comes twice"),
        pytest.param("Australia/Lord_Howe", date(2026, 4, 5), 24.5, id="half an hour"),
        pytest.param("Asia/Ho_Chi_Minh", date(2026, 3, 29), 24, id="no summer time"),
    ],
)
def test_days_have_the_hours_that_the_zone_gives_them(zone: str, day: date, hours: float) -> None:
    """A day of a fixed 24 hours would count an hour of beacons in the wrong day, twice a year."""
    period = period_at(start_of(day, ZoneInfo(zone)), ZoneInfo(zone))
    assert (period.day, (period.end_s - period.start_s) / 3600) == (day, hours)


def test_a_day_that_never_was_is_skipped() -> None:
    """Samoa had no 30 December 2011: the 29th is followed by the 31st."""
    apia = ZoneInfo("Pacific/Apia")
    before = period_at(moment("2011-12-29T12:00", apia), apia)
    after = period_at(before.end_s, apia)
    assert (before.day, after.day) == (date(2011, 12, 29), date(2011, 12, 31))
    assert before.end_s == after.start_s


@example(math.nextafter(datetime(2035, 1, 1, tzinfo=UTC).timestamp(), 0), "UTC")  # datetime rounds it up
@given(MOMENTS, st.sampled_from(ZONES))
def test_every_moment_is_in_its_own_period(at_s: float, zone_name: str) -> None:
    """A worker keeps a period until the period ends; one without its own moment would be made for every beacon."""
    zone = ZoneInfo(zone_name)
    period = period_at(at_s, zone)
    assert period.holds(at_s)
    assert period.day == local_day(at_s, zone)
    assert period.week == week_of(period.day) <= period.day < period.week + timedelta(days=7)
    assert not period.holds(period.end_s)
    assert period_at(period.start_s, zone) == period


@given(st.dates(date(2000, 1, 1), date(2099, 12, 31)), st.sampled_from(ZONES))
def test_days_follow_each_other_without_a_gap(first: date, zone_name: str) -> None:
    """A beacon between two days would count in none."""
    zone = ZoneInfo(zone_name)
    periods: list[Period] = [period_at(start_of(first, zone), zone)]
    while len(periods) < 9:
        periods.append(period_at(periods[-1].end_s, zone))
    assert all(earlier.end_s == later.start_s and earlier.day < later.day for earlier, later in pairwise(periods))


@pytest.mark.parametrize("zone", ["Asia/Ho_Chi_Minh", "Europe/Berlin"])
def test_a_week_ends_where_the_next_one_begins(zone: str) -> None:
    """Also where the clocks change during the week."""
    for week in (date(2026, 3, 23), date(2026, 10, 19), date(2026, 12, 28)):
        end_s = week_end(week, ZoneInfo(zone))
        assert period_at(end_s, ZoneInfo(zone)).day == week + timedelta(days=7)
        assert period_at(end_s - 0.001, ZoneInfo(zone)).week == week
