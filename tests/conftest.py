"""Real servers for every test: one pair for the session, and pairs of one's own for tests that break them."""

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from footfall.embedded.servers import Postgres, Valkey
from footfall.stores.redis_store import RedisStore
from tests.support.built import ESBUILD, PACKAGES
from tests.support.storage import RawRedis, Stores, open_stores, plain_redis, ready_site
from tests.support.watchdog import pytest_addoption, pytest_configure

__all__ = ["pytest_addoption", "pytest_configure"]

# Nothing of a test has to outlive the machine, so its PostgreSQL need not wait for the disk.
UNSAFE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
# How fast an example is depends on what else the machine does. In CI hypothesis draws the same examples each time.
settings.register_profile("patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROME_ON_MACOS = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


@pytest.fixture(scope="session")
def npm_packages() -> Path:
    """Return the folder of the packages in package.json. Without it, its tests are skipped; in CI that is an error."""
    if not ESBUILD.exists():
        absent = "the packages of tests/browser/package.json are not here: make test installs them, where there is npm"
        if os.environ.get("CI"):
            pytest.fail(absent)
        pytest.skip(absent)
    return PACKAGES


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """Short, because of the limit on a socket's path, and passable, for PostgreSQL is not run as root."""
    folder = Path(tempfile.mkdtemp(prefix="footfall-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_valkey(servers_folder: Path) -> AsyncIterator[Valkey]:
    """For `redis_url`."""
    async with Valkey(servers_folder / "shared") as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_postgres(servers_folder: Path) -> AsyncIterator[Postgres]:
    """For `postgres_url`."""
    async with Postgres(servers_folder / "shared", UNSAFE) as server:
        yield server


@pytest.fixture
async def redis_url(shared_valkey: Valkey) -> str:
    """The session's Valkey, emptied. A test that stops or fills its server takes `own_valkey`."""
    async with plain_redis(shared_valkey.url) as redis:
        await redis.flushall()
        await redis.script_flush()
    return shared_valkey.url


@pytest.fixture
async def postgres_url(shared_postgres: Postgres) -> AsyncIterator[str]:
    """A new, empty database on the session's PostgreSQL."""
    name = f"test_{uuid4().hex}"
    admin = await asyncpg.connect(shared_postgres.url)
    await admin.execute(f"CREATE DATABASE {name}")
    yield shared_postgres.url.replace("/postgres?", f"/{name}?")
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[RawRedis]:
    """A plain client, to look at Redis with and to break it."""
    async with plain_redis(redis_url) as redis:
        yield redis


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:
    """Redis with a site that is ready; the days before its week are closed."""
    async with ready_site(redis_url) as store:
        yield store


@pytest.fixture
async def stores(redis_url: str, postgres_url: str) -> AsyncIterator[Stores]:
    """Both stores, migrated and empty."""
    async with open_stores(redis_url, postgres_url) as stores:
        yield stores


@pytest.fixture
def own_folder(servers_folder: Path) -> Path:
    """A data folder for this test alone, on which `servers` or several servers may be started."""
    return servers_folder / uuid4().hex[:12]


@pytest.fixture
async def own_valkey(own_folder: Path) -> AsyncIterator[Valkey]:
    """A running Valkey to stop, kill, suspend and start again."""
    async with Valkey(own_folder) as server:
        yield server


@pytest.fixture
async def own_postgres(own_folder: Path) -> AsyncIterator[Postgres]:
    """A running PostgreSQL to stop, kill, suspend and start again; durable, as faults are its purpose."""
    async with Postgres(own_folder) as server:
        yield server


@pytest.fixture
def hangups_ignored() -> Iterator[None]:
    """This process under `nohup`: what it starts ignores a hangup too, unless its signals are reset."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The browser of this machine. Without one, its tests are skipped; in CI that is an error."""
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None and CHROME_ON_MACOS.exists():
        found = str(CHROME_ON_MACOS)
    if found is None:
        absent = f"no Chromium on this machine (looked for {', '.join(CHROMIUM_NAMES)})"
        if os.environ.get("CI"):
            pytest.fail(absent)
        pytest.skip(absent)
    return found
