"""One whole worker in the test's own loop: real stores, both listeners, and a clock that the test moves.

    async with running(settings_for(redis_url, postgres_url, tmp_path), clock=FakeClock()) as footfall:
        response = await footfall.send(address="203.0.113.7")
        footfall.clock.advance(60)

Nothing runs in the background. A test that wants a rollup or a probe calls the step itself.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from footfall import sql_folder
from footfall.http.ops import create_ops_app
from footfall.http.public import create_public_app
from footfall.http.server import Listener
from footfall.http.services import Services
from footfall.model.clocks import EpochSeconds, MonotonicSeconds
from footfall.model.site_id import SiteId
from footfall.process.app import open_services, open_sites
from footfall.settings.settings import Settings
from footfall.stores.migrations import migrate

SITE = SiteId("portal")
HOST = "portal.example.vn"
ORIGIN = f"https://{HOST}"
ADDRESS = "203.0.113.7"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
VIETNAM = ZoneInfo("Asia/Ho_Chi_Minh")
NOON = datetime(2054, 11, 25, 12, tzinfo=VIETNAM)
"""A Wednesday far ahead: Redis drops by its own clock what has expired, which a date in the past would have."""

Client = TestClient[web.Request, web.Application]


class FakeClock:
    """Stands still until a test moves it; call it for seconds since the epoch, as `time.time`."""

    def __init__(self, at: datetime = NOON) -> None:
        self._at_s = at.timestamp()
        self._passed_s = 0.0

    def __call__(self) -> EpochSeconds:
        return EpochSeconds(self._at_s)

    def monotonic(self) -> MonotonicSeconds:
        """As `time.monotonic`: seconds that have passed, whichever way the clock was set."""
        return MonotonicSeconds(self._passed_s)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._at_s += seconds
        self._passed_s += seconds

    def set_back(self, seconds: float) -> None:
        """Correct a clock that was ahead: only the calendar goes back."""
        self._at_s -= seconds

    def set(self, at: datetime) -> None:
        """Let time pass until `at`; into the past, only the calendar goes back."""
        self._passed_s += max(0.0, at.timestamp() - self._at_s)
        self._at_s = at.timestamp()


@dataclass(frozen=True, slots=True)
class Footfall:
    """A running worker, and what a test asks of it most."""

    services: Services
    public: Client
    ops: Client
    clock: FakeClock

    async def send(
        self,
        *,
        address: str = ADDRESS,
        agent: str = BROWSER,
        headers: Mapping[str, str] = MappingProxyType({}),
        **fields: object,
    ) -> ClientResponse:
        """Send a beacon as the script would: a view of the site `portal`, unless `fields` say otherwise."""
        sender = {"Origin": ORIGIN, "User-Agent": agent, "X-Forwarded-For": address}
        return await self.public.post("/seen", json={"site": SITE} | fields, headers=sender | dict(headers))

    async def see(self, **beacon: Any) -> dict[str, Any]:
        """Send a beacon that must be counted at once, and return the numbers of its answer."""
        response = await self.send(**beacon)
        answer: dict[str, Any] = await response.json()
        assert (response.status, response.headers.get("Footfall-Ignored")) == (200, None), answer
        return answer

    async def counts(self, site: str = SITE) -> dict[str, Any]:
        """Read the numbers as a page does."""
        response = await self.public.get("/counts", params={"site": site})
        answer: dict[str, Any] = await response.json()
        assert response.status == 200, answer
        return answer

    def metric(self, name: str, **labels: str) -> float:
        """Read one sample of the metrics; 0 where nothing has happened yet."""
        return self.services.metrics.registry.get_sample_value(name, labels) or 0.0


def settings_for(
    redis_url: str,
    postgres_url: str,
    folder: Path,
    *,
    portal: Mapping[str, object] = MappingProxyType({}),
    **changes: object,
) -> Settings:
    """Settings of one site, `portal`, with its spool in `folder`.

    `portal` changes settings of the site, `changes` all others; more sites: sites={"portal": {...}, ...}.
    On a busy machine an answer of Redis may be late and is no failure; a test in which Redis hangs says how long.
    """
    site = {"name": "Cổng thử", "hosts": [HOST]} | dict(portal)
    values: dict[str, object] = {
        "sites": {SITE: site},
        "redis_url": redis_url,
        "postgres_url": postgres_url,
        "listen": "127.0.0.1:0",
        "ops_listen": "127.0.0.1:0",
        "data_dir": folder,
        "redis_timeout_s": 10,
    }
    return Settings.model_validate(values | changes)


@asynccontextmanager
async def running(settings: Settings, *, clock: FakeClock | None = None) -> AsyncIterator[Footfall]:
    """Migrate, open the services and their sites, and serve both listeners on free ports.

    At the end the worker closes as in production: it flushes, rolls up, and spools what Postgres lacks.
    Two at once on the same stores are two workers.
    """
    clock = clock or FakeClock()
    await migrate(settings.postgres_url.get_secret_value(), sql_folder())
    async with serving(settings, clock) as footfall:
        yield footfall


@asynccontextmanager
async def serving(settings: Settings, clock: FakeClock) -> AsyncIterator[Footfall]:
    """The same without migrating, for a test whose PostgreSQL is away."""
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services(settings, clock, clock.monotonic))
        await open_sites(services)
        public = await stack.enter_async_context(TestClient(ServedAsInProduction(create_public_app(services))))
        ops = await stack.enter_async_context(TestClient(ServedAsInProduction(create_ops_app(services))))
        yield Footfall(services, public, ops, clock)


async def until(condition: Callable[[], bool]) -> None:
    """Let everything else go on until it has led to `condition`; the test's timeout is the limit."""
    while not condition():  # noqa: ASYNC110 (a queue's length and a metric have no event)
        await asyncio.sleep(0)


class ServedAsInProduction(TestServer):
    """Puts the listener of production before an application.

    The original would cancel the handler of a client that has gone, and knows nothing of what stands outermost.
    """

    async def _make_runner(self, **_: Any) -> web.AppRunner:
        return Listener(self.app)
