"""A small TCP proxy in front of a store, or of Footfall, that makes connections as bad as a test wants."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHUNK_BYTES = 65_536


class Cut(Exception):
    """The connection ends here, in both directions."""


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """One connection through the relay."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    async def to_client(self, chunk: bytes) -> None:
        """Pass on to the client."""
        await _send(self.client, chunk)

    async def to_server(self, chunk: bytes) -> None:
        """Pass on to the server."""
        await _send(self.server, chunk)

    def close(self) -> None:
        """End the connection in both directions."""
        self.client.close()
        self.server.close()


Passage = Callable[[Link, bytes], Awaitable[None]]
"""Handles a chunk on its way, and may raise Cut. Commands and answers here nearly always fit one chunk."""


class Relay:
    """Passes chunks on to `target`, a unix socket or a port of the loopback interface.

    A test may replace `requests` and `replies` at any time.
    """

    def __init__(self, target: Path | int) -> None:
        self.target = target
        self.requests: Passage = pass_request
        self.replies: Passage = pass_reply
        self.port = 0
        self._links: set[Link] = set()
        self._serving: set[asyncio.Task[Any]] = set()

    def accept(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        """Take a new connection."""
        task = asyncio.create_task(self.serve(client_in, client_out))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def close(self) -> None:
        """End every open connection."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        """Relay one connection until either side, or a passage, ends it."""
        try:
            server_in, server_out = await _open(self.target)
        except OSError:
            client_out.close()
            return
        link = Link(client_out, server_out)
        self._links.add(link)
        ways = [
            asyncio.create_task(self._pump(client_in, lambda chunk: self.requests(link, chunk))),
            asyncio.create_task(self._pump(server_in, lambda chunk: self.replies(link, chunk))),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            link.close()
            self._links.discard(link)

    def cut(self) -> None:
        """End all connections that are open now."""
        for link in self._links:
            link.close()

    def repair(self) -> None:
        """Pass everything on again."""
        self.requests, self.replies = pass_request, pass_reply

    def switch(self, target: Path | int) -> None:
        """Connect to another server from now on, as after a failover."""
        self.target = target
        self.cut()

    async def _pump(self, source: asyncio.StreamReader, forward: Callable[[bytes], Awaitable[None]]) -> None:
        with suppress(Cut, OSError):
            while chunk := await source.read(CHUNK_BYTES):
                await forward(chunk)


@asynccontextmanager
async def open_relay(target: Path | int) -> AsyncIterator[Relay]:
    """Run a relay on a free port of the loopback interface."""
    relay = Relay(target)
    server = await asyncio.start_server(relay.accept, "127.0.0.1", 0, limit=2 * CHUNK_BYTES)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        await relay.close()


async def pass_request(link: Link, chunk: bytes) -> None:
    """Pass a request on as it is."""
    await link.to_server(chunk)


async def pass_reply(link: Link, chunk: bytes) -> None:
    """Pass a reply on as it is."""
    await link.to_client(chunk)


async def end_connection(link: Link, chunk: bytes) -> None:
    """Pass nothing on: the server is out of reach."""
    raise Cut


def lose_requests(chance: random.Random, share: float) -> Passage:
    """Lose some requests: the connection ends, and the server gets nothing of them."""

    async def passage(link: Link, chunk: bytes) -> None:
        if chance.random() < share:
            raise Cut
        await link.to_server(chunk)

    return passage


def lose_replies(chance: random.Random, share: float) -> Passage:
    """Lose some replies: for half of them the connection ends too, for the other half nothing ever comes."""

    async def passage(link: Link, chunk: bytes) -> None:
        drawn = chance.random()
        if drawn < share / 2:
            raise Cut
        if drawn >= share:
            await link.to_client(chunk)

    return passage


def halve_requests(chance: random.Random, share: float) -> Passage:
    """Cut some requests in half: the server gets the first half, then the connection ends."""

    async def passage(link: Link, chunk: bytes) -> None:
        if chance.random() < share:
            await link.to_server(chunk[: len(chunk) // 2])
            raise Cut
        await link.to_server(chunk)

    return passage


def delay(onward: Passage, delay_s: float) -> Passage:
    """Delay every chunk."""

    async def passage(link: Link, chunk: bytes) -> None:
        await asyncio.sleep(delay_s)
        await onward(link, chunk)

    return passage


def drip(onward: Passage) -> Passage:
    """Pass on one byte at a time."""

    async def passage(link: Link, chunk: bytes) -> None:
        for at in range(len(chunk)):
            await onward(link, chunk[at : at + 1])
            await asyncio.sleep(0)

    return passage


def answer_instead(error: bytes) -> Passage:
    """Answer every request with an error; the server never gets it."""

    async def passage(link: Link, chunk: bytes) -> None:
        await link.to_client(b"-%b\r\n" % error)

    return passage


class Hold:
    """A passage that stops a link at the first chunk with certain words, until a release."""

    def __init__(self, onward: Passage, words: bytes = b"") -> None:
        self._onward = onward
        self._words = words
        self._released = asyncio.Event()
        self.reached = asyncio.Event()
        """Set when a link has stopped at the words."""

    async def __call__(self, link: Link, chunk: bytes) -> None:
        """Pass the chunk on, or wait."""
        if self._words in chunk:
            self.reached.set()
            await self._released.wait()
        await self._onward(link, chunk)

    def release(self) -> None:
        """Release the link."""
        self._released.set()


async def _open(target: Path | int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(target, int):
        return await asyncio.open_connection("127.0.0.1", target)
    return await asyncio.open_unix_connection(target)


async def _send(writer: asyncio.StreamWriter, chunk: bytes) -> None:
    writer.write(chunk)
    await writer.drain()
