"""The numbers around a turn of the calendar: right on both sides of it, and never lower than a moment before.

A ledger counts the same visitors in sets of its own. Every case is played with Postgres at hand, with the last day not
copied yet, and with Postgres away over the turn; two workers read, each with its own clock and counts cache.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import pytest

from footfall.display.saved_counts import read_saved_counts
from footfall.model.batch import Answer
from footfall.model.counts import SPANS, Reading
from footfall.model.periods import week_of
from footfall.model.sums import Tally
from tests.support.storage import DAY, Stores, Worker, batch

VIETNAM, BERLIN = ZoneInfo("Asia/Ho_Chi_Minh"), ZoneInfo("Europe/Berlin")
LAST_MOMENT = time(23, 59, 59, 900_000)
WEEK = 7 * DAY

TURNS = [
    pytest.param(VIETNAM, date(2055, 3, 10), id="a day"),
    pytest.param(VIETNAM, date(2055, 3, 14), id="a Sunday"),
    pytest.param(VIETNAM, date(2055, 1, 31), id="31 January, a Sunday"),
    pytest.param(VIETNAM, date(2055, 2, 28), id="28 February"),
    pytest.param(VIETNAM, date(2056, 2, 28), id="28 February of a leap year"),
    pytest.param(VIETNAM, date(2056, 2, 29), id="29 February"),
    pytest.param(VIETNAM, date(2054, 12, 31), id="31 December"),
    pytest.param(BERLIN, date(2055, 3, 27), id="the night before a day of 23 hours"),
    pytest.param(BERLIN, date(2055, 3, 28), id="a Sunday of 23 hours"),
    pytest.param(BERLIN, date(2055, 10, 31), id="a Sunday of 25 hours, the end of a month"),
    pytest.param(BERLIN, date(2055, 12, 31), id="31 December in Berlin"),
]


@dataclass
class Ledger:
    """Who came on each day, and the views."""

    visitors: dict[date, set[int]] = field(default_factory=lambda: defaultdict(set))
    views: dict[date, int] = field(default_factory=lambda: defaultdict(int))

    def summed(self, days: Callable[[date], bool]) -> Tally:
        """Visitors day by day, and views."""
        return Tally(
            sum(len(ids) for day, ids in self.visitors.items() if days(day)),
            sum(views for day, views in self.views.items() if days(day)),
        )

    def spans(self, today: date) -> dict[str, Tally]:
        """What the numbers of `today` are by their definitions."""
        month = today.replace(day=1)
        last_month, last_week = (month - DAY).replace(day=1), week_of(today) - WEEK
        in_last_week = set().union(*(ids for day, ids in self.visitors.items() if week_of(day) == last_week))
        week_views = self.summed(lambda day: week_of(day) == last_week).views
        return {
            "yesterday": self.summed(lambda day: day == today - DAY),
            "last_week": Tally(len(in_last_week), week_views),
            "month": self.summed(lambda day: month <= day <= today),
            "last_month": self.summed(lambda day: last_month <= day < month),
            "year": self.summed(lambda day: day.year == today.year and day <= today),
        }


class Played:
    """A site whose visitors are counted by Footfall and by a ledger."""

    def __init__(self, stores: Stores, workers: list[Worker], zone: ZoneInfo) -> None:
        self.stores, self.workers, self.zone = stores, workers, zone
        self.ledger = Ledger()
        self.shown: dict[int, Reading] = {}
        self._logs: dict[tuple[date, str], tuple[int, int]] = {}

    async def visit(self, day: date, visitors: Iterable[int], *, views: int = 3) -> None:
        """Send a batch of `day` from each worker in turn; the clock says when it arrives."""
        number = len(self.ledger.visitors[day]) % len(self.workers)
        ids = list(visitors)
        self.ledger.visitors[day] |= set(ids)
        self.ledger.views[day] += views
        log = "ab"[number] * 16
        seq, so_far = self._logs.get((day, log), (0, 0))
        self._logs[day, log] = seq + 1, so_far + views
        worker = self.workers[number]
        await worker.count(batch(seq + 1, ids, day=day, log=log, views=so_far + views))
        worker.changed.note(worker.site.id)

    async def send_again(self, day: date, visitors: Iterable[int]) -> None:
        """Send a batch of a day that Redis has no more, as a worker does after the answer OLD."""
        worker = self.workers[0]
        seq, so_far = self._logs.get((day, "f" * 16), (0, 0))
        late = batch(seq + 1, visitors, day=day, log="f" * 16, views=so_far + 3)
        assert (await worker.send(late)).answer is Answer.OLD
        await worker.restore.merge_day(worker.site, day)
        self.ledger.visitors[day] |= set(visitors)
        self.ledger.views[day] += 3
        await worker.count(late)
        worker.changed.note(worker.site.id)

    def at(self, day: date, moment: time) -> None:
        """Set the clock of all workers."""
        self.stores.clock.set(datetime.combine(day, moment, self.zone))

    async def roll_up(self) -> None:
        """Both workers, as each does every ten seconds."""
        for worker in self.workers:
            await worker.rollup.step()

    async def check(self, today: date) -> None:
        """Compare every worker's numbers with the ledger, and with what it showed before."""
        wanted = self.ledger.spans(today)
        for number, worker in enumerate(self.workers):
            read = await worker.count()
            assert read.day_of == today
            assert {name: read.span(name) for name in SPANS} == wanted
            assert read.total_views == self.ledger.summed(lambda _: True).views
            if before := self.shown.get(number):
                assert read.not_below(before) == (read, []), "a number fell"
            self.shown[number] = read


