"""Ways that the simulation found: visitors of a week that is over, some of whose days Redis does not have any more.

Its number is the union that Redis has of it; made again from the days that are left, or fed by one of them alone, it
would lack who came on the others. At the end the simulation compares it with the visitors of all days.
"""

from collections.abc import Iterator

import pytest

from footfall.model.periods import local_day, week_of
from footfall.model.retention import WEEK
from tests.simulation.conftest import all_comes_together
from tests.simulation.models import SiteModel
from tests.simulation.test_simulation import Footfall


@pytest.fixture
def world(world: Footfall) -> Iterator[Footfall]:
    """A simulation that begins on a Wednesday; at the end all must come together."""
    yield world
    all_comes_together(world)
    assert _last_week(world) == len(world.world.ledger)


def _last_week(world: Footfall) -> int:
    """What Postgres has of the visitors of last week."""
    week = week_of(local_day(world.world.clock(), world.world.site.zone)) - WEEK
    visitors: int = world.world.postgres.model.weeks[world.world.site.id, week]
    return visitors


def _in_redis(world: Footfall) -> SiteModel:
    """What Redis has of the site now."""
    held: SiteModel = world.world.redis[0].model.sites[world.world.site.id]
    held.expire(world.world.clock())
    return held


@pytest.mark.parametrize("is_rolled_up", [True, False], ids=["Sunday is copied", "Sunday is not copied"])
@pytest.mark.parametrize("is_late", [True, False], ids=["a late visitor", "no late visitor"])
def test_a_week_does_not_end_before_its_sunday_is_closed(world: Footfall, is_late: bool, is_rolled_up: bool) -> None:
    """All workers stand still from then on, for longer than Saturday is kept; one has a visitor on its disk."""
    world.days_pass(days=3)
    world.quiet_minute(batches=2, rolled_up=True)
    world.days_pass(days=1)
    world.quiet_minute(batches=2, rolled_up=True)
    if is_rolled_up:
        world.time_passes(seconds=60)
        world.reconcile(which=1, served=True)
    if is_late:
        world.redis_stops_or_starts(which=0)
        world.beacons(which=1, view=True, burst=1)
        world.deliver(count=12)  # to the disk
        world.redis_stops_or_starts(which=0)
    world.days_pass(days=3)
    held = _in_redis(world)
    assert len(held.days) == 1
    assert [len(union.visitors) for union in held.weeks.values()] == [8]


def test_what_a_former_version_let_end_too_early_comes_back(world: Footfall) -> None:
    """The week's union is made again from Sunday alone, and then a late visitor of Sunday comes."""
    world.days_pass(days=3)
    world.quiet_minute(batches=2, rolled_up=True)
    world.days_pass(days=1)
    world.quiet_minute(batches=2, rolled_up=True)
    world.time_passes(seconds=60)
    world.reconcile(which=1, served=True)
    world.redis_stops_or_starts(which=0)
    world.beacons(which=1, view=True, burst=1)
    world.deliver(count=12)
    world.redis_stops_or_starts(which=0)
    for union in _in_redis(world).weeks.values():
        union.ends_s = world.world.clock() + 2 * 86400
    world.days_pass(days=3)
    held = _in_redis(world)
    assert (len(held.days), len(held.weeks)) == (1, 0)


def _lacks_thursday(world: Footfall) -> None:
    """Redis goes back to a copy of Wednesday, which Postgres does not have; and its week is over."""
    world.served_beacons(which=0, batches=5)
    world.redis_is_copied()
    world.days_pass(days=1)
    world.redis_is_emptied(which=0)
    world.served_beacons(which=1, batches=1)
    for which in (0, 1):
        world.reconcile(which=which, served=True)
    world.kill(which=0)
    world.days_pass(days=3)
    world.days_pass(days=1)
    world.redis_goes_back(which=0, age=0)


def test_a_redis_that_went_back_to_a_week_that_is_over_gets_its_other_days(world: Footfall) -> None:
    """What it has of Wednesday is new to Postgres, so the union changes, and it lacks Thursday."""
    _lacks_thursday(world)


def test_the_other_days_come_also_if_the_first_rollup_ends_in_the_middle(world: Footfall) -> None:
    """Wednesday is in Postgres then, and not confirmed: else nothing would say that the union lacks something."""
    _lacks_thursday(world)
    worker = world.worker(0)
    worker.step("step", worker.copy)
    world.world.loop.settle()
    world.world.deliver_until(worker, "confirm")
    world.kill(which=0)
    world.world.late.clear()  # of the dead worker nothing arrives any more
