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
    failures = LogThrottle()

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
                        "Requests failed; their senders got 500. times=%d route=%s", times, _route(request)
                    )
                response = refusal(Refused(Reason.INTERNAL), fields_of(request))
            metrics.request(_route(request), response.status).observe(time.perf_counter() - started)
            return response

        return handle

    return around


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "other"
