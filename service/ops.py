"""The operators' routes, on a listener of their own: health, readiness, metrics, version."""

import asyncio
import hmac
import json
import platform
import time
from datetime import UTC, datetime

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service import __version__
from service.errors import Reason, Refused, StoreUnavailable
from service.middleware import finish_ops, measure_and_shape
from service.services import SERVICES, Services

LAG_MAX_S = 1.0


def create_ops_app(services: Services) -> web.Application:
    """Build the application of the ops listener."""
    app = web.Application(middlewares=[measure_and_shape, authorize])
    app[SERVICES] = services
    app.on_response_prepare.append(finish_ops)
    app.router.add_get("/metrics", get_metrics)
    app.router.add_get("/healthz", get_health)
    app.router.add_get("/readyz", get_readiness)
    app.router.add_get("/version", get_version)
    return app


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ask for the bearer token where one is set."""
    token = request.app[SERVICES].settings.ops_token
    if token is not None:
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(given, f"Bearer {token.get_secret_value()}".encode()):
            raise Refused(Reason.UNAUTHORIZED)
    return await handler(request)


async def get_metrics(request: web.Request) -> web.Response:
    """Answer all metrics in Prometheus' text format."""
    services = request.app[SERVICES]
    services.board.export()
    services.metrics.network_share.set(services.admission.busiest_network_share())
    return web.Response(
        body=generate_latest(services.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )


async def get_health(_: web.Request) -> web.Response:
    """Tell whether this process still gets its turn: how late its event loop is."""
    started = time.perf_counter()
    await asyncio.sleep(0)
    lag_s = time.perf_counter() - started
    return _json(
        {"status": "ok" if lag_s < LAG_MAX_S else "slow", "loop_lag_s": round(lag_s, 4)}, lag_s < LAG_MAX_S
    )


async def get_readiness(request: web.Request) -> web.Response:
    """Tell whether a beacon can be answered 200 or 202, by running the real script in its check mode.

    503 only when neither Redis nor the spool takes beacons: a Redis outage must not become a site outage.
    Postgres away is an alarm, not a reason to leave the balancer.
    """
    services = request.app[SERVICES]
    problems: list[dict[str, object]] = []
    sites = list(services.recorder.sites.values())
    away = [writers for writers in sites if writers.away_since_s is not None]
    for writers in away[:1] or sites[:1]:
        await services.recorder.probe(writers)
    away = [writers for writers in sites if writers.away_since_s is not None]
    for writers in away:
        problems.append(
            _problem(
                f"redis takes no beacons of site {writers.site.id}: {writers.why_away}", writers.away_since_s
            )
        )
    if services.rollup.away_since_s is not None:
        problems.append(
            _problem("postgres does not answer: nothing is rolled up", services.rollup.away_since_s)
        )
    try:
        await services.spool.check()
        spool_takes = not services.spool.full
    except StoreUnavailable as error:
        spool_takes = False
        problems.append(_problem(str(error), None))
    ready = spool_takes or not away
    status = "ok" if not problems else "degraded" if ready else "unavailable"
    return _json({"status": status, "problems": problems}, ready)


async def get_version(_: web.Request) -> web.Response:
    """Answer what runs here."""
    return _json({"version": __version__, "python": platform.python_version()}, True)


def _problem(what: str, since_s: float | None) -> dict[str, object]:
    since = None if since_s is None else datetime.fromtimestamp(since_s, UTC).isoformat(timespec="seconds")
    return {"what": what, "since": since}


def _json(fields: dict[str, object], good: bool) -> web.Response:
    body = json.dumps(fields, ensure_ascii=False).encode()
    return web.Response(status=200 if good else 503, body=body, content_type="application/json")
