"""One worker without listeners and background work: record beacons, and see where they are stored."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from footfall.delivery.pending import StoredIn, View
from footfall.http.services import Services
from footfall.model.availability import UP
from footfall.process.app import open_services, open_sites
from footfall.settings.settings import Settings
from tests.support.footfall import NOON, SITE, FakeClock
from tests.support.storage import TODAY


@asynccontextmanager
async def open_worker(settings: Settings, clock: FakeClock | None = None) -> AsyncIterator[Services]:
    """One worker without listeners and without background work."""
    clock = clock or FakeClock(NOON)
    async with open_services(settings, clock, clock.monotonic) as services:
        await open_sites(services)
        yield services


async def count(services: Services, visitor: int = 1, *, days_ago: int = 0) -> StoredIn:
    """Record one view, and return where it is stored: Redis = 200, the disk = 202."""
    day = TODAY - timedelta(days=days_ago)
    return await services.recorder.record(services.settings.sites[SITE], day, visitor.to_bytes(16, "big"), None, View())


async def views(services: Services) -> int:
    """Page views of today, as Redis counts them."""
    return (await services.recorder.read(services.settings.sites[SITE])).today_views


def away(services: Services) -> bool:
    """Whether beacons of the site go to the disk."""
    return services.recorder.sites[SITE].redis is not UP


def metric(services: Services, name: str, **labels: str) -> float:
    """Read one sample."""
    return services.metrics.registry.get_sample_value(name, labels) or 0.0
