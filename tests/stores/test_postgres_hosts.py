"""A PostgreSQL of several hosts: the one that takes writes is found, whatever the others do."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from footfall import sql_folder
from footfall.errors import StoreUnavailable
from footfall.stores.migrations import migrate
from footfall.stores.postgres_store import open_postgres
from tests.cli.test_doctor import findings
from tests.conftest import UNSAFE
from tests.support.footfall import FakeClock, serving, settings_for
from tests.support.postgres_group import OpenPostgres, Standby

Group = tuple[OpenPostgres, Standby]


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A port that takes connections and answers none."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        yield listener


@pytest.fixture
def silent_port(silent: socket.socket) -> int:
    """Return its number."""
    return int(silent.getsockname()[1])


def knocked(listener: socket.socket) -> int:
    """Return how many connections a listener has taken since the last look."""
    taken = 0
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            taken += 1
    return taken


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def group(servers_folder: Path) -> AsyncIterator[Group]:
    """A primary with the tables, and its standby; the last test promotes it."""
    async with OpenPostgres(servers_folder / "primary", UNSAFE) as primary:
        await migrate(primary.url, sql_folder())
        async with Standby(servers_folder / "standby", primary, UNSAFE) as standby:
            yield primary, standby


async def test_a_standby_as_the_only_host_is_named(group: Group, redis_url: str, tmp_path: Path) -> None:
    """It answers every question, and copies nothing."""
    _, standby = group
    for url in (standby.url, f"{standby.url}&target_session_attrs=read-write"):
        settings = settings_for(redis_url, url, tmp_path)
        found = await findings(settings)
        assert any("being a standby" in check.found for check in found.values()), "\n".join(map(str, found.values()))
        async with serving(settings, FakeClock()) as footfall:
            await footfall.services.copy()
            problems = (await (await footfall.ops.get("/readyz")).json())["problems"]
            assert any("being a standby" in problem["what"] for problem in problems), problems


async def test_the_host_that_takes_writes_is_found_and_remembered(
    group: Group, silent: socket.socket, silent_port: int
) -> None:
    """One deadline for all hosts was used up by the first one that hung, and the second was never asked."""
    primary, standby = group
    hosts = f"127.0.0.1:{silent_port},127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
    async with open_postgres(f"postgresql://footfall@{hosts}/postgres?sslmode=disable") as store:
        assert await store.probe_writes() == []
        assert knocked(silent) > 0
        async with store._connections.connection() as first, store._connections.connection() as second:  # noqa: SLF001
            assert first is not second
        assert knocked(silent) == 0  # the second one asked the last good host first


async def test_hosts_in_options_are_read_too(group: Group, silent_port: int) -> None:
    """The second spelling of libpq; a standby beside a host that hangs is no host for `footfall migrate`."""
    primary, standby = group
    both = "postgresql://footfall@/postgres?host=127.0.0.1,127.0.0.1&sslmode=disable&target_session_attrs=read-write"
    assert await migrate(f"{both}&port={standby.port},{primary.port}", sql_folder()) == []
    with pytest.raises(StoreUnavailable) as none:
        await migrate(f"{both}&port={silent_port},{standby.port}", sql_folder())
    assert f"127.0.0.1:{silent_port} does not answer" in none.value.sentence
    assert f"127.0.0.1:{standby.port} takes no writes, being a standby" in none.value.sentence


async def test_a_promoted_standby_is_found(group: Group) -> None:
    """A failover needs no restart of Footfall."""
    primary, standby = group
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    async with open_postgres(f"postgresql://footfall@{hosts}/postgres?sslmode=disable") as store:
        assert await store.probe_writes() == []
        primary.kill()
        await standby.promote()
        assert await store.probe_writes() == []
