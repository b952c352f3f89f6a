"""The model's arithmetic, and that the measuring measures. How fast this machine is decides no test."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from footfall.errors import Stop
from tests.scale import costs, report
from tests.scale.__main__ import RESULTS, costs_of, saved
from tests.scale.bounds import Bound, bounds
from tests.scale.check import FACTOR, Compared, happened_in
from tests.scale.model import (
    BUSY,
    CONNECTIONS_OF_WORKER,
    Cost,
    Costs,
    Load,
    Needs,
    Thing,
    calls_per_beacon,
    changed_sites,
    needs,
    spent,
)

BYTES = {100: 1_000.0, 1_000: 10_000.0}
COSTS = Costs(
    of={
        Thing.BEACON: Cost(worker_us=100, redis_us=5),
        Thing.CALL: Cost(worker_us=50, redis_us=50, redis_calls=1),
        Thing.NEW_PAGE: Cost(worker_us=500, redis_us=100, redis_calls=3, postgres_us=500),
        Thing.COPY_PAGE: Cost(worker_us=10, redis_us=10, postgres_us=100, wal_bytes=300),
        Thing.LOOK: Cost(worker_us=500),
        Thing.STORES: Cost(redis_us=1_000),
        Thing.WORKER: Cost(worker_us=2_000, postgres_us=1_000),
        Thing.SITE: Cost(worker_us=3),
    },
    wakes={1: Cost(worker_us=200, redis_us=20), 10_000: Cost()},
    copies={100: Cost(worker_us=300, redis_us=100, redis_calls=2, postgres_us=200, wal_bytes=10_000)},
    flight_s=0.001,
    worker_bytes=80e6,
    worker_site_bytes=10_000,
    worker_site_series_bytes=9_000,
    worker_page_bytes=300,
    redis_site_bytes=BYTES,
    redis_day_bytes=BYTES,
    redis_page_bytes={1: 100.0},
    redis_page_total_bytes=60,
    online_bytes=80,
    view_id_bytes={1_000: 40.0},
    postgres_day_bytes=BYTES,
    postgres_page_bytes=120,
    http_bytes=1_500,
)
"""Round numbers, of no machine."""
BILLION = Load(views_a_day=864e6, sites=1_000, peak=2, pings_per_view=0.5, workers_per_site=1, pages=1)
"""30,000 beacons a second, thirty at each site, which has one page."""


def bound(need: Needs, load: Load, name: str, workers: int | None = None) -> Bound:
    return next(each for each in bounds(need, load, workers) if each.name == name)


def pauses(per_s: float) -> float:
    """Return the part of the cost of a pause that is left where so many beacons come in a second."""
    return (10_000 - per_s) / 9_999


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
    assert (need.rows_per_s, need.page_rows_per_s) == pytest.approx((100, 100))  # of each site, every ten seconds
    new_pages, looks, idle_us = 2 * 1_000 / 86_400, 1_000 / 3_600, 2_000 + 1_000 * 3
    of_beacons = 30_000 * (100 + calls * 50 + pauses(30_000 / need.workers) * 200)
    of_others = 100 * 300 + new_pages * 500 + looks * 500
    assert need.worker_cores == pytest.approx((of_beacons + of_others + need.workers * idle_us) / 1e6)
    of_beacons = 30_000 * (5 + calls * 50 + pauses(30_000 / need.redis_servers) * 20)
    assert need.redis_cores == pytest.approx((of_beacons + 100 * 100 + new_pages * 100 + 1_000) / 1e6)
    of_copies = 100 * 200
    assert need.postgres_cores == pytest.approx((of_copies + new_pages * 500 + need.workers * 1_000) / 1e6)
    assert need.wal_per_s == pytest.approx(100 * 10_000)
    assert need.wal_per_day == pytest.approx(86_400 * 100 * 10_000)
    assert need.worker_bytes == pytest.approx(80e6 + 1_000 * (19_000 + 300))
    many = needs(COSTS, replace(BILLION, sites=1_001))
    assert many.worker_bytes == pytest.approx(80e6 + 1_001 * (10_000 + 300))
    assert need.network_bits_per_s == pytest.approx(30_000 * 1_500 * 8)


def test_a_view_of_a_page_is_a_row_where_the_page_has_others() -> None:
    """A site with many pages writes many rows: a page that was viewed since the last copy is one."""
    some = needs(COSTS, replace(BILLION, pages=300))
    assert 100 * 20 < some.page_rows_per_s < 100 * 200  # each site has two hundred views in ten seconds
    assert some.wal_per_s == pytest.approx(100 * 10_000 + (some.page_rows_per_s - 100) * 300)
    assert some.worker_bytes > needs(COSTS, BILLION).worker_bytes


def test_beacons_with_pauses_between_them_cost_more_than_those_without() -> None:
    """A process that was idle needs more for the next beacon: what is measured without pauses is too little."""
    quiet, busy = (spent(COSTS, {Thing.WAKE: 1.0}, 1, per_s, per_s) for per_s in (1, 20_000))
    assert (quiet, busy) == (Cost(worker_us=200, redis_us=20), Cost())
    few, many = needs(COSTS, BILLION), needs(COSTS, BILLION, started=1_000)
    assert many.worker_cores > few.worker_cores + 1_000 * (2_000 + 3_000) / 1e6


def test_in_a_run_from_empty_stores_each_page_is_new_once() -> None:
    """Two views of a site are of two pages, mostly; what each second costs goes on after the last beacon."""
    load = Load(86_400 * 200, sites=1_000, peak=1, pings_per_view=0, workers_per_site=1)
    happened = happened_in(COSTS, load, sent_s=10.0, took_s=20.0)
    assert happened[Thing.BEACON] == pytest.approx(2_000)
    assert 1_800 < happened[Thing.NEW_PAGE] < 2_000
    assert (happened[Thing.SITE], happened[Thing.LOOK]) == (1_000 * 20, 0)


def test_workers_and_primaries_leave_room_at_the_busiest_moment() -> None:
    """A core that is full answers late, and the next second is busier."""
    need = needs(COSTS, BILLION)
    assert need.worker_cores / need.workers <= BUSY
    assert need.redis_cores / need.redis_servers <= BUSY
    assert (need.redis_servers - 1) * BUSY < need.redis_cores


def test_ten_times_the_views_take_ten_times_the_workers_and_no_more_rows() -> None:
    """A site that is busy all the time is one row an interval, however busy it is."""
    once, tenfold = needs(COSTS, BILLION), needs(COSTS, replace(BILLION, views_a_day=10 * BILLION.views_a_day))
    assert 9 < tenfold.worker_cores / once.worker_cores <= 10
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
    load = Load(views_a_day=1e12, sites=1_000_000, pings_per_view=0, pages=1)
    often = bound(needs(COSTS, load), load, "PostgreSQL's log (WAL)")
    rare = replace(load, rollup_every_s=300)
    seldom = bound(needs(COSTS, rare), rare, "PostgreSQL's log (WAL)")
    assert often.used > 1 > seldom.used
    assert "FOOTFALL_ROLLUP_EVERY_S" in often.advice


def test_more_workers_than_needed_take_connections_too() -> None:
    """Each holds its own, and looks at all sites every second, whether beacons come to it or not."""
    enough, many = needs(COSTS, BILLION), needs(COSTS, BILLION, 1_000)
    assert many.workers == enough.workers
    assert many.postgres_connections == 1_000 * CONNECTIONS_OF_WORKER
    assert many.worker_cores > enough.worker_cores


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


@pytest.mark.timeout(240)  # three Footfalls start, on a machine that may have other work
async def test_the_measuring_finds_every_cost() -> None:
    """Its figures differ by machine; that they are there, and in order, does not."""
    effort = costs.Effort(200, {50: 20, 100: 20}, 20, sites=3, groups={5: 3, 200: 1}, rounds=1, rest_s=0.5)
    said: list[str] = []
    found = await costs.measure(effort, said.append)
    assert set(found.of) == set(Thing) - {Thing.COPY, Thing.WAKE}
    assert min(found.wakes) > 1
    assert found.wakes[max(found.wakes)] == Cost()
    assert found.of[Thing.CALL].redis_calls == pytest.approx(1)
    assert found.of[Thing.NEW_PAGE].redis_calls > 1
    assert found.copies[5].redis_calls >= 2
    assert found.copies[200].wal_bytes > found.copies[5].wal_bytes > 0
    assert found.of[Thing.COPY_PAGE].wal_bytes > 0
    sizes = [value for value in asdict(found).values() if isinstance(value, float)]
    assert min(sizes) >= 0 < min(found.redis_page_total_bytes, found.postgres_page_bytes, found.worker_page_bytes)
    of_size = found.redis_site_bytes, found.redis_day_bytes, found.redis_page_bytes, found.view_id_bytes
    assert all(each > 0 for size in of_size for each in size.values())
    assert found.http_bytes > 500
    assert found.worker_bytes > 20e6
    assert len(said) == 3


def test_the_figures_of_the_readme_are_those_of_the_last_run() -> None:
    """A figure that nobody can measure again is an advertisement; `make scale ARGS=--results` writes them."""
    found = saved(RESULTS)
    assert report.chapter(found, costs_of(found)) in report.README.read_text("utf-8")


def test_new_figures_leave_the_rest_of_the_readme_as_it_is() -> None:
    """Where a sentence after the table was changed, all chapters below it were cut off."""
    readme, found = report.README.read_text("utf-8"), saved(RESULTS)
    costs_now = replace(costs_of(found), http_bytes=1e6)
    changed = report.with_chapter(readme, found, costs_now)
    assert report.chapter(found, costs_now) in changed
    assert report.with_chapter(changed, found, costs_of(found)) == readme
    for lacking in (readme.replace(report.AFTER, ""), readme.replace(report.TABLE_HEAD, "")):
        with pytest.raises(Stop, match="has no table"):
            report.with_chapter(lacking, found, costs_now)


def test_without_a_run_a_sentence_says_what_to_do(tmp_path: Path) -> None:
    """`--saved` is for the second time."""
    with pytest.raises(Stop, match="make scale measures"):
        saved(tmp_path / "none.json")
