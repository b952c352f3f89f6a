"""Pages that stay open behind a bad network: each sends its view, as footfall.js does, until it is answered."""

import asyncio
import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from urllib.parse import quote

from tests.chaos.connection import Connection
from tests.chaos.ledger import Ledger
from tests.chaos.traffic import AGENT, Answered, address_of, host_of

RATE_PER_S = 150
VISITORS = 1000
PAGES = 100
PIXEL_SHARE = 0.2
ANSWER_MAX_S = 20.0
"""A page waits for an answer as long."""
REPEATED_FOR_S = 60.0
"""A page sends its view again as long."""
HASTE = 8
"""A page waits so many times as long before it sends again; how long changes no count, and a row has little time."""
RETRY_AFTER = re.compile(rb"retry-after: (\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OpenedView:
    """A view of an open page."""

    site: str
    address: str
    page: str
    id: str
    is_pixel: bool
    """It is an image: the browser, or a proxy, sends it again as it was, without a mark."""

    def request(self, *, again: bool) -> bytes:
        """Return the whole request."""
        origin = f"https://{host_of(self.site)}"
        head = f"Host: count.example.vn\r\nUser-Agent: {AGENT}\r\nX-Forwarded-For: {self.address}\r\n"
        if self.is_pixel:
            path = f"/seen.gif?site={self.site}&page={quote(self.page, safe='')}&view={self.id}"
            return f"GET {path} HTTP/1.1\r\nReferer: {origin}/\r\n{head}\r\n".encode()
        mark = ',"again":true' if again else ""
        body = f'{{"site":"{self.site}","page":"{self.page}","kind":"view","view":"{self.id}"{mark}}}'
        return (
            f"POST /seen HTTP/1.1\r\nOrigin: {origin}\r\n{head}"
            f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


class OpenPages:
    """Opens pages at a steady rate; each has one view, and stays open until that is answered."""

    def __init__(self, url: str, sites: Sequence[str], day: date, ledger: Ledger, chance: random.Random) -> None:
        self.answers: list[Answered] = []
        self.answer_max_s = ANSWER_MAX_S
        self.repeats = 0
        """Requests for a view that had been sent before."""
        self._url = url
        self._sites = sites
        self._day = day
        self._ledger = ledger
        self._chance = chance
        self._opening = asyncio.Event()
        self._waiting: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Open pages, while not paused, until cancelled."""
        while True:
            await self._opening.wait()
            task = asyncio.create_task(self._stay_open(self._draw()))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
            await asyncio.sleep(1 / RATE_PER_S)

    def open(self) -> None:
        """Open pages from now on."""
        self._opening.set()

    async def pause(self) -> None:
        """Open no more pages, and wait until each open one has its answer."""
        self._opening.clear()
        while self._waiting:
            await asyncio.wait(self._waiting)

    def _draw(self) -> OpenedView:
        chance = self._chance
        return OpenedView(
            chance.choice(self._sites),
            address_of(chance.randrange(VISITORS)),
            f"/tin/{chance.randrange(PAGES)}",
            chance.randbytes(8).hex(),
            chance.random() < PIXEL_SHARE,
        )

    async def _stay_open(self, view: OpenedView) -> None:
        """Send one view until it is answered; after its time the page sends pings, and the view stays unknown."""
        gives_up_s = 0.0
        failures = 0
        while True:
            asked_s = time.monotonic()
            status, wait_s = await self._ask(view.request(again=gives_up_s > 0))
            took_s = time.monotonic() - asked_s
            self.answers.append(Answered(view.site, True, asked_s, took_s, status))
            if status in (200, 202):
                break
            # The service refuses with a time, and has counted nothing; any other end leaves open what became of it.
            if not (status == 429 or (status == 503 and wait_s)):
                gives_up_s = gives_up_s or asked_s + REPEATED_FOR_S
            failures += 1
            await asyncio.sleep(max(wait_s, 2 ** min(failures, 6) * self._chance.uniform(1, 1.5) / HASTE))
            if 0 < gives_up_s < time.monotonic():
                status = 0
                break
            self.repeats += 1
        self._ledger.note(view.site, self._day, view.address, status, page=view.page)

    async def _ask(self, request: bytes) -> tuple[int, int]:
        """Return the status, 0 for none, and the seconds after which the service wants to be asked again."""
        connection = None
        try:
            async with asyncio.timeout(self.answer_max_s):
                connection = await Connection.open(self._url)
                status, _ = await connection.ask(request)
                told = RETRY_AFTER.search(connection.head)
                return status, int(told[1]) if told else 0
        except (OSError, TimeoutError):
            return 0, 0
        finally:
            if connection is not None:
                connection.close()
