"""A proxy between browser and Footfall: records every beacon, and injects the faults of a test."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import ClientSession, web

from tests.browser.serving import serve
from tests.support.patience import PATIENCE_S

VISITOR_ADDRESS = "203.0.113.7"
IN_A_FOLDER = "busuanzi.pure.mini.js"
"""All else is served below any path of the portal, as behind a reverse proxy."""
NOTHING = "nothing"
"""The path of the request by which a page learns that its earlier requests have arrived."""
OPEN = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After, Footfall-Ignored"}
NOT_PASSED_ON = {"connection", "content-length", "content-encoding", "date", "host", "server", "transfer-encoding"}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault instead of the answer to the next beacon.

    "refuse" answers `status` in Footfall's place; "lose request" breaks the connection before Footfall gets it;
    "lose answer" breaks it after Footfall has counted; "hold" lets Footfall count and never answers.
    """

    kind: Literal["refuse", "lose request", "lose answer", "hold"]
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passed:
    """A beacon as the browser sent it, or an image in its place."""

    kind: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]


@dataclass
class Relay:
    """Forwards every request to `service`, below any path prefix."""

    service: str
    session: ClientSession
    url: str = ""
    beacons: list[Passed] = field(default_factory=list)
    reads: int = 0
    pages_read: list[list[str]] = field(default_factory=list)
    """For each read that asked for pages, the pages."""
    scripts: int = 0
    paths: set[str] = field(default_factory=set)
    down: bool = False
    """Break every connection, as if there were no Footfall; the browser's cache still has the script."""
    faults: deque[Fault] = field(default_factory=deque)
    change: Mapping[str, Any] = field(default_factory=dict)
    """Fields that replace Footfall's own in every answer's counts."""
    _under_way: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _end: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def kinds(self) -> list[str]:
        """Return what has passed so far: view, ping and image, in order."""
        return [beacon.kind for beacon in self.beacons]

    async def until(self, fact: Callable[["Relay"], bool]) -> None:
        """Wait until `fact` holds; check it whenever a request has passed."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: fact(self))

    async def passed(self, count: int) -> list[str]:
        """Wait until `count` beacons have passed; return the kinds of all so far."""
        try:
            await self.until(lambda relay: len(relay.beacons) >= count)
        except TimeoutError:
            raise AssertionError(f"waited for {count} beacons, there were {self.kinds}") from None
        return self.kinds

    async def idle(self) -> None:
        """Wait until every request that has arrived is answered or on hold."""
        await self.until(lambda _: self._under_way == 0)

    def release(self) -> None:
        """Release the beacons on hold."""
        self._end.set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request of a browser."""
        name = request.path.rsplit("/", 1)[-1]
        if name == NOTHING:
            return web.Response(status=204)
        if self.down and name != "footfall.js":
            return _cut(request)
        self._under_way += 1
        fault = self.faults.popleft() if name == "seen" and self.faults else None
        body = await request.read()
        response = await self._respond(name, request, body, fault)
        await self._note(name, request, body)
        if fault and fault.kind == "hold":
            await self._end.wait()
        return _cut(request) if fault and fault.kind in ("lose answer", "hold") else response

    async def _respond(self, name: str, request: web.Request, body: bytes, fault: Fault | None) -> web.Response:
        if fault and fault.kind == "refuse":
            return web.Response(status=fault.status, headers={**OPEN, **fault.headers})
        if fault and fault.kind == "lose request":
            return _cut(request)
        return await self._forward(name, request, body)

    async def _forward(self, name: str, request: web.Request, body: bytes) -> web.Response:
        headers = {key: value for key, value in request.headers.items() if key.lower() not in NOT_PASSED_ON}
        headers["X-Forwarded-For"] = VISITOR_ADDRESS
        path = request.path.lstrip("/") if name == IN_A_FOLDER else name
        url = f"{self.service}/{path}?{request.query_string}"
        async with self.session.request(request.method, url, data=body or None, headers=headers) as upstream:
            content = await upstream.read()
            if self.change and upstream.ok and upstream.content_type == "application/json":
                content = json.dumps(json.loads(content) | self.change).encode()
            kept = [(k, v) for k, v in upstream.headers.items() if k.lower() not in NOT_PASSED_ON]
            response = web.Response(status=upstream.status, body=content, headers=kept)
        if name == "counts":
            # The test sets the page's clock, but not the clock of the browser's cache.
            response.headers["Cache-Control"] = "no-store"
        # A browser repeats a request when a used connection breaks; on a new connection it cannot.
        response.force_close()
        return response

    async def _note(self, name: str, request: web.Request, body: bytes) -> None:
        async with self._news:
            self._under_way -= 1
            self.paths.add(request.path)
            if name == "seen":
                beacon = json.loads(body)
                self.beacons.append(Passed(beacon["kind"], beacon, dict(request.headers)))
            elif name == "seen.gif" or (name == "counts.svg" and "count" in request.query):
                self.beacons.append(Passed("image", dict(request.query), dict(request.headers)))
            elif name == "counts":
                self.reads += 1
                if pages := request.query.getall("page", []):
                    self.pages_read.append(pages)
            elif name == "footfall.js":
                self.scripts += 1
            self._news.notify_all()


def _cut(request: web.Request) -> web.Response:
    """Break the connection under the request, as a server does that dies."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


@asynccontextmanager
async def running_relay(service: str) -> AsyncIterator[Relay]:
    """Run a relay to `service` at an address of its own."""
    async with ClientSession(auto_decompress=True) as session:
        relay = Relay(service, session)
        async with serve(relay.answer, "127.0.0.1") as relay.url:
            yield relay
            relay.release()
