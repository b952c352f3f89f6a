"""What a worker shows: prepared once, refreshed at most once a second, never lower within its period."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from footfall.display.counts_cache import CountsCache, PreparedCounts
from footfall.embedded.servers import Valkey
from footfall.errors import StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.counts import SPANS, Reading
from footfall.model.sums import NOTHING, Spans, Tally
from footfall.settings.settings import Site
from tests.support.footfall import NOON, SITE, FakeClock, running, settings_for

TODAY = NOON.date()


def reading(  # noqa: PLR0913 (a test changes one number, by its name)
    *,
    day: date = TODAY,
    today: int = 10,
    week: int = 20,
    total: int = 100,
    adjustments: int = 0,
    revision: str = "a1-0",
    at_ms: int = 0,
    online: int = 1,
) -> Reading:
    """A reading of Redis; its views are ten times its visitors, so that a mix-up of the two is seen."""
    return Reading(
        day_of=day,
        week_of=day - timedelta(days=day.weekday()),
        online=online,
        today_visitors=today,
        today_views=today * 10,
        week_visitors=week,
        week_views=week * 10,
        total_visitors=total,
        total_views=total * 10,
        adjustments=adjustments,
        revision=revision,
        at_ms=at_ms,
    )


async def never(_: Site) -> Reading:
    """No test below may read Redis unless it says so."""
    raise AssertionError("Redis was read")


@dataclass
class Worker:
    """A counts cache with its site and its clock."""

    read: Callable[[Site], Awaitable[Reading]] = never
    portal: dict[str, object] = field(default_factory=dict)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        settings = settings_for("redis://unused", "postgresql://unused", Path("unused"), portal=self.portal)
        self.metrics = Metrics(CollectorRegistry())
        self.site = settings.sites[SITE]
        self.counts_cache = CountsCache(settings, self.metrics, self.read, self.clock, self.clock.monotonic)

    def show(self, reading: Reading) -> dict[str, Any]:
        """Accept a reading, and return what is shown then."""
        return decoded(self.counts_cache.accept(self.site, reading))


def decoded(shown: PreparedCounts) -> dict[str, Any]:
    """What a page reads."""
    answer: dict[str, Any] = json.loads(shown.body)
    return answer


def test_before_anything_is_known_everything_is_null_and_stale() -> None:
    """Never a zero that was not counted."""
    worker = Worker()
    shown = decoded(worker.counts_cache.shown(worker.site))
    assert [shown[number] for number in ("online", "today", "week", "total", "views_today")] == [None] * 5
    assert shown["stale"] is True


ADJUSTMENTS = {"a1-0": 0, "a1-1": -50, "b2-0": 0}
"""By revision: a revision has one sum of adjustments."""

readings = st.builds(
    lambda revision, **numbers: reading(revision=revision, adjustments=ADJUSTMENTS[revision], **numbers),
    revision=st.sampled_from(list(ADJUSTMENTS)),
    day=st.sampled_from([TODAY - timedelta(days=1), TODAY, TODAY + timedelta(days=5)]),
    today=st.integers(0, 50),
    week=st.integers(50, 99),
    total=st.integers(99, 200),
    at_ms=st.integers(0, 5),
)


@given(st.lists(readings, max_size=30))
def test_within_its_period_no_number_falls(sequence: list[Reading]) -> None:
    """A failover may bring back a Redis that lost its newest seconds, and visitors must not see that."""
    worker = Worker()
    shown = [worker.show(read) for read in sequence]
    for before, after in pairwise(shown):
        for number, period in (
            ("today", "day_of"),
            ("views_today", "day_of"),
            ("week", "week_of"),
            ("total", "revision"),
        ):
            assert after[number] >= before[number] or after[period] != before[period]
        assert after["week"] >= after["today"]


def test_an_adjustment_may_lower_the_total_and_nothing_else_may() -> None:
    """The guard compares the total without adjustments; `revision` shows pages that the fall is intended."""
    worker = Worker()
    assert worker.show(reading(total=100, adjustments=1000, at_ms=1))["total"] == 1100
    assert worker.show(reading(total=90, adjustments=1000, at_ms=2))["total"] == 1100
    fallen = worker.show(reading(total=101, adjustments=500, revision="a1-1", at_ms=3))
    assert (fallen["total"], fallen["revision"]) == (601, "a1-1")
    corrected = {"number": "total_visitors"}
    assert worker.metrics.registry.get_sample_value("footfall_corrected_counts_total", corrected) == 1


def test_another_installation_starts_anew() -> None:
    """A trial that was reset shows its own numbers, not the old ones as a floor."""
    worker = Worker()
    worker.show(reading(total=1000, revision="a1-0", at_ms=1))
    assert worker.show(reading(total=3, revision="b2-0", at_ms=2))["total"] == 3


def test_a_new_day_starts_at_its_own_number_and_the_week_continues() -> None:
    """Midnight resets today alone; Monday resets the week too; the total never."""
    worker = Worker(clock=FakeClock(NOON.replace(day=29)))  # a Sunday
    sunday, monday = date(2054, 11, 29), date(2054, 11, 30)
    saturday = sunday - timedelta(days=1)
    worker.show(reading(day=saturday, today=70, week=90, total=500, at_ms=1))
    shown = worker.show(reading(day=sunday, today=2, week=90, total=502, at_ms=2))
    assert (shown["today"], shown["week"], shown["total"]) == (2, 90, 502)
    shown = worker.show(reading(day=monday, today=1, week=1, total=503, at_ms=3))
    assert (shown["today"], shown["week"], shown["total"]) == (1, 1, 503)
    assert (shown["day_of"], shown["week_of"]) == ("2054-11-30", "2054-11-30")


def test_what_was_shown_of_ended_days_outlives_a_reading_that_does_not_know_them() -> None:
    """Redis has the sums of a clock that was ahead until the next rollup, and may have lost the days since."""
    worker = Worker()
    later = TODAY + timedelta(days=7)
    worker.show(reading(today=10, week=20, at_ms=1)._replace(spans=Spans(*[Tally(5, 50)] * 5)))
    unknown = worker.show(reading(day=later, today=0, week=0, at_ms=2))
    assert [unknown[name] for name in SPANS] == [None] * 5
    nothing = reading(day=later, today=0, week=0, at_ms=3)._replace(spans=Spans(*[NOTHING] * 5))
    known = worker.show(nothing)
    assert {name: known[name] for name in SPANS} == {
        "yesterday": 0,
        "last_week": 20,
        "month": 0,
        "last_month": 15,
        "year": 15,
    }
    assert worker.show(nothing._replace(at_ms=4))["last_week"] == 20
    corrected = {"number": "last_week"}
    assert worker.metrics.registry.get_sample_value("footfall_corrected_counts_total", corrected) == 2


def test_an_answer_that_was_overtaken_changes_nothing() -> None:
    """Two answers of Redis may arrive in the wrong order; `online` would jump back, unguarded as it is."""
    worker = Worker()
    worker.show(reading(online=7, at_ms=2))
    assert worker.show(reading(online=3, at_ms=1))["online"] == 7
    worker.clock.advance(6)  # but a clock of Redis that was set back must not stop the numbers
    assert worker.show(reading(online=3, at_ms=1))["online"] == 3


def test_a_site_may_show_views() -> None:
    """With views, today, week and total are page views; `online` still counts visitors."""
    worker = Worker(portal={"measure": "views"})
    shown = worker.show(reading(today=10, week=20, total=100, adjustments=5, online=4))
    assert [shown[name] for name in ("online", "today", "week", "total", "views_today")] == [4, 100, 200, 1005, 100]
    assert shown["measure"] == "views"


def test_what_postgres_knows_is_shown_until_redis_answers_and_never_after() -> None:
    """Postgres lags and does not know who is online: better than dashes, and worse than any answer of Redis."""
    worker = Worker()
    saved = reading(today=5, total=50)._replace(online=None, week_visitors=None)
    worker.counts_cache.accept_saved(worker.site, saved)
    shown = decoded(worker.counts_cache.shown(worker.site))
    assert [shown[name] for name in ("online", "today", "week", "total", "stale")] == [None, 5, None, 50, True]
    worker.show(reading(today=6, total=51))
    worker.counts_cache.accept_saved(worker.site, saved)
    assert decoded(worker.counts_cache.shown(worker.site))["today"] == 6


def test_the_etag_stands_for_all_but_the_time_of_reading() -> None:
    """A poll every 15 s of a site where nothing happens costs no body; a stale answer is another answer."""
    worker = Worker()
    first = worker.counts_cache.accept(worker.site, reading(at_ms=1))
    later = worker.counts_cache.accept(worker.site, reading(at_ms=2))
    other = worker.counts_cache.accept(worker.site, reading(at_ms=3, online=2))
    assert first.body != later.body
    assert first.etag == later.etag
    assert len({first.etag, other.etag, first.stale.etag}) == 3
    assert first.etag.startswith('W/"')


async def test_redis_is_read_once_a_second_however_many_ask() -> None:
    """Ten thousand widgets after a cache purge are one refresh."""
    reads = 0

    async def read(site: Site) -> Reading:
        nonlocal reads
        reads += 1
        await asyncio.sleep(0)
        answer = reading(at_ms=reads)
        worker.counts_cache.accept(site, answer)
        return answer

    worker = Worker(read)
    first = await asyncio.gather(*(worker.counts_cache.counts(worker.site) for _ in range(10_000)))
    assert (reads, {shown.body for shown in first}) == (1, {first[0].body})
    worker.clock.advance(0.9)
    await worker.counts_cache.counts(worker.site)
    assert reads == 1
    worker.clock.advance(0.2)
    await asyncio.gather(*(worker.counts_cache.counts(worker.site) for _ in range(100)))
    await worker.counts_cache.close()
    assert reads == 2


async def test_redis_is_not_read_for_a_site_without_readers() -> None:
    """A thousand idle sites cost nothing."""
    worker = Worker()
    worker.show(reading())
    worker.clock.advance(3600)
    await asyncio.sleep(0)
    await worker.counts_cache.close()


async def test_an_answer_is_waited_for_only_when_the_numbers_are_older_than_five_seconds() -> None:
    """A footer shows a number of four seconds ago at once, and a reader does not wait for a newer one."""
    answered = asyncio.Event()

    async def read(site: Site) -> Reading:
        await answered.wait()
        return reading()

    worker = Worker(read)
    worker.show(reading(today=7))
    worker.clock.advance(4)
    shown = decoded(await worker.counts_cache.counts(worker.site))
    assert (shown["today"], shown["stale"]) == (7, False)
    worker.clock.advance(2)
    waiting = asyncio.create_task(worker.counts_cache.counts(worker.site))
    await asyncio.sleep(0)
    assert not waiting.done()
    answered.set()
    await waiting
    await worker.counts_cache.close()


async def test_yesterdays_numbers_are_not_todays() -> None:
    """At midnight the next reader gets the new day, although the last reading is a moment old."""

    async def read(site: Site) -> Reading:
        answer = reading(day=TODAY + timedelta(days=1), today=0, week=20)
        worker.counts_cache.accept(site, answer)
        return answer

    worker = Worker(read, clock=FakeClock(NOON.replace(hour=23, minute=59, second=59)))
    worker.show(reading(today=10, at_ms=-1))
    worker.clock.advance(1.0)
    shown = decoded(await worker.counts_cache.counts(worker.site))
    assert (shown["day_of"], shown["today"], shown["stale"]) == ("2054-11-26", 0, False)


async def test_a_failed_refresh_shows_the_last_numbers_marked_stale() -> None:
    """A second reader within the same second causes no second read."""
    reads = 0

    async def read(_: Site) -> Reading:
        nonlocal reads
        reads += 1
        raise StoreUnavailable("redis", "is away")

    worker = Worker(read)
    worker.show(reading(today=7))
    worker.clock.advance(6)
    for _ in range(3):
        shown = decoded(await worker.counts_cache.counts(worker.site))
        assert (shown["today"], shown["stale"]) == (7, True)
    assert reads == 1


@pytest.mark.parametrize("readers", [1, 50])
async def test_a_redis_that_hangs_keeps_a_reader_for_a_quarter_of_a_second(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path, readers: int
) -> None:
    """A footer must not hang with Redis: the last numbers come, marked stale; when Redis is back, they are current."""
    settings = settings_for(own_valkey.url, postgres_url, tmp_path, redis_timeout_s=5)
    async with running(settings) as footfall:
        known = await footfall.see()
        own_valkey.suspend()
        footfall.clock.advance(6)
        loop = asyncio.get_running_loop()
        started = loop.time()
        answers = await asyncio.gather(*(footfall.counts() for _ in range(readers)))
        assert 0.2 < loop.time() - started < 1.5
        assert all(answer == known | {"stale": True} for answer in answers)
        own_valkey.resume()
        await footfall.services.counts_cache.close()
        assert (await footfall.counts())["stale"] is False
