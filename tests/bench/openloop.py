"""Open-loop load: requests leave at their intended times, and latency counts from there, however late the server is.

A small HTTP client of its own: at 15,000 requests a second on half a core, a general one would be what is measured.
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.bench.servers import HOST, SITE

CONNECTIONS = 128
TICK_S = 0.001
AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)


@dataclass(slots=True)
class Outcome:
    """What became of all requests: answers by route and status, and latencies in seconds."""

    sent: Counter[str] = field(default_factory=Counter)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    broken: int = 0

    def percentile_ms(self, percent: float) -> float:
        """Latency that so many percent of the answers stayed below, in milliseconds."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000 if ordered else float("nan")


class Connection(asyncio.Protocol):
    """One keep-alive connection; requests are answered in order."""

    def __init__(self, outcome: Outcome, free: deque["Connection"]) -> None:
        self._outcome = outcome
        self._free = free
        self._waiting: tuple[str, float] | None = None
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready for the first request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._free.append(self)

    def send(self, route: str, request: bytes, intended_s: float) -> None:
        """Send one request that was due at `intended_s` (monotonic)."""
        assert self._transport is not None
        self._waiting = (route, intended_s)
        self._outcome.sent[route] += 1
        self._transport.write(request)

    def data_received(self, received: bytes) -> None:
        """Count an answer once it is whole."""
        self._received += received
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found or self._waiting is None:
            return
        at = head.find(b"Content-Length: ")
        length = int(head[at + 16 :].partition(b"\r\n")[0]) if at >= 0 else 0
        if len(rest) < length:
            return
        route, intended_s = self._waiting
        self._outcome.answers[route, int(head[9:12])] += 1
        self._outcome.latencies_s.append(time.monotonic() - intended_s)
        self._received, self._waiting = b"", None
        self._free.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        """A request without an answer is counted as such."""
        if self._waiting is not None:
            self._outcome.broken += 1
        if self in self._free:
            self._free.remove(self)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()


async def drive(port: int, rates: Mapping[str, float], seconds: float, visitors: int = 100_000) -> Outcome:
    """Send `rates` (route -> requests a second) for `seconds`, evenly, to a server on this machine."""
    outcome, free = Outcome(), deque[Connection]()
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: Connection(outcome, free), "127.0.0.1", port))[1]
        for _ in range(CONNECTIONS)
    ]
    chance = random.Random(20261123)
    started = time.monotonic()
    due = dict.fromkeys(rates, started)
    queue: deque[tuple[str, float]] = deque()
    while (now := time.monotonic()) < started + seconds or queue:
        for route, per_s in rates.items():
            while due[route] <= min(now, started + seconds):
                queue.append((route, due[route]))
                due[route] += 1 / per_s
        while queue and free:
            route, intended_s = queue.popleft()
            free.popleft().send(route, _request(route, chance.randrange(visitors)), intended_s)
        if now > started + seconds + 10:
            break  # what is not answered ten seconds after the end is counted as unanswered
        await asyncio.sleep(TICK_S)
    await asyncio.sleep(1)
    for connection in connections:
        connection.close()
    return outcome


def _request(route: str, visitor: int) -> bytes:
    if route == "/counts":
        return f"GET /counts?site={SITE} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: {AGENT}\r\n\r\n".encode()
    body = f'{{"site":"{SITE}","page":"/tin-tuc/{visitor % 1000}","kind":"view"}}'
    address = f"10.{visitor >> 16}.{visitor >> 8 & 255}.{visitor & 255}"
    return (
        f"POST /seen HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\n"
        f"Accept-Language: vi-VN,vi;q=0.9,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n"
        f"Origin: https://{HOST}\r\nReferer: https://{HOST}/\r\nSec-Fetch-Mode: cors\r\n"
        f"Content-Type: text/plain;charset=UTF-8\r\nX-Forwarded-For: {address}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
