"""The operators' routes, on their own listener: health, readiness, metrics, status, version."""

import asyncio
import hmac
import json
import logging
import platform
from collections.abc import AsyncIterator
from contextlib import suppress
from ipaddress import ip_address
from socket import gethostname

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CONTENT_TYPE_LATEST

from footfall import __version__
from footfall.background import LoopLag
from footfall.errors import Reason, Refused
from footfall.http import status
from footfall.http.middleware import OUTERMOST, measure_and_shape
from footfall.http.readiness import Readiness
from footfall.http.reports import add_reports, add_sites_reports
from footfall.http.responses import OPS_HEADERS, Reply, lines
from footfall.http.services import SERVICES, Services
from footfall.log_throttle import LogThrottle
from footfall.model.hosts import canonical_host, split_port
from footfall.settings.settings import Listen, Settings, parse_listen

logger = logging.getLogger(__name__)

LAG_MAX_S = 1.0
LAG = web.AppKey("lag", LoopLag)
NAMES: web.AppKey[frozenset[str] | None] = web.AppKey("names")
REFUSALS = web.AppKey("refusals", LogThrottle)
READINESS = web.AppKey("readiness", Readiness)
JSON_HEAD = lines({"Content-Type": "application/json"}, OPS_HEADERS)
METRICS_HEAD = lines({"Content-Type": CONTENT_TYPE_LATEST}, OPS_HEADERS)


def create_ops_app(services: Services) -> web.Application:
    """Build the application of the ops listener."""
    app = web.Application(middlewares=[check_host, authorize])
    app[OUTERMOST] = measure_and_shape(services.metrics, OPS_HEADERS)
    app[SERVICES] = services
    app[READINESS] = Readiness(services)
    app[NAMES] = own_names(services.settings)
    app[REFUSALS] = LogThrottle()
    app[LAG] = LoopLag(services.metrics.loop_lag.set)
    app.cleanup_ctx.append(watch_lag)
    app.router.add_get("/metrics", get_metrics)
    app.router.add_get("/healthz", get_health)
    app.router.add_get("/readyz", get_readiness)
    app.router.add_get("/status", get_status)
    app.router.add_get("/version", get_version)
    add_reports(app)
    add_sites_reports(app)
    return app


async def watch_lag(app: web.Application) -> AsyncIterator[None]:
    """Measure the event loop's lag while the listener is open."""
    watching = asyncio.create_task(app[LAG].watch())
    yield
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


def own_names(settings: Settings) -> frozenset[str] | None:
    """Return the names to which the ops routes answer; None for a unix socket, which no browser reaches."""
    where = parse_listen(settings.ops_listen)
    if not isinstance(where, Listen):
        return None
    names = [canonical_host(name) for name in (where.host, gethostname())]
    return frozenset({"localhost", *settings.ops_hosts, *(name for name in names if name)})


@web.middleware
async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a request for a name that is not ours.

    A page of a stranger can point its own name to this machine (DNS rebinding). The visitor's browser then lets the
    page read what is served here, but it still names the page's host.
    """
    names, header = request.app[NAMES], request.headers.get("Host")
    # Every browser names the host; a health check in HTTP/1.0 may leave it out.
    if names is not None and header is not None and not _is_own(header, names):
        if times := request.app[REFUSALS].happened():
            logger.warning(
                "The ops routes refused requests for a host that is none of their names; if it is one, add it to"
                " ops_hosts. times=%d",
                times,
            )
        raise Refused(Reason.WRONG_HOST)
    return await handler(request)


def _is_own(header: str, names: frozenset[str]) -> bool:
    name, _ = split_port(header)
    if name is None:
        return False
    with suppress(ValueError):
        return bool(ip_address(name.removeprefix("[").removesuffix("]")))
    return canonical_host(name) in names


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a request without the bearer token, where one is set; every guess takes the same time to compare."""
    token = request.app[SERVICES].settings.ops_token
    if token is not None:
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(given, f"Bearer {token.get_secret_value()}".encode()):
            raise Refused(Reason.UNAUTHORIZED)
    return await handler(request)


async def get_metrics(request: web.Request) -> Reply:
    """Return all metrics in Prometheus' text format."""
    services = request.app[SERVICES]
    await services.export()
    return Reply(200, METRICS_HEAD, await services.metrics.render())


async def get_health(request: web.Request) -> Reply:
    """Return how late this process' event loop was in the last seconds, and 503 where that is too late."""
    lag_s = request.app[LAG].worst_s
    good = lag_s < LAG_MAX_S
    return _json({"status": "ok" if good else "slow", "loop_lag_s": round(lag_s, 4)}, good)


async def get_readiness(request: web.Request) -> Reply:
    """Return 200 while a beacon can be answered 200 or 202, else 503; with every problem and since when it lasts.

    The spool bridges an outage of Redis, so a balancer must not take the host out for it.
    """
    ready, problems = await request.app[READINESS].look()
    word = "unavailable" if not ready else "degraded" if problems else "ok"
    listed = [{"what": problem.what, "since": status.utc(problem.since_s)} for problem in problems]
    return _json({"status": word, "problems": listed}, ready)


async def get_status(request: web.Request) -> Reply:
    """Return one value for a screen: sites with their numbers, stores, spool, workers, problems, refused pages."""
    return _json(await status.look(request.app[SERVICES], request.app[READINESS]), True)


async def get_version(_: web.Request) -> Reply:
    """Return the versions of Footfall and of Python."""
    return _json({"version": __version__, "python": platform.python_version()}, True)


def _json(fields: dict[str, object], good: bool) -> Reply:
    return Reply(200 if good else 503, JSON_HEAD, json.dumps(fields, ensure_ascii=False).encode())