@pytest.mark.parametrize("postgres", ["at hand", "behind by a day", "away over the turn"])
@pytest.mark.parametrize(("zone", "last_day"), TURNS)
async def test_each_number_is_right_on_both_sides_of_the_turn(
    stores: Stores, zone: ZoneInfo, last_day: date, postgres: str
) -> None:
    """A month that is wrong for the first two hours, or a yesterday of nobody, is what people notice."""
    played = await _before(stores, zone, last_day)
    next_day = last_day + DAY
    if postgres != "at hand":
        played.at(last_day, time(12))
    await played.visit(last_day, [1, 2, 3])
    if postgres == "at hand":
        await played.roll_up()
    played.at(last_day, LAST_MOMENT)
    await played.visit(last_day, [4])
    await played.check(last_day)
    played.at(next_day, time(0, 0, 0, 100_000))
    await played.check(next_day)
    await played.visit(last_day, [5])  # received before midnight, sent after it
    await played.check(next_day)
    await played.visit(next_day, [1, 6])
    await played.check(next_day)
    for moment in (time(1, 59, 59), time(4), time(12)):
        played.at(next_day, moment)
        if postgres == "at hand" or (postgres == "behind by a day" and moment == time(12)):
            await played.roll_up()
        await played.check(next_day)
    for days in (1, 2, 8):
        played.at(next_day + days * DAY, time(12))
        await played.check(next_day + days * DAY)
        await played.visit(next_day + days * DAY, [1, 9])
        await played.check(next_day + days * DAY)
    await played.roll_up()
    await played.check(next_day + 8 * DAY)
    await played.visit(last_day, [7])  # a spool that was found late
    await played.roll_up()
    await played.check(next_day + 8 * DAY)


async def _before(stores: Stores, zone: ZoneInfo, last_day: date) -> Played:
    """A site with visitors in the months, weeks and days before, copied and closed."""
    workers = [await stores.worker(time_zone=zone.key) for _ in range(2)]
    played = Played(stores, workers, zone)
    for before in (70, 40, 33, 9, 8, 7, 6, 2, 1):
        day = last_day - before * DAY
        played.at(day, time(12))
        if before == 70:
            for worker in workers:
                assert await worker.opener.open(worker.site)
        await played.visit(day, range(before % 5, before % 5 + 3))
        await played.visit(day, [before], views=5)
    played.at(last_day, time(9))
    await played.roll_up()
    return played


async def test_postgres_alone_answers_what_it_can(stores: Stores) -> None:
    """While Redis is away pages see what was copied; yesterday and the months are among it."""
    played = await _before(stores, VIETNAM, date(2055, 3, 1))
    await played.visit(date(2055, 3, 1), [1, 2])
    await played.roll_up()
    worker = played.workers[0]
    saved, live = await read_saved_counts(worker.postgres, worker.site, stores.clock()), await worker.count()
    assert {name: saved.span(name) for name in SPANS} == {name: live.span(name) for name in SPANS}


