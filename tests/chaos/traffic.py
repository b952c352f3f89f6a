"""Open-loop clients: beacons leave at a given rate, whatever the service does with those before."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import aiohttp

from tests.chaos.ledger import Ledger

SITES = {"north": "north.example.vn", "south": "south.example.vn"}
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PING_SHARE = 0.2
TICK_S = 0.01
ANSWER_MAX_S = 10
WAITING_MAX = 6000


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: when it was asked for (monotonic seconds), how long it took, and its status (0: none)."""

    asked_s: float
    took_s: float
    status: int


class Traffic:
    """Sends beacons of random visitors to random sites and hosts, and notes in the ledger how they are answered."""

    def __init__(self, urls: Sequence[str], day: date, ledger: Ledger, chance: random.Random, visitors: int) -> None:
        self.urls = urls
        self._day = day
        self._ledger = ledger
        self._chance = chance
        self._visitors = visitors
        self._stopping = asyncio.Event()
        self._waiting: set[asyncio.Task[None]] = set()
        self.rate_per_s = 0.0
        self.answers: list[Answered] = []

    async def run(self) -> None:
        """Send until `stop`, then wait for the last answers."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=ANSWER_MAX_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            started, due = time.monotonic(), 0.0
            while not self._stopping.is_set():
                await asyncio.sleep(TICK_S)
                now = time.monotonic()
                due += (now - started) * self.rate_per_s
                started = now
                while due >= 1:
                    due -= 1
                    if len(self._waiting) < WAITING_MAX:
                        task = asyncio.create_task(self.send(session))
                        self._waiting.add(task)
                        task.add_done_callback(self._waiting.discard)
            while self._waiting:
                await asyncio.wait(self._waiting)

    def stop(self) -> None:
        """Send no more."""
        self._stopping.set()

    async def send(self, session: aiohttp.ClientSession) -> None:
        """Send one beacon, once, and note how it was answered."""
        site = self._chance.choice(list(SITES))
        address = address_of(self._chance.randrange(self._visitors))
        view = self._chance.random() >= PING_SHARE
        body = f'{{"site":"{site}","page":"/","kind":"{"view" if view else "ping"}"}}'
        headers = {
            "Content-Type": "text/plain",
            "Origin": f"https://{SITES[site]}",
            "User-Agent": AGENT,
            "X-Forwarded-For": address,
        }
        asked_s = time.monotonic()
        status, reason = 0, ""
        try:
            async with session.post(f"{self._chance.choice(self.urls)}/seen", data=body, headers=headers) as response:
                answer = await response.json()
                status, reason = response.status, answer.get("error", "")
        except (aiohttp.ClientError, TimeoutError, ValueError):
            status = 0
        self.answers.append(Answered(asked_s, time.monotonic() - asked_s, status))
        self._ledger.note(site, self._day, address, status, reason, view=view)


def address_of(visitor: int) -> str:
    """The address of a simulated visitor.

    >>> address_of(300)
    '10.0.1.44'
    """
    return f"10.{visitor >> 16}.{visitor >> 8 & 255}.{visitor & 255}"


def percentile(answers: Sequence[Answered], share: float) -> float:
    """The time within which this share of the answers came; 0 where there are none."""
    times = sorted(answered.took_s for answered in answers)
    return times[min(len(times) - 1, int(len(times) * share))] if times else 0.0
