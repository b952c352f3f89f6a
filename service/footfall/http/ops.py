"""The operators' routes, on their own listener: health, readiness, metrics, status, version."""

import asyncio
import json
import platform
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from footfall import __version__
from footfall.background import LoopLag
from footfall.http import status
from footfall.http.middleware import OUTERMOST, measure_and_shape
from footfall.http.ops_access import NAMES, REFUSALS, authorize, check_host, own_names, post_login
from footfall.http.readiness import Readiness
from footfall.http.report_answers import LISTENER, as_page
from footfall.http.reports import add_reports, add_sites_reports
from footfall.http.responses import OPS_HEADERS, Reply, lines
from footfall.http.services import SERVICES, Services
from footfall.ingest.beacon import BODY_MAX_BYTES
from footfall.log_throttle import LogThrottle

LAG_MAX_S = 1.0
LAG = web.AppKey("lag", LoopLag)
READINESS = web.AppKey("readiness", Readiness)
JSON_HEAD = lines({"Content-Type": "application/json"}, OPS_HEADERS)
METRICS_HEAD = lines({"Content-Type": CONTENT_TYPE_LATEST}, OPS_HEADERS)


def create_ops_app(services: Services) -> web.Application:
    """Build the application of the ops listener."""
    app = web.Application(client_max_size=BODY_MAX_BYTES, middlewares=[check_host, authorize])
    app[OUTERMOST] = measure_and_shape(services.metrics, OPS_HEADERS)
    app[SERVICES] = services
    app[READINESS] = Readiness(services)
    app[LISTENER] = "ops"
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
    app.router.add_post("/reports", as_page(post_login))
    app.router.add_post("/reports/{site:[a-z0-9-]+}", as_page(post_login))
    return app


async def watch_lag(app: web.Application) -> AsyncIterator[None]:
    """Measure the event loop's lag while the listener is open."""
    watching = asyncio.create_task(app[LAG].watch())
    yield
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


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
