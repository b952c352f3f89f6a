"""Around every handler: measures its time, and turns its errors into refusals."""

import logging
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from aiohttp import web
from aiohttp.typedefs import Handler

from footfall.errors import Reason, Refused
from footfall.http.responses import Fields, refusal
from footfall.log_throttle import LogThrottle
from footfall.metrics.metrics import Metrics

logger = logging.getLogger(__name__)

REASONS = MappingProxyType({404: Reason.NOT_FOUND, 405: Reason.METHOD_NOT_ALLOWED})
OUTERMOST: web.AppKey[Callable[[Handler], Handler]] = web.AppKey("outermost")
"""What a `Listener` puts around the whole application; a middleware costs two coroutines for each request."""


def measure_and_shape(
    metrics: Metrics,
    headers: Mapping[str, str],
    own_headers: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> Callable[[Handler], Handler]:
    """Answer every failure with `{"error": "<reason>"}` and `headers`; count the time by route and status.

    `own_headers` are those of paths that begin so.
    """
    failures, names = LogThrottle(), RouteNames()
    fields = tuple(headers.items())
    own_fields = {start: tuple(own.items()) for start, own in own_headers.items()}
    starts = tuple(own_fields)

    def fields_of(request: web.Request) -> Fields:
        path = request.path
        if not path.startswith(starts):
            return fields
        return next(own for start, own in own_fields.items() if path.startswith(start))

    def around(handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            started = time.perf_counter()
            try:
                response = await handler(request)
            except Refused as refused:
                response = refusal(refused, fields_of(request))
            except web.HTTPException as error:
                allow = (("Allow", error.headers["Allow"]),) if "Allow" in error.headers else ()
                response = refusal(Refused(REASONS.get(error.status, Reason.BAD_REQUEST)), fields_of(request), allow)
            except Exception:
                if times := failures.happened():
                    logger.exception(
                        "Requests failed; their senders got 500. times=%d route=%s", times, names.of(request)
                    )
                response = refusal(Refused(Reason.INTERNAL), fields_of(request))
            metrics.request(names.of(request), response.status).observe(time.perf_counter() - started)
            return response

        return handle

    return around


class RouteNames:
    """The names of routes in the metrics: their paths, kept by route, since a route works its path out each time."""

    def __init__(self) -> None:
        self._known: dict[web.AbstractRoute, str] = {}

    def of(self, request: web.Request) -> str:
        """Return the path of the request's route, such as /reports/{site}; "other" where it has none."""
        route = request.match_info.route
        if (name := self._known.get(route)) is None:
            if route.resource is None:
                return "other"  # not kept: such a route is made for each request
            name = self._known[route] = route.resource.canonical
        return name
