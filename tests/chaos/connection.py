"""A minimal HTTP client: one keep-alive connection, one request at a time, no request ever repeated."""

import asyncio
import re
from typing import Self
from urllib.parse import urlsplit

HEAD = re.compile(
    rb"HTTP/1\.1 (\d{3})[^\r]*\r\n(?:[^\r]+\r\n)*?content-length: (\d+)\r\n(?:[^\r]+\r\n)*\r\n", re.IGNORECASE
)


class Connection(asyncio.Protocol):
    """Sends and receives; a client library would cost more CPU than the service under test."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = b""
        self.head = b""
        """The head of the last answer."""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect; raises OSError."""
        where = urlsplit(url)
        _, connection = await asyncio.get_running_loop().create_connection(cls, where.hostname or "", where.port or 0)
        return connection

    @property
    def usable(self) -> bool:
        """Return whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing() and self._answer is None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return status and body of its answer; raise OSError where none comes."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            self._answer = None

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = HEAD.match(self._buffer)
        if head is None or len(self._buffer) < head.end() + int(head[2]):
            return
        self.head = head[0]
        body = self._buffer[head.end() : head.end() + int(head[2])]
        self._buffer = b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(head[1]), body))

    def connection_lost(self, _: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the connection ended before the answer"))
