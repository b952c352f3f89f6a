"""Ways that the simulation found: sets of ids beside a day that an older version has mended, which knows no sets."""

from collections.abc import Iterator

import pytest

from tests.simulation.conftest import all_comes_together
from tests.simulation.test_simulation import Footfall


@pytest.fixture
def world(world: Footfall) -> Iterator[Footfall]:
    """A newer worker beside an older one; at the end all must come together."""
    world.program_changes(which=1)
    yield world
    all_comes_together(world)


@pytest.mark.parametrize("part", ["logs", "pages"])
def test_a_set_is_not_exact_once_the_logs_of_its_day_are_lost(world: Footfall, part: str) -> None:
    """They said that a visitor of the older worker is in no set; what the newer one sends again says nothing of it."""
    world.quiet_minute(batches=2, rolled_up=False)
    world.day_is_damaged(which=0, name=part, age=0)
    for which in (1, 0):  # the older one mends it
        world.reconcile(which=which, served=False)
        while world.world.calls:
            world.deliver(count=1)
            world.promises_hold()
    world.quiet_minute(batches=2, rolled_up=True)


def test_the_ids_of_a_day_that_is_lost_end_too(world: Footfall) -> None:
    """No rollup names the day any more, nor the week that has no other."""
    world.served_beacons(which=0, batches=3)
    world.day_is_damaged(which=0, name="visitors", age=0)
    world.reconcile(which=1, served=True)
    world.kill(which=0)  # as long as it lives, all comes again
    world.promises_hold()
    world.days_pass(days=8)
    world.quiet_minute(batches=1, rolled_up=True)


def test_what_only_a_newer_version_reads_is_not_held_against_an_older_one(world: Footfall) -> None:
    """It mends no set that is damaged, and rolls up none that outlasts its day."""
    world.served_beacons(which=0, batches=3)
    world.program_changes(which=0)
    world.day_is_damaged(which=0, name="ids", age=0)
    world.days_pass(days=1)
    world.quiet_minute(batches=1, rolled_up=True)
