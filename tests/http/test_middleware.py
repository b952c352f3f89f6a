"""What stands around every handler."""

import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from prometheus_client import CollectorRegistry

from footfall.errors import STATUS, Reason, Refused
from footfall.http.middleware import OUTERMOST, measure_and_shape
from footfall.http.responses import PUBLIC_HEADERS
from footfall.metrics.metrics import Metrics
from tests.support.footfall import ServedAsInProduction

Client = TestClient[web.Request, web.Application]
METRICS = web.AppKey("metrics", Metrics)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """An application whose handlers fail in every way."""
    metrics = Metrics(CollectorRegistry())
    app = web.Application()
    app[METRICS] = metrics
    app[OUTERMOST] = measure_and_shape(metrics, PUBLIC_HEADERS)

    async def refuse(request: web.Request) -> web.Response:
        raise Refused(Reason(request.match_info["reason"]))

    async def fail(_: web.Request) -> web.Response:
        raise RuntimeError("secret words of ours")

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="fine")

    app.router.add_get("/refuse/{reason}", refuse)
    app.router.add_get("/fail", fail)
    app.router.add_get("/answer", answer)
    async with TestClient(ServedAsInProduction(app)) as client:
        yield client


def observed(client: Client, route: str, status: int) -> float:
    """How many requests were measured under these labels."""
    assert client.app is not None
    labels = {"route": route, "status": str(status)}
    return client.app[METRICS].registry.get_sample_value("footfall_request_seconds_count", labels) or 0.0


async def test_every_reason_has_one_status_and_is_the_body(client: Client) -> None:
    """One word for the page, the metric and the log: what a webmaster reports is what an operator searches for."""
    for reason, status in STATUS.items():
        response = await client.get(f"/refuse/{reason.value}")
        assert (response.status, await response.json()) == (status, {"error": reason.value})
        assert response.headers["Cache-Control"] == "no-store"
        assert ("Retry-After" in response.headers) == (status in (429, 503))
        assert PUBLIC_HEADERS.items() <= response.headers.items()
    assert observed(client, "/refuse/{reason}", 503) == 3


async def test_a_failure_of_ours_tells_its_sender_nothing_and_the_log_once_a_minute(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator needs one traceback, not one per request of a flood; the sender needs none."""
    with caplog.at_level(logging.INFO, "footfall"):
        for _ in range(5):
            response = await client.get("/fail")
            assert (response.status, await response.text()) == (500, '{"error":"internal"}')
    assert len(caplog.records) == 1
    assert "route=/fail" in caplog.text
    assert observed(client, "/fail", 500) == 5


async def test_routes_are_measured_under_their_pattern_and_strangers_as_other(client: Client) -> None:
    """A label from the path would let any client create any number of time series."""
    for _ in range(3):
        assert (await client.get("/answer?x=1")).status == 200
    for path in ("/a", "/b", "/answer/1"):
        assert (await client.get(path)).status == 404
    assert (await client.post("/answer")).status == 405
    assert observed(client, "/answer", 200) == 3
    assert (observed(client, "other", 404), observed(client, "other", 405)) == (3, 1)
