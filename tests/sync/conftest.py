"""A worker between both stores."""

import pytest

from tests.support.storage import Stores, Worker


@pytest.fixture
async def worker(stores: Stores) -> Worker:
    """A worker whose site is ready."""
    worker = await stores.worker()
    assert await worker.opener.open(worker.site)
    return worker
