"""How connections are treated, before there is a request: deadlines, and an answer to what is not HTTP."""

import asyncio
import logging
import resource
from collections import Counter
from functools import partial
from typing import Any

from aiohttp import HttpVersion10, web
from aiohttp.typedefs import Handler

from footfall.errors import Reason, Refused
from footfall.http.middleware import OUTERMOST
from footfall.http.responses import Reply, refusal
from footfall.ingest.client_address import AddressResolver, Client
from footfall.log_throttle import LogThrottle

logger = logging.getLogger(__name__)

KEEPALIVE_S = 20.0
"""How long a connection may be idle, or may take to send the head of a request."""
LINGER_S = 2.0
"""How long the rest of a body is read away that was refused before its end."""
DRAIN_S = 1.0
"""How long open connections are still answered when a worker stops, each answer being the last one."""
DRAIN_STEP_S = 0.05
SHUTDOWN_MAX_S = 20.0
"""How long requests in progress may take when a worker stops."""
FILES_MAX = 65_536
"""How many files and connections a process uses at most; with more, memory would end first."""
FILES_KEPT = 256
"""What the stores, the spool and the ops listener need of them."""


def connections_max() -> int:
    """Return how many clients may be connected: all but a few of the files that this process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or files > FILES_MAX:
        files = FILES_MAX
    return max(files - FILES_KEPT, files // 2)


class ConnectionLimiter:
    """Keeps count of the open connections: of all, and of each network, which may have a quarter of them.

    A trusted proxy stands for many clients, and may have them all.
    """

    def __init__(self, resolver: AddressResolver, places: int) -> None:
        self._resolver = resolver
        self._places = places
        self._taken = 0
        self._taken_by: Counter[bytes] = Counter()

    def acquire(self, peer: str | None) -> Client | None:
        """Take a place for a connection from `peer` (None: a unix socket); None where there is no room for it."""
        client = self._resolver.resolve(peer, ())
        has_its_share = not client.is_proxy and self._taken_by[client.network] >= self._places // 4
        if has_its_share or self._taken >= self._places:
            return None
        self._taken += 1
        self._taken_by[client.network] += 1
        return client

    def release(self, client: Client) -> None:
        """Give the place back."""
        self._taken -= 1
        self._taken_by[client.network] -= 1
        if not self._taken_by[client.network]:
            del self._taken_by[client.network]


class Listener(web.AppRunner):
    """Runs an application, and what it has as its `OUTERMOST`, on any number of sites (`web.SockSite`).

    A client that goes away does not cancel its handler: its beacon counts. Nothing is logged per request.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        limiter: ConnectionLimiter | None = None,
        keepalive_s: float = KEEPALIVE_S,
        linger_s: float = LINGER_S,
    ) -> None:
        super().__init__(
            app,
            access_log=None,
            auto_decompress=False,  # a damaged gzip body would be our failure, not its sender's
            keepalive_timeout=keepalive_s,
            lingering_time=linger_s,
            shutdown_timeout=SHUTDOWN_MAX_S,
        )
        self._outermost = app.get(OUTERMOST)
        self._limiter = limiter

    async def drain(self) -> None:
        """Accept nobody any more, and have whoever still asks close the connection after the answer.

        A connection that is merely closed may have a request on its way, and a proxy does not send a beacon twice.
        """
        for site in list(self.sites):
            await site.stop()
        self._connections.leaving = True
        for _ in range(int(DRAIN_S / DRAIN_STEP_S)):
            if not self._connections.connections:
                return
            await asyncio.sleep(DRAIN_STEP_S)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        handler: Any = made.request_handler
        if self._outermost is not None:
            handler = self._outermost(handler)
        self._connections = _Connections(handler, made.request_factory, self._kwargs, self._limiter)
        return self._connections


class _Connections(web.Server):
    """Makes a connection of ours for everybody who connects."""

    def __init__(
        self, handler: Any, request_factory: Any, options: dict[str, Any], limiter: ConnectionLimiter | None
    ) -> None:
        super().__init__(partial(self._handle, handler), request_factory=request_factory)
        self.leaving = False
        """The worker stops: every answer is the last one on its connection."""
        self.limiter = limiter
        self.malformed = LogThrottle()
        self.turned_away = LogThrottle()
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._options)

    async def _handle(self, handler: Handler, request: web.Request) -> web.StreamResponse:
        """Refuse what aiohttp would answer by itself, repeating what was sent, or in the manner of 1991."""
        expected = request.headers.get("Expect")
        if request.version < HttpVersion10 or (expected and expected.lower() != "100-continue"):
            return _malformed()
        response = await handler(request)
        if self.leaving:
            response.force_close()
        return response


class _Connection(web.RequestHandler):
    """Needs a place, and answers what is not HTTP in the shape of every other refusal, nearly in silence.

    aiohttp alone would log a traceback with the client's address for each, and name itself and its version.
    """

    __slots__ = ("_client", "_ours")

    def __init__(self, manager: _Connections, options: dict[str, Any]) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **options)
        self._ours = manager
        self._client: Client | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or hang up at once where there is no room."""
        if (limiter := self._ours.limiter) is not None:
            peer = transport.get_extra_info("peername")
            self._client = limiter.acquire(peer[0] if isinstance(peer, tuple) else None)
            if self._client is None:
                if times := self._ours.turned_away.happened():
                    logger.warning("Connections were turned away: too many are open. times=%d", times)
                self._manager = None  # which never gets to know of it
                transport.close()
                return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, and make room for another one."""
        super().connection_lost(exc)
        if self._ours.limiter is not None and self._client is not None:
            self._ours.limiter.release(self._client)
            self._client = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer 400 and close the connection. `message` may quote what was sent, so nobody gets it."""
        del message
        if times := self._ours.malformed.happened():
            logger.warning("Requests were no HTTP. times=%d last=%s status=%d", times, type(exc).__name__, status)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of an answer is on its way already")
        return _malformed()


def _malformed() -> Reply:
    reply = refusal(Refused(Reason.BAD_REQUEST))
    reply.force_close()
    return reply
