"""Ways that the simulation found: a page sends its view again while Redis is split in two.

Each side knows the views that it has counted itself, and the page may reach a worker of the other side: that is the
second failure at once. The view counts once on each side, then, and not once more.
"""

import pytest

from tests.simulation.test_simulation import Footfall


@pytest.fixture
def world(world: Footfall) -> Footfall:
    """With a copy of Redis, a replica that lags, that has no view yet."""
    world.redis_is_copied()
    return world


def _view_is_sent(world: Footfall, *, to: int) -> None:
    world.served_beacons(which=to, batches=1)
    world.promises_hold()


def _is_sent_again(world: Footfall, *, to: int) -> None:
    world.page_sends_again(which=to, age=0, served=True)
    world.promises_hold()


def _worker_starts_again(world: Footfall) -> None:
    """The one of the first side; it becomes the second of the world's list."""
    world.stop(which=0, patience=40)
    world.promises_hold()


def _views_once_all_is_even(world: Footfall) -> int:
    """In Postgres, as the views of the only page."""
    world.redis_split_ends(survivor=0)
    world.promises_hold()
    world.promises.recover()
    model, site_id, (sent,) = world.world.postgres.model, world.world.site.id, world.world.ledger
    views: int = sum(model.pages.of_day(site_id, sent.page, sent.day).values())
    assert model.rows[site_id, sent.day].views == views
    return views


@pytest.mark.parametrize("lags", [True, False])
@pytest.mark.parametrize("first", [0, 1])
def test_a_view_counts_on_each_side_that_its_page_reached(world: Footfall, lags: bool, first: int) -> None:
    """Nothing new fails between the two, so the ledger must see by the sides that neither knew of the other."""
    world.redis_splits(age=0, lags=lags)
    _view_is_sent(world, to=first)
    _is_sent_again(world, to=1 - first)
    assert _views_once_all_is_even(world) == 2


def test_it_counts_no_more_than_once_on_a_side(world: Footfall) -> None:
    """However often its page sends it, and to whichever worker."""
    world.redis_splits(age=0, lags=True)
    _view_is_sent(world, to=0)
    _worker_starts_again(world)
    for to in (0, 1):
        _is_sent_again(world, to=to)
    assert _views_once_all_is_even(world) == 2


def test_a_view_that_comes_again_on_its_own_side_counts_once(world: Footfall) -> None:
    """The split is no second failure for it."""
    world.redis_splits(age=0, lags=True)
    _view_is_sent(world, to=0)
    _worker_starts_again(world)
    _is_sent_again(world, to=1)
    assert _views_once_all_is_even(world) == 1


@pytest.mark.parametrize("other_side_too", [True, False])
def test_a_side_that_counts_it_twice_is_found(world: Footfall, other_side_too: bool) -> None:
    """That would be a fault of the program, and no split excuses it."""
    world.redis_splits(age=0, lags=True)
    _view_is_sent(world, to=0)
    _worker_starts_again(world)
    if other_side_too:
        _is_sent_again(world, to=0)
    world.world.redis[0].model.sites[world.world.site.id].view_ids.clear()
    world.page_sends_again(which=1, age=0, served=True)
    with pytest.raises(AssertionError, match="views of"):
        _views_once_all_is_even(world)
