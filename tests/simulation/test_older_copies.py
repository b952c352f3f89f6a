"""Ways that the simulation found: Redis goes back to a copy that is older than an import of days."""

import pytest

from tests.simulation.day_imports import Heard
from tests.simulation.test_simulation import Footfall


@pytest.fixture
def world(world: Footfall) -> Footfall:
    """With a copy of Redis."""
    world.quiet_minute(batches=1, rolled_up=True)
    world.redis_is_copied()
    return world


@pytest.mark.parametrize("is_imported", [True, False])
def test_what_a_dead_worker_counted_ends_with_the_history_that_showed_it(world: Footfall, is_imported: bool) -> None:
    """Redis lost it, with its worker; whoever showed it goes through the history of before, within one step.

    Without an import there is one history, and the worker shows on what it has shown.
    """
    if is_imported:
        world.days_are_imported(which=0, ages={3}, visitors=0, pages={"/b": 4}, heard=Heard.ALL)
        world.reconcile(which=0, served=True)
    world.served_beacons(which=1, batches=3)
    world.served_beacons(which=0, batches=1)
    world.promises_hold()
    worker, site = world.worker(0), world.world.site
    before = worker.counts_cache.shown(site).counts
    world.kill(which=1)
    world.beacons(which=0, view=True, burst=1)  # is on its way, and its answer has the history of before
    world.redis_goes_back(which=0, age=0)
    world.reconcile(which=0, served=True)
    world.time_passes(seconds=10)
    world.reconcile(which=0, served=True)
    world.served_beacons(which=0, batches=1)
    world.promises_hold()
    now = worker.counts_cache.shown(site).counts
    assert now.revision == before.revision
    assert before.views_total is not None
    assert now.views_total == before.views_total - is_imported
    world.promises.recover()
