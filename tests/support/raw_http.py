"""HTTP/1.1 as bytes: requests that no well-behaved client would send, and many of them fast."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType

from tests.support.footfall import ADDRESS, BROWSER, HOST, ORIGIN, SITE
from tests.support.patience import PATIENCE_S

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def head(method: str = "POST", target: str = "/seen", **fields: str) -> bytes:
    """Return the head of a request from a page of the portal; `fields` with _ for -, without those that are empty.

    >>> head("GET", "/counts", User_Agent="", Origin="", X_Forwarded_For="")
    b'GET /counts HTTP/1.1\\r\\nHost: portal.example.vn\\r\\n\\r\\n'
    """
    sent = {"Host": HOST, "Origin": ORIGIN, "User-Agent": BROWSER, "X-Forwarded-For": ADDRESS}
    sent |= {name.replace("_", "-"): value for name, value in fields.items()}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode()


def beacon(content: Mapping[str, object] = MappingProxyType({}), **fields: str) -> bytes:
    """Return a whole beacon of the portal as the script sends it: `content` in its body, `fields` in its head."""
    body = json.dumps({"site": SITE, **content}).encode()
    return head(Content_Length=str(len(body)), **fields) + body


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """Connect to a listener on this machine; close the connection at the end of the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return status and body of one answer; raise IncompleteReadError where the connection ends before."""
    received = await reader.readuntil(b"\r\n\r\n")
    _, found, rest = received.lower().partition(b"content-length:")
    size = int(rest.partition(b"\r\n")[0]) if found else 0
    return int(received[9:12]), await reader.readexactly(size)


async def send_all(port: int, requests: Iterable[bytes], connections: int = 32) -> Counter[int]:
    """Send every request, as fast as answers come; return how many answers had each status."""
    statuses: Counter[int] = Counter()
    waiting = iter(requests)

    async def send_some() -> None:
        async with connected(port) as (reader, writer):
            for request in waiting:
                writer.write(request)
                status, _ = await read_answer(reader)
                statuses[status] += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(send_some())
    return statuses


async def send_raw(port: int, *pieces: bytes, pause_s: float = 0) -> bytes:
    """Send pieces as they are, then wait until the server ends the connection; return all that it sent."""
    answer = bytearray()
    async with connected(port) as (reader, writer), asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
        with suppress(ConnectionError):
            while piece := await reader.read(65_536):
                answer += piece
    return bytes(answer)


def statuses_of(answer: bytes) -> list[int]:
    """Return the statuses of all answers in some bytes.

    >>> statuses_of(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nokHTTP/1.0 400 Bad Request\\r\\n\\r\\n")
    [200, 400]
    """
    return [int(status) for status in re.findall(rb"HTTP/\d\.\d (\d{3}) ", answer)]
