"""Ways that the simulation found: clocks that were ahead and are corrected, after which numbers were lower."""

import asyncio
import time

from tests.simulation.conftest import all_comes_together
from tests.simulation.test_simulation import Footfall


def _redis_has_the_sums_of_a_day_ahead(world: Footfall) -> None:
    world.quiet_minute(batches=1, rolled_up=False)
    world.promises_hold()
    world.days_pass(days=8)
    world.redis_is_emptied(which=0)
    world.served_beacons(batches=1, which=0)
    world.promises_hold()
    world.clocks_are_corrected(hours=30)
    world.promises_hold()


def test_no_deadline_passes_in_a_simulation(world: Footfall) -> None:
    """On a busy machine a page's views would be unknown: who asks for them waits for a quarter of a second."""
    asking = world.worker(0).run(asyncio.wait_for(world.world.loop.create_future(), 0.001))
    world.world.loop.settle()
    time.sleep(0.01)
    world.world.loop.settle()
    assert not asking.done()


def test_last_week_is_not_below_what_was_shown_of_it(world: Footfall) -> None:
    """The workers resend what Redis lost; the one that is slower showed less than its week until the other was done."""
    _redis_has_the_sums_of_a_day_ahead(world)
    world.key_is_damaged(which=0, name="online")
    world.promises_hold()
    world.quiet_minute(batches=1, rolled_up=False)
    all_comes_together(world)


def test_the_year_does_not_fall(world: Footfall) -> None:
    """Though in between it was unknown."""
    _redis_has_the_sums_of_a_day_ahead(world)
    all_comes_together(world)


def test_a_peak_of_a_clock_that_was_ahead_is_taken_back(world: Footfall) -> None:
    """It is shown until a clock says that it has not been yet."""
    world.days_pass(days=1)
    world.days_pass(days=1)
    world.quiet_minute(batches=1, rolled_up=False)
    world.promises_hold()
    world.served_beacons(which=0, batches=1)
    world.promises_hold()
    world.clocks_are_corrected(hours=30)
    world.promises_hold()
    world.days_pass(days=1)
    world.quiet_minute(batches=1, rolled_up=False)
    all_comes_together(world)


def test_a_week_that_is_shown_again_comes_back_as_the_workers_resend(world: Footfall) -> None:
    """Redis was lost while the clocks were nine days ahead, and another week was shown meanwhile."""
    world.quiet_minute(batches=1, rolled_up=False)
    world.served_beacons(which=0, batches=1)
    world.promises_hold()
    world.days_pass(days=1)
    world.days_pass(days=8)
    world.redis_is_emptied(which=0)
    world.quiet_minute(batches=1, rolled_up=False)
    world.promises_hold()
    world.clocks_are_corrected(hours=216)
    world.days_pass(days=1)
    world.quiet_minute(batches=1, rolled_up=False)
    all_comes_together(world)
    shown = [worker.counts_cache.shown(world.world.site).counts.week for worker in world.world.workers]
    assert shown == [5, 5]


def test_a_day_that_comes_again_after_redis_lost_it_begins_anew(world: Footfall) -> None:
    """A clock that was ahead had shown it; its worker remembers the day of its last reading only."""
    world.days_pass(days=1)
    world.served_beacons(which=1, batches=3)
    world.served_beacons(which=0, batches=1)
    world.promises_hold()
    world.clocks_are_corrected(hours=24)
    world.time_passes(seconds=60)
    world.served_beacons(which=0, batches=1)
    world.promises_hold()
    world.kill(which=1)
    world.redis_is_emptied(which=0)
    world.days_pass(days=1)
    world.served_beacons(which=0, batches=1)
    world.world.deliver(50)
    world.promises_hold()
