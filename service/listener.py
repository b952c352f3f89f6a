"""How connections are treated, before there is a request: deadlines, and an answer to what is not HTTP."""

import asyncio
import logging
from typing import Any

from aiohttp import web

from service.errors import Reason, Refused
from service.middleware import PUBLIC_HEADERS, refusal
from service.quiet import Seldom

log = logging.getLogger(__name__)

KEEPALIVE_S = 20.0
"""How long a connection may be idle, or may take to send the head of a request."""
LINGER_S = 2.0
"""How long the rest of a body is read away that was refused before its end."""
DRAIN_MAX_S = 20.0
"""How long requests in progress may take when a worker stops."""


class Listener(web.AppRunner):
    """Runs an application on any number of sites (`web.SockSite`).

    A client that goes away does not cancel its handler: its beacon counts. Nothing is logged per request.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        keepalive_s: float = KEEPALIVE_S,
        linger_s: float = LINGER_S,
    ) -> None:
        super().__init__(
            app,
            access_log=None,
            auto_decompress=False,  # a damaged gzip body would be our failure, not its sender's
            keepalive_timeout=keepalive_s,
            lingering_time=linger_s,
            shutdown_timeout=DRAIN_MAX_S,
        )

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Connections(made.request_handler, made.request_factory, self._kwargs)


class _Connections(web.Server):
    """Makes a connection of ours for everybody who connects."""

    def __init__(self, handler: Any, request_factory: Any, options: dict[str, Any]) -> None:
        super().__init__(handler, request_factory=request_factory)
        self._options = options
        self._malformed = Seldom()

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._options, self._malformed)


class _Connection(web.RequestHandler):
    """Answers what is not HTTP in the shape of every other refusal, and nearly in silence.

    aiohttp alone would log a traceback with the client's address for each, and name itself and its version.
    """

    __slots__ = ("_malformed",)

    def __init__(self, manager: web.Server, options: dict[str, Any], malformed: Seldom) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **options)
        self._malformed = malformed

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer 400 and close the connection. `message` may quote what was sent, so nobody gets it."""
        del message
        if times := self._malformed.happened():
            log.warning("Requests were no HTTP. times=%d last=%s status=%d", times, type(exc).__name__, status)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of an answer is on its way already")
        return _Malformed()


class _Malformed(web.Response):
    """Stands for an answer of the middleware, which such a request does not reach."""

    def __init__(self) -> None:
        refused = refusal(Refused(Reason.BAD_REQUEST))
        super().__init__(status=refused.status, body=refused.body, headers=refused.headers)
        self.headers.update(PUBLIC_HEADERS)
        self.force_close()

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)
