"""What both stores need, around midnight, two hours after it, at the turn of the week, and where clocks jump."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.model.periods import CLOSING_DELAY, local_day, start_of, week_of
from footfall.model.retention import DAY, WEEK, Retention
from footfall.model.salt import salt_ends_s

HANOI = ZoneInfo("Asia/Ho_Chi_Minh")
MONDAY = date(2026, 11, 23)
ZONES = (
    "Asia/Ho_Chi_Minh",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "America/Havana",
    "Australia/Lord_Howe",
    "Pacific/Apia",
)
"""Jumps at midnight in both directions, half an hour, and a day that never was."""
CLOSING_DELAY_S = CLOSING_DELAY.total_seconds()
SECONDS = st.integers(
    int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2040, 1, 1, tzinfo=UTC).timestamp())
)


def retention_at(local: str, zone: ZoneInfo = HANOI) -> Retention:
    """Return what is needed at a local time, written in ISO; the first one where the hour comes twice."""
    return Retention.at(datetime.fromisoformat(local).replace(tzinfo=zone).timestamp(), zone)


@pytest.mark.parametrize(
    ("local", "closed_through"),
    [
        pytest.param("2026-11-24T23:59:59.9", MONDAY, id="before midnight"),
        pytest.param("2026-11-25T00:00:00", MONDAY, id="midnight"),
        pytest.param("2026-11-25T01:59:59.9", MONDAY, id="just before two hours later"),
        pytest.param("2026-11-25T02:00:00", MONDAY + DAY, id="two hours later"),
    ],
)
def test_a_day_is_closed_two_hours_after_its_end(local: str, closed_through: date) -> None:
    """Batches of the last minute have that long to arrive before the number of the day moves to Postgres."""
    retention = retention_at(local)
    assert retention.closed_through == closed_through
    assert (retention.week, retention.needed_from, retention.salts_from) == (MONDAY, MONDAY, MONDAY)


@pytest.mark.parametrize(
    ("local", "week", "needed_from", "closed_through", "salts_from"),
    [
        pytest.param("2026-11-22T23:59:59.9", -7, -7, -2, -7, id="Sunday, before midnight"),
        pytest.param("2026-11-23T00:00:00", 0, -7, -2, -7, id="Monday, midnight"),
        pytest.param("2026-11-23T01:59:59.9", 0, -7, -2, -7, id="Monday, just before two hours later"),
        pytest.param("2026-11-23T02:00:00", 0, 0, -1, 0, id="Monday, two hours later"),
    ],
)
def test_last_weeks_days_and_salt_are_needed_two_hours_into_monday(
    local: str, week: int, needed_from: int, closed_through: int, salts_from: int
) -> None:
    """A beacon received before midnight still counts in its day and in the union of its week, under its salt.

    The expected days are counted from the Monday.
    """
    retention = retention_at(local)
    days = (retention.week, retention.needed_from, retention.closed_through, retention.salts_from)
    expected = (week, needed_from, closed_through, salts_from)
    assert days == tuple(MONDAY + number * DAY for number in expected)


@pytest.mark.parametrize(
    ("zone", "day", "still_open", "closed"),
    [
        pytest.param("Europe/Berlin", date(2026, 3, 28), "2026-03-29T01:59", "2026-03-29T03:00", id="02:00 is skipped"),
        pytest.param("Europe/Berlin", date(2026, 10, 25), "2026-10-26T01:59", "2026-10-26T02:00", id="25 hours"),
        pytest.param("America/Sao_Paulo", date(2018, 11, 3), "2018-11-04T02:59", "2018-11-04T03:00", id="no midnight"),
        pytest.param("America/Sao_Paulo", date(2018, 2, 17), "2018-02-18T01:59", "2018-02-18T02:00", id="23:00 twice"),
        pytest.param("America/Havana", date(2025, 11, 1), "2025-11-02T00:59", "2025-11-02T01:00", id="00:00 twice"),
    ],
)
def test_the_two_hours_are_counted_in_time_that_passes(zone: str, day: date, still_open: str, closed: str) -> None:
    """A jump of the clock makes them neither one hour nor three."""
    assert retention_at(still_open, ZoneInfo(zone)).closed_through == day - DAY
    assert retention_at(closed, ZoneInfo(zone)).closed_through == day


def test_a_week_with_25_hours_on_its_sunday_is_closed_two_hours_after_its_end() -> None:
    """Berlin's clocks change on a Sunday; the week and its salt live an hour longer."""
    berlin = ZoneInfo("Europe/Berlin")
    monday = date(2026, 10, 26)
    before, after = retention_at("2026-10-26T01:59:59.9", berlin), retention_at("2026-10-26T02:00", berlin)
    assert (before.week, before.salts_from, before.needed_from) == (monday, monday - WEEK, monday - WEEK)
    assert (after.week, after.salts_from, after.needed_from) == (monday, monday, monday)


def test_sketches_are_retained_for_35_days() -> None:
    """A late copy of a day can be merged that long; after it only the numbers stay."""
    assert retention_at("2026-11-25T00:00").sketches_from == date(2026, 10, 21)
    assert retention_at("2026-11-24T23:59:59.9").sketches_from == date(2026, 10, 20)


def test_the_salts_of_this_week_and_the_next_are_shared() -> None:
    """Workers agree on a key a week before they need it, so that Monday's first beacon waits for no store."""
    assert retention_at("2026-11-29T23:59").shared_weeks == (MONDAY, MONDAY + WEEK)
    assert retention_at("2026-11-30T00:00").shared_weeks == (MONDAY + WEEK, MONDAY + 2 * WEEK)


@given(SECONDS, st.sampled_from(ZONES))
def test_what_is_closed_ended_two_hours_ago_and_what_is_open_did_not(at_s: int, zone_name: str) -> None:
    """At every moment, in every zone: the last batches of a day that is closed early would need a merge each."""
    zone = ZoneInfo(zone_name)
    retention = Retention.at(at_s, zone)
    first_open = retention.closed_through + DAY
    assert start_of(first_open, zone) + CLOSING_DELAY_S <= at_s < start_of(first_open + DAY, zone) + CLOSING_DELAY_S
    assert retention.week == week_of(local_day(at_s, zone))
    assert retention.needed_from == week_of(first_open)


@given(SECONDS, st.sampled_from(ZONES))
def test_the_oldest_salt_is_the_oldest_that_redis_has_not_destroyed(at_s: int, zone_name: str) -> None:
    """Redis destroys a salt by its own clock; the copies in Postgres and in the workers end at the same moment."""
    zone = ZoneInfo(zone_name)
    oldest = Retention.at(at_s, zone).salts_from
    assert salt_ends_s(oldest - WEEK, zone) <= at_s < salt_ends_s(oldest, zone)
