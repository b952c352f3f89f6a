"""Connections, before there is a request: how many, how long, and the answer to what is not HTTP."""

import asyncio
import logging
import resource
from collections import Counter
from functools import partial
from typing import Any

from aiohttp import HttpVersion10, web
from aiohttp.typedefs import Handler

from footfall._compat import HttpConnection, HttpServer, RequestFactory, handler_of, writer_of
from footfall.errors import Reason, Refused
from footfall.http.middleware import OUTERMOST
from footfall.http.responses import Reply, refusal
from footfall.ingest.client_address import AddressResolver, Client
from footfall.log_throttle import LogThrottle

logger = logging.getLogger(__name__)

KEEPALIVE_S = 20.0
"""How long a connection may be idle, or may take to send the head of a request."""
LINGER_S = 2.0
"""How long the rest of a refused body is read and dropped."""
DRAIN_S = 1.0
"""How long a stopping worker still answers on open connections, once on each."""
DRAIN_STEP_S = 0.05
SHUTDOWN_MAX_S = 20.0
"""How long a stopping worker waits for requests in progress."""
FILES_MAX = 65_536
"""The most files and connections that a process uses; memory would not suffice for more."""
FILES_KEPT = 256
"""The part of them that the stores, the spool and the ops listener need."""


def connections_max() -> int:
    """Return how many clients may be connected: all but a few of the files that this process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or files > FILES_MAX:
        files = FILES_MAX
    return max(files - FILES_KEPT, files // 2)


class ConnectionLimiter:
    """Counts the open connections, and lets one network have at most a quarter of the places.

    A trusted proxy stands for many clients, so it may have all places.
    """

    def __init__(self, resolver: AddressResolver, places: int) -> None:
        self._resolver = resolver
        self._places = places
        self._taken = 0
        self._taken_by: Counter[bytes] = Counter()

    def acquire(self, peer: str | None) -> Client | None:
        """Take a place for a connection from `peer` (None: a unix socket); return None where no place is free."""
        client = self._resolver.resolve(peer, ())
        has_its_share = not client.is_proxy and self._taken_by[client.network] >= self._places // 4
        if has_its_share or self._taken >= self._places:
            return None
        self._taken += 1
        self._taken_by[client.network] += 1
        return client

    def release(self, client: Client) -> None:
        """Free the place of a client's connection."""
        self._taken -= 1
        self._taken_by[client.network] -= 1
        if not self._taken_by[client.network]:
            del self._taken_by[client.network]


class Listener(web.AppRunner):
    """Runs an application, wrapped in its `OUTERMOST`, on any number of sites (`web.SockSite`).

    A client that hangs up does not cancel its handler: its beacon counts. Nothing is logged per request.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        limiter: ConnectionLimiter | None = None,
        keepalive_s: float = KEEPALIVE_S,
        linger_s: float = LINGER_S,
    ) -> None:
        super().__init__(app)
        self._outermost = app.get(OUTERMOST)
        self._limiter = limiter
        self._keepalive_s = keepalive_s
        self._linger_s = linger_s
        self._connections: _Connections | None = None

    @property
    def server(self) -> web.Server | None:
        """What makes the connections of the sites; None before `setup` and after `cleanup`."""
        return self._connections

    async def setup(self) -> None:
        """Start the application."""
        await super().setup()
        handler, request_factory = handler_of(super().server)
        if self._outermost is not None:
            handler = self._outermost(handler)
        self._connections = _Connections(
            handler,
            request_factory,
            self._limiter,
            access_log=None,
            auto_decompress=False,  # a damaged gzip body would be answered as a failure of ours
            keepalive_timeout=self._keepalive_s,
            lingering_time=self._linger_s,
        )

    async def drain(self) -> None:
        """Accept no new connection, and close each open one with its next answer, for at most `DRAIN_S`.

        Closing an idle connection at once would lose a request that is already on its way, and a proxy does not send
        a beacon twice.
        """
        for site in list(self.sites):
            await site.stop()
        if self._connections is None:
            return
        self._connections.leaving = True
        for _ in range(int(DRAIN_S / DRAIN_STEP_S)):
            if not self._connections.connections:
                return
            await asyncio.sleep(DRAIN_STEP_S)

    async def shutdown(self) -> None:
        """Close idle connections, run the application's own hooks, and wait for the requests in progress."""
        connections, self._connections = self._connections, None
        if connections is not None:
            connections.pre_shutdown()
        await super().shutdown()
        if connections is not None:
            await connections.shutdown(SHUTDOWN_MAX_S)


class _Connections(HttpServer):
    """Makes a `_Connection` for each client."""

    def __init__(
        self, handler: Handler, request_factory: RequestFactory, limiter: ConnectionLimiter | None, **options: Any
    ) -> None:
        super().__init__(partial(self._handle, handler), request_factory=request_factory)
        self.leaving = False
        """The worker stops: each answer closes its connection."""
        self.limiter = limiter
        self.malformed = LogThrottle()
        self.turned_away = LogThrottle()
        self._options = options

    def __call__(self) -> HttpConnection:
        return _Connection(self, self._options)

    async def _handle(self, handler: Handler, request: web.Request) -> web.StreamResponse:
        """Refuse what aiohttp would answer itself: HTTP/0.9, without a head, and an Expect, with the client's words."""
        expected = request.headers.get("Expect")
        if request.version < HttpVersion10 or (expected and expected.lower() != "100-continue"):
            return _malformed()
        response = await handler(request)
        if self.leaving:
            response.force_close()
        return response


class _Connection(HttpConnection):
    """Takes a place in the limiter, and answers what is not HTTP in the shape of every other refusal.

    aiohttp alone would log a traceback with the client's address for each such request, and name itself and its
    version in the answer.
    """

    __slots__ = ("_client", "_is_open", "_ours")

    def __init__(self, connections: _Connections, options: dict[str, Any]) -> None:
        super().__init__(connections, loop=asyncio.get_running_loop(), **options)
        self._ours = connections
        self._client: Client | None = None
        self._is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or hang up at once where no place is free."""
        if (limiter := self._ours.limiter) is not None:
            peer = transport.get_extra_info("peername")
            self._client = limiter.acquire(peer[0] if isinstance(peer, tuple) else None)
            if self._client is None:
                if times := self._ours.turned_away.happened():
                    logger.warning("Connections were turned away: too many are open. times=%d", times)
                transport.close()
                return
        self._is_open = True
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, and give the place back; a connection that was turned away never began."""
        if not self._is_open:
            return
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
        """Answer 400 and close the connection. `message` is dropped: it may quote what was sent."""
        del message
        if times := self._ours.malformed.happened():
            logger.warning("Requests were no HTTP. times=%d last=%s status=%d", times, type(exc).__name__, status)
        if writer_of(request).output_size > 0:
            raise ConnectionError("a part of an answer is on its way already")
        return _malformed()


def _malformed() -> Reply:
    reply = refusal(Refused(Reason.BAD_REQUEST))
    reply.force_close()
    return reply
