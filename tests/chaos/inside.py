"""Workers in our own process, for faults that need our clock or our awaits; the servers are real."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from footfall.model.periods import local_day
from footfall.settings.settings import Settings
from tests.chaos.stage import Stage
from tests.chaos.traffic import AGENT, SITES, address_of
from tests.support.footfall import FakeClock, Footfall, serving, settings_for

VISITORS = 500


def settings_of(stage: Stage, name: str, *, redis_url: str = "", day_zone: bool = False) -> Settings:
    """Return settings of a worker on the stage's servers; `day_zone` gives the worker the zone of the stage's hosts."""
    zone = {"time_zone": stage.zone} if day_zone else {}
    sites = {site: {"name": site, "hosts": [host]} | zone for site, host in SITES.items()}
    return settings_for(
        redis_url or stage.valkey.url,
        stage.postgres.url,
        stage.folder / name,
        sites=sites,
        limits={"enabled": False},
    )


@asynccontextmanager
async def worker(stage: Stage, clock: FakeClock, name: str, *, redis_url: str = "") -> AsyncIterator[Footfall]:
    """Open one worker without its background work."""
    async with serving(settings_of(stage, name, redis_url=redis_url), clock) as footfall:
        yield footfall


async def copy(footfall: Footfall) -> None:
    """Copy to Postgres what changed, also what another worker of the row copied a moment ago."""
    await footfall.services.rollup.step(is_last=True)
    await footfall.services.copy()


async def send(stage: Stage, footfall: Footfall, site: str, address: str = "") -> dict[str, object]:
    """Send a view, of a random visitor unless one is named, and return the answer.

    The ledger has it under the day of the worker's clock.
    """
    address = address or address_of(stage.chance.randrange(VISITORS))
    day = local_day(footfall.clock(), footfall.services.settings.sites[site].zone)
    headers = {"Origin": f"https://{SITES[site]}", "User-Agent": AGENT, "X-Forwarded-For": address}
    async with footfall.public.post("/seen", json={"site": site, "page": "/"}, headers=headers) as response:
        answer: dict[str, object] = await response.json()
        stage.ledger.note(site, day, address, response.status, str(answer.get("error", "")))
    return answer


@contextmanager
def counting_lines() -> Iterator[list[str]]:
    """Collect every log record of INFO and above."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    collector, root = Collector(logging.INFO), logging.getLogger()
    level = root.level
    root.addHandler(collector)
    root.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        root.removeHandler(collector)
        root.setLevel(level)
