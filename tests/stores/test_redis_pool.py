"""Connections that died while nothing was sent on them: noticed before the next call, which then succeeds."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from footfall.embedded.servers import Valkey
from footfall.errors import StoreUnavailable
from footfall.stores.redis_connection import RedisCalls, open_calls
from tests.support.footfall import running, settings_for
from tests.support.ports import free_port

IDLE = 6
RESET = struct.pack("ii", 1, 0)
"""A socket that is closed so sends a reset, as the host of a dead server does."""


@pytest.fixture
async def listening_valkey(own_folder: Path) -> AsyncIterator[tuple[Valkey, str]]:
    """A Valkey that also listens on a port, as in production, and the URL of that port."""
    port = free_port()
    async with Valkey(own_folder, {"port": str(port), "bind": "127.0.0.1"}) as valkey:
        yield valkey, f"redis://127.0.0.1:{port}/0"


async def ping(calls: RedisCalls) -> bool:
    """Send one command; return whether it was answered."""
    try:
        return all((await calls.each(lambda client: client.ping())).values())
    except StoreUnavailable:
        return False


async def pings(calls: RedisCalls) -> list[bool]:
    """Send commands at the same time, each on a connection of its own."""
    return await asyncio.gather(*(ping(calls) for _ in range(IDLE)))


@pytest.mark.parametrize("port", [False, True], ids=["unix socket", "port"])
async def test_connections_from_before_a_restart_are_not_used(listening_valkey: tuple[Valkey, str], port: bool) -> None:
    """Minutes later a burst takes them again; each would cost a beacon its place in Redis."""
    valkey, url = listening_valkey
    async with open_calls(url if port else valkey.url, 1) as calls:
        assert all(await pings(calls))
        valkey.kill()
        await valkey.start()
        assert await pings(calls) == [True] * IDLE


class Middle:
    """A host between a client and a Valkey, that forgets or resets the connections that it passed on."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._clients: list[asyncio.StreamWriter] = []
        self._mute = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a connection on until it ends; what comes on one that was muted is lost."""
        self._clients.append(writer)
        number = len(self._clients)
        answers, requests = await asyncio.open_unix_connection(self._target)
        back = asyncio.create_task(self._pass(answers, writer, number))
        await self._pass(reader, requests, number)
        back.cancel()
        requests.close()
        writer.close()

    def mute(self) -> None:
        """Lose everything on the connections that are open now, and say nothing of it."""
        self._mute = len(self._clients)

    def reset(self) -> None:
        """Reset the connections that are open now."""
        for client in self._clients:
            if client.is_closing():
                continue
            client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, number: int) -> None:
        try:
            while chunk := await source.read(65_536):
                if number > self._mute:
                    target.write(chunk)
        except OSError:
            pass


@pytest.fixture
async def middle(own_valkey: Valkey) -> AsyncIterator[tuple[Middle, str]]:
    """The host in the middle, and the URL through it."""
    middle = Middle(own_valkey.socket)
    async with await asyncio.start_server(middle.accept, "127.0.0.1", 0) as server:
        yield middle, f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        middle.reset()


async def test_connections_that_were_reset_are_not_used(middle: tuple[Middle, str]) -> None:
    """A load balancer, or a host that lost its memory, ends connections so; no end of stream comes before it."""
    host, url = middle
    async with open_calls(url, 1) as calls:
        assert all(await pings(calls))
        host.reset()
        await asyncio.sleep(0.05)
        assert await pings(calls) == [True] * IDLE


async def test_connections_that_lead_nowhere_cost_one_call(middle: tuple[Middle, str]) -> None:
    """Without power a host says nothing; the first call that waits in vain warns the others."""
    host, url = middle
    async with open_calls(url, 1.5) as calls:
        assert all(await pings(calls))
        host.mute()
        assert not await ping(calls)
        assert await pings(calls) == [True] * IDLE


async def test_a_restart_of_redis_leaves_no_error_for_later(
    listening_valkey: tuple[Valkey, str], postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ninety seconds after a restart a connection from before cost a beacon its 200, and the log an ERROR."""
    valkey, url = listening_valkey
    async with running(settings_for(url, postgres_url, tmp_path)) as footfall:
        await footfall.see()
        await asyncio.gather(*(footfall.services.stores.redis.facts() for _ in range(IDLE)))  # a connection each
        await valkey.stop()
        await valkey.start()
        for views in range(2, 2 + IDLE):
            assert (await footfall.see())["views_today"] == views
        await asyncio.gather(*(footfall.services.stores.redis.facts() for _ in range(IDLE)))
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
