"""Ways that the simulation found: Postgres goes back to an older dump after Redis has let a day end.

What Postgres alone had is lost then. A part of it may come back: a view that its page sent again counts with one of
two batches, and the other one brings the visitor alone; and a day that Redis has again has its logs, and no pages.
"""

import pytest

from tests.simulation.conftest import all_comes_together
from tests.simulation.models import SUM, DayModel
from tests.simulation.test_simulation import Footfall


@pytest.fixture
def world(world: Footfall) -> Footfall:
    """With a dump of before."""
    world.postgres_is_dumped()
    return world


@pytest.fixture
def sent_twice(world: Footfall) -> Footfall:
    """A view that its page sent to two workers: it counted with the one that died."""
    world.rollup_is_cut(which=0, after="snapshot", killed=True)
    world.page_sends_again(which=1, age=0, served=True)
    world.world.late.clear()  # of the dead worker nothing arrives any more: its copy would bring the view
    world.promises_hold()
    return world


def _is_rolled_up(world: Footfall) -> None:
    """By one worker; the other one keeps its batches, since it does not ask what is durable."""
    world.reconcile(which=0, served=True)
    world.promises_hold()
    assert _saved(world) == (1, 1)


def _saved(world: Footfall) -> tuple[int, int]:
    """The views of the first beacon's day in Postgres, and those of its page."""
    model, site_id, first = world.world.postgres.model, world.world.site.id, world.world.ledger[0]
    row = model.rows.get((site_id, first.day))
    return row.views if row else 0, sum(model.pages.of_day(site_id, first.page, first.day).values())


def _in_redis(world: Footfall) -> DayModel | None:
    days: dict[object, DayModel] = world.world.redis[0].model.sites[world.world.site.id].days
    return days.get(world.world.ledger[0].day)


def test_a_visitor_comes_back_without_the_view_that_postgres_alone_had(sent_twice: Footfall) -> None:
    """The worker that heard the repeat knows that it counted elsewhere; it cannot know that this is lost now."""
    sent_twice.days_pass(days=1)
    _is_rolled_up(sent_twice)
    sent_twice.days_pass(days=8)
    sent_twice.promises_hold()
    sent_twice.postgres_is_restored(age=0)
    all_comes_together(sent_twice)
    assert _saved(sent_twice) == (0, 0)


def test_the_day_may_end_in_redis_after_postgres_went_back(sent_twice: Footfall) -> None:
    """The workers stood still until then; those that work write it again within seconds."""
    sent_twice.days_pass(days=3)
    _is_rolled_up(sent_twice)
    sent_twice.postgres_is_restored(age=0)
    sent_twice.promises_hold()
    sent_twice.days_pass(days=3)
    all_comes_together(sent_twice)
    assert _saved(sent_twice) == (0, 0)


def test_it_may_end_and_its_visitor_come_back_within_one_step(sent_twice: Footfall) -> None:
    """Between two days of a step the ledger looks at what has ended."""
    sent_twice.days_pass(days=1)
    _is_rolled_up(sent_twice)
    sent_twice.days_pass(days=3)
    sent_twice.postgres_is_restored(age=0)
    sent_twice.quiet_days_pass()
    all_comes_together(sent_twice)
    assert _saved(sent_twice) == (0, 0)


def test_the_dump_may_have_the_visitor_without_the_view(world: Footfall) -> None:
    """Redis was emptied, and the worker that knows the visitor alone was the first to send again."""
    world.served_beacons(which=0, batches=1)
    world.page_sends_again(which=1, age=0, served=True)
    world.redis_is_emptied(which=0)
    for _ in range(2):
        world.reconcile(which=1, served=True)
    assert _saved(world) == (0, 0)
    world.postgres_is_dumped()
    for _ in range(2):
        world.reconcile(which=0, served=True)
    world.reconcile(which=1, served=True)
    world.days_pass(days=1)
    _is_rolled_up(world)
    world.reconcile(which=0, served=True)
    world.days_pass(days=8)
    world.promises_hold()
    world.postgres_is_restored(age=0)
    all_comes_together(world)
    assert _saved(world) == (0, 0)


def test_a_day_that_redis_has_again_has_no_pages(world: Footfall) -> None:
    """A late batch of its week has brought it back from Postgres, before that lost it."""
    world.served_beacons(which=0, batches=1)
    world.redis_stops_or_starts(which=0)
    world.beacons(which=1, view=True, burst=1)
    world.deliver(count=12)  # to the disk
    world.redis_stops_or_starts(which=0)
    world.days_pass(days=3)
    world.reconcile(which=0, served=True)
    world.days_pass(days=8)
    world.promises_hold()
    assert _in_redis(world) is None
    for _ in range(2):
        world.probe(which=1)
        world.reconcile(which=1, served=True)
    assert _in_redis(world)
    world.postgres_is_restored(age=0)
    all_comes_together(world)
    assert _saved(world) == (2, 0)


def test_a_view_that_redis_still_has_comes_back(sent_twice: Footfall) -> None:
    """Postgres lost it, and that excuses nothing."""
    sent_twice.days_pass(days=1)
    _is_rolled_up(sent_twice)
    sent_twice.postgres_is_restored(age=0)
    assert _saved(sent_twice) == (0, 0)
    all_comes_together(sent_twice)
    assert _saved(sent_twice) == (1, 1)


@pytest.mark.parametrize("part", ["views", "pages"])
def test_what_is_lost_while_redis_has_it_is_found(sent_twice: Footfall, part: str) -> None:
    """That would be a fault of the program, and no dump excuses it."""
    sent_twice.days_pass(days=1)
    _is_rolled_up(sent_twice)
    sent_twice.postgres_is_restored(age=0)
    day = _in_redis(sent_twice)
    assert day
    if part == "views":
        day.logs = {log: (number, 0) for log, (number, _) in day.logs.items()} | {SUM: (0, 0)}
    day.pages = {}
    with pytest.raises(AssertionError, match="0 views of"):
        all_comes_together(sent_twice)
