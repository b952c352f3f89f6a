"""A minute of the fault matrix, in every `make test`; `make chaos` runs all of it."""

import os
import random

import pytest

from tests.chaos.lanes import Job
from tests.chaos.run import run

SHORT = ("F1", "F2", "F4", "F5", "F7", "F13", "F31", "F39", "F41")
CI_SEED = 20261
"""As in the simulation, so that a red build is about the change."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", SHORT)
async def test_what_was_acked_is_counted_once(fault: str) -> None:
    """The promise of Footfall holds on real processes, with a new seed each time, except in CI."""
    job = Job(fault, CI_SEED if os.environ.get("CI") else random.randrange(1, 100_000), quick=True)
    row = await run(job.fault, job.seed, quick=True)
    assert row.good, f"repeat it: {job.command}\n" + "\n".join([*row.problems, *row.lines])
