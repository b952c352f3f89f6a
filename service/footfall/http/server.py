"""Connections, before there is a request: how many, how long, and the answer to what is not HTTP."""

import asyncio
import logging
import resource
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import HttpVersion10, HttpVersion11, StreamReader, web
from aiohttp.http_exceptions import BadStatusLine
from multidict import istr

from footfall._compat import (
    HttpConnection,
    HttpServer,
    RequestFactory,
    handler_of,
    hold_reading,
    release_reading,
    waits_for_request,
    writer_of,
)
from footfall.errors import Reason, Refused
from footfall.http.middleware import OUTERMOST
from footfall.http.responses import Reply, refusal
from footfall.http.services import SERVICES
from footfall.ingest.client_address import AddressResolver, Client
from footfall.log_throttle import LogThrottle
from footfall.metrics.metrics import Metrics

logger = logging.getLogger(__name__)

KEEPALIVE_S = 20.0
"""How long a connection may be idle, or may take to send the head of a request."""
UNREAD_S = 10.0
"""How long a client may take nothing of an answer that waits for it."""
HALF_CLOSED_STEP_S = 0.05
"""How often a connection whose client sends no more is asked whether all its requests are answered."""
NO_LINGER = struct.pack("ii", 1, 0)
"""Value of SO_LINGER: the system resets a connection that is closed, and keeps nothing for its client."""
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
EXPECT, TRANSFER_ENCODING = istr("Expect"), istr("Transfer-Encoding")
OTHER_VERSION = "Invalid HTTP version"
"""What aiohttp's parser says of a version of HTTP that does not exist."""


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
        unread_s: float = UNREAD_S,
    ) -> None:
        super().__init__(app)
        self._outermost = app.get(OUTERMOST)
        self._services = app.get(SERVICES)
        self._limiter = limiter
        self._unread_s = unread_s
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
            Unread(self._unread_s, self._services.metrics if self._services else None),
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
        """Close idle connections and those that wait for their client to read; wait for the requests in progress."""
        connections, self._connections = self._connections, None
        if connections is not None:
            connections.pre_shutdown()
            for connection in connections.connections:
                if isinstance(connection, _Connection):
                    connection.give_up_unread()
        await super().shutdown()
        if connections is not None:
            await connections.shutdown(SHUTDOWN_MAX_S)


class Unread:
    """Ends connections whose clients take nothing of an answer for `limit_s`, says so in the log, and counts them."""

    def __init__(self, limit_s: float, metrics: Metrics | None) -> None:
        self._limit_s = limit_s
        self._metrics = metrics
        self._ended = LogThrottle()

    def watch(self, transport: asyncio.Transport) -> "UnreadAnswer":
        """Begin to watch an answer of which the system did not take all."""
        return UnreadAnswer(self, transport)

    def look_later(self, look: Callable[[], None]) -> asyncio.TimerHandle:
        """Call `look` when an answer has had its time to progress."""
        return asyncio.get_running_loop().call_later(self._limit_s, look)

    def note_end(self) -> None:
        """Record that a connection was ended."""
        if self._metrics is not None:
            self._metrics.unread_answers.inc()
        if times := self._ended.happened():
            logger.warning(
                "Connections were ended: their clients took nothing of an answer. seconds=%g times=%d",
                self._limit_s,
                times,
            )


class UnreadAnswer:
    """One answer that waits for its client; without progress for the limit its connection is aborted.

    Closing would not do: it waits until the client has taken the rest.
    """

    def __init__(self, unread: Unread, transport: asyncio.Transport) -> None:
        self._unread = unread
        self._transport = transport
        self._left = transport.get_write_buffer_size()
        self._timer = unread.look_later(self._look)

    def stop(self) -> None:
        """Stop watching: the answer was taken, or the connection has ended."""
        self._timer.cancel()

    def give_up(self) -> None:
        """End the connection; what its client has not taken is lost, also what the system holds of it."""
        if (connection := self._transport.get_extra_info("socket")) is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self._transport.abort()

    def _look(self) -> None:
        left = self._transport.get_write_buffer_size()
        if left < self._left:
            self._left = left
            self._timer = self._unread.look_later(self._look)
            return
        self._unread.note_end()
        self.give_up()


class _Connections(HttpServer):
    """Makes a `_Connection` for each client."""

    def __init__(
        self,
        answer: Callable[[Any], Awaitable[web.StreamResponse]],
        request_factory: RequestFactory,
        limiter: ConnectionLimiter | None,
        unread: Unread,
        **options: Any,
    ) -> None:
        super().__init__(self._handle, request_factory=request_factory)
        self._answer = answer
        self.leaving = False
        """The worker stops: each answer closes its connection."""
        self.limiter = limiter
        self.unread = unread
        self.malformed = LogThrottle()
        self.turned_away = LogThrottle()
        self._options = options

    def __call__(self) -> HttpConnection:
        return _Connection(self, self._options)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Refuse what aiohttp would answer itself or take for HTTP/1.1, and an Expect, with the client's words."""
        if (refused := _not_spoken(request)) is not None:
            return _malformed(refused)
        body = request.content
        if body.is_eof() or not isinstance(connection := request.protocol, _Connection):
            response = await self._answer(request)
        else:
            with connection.reading(body):
                response = await self._answer(request)
        if self.leaving:
            response.force_close()
        return response


