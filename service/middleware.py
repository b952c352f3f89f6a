"""Around every handler: measure it, shape its errors as JSON, and finish its headers."""

import logging
import time
from types import MappingProxyType

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from service.errors import Reason, Refused
from service.metrics import Metrics
from service.quiet import Seldom

log = logging.getLogger(__name__)

HEADERS = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "strict-origin-when-cross-origin",
    }
)
PUBLIC_HEADERS = MappingProxyType(
    {
        **HEADERS,
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Expose-Headers": "Retry-After, Footfall-Ignored",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
)
REASONS = MappingProxyType({404: Reason.NOT_FOUND, 405: Reason.METHOD_NOT_ALLOWED})


def measure_and_shape(metrics: Metrics) -> Middleware:
    """Answer every failure with `{"error": "<reason>"}`, and count the time by route and status."""
    failures = Seldom()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        try:
            response = await handler(request)
        except Refused as refused:
            response = refusal(refused)
        except web.HTTPException as error:
            response = refusal(Refused(REASONS.get(error.status, Reason.BAD_REQUEST)))
            if allow := error.headers.get("Allow"):
                response.headers["Allow"] = allow
        except Exception:
            if times := failures.happened():
                log.exception("Requests failed; their senders got 500. times=%d route=%s", times, _route(request))
            response = refusal(Refused(Reason.INTERNAL))
        metrics.request(_route(request), response.status).observe(time.perf_counter() - started)
        return response

    return middleware


def refusal(refused: Refused) -> web.Response:
    """Shape a refusal: its reason word, and when to come back or what to bring."""
    headers = {"Cache-Control": "no-store"}
    if refused.retry_after_s is not None:
        headers["Retry-After"] = str(refused.retry_after_s)
    if refused.reason is Reason.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    body = f'{{"error":"{refused.reason.value}"}}'.encode()
    return web.Response(status=refused.status, body=body, content_type="application/json", headers=headers)


async def finish_public(_: web.Request, response: web.StreamResponse) -> None:
    """Every public answer may be read by any page; which pages may count is decided by Origin."""
    response.headers.update(PUBLIC_HEADERS)
    response.headers.popall("Server", None)


async def finish_ops(_: web.Request, response: web.StreamResponse) -> None:
    """Ops answers are for operators only, and about this moment."""
    response.headers.update(HEADERS)
    response.headers["Cache-Control"] = "no-store"
    response.headers.popall("Server", None)


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "other"
