"""A simulation whose steps a test chooses, where the machine of `test_simulation.py` draws them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation.test_simulation import ALL, ENOUGH, ROOMY, Footfall


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Footfall]:
    """A simulation of one site, with room for everything, that has begun."""
    footfall = Footfall()
    footfall.folder, footfall.steps_done = tmp_path, [0]
    footfall.begin(keep_max_bytes=ROOMY, rows_max=ENOUGH, exact_up_to=ALL, neighbours=0)
    yield footfall
    footfall.world.close()


def all_comes_together(world: Footfall) -> None:
    """Check the promises now, and again once all stores and workers are well and have had their time."""
    world.promises_hold()
    world.promises.recover()
