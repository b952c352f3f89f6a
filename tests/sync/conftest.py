"""Both stores, and a worker between them."""

from collections.abc import AsyncIterator

import pytest

from tests.support.storage import Stores, Worker, open_stores


@pytest.fixture
async def stores(redis_url: str, postgres_url: str) -> AsyncIterator[Stores]:
    """Both stores, migrated and empty."""
    async with open_stores(redis_url, postgres_url) as stores:
        yield stores


@pytest.fixture
async def worker(stores: Stores) -> Worker:
    """A worker whose site is ready."""
    worker = await stores.worker()
    assert await worker.opener.open(worker.site)
    return worker
