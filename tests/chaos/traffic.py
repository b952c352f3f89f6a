"""Open-loop clients: beacons leave at a given rate, whatever the service does with earlier ones."""

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from tests.chaos.connection import Connection
from tests.chaos.ledger import NO_CONNECTION, Ledger

SITES = {"north": "north.example.vn", "south": "south.example.vn"}
"""The sites of most rows, and the host of each."""
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PING_SHARE = 0.2
PAGES = 300
"""Of which few are viewed all the time, and many once."""
TICK_S = 0.01
ANSWER_MAX_S = 10
WAITING_MAX = 3000
"""Beacons in flight at once; beyond this, clients send nothing, or the run would measure its own congestion."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: its site, the time of its request (monotonic seconds), its duration, and its status (0: none)."""

    site: str
    is_view: bool
    asked_s: float
    took_s: float
    status: int

    def is_acked_view_before(self, moment_s: float) -> bool:
        """Whether this view was acked before a moment."""
        return self.is_view and self.status in (200, 202) and self.asked_s + self.took_s < moment_s


class Traffic:
    """Sends beacons of random visitors to random sites and hosts, and records the answers in the ledger."""

    def __init__(self, urls: Sequence[str], day: date, ledger: Ledger, chance: random.Random, visitors: int) -> None:
        self.sites = list(SITES)
        self._urls = urls
        self._day = day
        self._ledger = ledger
        self._chance = chance
        self._visitors = visitors
        self._stopping = asyncio.Event()
        self._waiting: set[asyncio.Task[None]] = set()
        self._idle: defaultdict[str, list[Connection]] = defaultdict(list)
        self.waiting_max = WAITING_MAX
        self.rate_per_s = 0.0
        self.answers: list[Answered] = []

    async def run(self) -> None:
        """Send until `stop`, then wait for the last answers."""
        started, due = time.monotonic(), 0.0
        while not self._stopping.is_set():
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            due += (now - started) * self.rate_per_s
            started = now
            while due >= 1:
                due -= 1
                if len(self._waiting) < self.waiting_max:
                    task = asyncio.create_task(self.send())
                    self._waiting.add(task)
                    task.add_done_callback(self._waiting.discard)
        while self._waiting:
            await asyncio.wait(self._waiting)
        for connection in [connection for idle in self._idle.values() for connection in idle]:
            connection.close()

    @property
    def waiting(self) -> int:
        """Return the number of beacons that have no answer yet."""
        return len(self._waiting)

    def stop(self) -> None:
        """Stop sending."""
        self._stopping.set()

    async def send(self) -> None:
        """Send one beacon, once, and record its answer."""
        url, site = self._chance.choice(self._urls), self._chance.choice(self.sites)
        address = address_of(self._chance.randrange(self._visitors))
        page = "" if self._chance.random() < PING_SHARE else f"/tin/{int(self._chance.paretovariate(0.7)) % PAGES}"
        asked_s = time.monotonic()
        status, reason, body = 0, "", b""
        try:
            async with asyncio.timeout(ANSWER_MAX_S):
                status, body = await self._ask(url, beacon(site, address, page))
        except ConnectionRefusedError:
            reason = NO_CONNECTION
        except (OSError, TimeoutError):
            status = 0
        if status >= 400:
            reason = json.loads(body).get("error", "")
        self.answers.append(Answered(site, bool(page), asked_s, time.monotonic() - asked_s, status))
        self._ledger.note(site, self._day, address, status, reason, page)

    async def _ask(self, url: str, request: bytes) -> tuple[int, bytes]:
        idle = self._idle[url]
        connection = idle.pop() if idle else await Connection.open(url)
        while not connection.usable:
            connection = idle.pop() if idle else await Connection.open(url)
        try:
            answer = await connection.ask(request)
        except BaseException:
            connection.close()
            raise
        idle.append(connection)
        return answer


def beacon(site: str, address: str, page: str = "/") -> bytes:
    """Return the whole request of a simulated visitor: a view of a page, or a ping where it is empty."""
    body = f'{{"site":"{site}","page":"{page or "/"}","kind":"{"view" if page else "ping"}"}}'
    return (
        f"POST /seen HTTP/1.1\r\nHost: count.example.vn\r\nOrigin: https://{host_of(site)}\r\nUser-Agent: {AGENT}\r\n"
        f"X-Forwarded-For: {address}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def sites_named(count: int) -> list[str]:
    """Return the names of that many sites; two are those of most rows."""
    return list(SITES) if count == len(SITES) else [f"site-{number}" for number in range(count)]


def host_of(site: str) -> str:
    """Return the host of a site's pages.

    >>> host_of("north") == SITES["north"]
    True
    """
    return f"{site}.example.vn"


def address_of(visitor: int) -> str:
    """Return the address of a simulated visitor.

    >>> address_of(300)
    '10.0.1.44'
    """
    return f"10.{visitor >> 16}.{visitor >> 8 & 255}.{visitor & 255}"


def percentile(answers: Sequence[Answered], share: float) -> float:
    """Return the time within which this share of the answers came; 0 where there are none."""
    times = sorted(answered.took_s for answered in answers)
    return times[min(len(times) - 1, int(len(times) * share))] if times else 0.0