async def test_a_site_that_redis_lost_has_its_numbers_again(stores: Stores) -> None:
    """Also in the first hours of a week, when last week's union is made again of its days."""
    sunday = date(2055, 3, 14)
    played = await _before(stores, VIETNAM, sunday)
    played.at(sunday, time(20))
    await played.visit(sunday, [1, 2, 77])
    played.at(sunday + DAY, time(0, 30))
    await played.roll_up()
    await played.check(sunday + DAY)
    await stores.redis.flushall()
    assert await played.workers[0].opener.open(played.workers[0].site)
    await played.check(sunday + DAY)
    await played.visit(sunday, [88])  # received before midnight: it needs all of its week
    await played.check(sunday + DAY)
    await played.roll_up()
    await played.check(sunday + DAY)


async def test_without_sums_the_numbers_are_unknown_and_never_wrong(stores: Stores) -> None:
    """A worker of the former version closes a day beside this one: it writes no sums."""
    last_day = date(2055, 3, 10)
    played = await _before(stores, VIETNAM, last_day)
    await stores.redis.hset("ff1:{portal}:closed", "through", str(last_day))
    assert (await played.workers[0].count()).spans is None
    await stores.redis.hset("ff1:{portal}:closed", "sums", "what a later version writes")
    assert (await played.workers[0].count()).spans is None
    await stores.redis.hset("ff1:{portal}:closed", "through", str(last_day - 3 * DAY))
    played.at(last_day, time(12))
    await stores.redis.hset("ff1:{portal}:closed", "read_at", "1")
    for worker in played.workers:
        await worker.roll_up_all_days()
    await played.check(last_day)


async def test_a_week_that_is_over_keeps_its_number(stores: Stores) -> None:
    """Its sketches end with the week; the sum of its days would count who came twice as two."""
    sunday = date(2055, 3, 14)
    played = await _before(stores, VIETNAM, sunday)
    row = "SELECT visitors, views FROM footfall.site_week WHERE week = $1"
    for visitors in ([1, 2, 77], [78]):
        await played.visit(sunday, visitors)
        await played.roll_up()
        (saved,) = await stores.sql.fetch(row, week_of(sunday))
        assert tuple(saved) == played.ledger.spans(sunday + DAY)["last_week"]
    await stores.redis.flushall()
    played.at(sunday + DAY, time(12))  # two hours after the week: Redis needs no day of it any more
    assert await played.workers[0].opener.open(played.workers[0].site)
    await played.check(sunday + DAY)
    await played.send_again(sunday, [79])  # a spool that was found: all of its week is merged first
    await played.roll_up()
    await played.check(sunday + DAY)


async def test_the_most_that_were_online_are_kept_and_come_back(stores: Stores) -> None:
    """Of each day in Postgres, of all days in Redis; reading does not raise it, and a fall does not lower it."""
    worker = await stores.worker()
    assert await worker.opener.open(worker.site)
    assert (await worker.count()).peak is None
    now_ms = int(await worker.redis.clock_s() * 1000)
    first = await worker.count(batch(1, [1, 2, 3], seen_ms=now_ms))
    assert first.peak is not None
    assert (first.peak.online, first.online) == (3, 3)
    assert abs(first.peak.at_ms - now_ms) < 5000
    await worker.rollup.roll_up(worker.site)
    await stores.redis.delete("ff1:{portal}:online")
    fallen = await worker.count(batch(2, [9], seen_ms=now_ms))
    assert (fallen.online, fallen.peak) == (1, first.peak)
    for log in ("c" * 16, "d" * 16):
        row = await stores.row()
        assert (row["peak_online"], round(row["peak_online_at"].timestamp() * 1000)) == first.peak
        await stores.redis.flushall()
        assert await worker.opener.open(worker.site)
        assert (await worker.count()).peak == first.peak
        await worker.count(batch(1, [9], log=log, seen_ms=now_ms))
        await worker.roll_up_all_days()


async def test_the_most_online_of_a_clock_that_was_ahead_is_shown_nowhere(stores: Stores) -> None:
    """Its moment has not come; the next rollup brings back the highest of before."""
    worker = await stores.worker()
    assert await worker.opener.open(worker.site)
    first = await worker.count(batch(1, [1, 2], seen_ms=int(await worker.redis.clock_s() * 1000)))
    await worker.rollup.roll_up(worker.site)
    assert first.peak is not None
    ahead_ms = first.peak.at_ms + 7 * 3_600_000
    await stores.redis.hset("ff1:{portal}:closed", "peak", f"50:{ahead_ms}")
    assert (await worker.count()).peak is None
    await worker.roll_up_all_days()
    assert (await worker.count()).peak == first.peak