class _Connection(HttpConnection):
    """Takes a place in the limiter, ends when its client does not read, and answers what is not HTTP like all else.

    aiohttp alone would log a traceback with the client's address for each such request, and name itself and its
    version in the answer.
    """

    __slots__ = ("_body", "_client", "_ending", "_is_open", "_ours", "_unread")

    def __init__(self, connections: _Connections, options: dict[str, Any]) -> None:
        super().__init__(connections, loop=asyncio.get_running_loop(), **options)
        self._ours = connections
        self._client: Client | None = None
        self._is_open = False
        self._unread: UnreadAnswer | None = None
        self._body: StreamReader | None = None
        self._ending: asyncio.TimerHandle | None = None

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
        if isinstance(transport, asyncio.Transport):
            # Writing pauses as soon as the system does not take all of an answer, and goes on once it has.
            transport.set_write_buffer_limits(high=0)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        """Keep the handler and the next requests waiting, and begin to watch whether the client takes anything."""
        super().pause_writing()
        if self.transport is not None:
            hold_reading(self)
            self._unread = self._ours.unread.watch(self.transport)

    def resume_writing(self) -> None:
        """Go on: the client has taken the answer."""
        self._stop_watching()
        super().resume_writing()
        release_reading(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, and give the place back; a connection that was turned away never began."""
        if not self._is_open:
            return
        self._stop_watching()
        if self._ending is not None:
            self._ending.cancel()
        super().connection_lost(exc)
        if self._ours.limiter is not None and self._client is not None:
            self._ours.limiter.release(self._client)
            self._client = None

    def give_up_unread(self) -> None:
        """End at once if the client has an answer to read."""
        if self._unread is not None:
            self._unread.give_up()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer what the client sent before it ended its half of the connection, then close.

        A request that is cut off will not be completed.
        """
        if self._body is not None:
            self._cut_off(self._body)
        if self._ending is None:
            self._close_when_answered()
        return True  # the transport stays open

    @contextmanager
    def reading(self, body: StreamReader) -> Iterator[None]:
        """Cut the body off when the client sends no more."""
        self._body = body
        if self._ending is not None:
            self._cut_off(body)
        try:
            yield
        finally:
            self._body = None
            if self._ending is not None:
                body.feed_eof()  # else aiohttp would wait for the rest

    def _cut_off(self, body: StreamReader) -> None:
        body.set_exception(ConnectionResetError("the client sends no more"))

    def _close_when_answered(self) -> None:
        if waits_for_request(self) is not None:
            self.force_close()
            return
        self._ending = asyncio.get_running_loop().call_later(HALF_CLOSED_STEP_S, self._close_when_answered)

    def _stop_watching(self) -> None:
        if self._unread is not None:
            self._unread.stop()
            self._unread = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer 400 or 505 and close the connection. `message` is not repeated: it may quote what was sent."""
        if times := self._ours.malformed.happened():
            logger.warning("Requests were no HTTP. times=%d last=%s status=%d", times, type(exc).__name__, status)
        if writer_of(request).output_size > 0:
            raise ConnectionError("a part of an answer is on its way already")
        is_version = isinstance(exc, BadStatusLine) and OTHER_VERSION in (message or "")
        return _malformed(Reason.HTTP_VERSION if is_version else Reason.BAD_REQUEST)


def _not_spoken(request: web.BaseRequest) -> Reason | None:
    """Return why a request is none of HTTP/1.1, or None; RFC 9112 6.1 and RFC 9110 10.1.1, 15.6.2, 15.6.6."""
    version, get = request.version, request.headers.get
    expected, coding = get(EXPECT), get(TRANSFER_ENCODING)
    if expected is None and coding is None and version == HttpVersion11:
        return None
    if version > HttpVersion11:
        return Reason.HTTP_VERSION
    if version < HttpVersion10 or (expected and expected.lower() != "100-continue"):
        return Reason.BAD_REQUEST
    if coding is None:
        return None
    if version < HttpVersion11:
        return Reason.BAD_REQUEST  # the sender does not know chunks: where the body ends is not sure
    # aiohttp takes off the chunks, and would hand on what is coded below them as the body.
    return None if coding.strip().lower() == "chunked" else Reason.TRANSFER_CODING


def _malformed(reason: Reason) -> Reply:
    reply = refusal(Refused(reason))
    reply.force_close()
    return reply
