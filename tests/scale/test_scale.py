"""The model's arithmetic, and that the measuring measures. How fast this machine is decides no test."""

from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from footfall.errors import Stop
from tests.scale import costs, report
from tests.scale.__main__ import RESULTS, costs_of, saved
from tests.scale.check import FACTOR, Compared
from tests.scale.model import BUSY, Bound, Costs, Load, Needs, bounds, calls_per_beacon, changed_sites, needs

BYTES = {100: 1_000.0, 1_000: 10_000.0}
COSTS = Costs(
    worker_beacon_us=100,
    worker_call_us=50,
    redis_beacon_us=5,
    redis_call_us=50,
    flight_s=0.001,
    worker_rollup_us=300,
    redis_rollup_us=100,
    redis_rollup_calls=2,
    postgres_rollup_us=200,
    wal_bytes=BYTES,
    look_us=500,
    idle_us_per_s=3,
    worker_bytes=80e6,
    worker_site_bytes=10_000,
    redis_site_bytes=BYTES,
    redis_day_bytes=BYTES,
    online_bytes=80,
    postgres_day_bytes=BYTES,
    http_bytes=1_500,
)
"""Round numbers, of no machine."""
BILLION = Load(views_a_day=864e6, sites=1_000, peak=2, pings_per_view=0.5, workers_per_site=1)
"""30,000 beacons a second, thirty at each site."""


def bound(need: Needs, load: Load, name: str, workers: int | None = None) -> Bound:
    return next(each for each in bounds(need, load, workers) if each.name == name)


def test_the_busiest_moment_is_the_peak_of_views_and_pings() -> None:
    """Who plans for the average fails every morning at nine."""
    assert BILLION.beacons_per_s() == pytest.approx(30_000)
    assert BILLION.beacons_per_s(1.0) == pytest.approx(15_000)
    assert replace(BILLION, pings_per_view=0).beacons_per_s() == pytest.approx(20_000)


def test_a_load_takes_its_beacons_its_calls_and_its_rows() -> None:
    """Each figure can be worked out on paper."""
    need = needs(COSTS, BILLION)
    calls = 1 / 1.03
    assert need.calls_per_beacon == pytest.approx(calls)
    assert need.rows_per_s == pytest.approx(100)  # each of a thousand sites, every ten seconds
    assert need.worker_cores == pytest.approx(30_000 * (100 + calls * 50) / 1e6 + 100 * 300 / 1e6)
    assert need.redis_cores == pytest.approx(30_000 * (5 + calls * 50) / 1e6 + 100 * 100 / 1e6)
    assert need.postgres_cores == pytest.approx(0.02)
    assert need.wal_per_s == pytest.approx(100 * 10_000)
    assert need.wal_per_day == pytest.approx(86_400 * 100 * 10_000)
    assert need.worker_bytes == pytest.approx(90e6)
    assert need.network_bits_per_s == pytest.approx(30_000 * 1_500 * 8)


def test_workers_and_primaries_leave_room_at_the_busiest_moment() -> None:
    """A core that is full answers late, and the next second is busier."""
    need = needs(COSTS, BILLION)
    assert need.worker_cores / need.workers <= BUSY
    assert need.redis_cores / need.redis_servers <= BUSY
    assert (need.redis_servers - 1) * BUSY < need.redis_cores


def test_ten_times_the_views_take_ten_times_the_workers_and_no_more_rows() -> None:
    """A site that is busy all the time is one row an interval, however busy it is."""
    once, tenfold = needs(COSTS, BILLION), needs(COSTS, replace(BILLION, views_a_day=10 * BILLION.views_a_day))
    assert 9 < tenfold.worker_cores / once.worker_cores < 10
    assert tenfold.rows_per_s == pytest.approx(once.rows_per_s)


def test_more_workers_for_each_site_take_more_calls() -> None:
    """Beacons share a call where they meet: a balancer that keeps a site on one host saves Redis work."""
    spread = replace(BILLION, workers_per_site=100)
    beacons = BILLION.beacons_per_s()
    assert calls_per_beacon(COSTS, BILLION, beacons) < calls_per_beacon(COSTS, spread, beacons) < 1


def test_idle_sites_are_no_rows() -> None:
    """Of ten thousand sites a village's has one visitor an hour."""
    asleep = Load(views_a_day=10_000, sites=10_000, peak=1, pings_per_view=0)
    assert changed_sites(asleep, asleep.beacons_per_s()) == pytest.approx(10_000 / 8640, rel=0.01)


def test_a_longer_interval_mends_what_postgres_cannot_write() -> None:
    """The advice that is printed has to help."""
    load = Load(views_a_day=1e12, sites=1_000_000, pings_per_view=0)
    often = bound(needs(COSTS, load), load, "PostgreSQL's log (WAL)")
    rare = replace(load, rollup_every_s=300)
    seldom = bound(needs(COSTS, rare), rare, "PostgreSQL's log (WAL)")
    assert often.used > 1 > seldom.used
    assert "FOOTFALL_ROLLUP_EVERY_S" in often.advice


def test_what_breaks_first_stands_first() -> None:
    """An operator reads the first line."""
    need = needs(COSTS, BILLION)
    found = bounds(need, BILLION, workers=1)
    assert found[0].name == "workers"
    assert found[0].used == need.workers
    assert [each.used for each in found] == sorted((each.used for each in found), reverse=True)
    assert bounds(need, BILLION)[0].name == "one Redis server"


def test_a_prediction_holds_within_the_factor_and_not_beyond() -> None:
    """A model that is never wrong was never compared."""
    assert Compared("calls", 100, 100 * FACTOR, "").holds
    assert Compared("calls", 100 * FACTOR, 100, "").holds
    assert not Compared("calls", 100, 101 * FACTOR, "").holds
    assert not Compared("calls", 100, 0, "").holds


async def test_the_measuring_finds_every_cost() -> None:
    """Its figures differ by machine; that they are there, and in order, does not."""
    effort = costs.Effort(together=200, alone=50, sites=3, groups={5: 3, 200: 1}, rounds=1, settle_s=0.1)
    said: list[str] = []
    found = await costs.measure(effort, said.append)
    values = asdict(found)
    assert set(values) == {field.name for field in fields(Costs)}
    assert all(each > 0 for size in values.values() if isinstance(size, dict) for each in size.values())
    assert found.redis_rollup_calls >= 2
    assert found.wal_bytes[200] > found.wal_bytes[5]
    assert found.http_bytes > 500
    assert found.worker_bytes > 20e6
    assert len(said) == 3


def test_the_figures_of_the_readme_are_those_of_the_last_run() -> None:
    """A figure that nobody can measure again is an advertisement; `make scale ARGS=--results` writes them."""
    found = saved(RESULTS)
    assert report.chapter(found, costs_of(found)) in report.README.read_text("utf-8")


def test_without_a_run_a_sentence_says_what_to_do(tmp_path: Path) -> None:
    """`--saved` is for the second time."""
    with pytest.raises(Stop, match="make scale measures"):
        saved(tmp_path / "none.json")
