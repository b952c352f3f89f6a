"""Answers as they stand on the wire."""

import asyncio
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer

from footfall.errors import RETRY_AFTER_S, STATUS, Reason, Refused
from footfall.http.responses import OPS_HEADERS, Reply, lines, refusal
from tests.support.footfall import ServedAsInProduction
from tests.support.patience import PATIENCE_S

BODY = b"sixteen letters!"
HEAD = lines({"Content-Type": "text/plain"})


@pytest.fixture
async def server() -> AsyncIterator[BaseTestServer]:
    """An application that answers with any status, and with a body where the status takes one."""

    async def answer(request: web.Request) -> Reply:
        return Reply(int(request.match_info["status"]), HEAD, BODY)

    async def refuse(request: web.Request) -> Reply:
        return refusal(Refused(Reason(request.match_info["reason"]), retry_after_s=3), tuple(OPS_HEADERS.items()))

    async def leave(_: web.Request) -> Reply:
        reply = Reply(200, HEAD, BODY)
        reply.force_close()
        return reply

    app = web.Application()
    app.router.add_get("/answer/{status}", answer)
    app.router.add_get("/refuse/{reason}", refuse)
    app.router.add_get("/leave", leave)
    async with ServedAsInProduction(app) as server:
        yield server


async def ask(server: BaseTestServer, *requests: str) -> bytes:
    """Send requests one after another over a connection, and read until the server closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write("".join(f"{request}\r\n\r\n" for request in requests).encode())
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def split(answer: bytes) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers, and all that follows."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return status, dict(field.split(": ", 1) for field in fields), body


async def test_an_answer_has_its_head_its_length_and_the_date(server: BaseTestServer) -> None:
    """The answer does not name the server or its version."""
    status, headers, body = split(await ask(server, "GET /answer/200 HTTP/1.1\r\nHost: x\r\nConnection: close"))
    assert (status, body) == ("HTTP/1.1 200 OK", BODY)
    assert abs(parsedate_to_datetime(headers.pop("Date")).timestamp() - time.time()) < PATIENCE_S
    assert headers.pop("Connection") == "close"
    assert headers.pop("Content-Length") == "16"
    assert lines(headers, {}) == HEAD


@pytest.mark.parametrize(
    ("request_line", "status", "length"),
    [
        pytest.param("HEAD /answer/200", "200 OK", "16", id="the length of what a GET would bring"),
        pytest.param("GET /answer/204", "204 No Content", None, id="no content"),
        pytest.param("GET /answer/304", "304 Not Modified", None, id="not modified"),
    ],
)
async def test_where_http_wants_no_body_there_is_none(
    server: BaseTestServer, request_line: str, status: str, length: str | None
) -> None:
    """A single byte too many would be read as the beginning of the next answer."""
    last = "GET /answer/200 HTTP/1.1\r\nHost: x\r\nConnection: close"
    first, headers, rest = split(await ask(server, f"{request_line} HTTP/1.1\r\nHost: x", last))
    assert first == f"HTTP/1.1 {status}"
    assert headers.get("Content-Length") == length
    assert split(rest)[::2] == ("HTTP/1.1 200 OK", BODY)


async def test_connections_stay_open_as_their_version_has_it(server: BaseTestServer) -> None:
    """HTTP/1.1 keeps a connection unless either side says close; HTTP/1.0, as old proxies speak, only if both agree."""
    old = "GET /answer/200 HTTP/1.0\r\nConnection: keep-alive"
    answer = await ask(server, old, "GET /answer/200 HTTP/1.0")
    assert answer.count(b"Connection: keep-alive") == answer.count(b"Connection: close") == 1
    assert answer.count(BODY) == 2
    answer = await ask(server, "GET /answer/200 HTTP/1.1\r\nHost: x", "GET /leave HTTP/1.1\r\nHost: x")
    assert (answer.count(b"Connection: "), answer.count(b"Connection: close"), answer.count(BODY)) == (1, 1, 2)


async def test_the_raiser_may_know_better_when_to_come_back(server: BaseTestServer) -> None:
    """A token bucket knows to the second; elsewhere the reason's own time holds."""
    _, headers, body = split(await ask(server, "GET /refuse/busy HTTP/1.1\r\nHost: x\r\nConnection: close"))
    assert (headers["Retry-After"], body) == ("3", b'{"error":"busy"}')
    assert Refused(Reason.BUSY).retry_after_s == 1
    assert set(RETRY_AFTER_S) == {reason for reason, status in STATUS.items() if status in (429, 503)}
