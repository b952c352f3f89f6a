"""Whatever arrives at the public listener is answered or refused: nothing breaks, and nothing is stored for it."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from footfall.errors import STATUS
from footfall.http.public import create_public_app
from footfall.http.server import Listener
from tests.attacks.under_attack import state_of
from tests.support.footfall import SITE, Footfall, running, settings_for
from tests.support.malformed_http import MALFORMED
from tests.support.raw_http import beacon, connected, head, read_answer, send_all, send_raw, statuses_of

IMPATIENCE_S = 0.5
REFUSALS = {(status, reason.value) for reason, status in STATUS.items() if 400 <= status < 500 or status in (501, 505)}
fuzzed = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
async def footfall(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Footfall]:
    """A worker that has counted a view, so that all keys of its site exist."""
    limits = {"enabled": False}
    async with running(settings_for(redis_url, postgres_url, tmp_path, limits=limits)) as footfall:
        await footfall.see()
        yield footfall


@asynccontextmanager
async def impatient(footfall: Footfall) -> AsyncIterator[int]:
    """The port of another listener, which ends idle connections after half a second instead of twenty."""
    listener = Listener(create_public_app(footfall.services), keepalive_s=IMPATIENCE_S, linger_s=IMPATIENCE_S)
    await listener.setup()
    try:
        await web.TCPSite(listener, "127.0.0.1", 0).start()
        yield listener.addresses[0][1]
    finally:
        await listener.cleanup()


def assert_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """No traceback, and at most one line for all that was no HTTP, and one for all pages that were refused."""
    assert [record for record in caplog.records if record.exc_info] == []
    warnings = Counter(record.name for record in caplog.records if record.levelno >= logging.WARNING)
    assert warnings <= Counter(["footfall.http.server", "footfall.ingest.refused_pages"])


async def test_what_is_no_http_gets_one_refusal_and_the_end_of_its_connection(
    footfall: Footfall, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A second answer would answer a request that was hidden behind the first one from a proxy."""
    async with impatient(footfall) as port, Redis.from_url(redis_url) as redis:
        before = await state_of(footfall, redis)
        answers = await asyncio.gather(*(send_raw(port, request) for request in MALFORMED.values()))
        assert await state_of(footfall, redis) == before
        assert await send_all(port, [beacon()], connections=1) == {200: 1}
    unlike = {
        name: answer[:200]
        for name, answer in zip(MALFORMED, answers, strict=True)
        if len(statuses_of(answer)) != 1 or not _is_refusal(answer)
    }
    assert unlike == {}
    assert_quiet(caplog)


def _is_refusal(answer: bytes) -> bool:
    """Whether it is a refusal of ours: status and reason word belong together, and every page may read it."""
    top, _, body = answer.partition(b"\r\n\r\n")
    return (
        (statuses_of(top)[0], json.loads(body)["error"]) in REFUSALS
        and b"access-control-allow-origin: *" in top.lower()
        and b"\r\nserver:" not in top.lower()
    )


async def test_a_hundred_pipelined_views_are_a_hundred_views(footfall: Footfall) -> None:
    """Pipelining is allowed; it must neither lose nor repeat a request."""
    async with impatient(footfall) as port, connected(port) as (reader, writer):
        writer.write(beacon() * 100)
        answers = [await read_answer(reader) for _ in range(100)]
    assert [status for status, _ in answers] == [200] * 100
    assert [json.loads(body)["views_today"] for _, body in answers] == list(range(2, 102))


async def test_an_absolute_target_is_the_same_request(footfall: Footfall) -> None:
    """HTTP/1.1 demands it, and the host in it decides nothing here."""
    async with impatient(footfall) as port:
        request = head("GET", f"http://elsewhere.example/counts?site={SITE}")
        assert statuses_of(await send_raw(port, request)) == [200]


async def test_a_head_that_drips_is_cut_off(footfall: Footfall) -> None:
    """Otherwise a few thousand connections that send a byte now and then would keep all other clients out."""
    async with impatient(footfall) as port:
        endless = head().removesuffix(b"\r\n") + b"X-Endless: " + b"a" * 5000
        assert statuses_of(await send_raw(port, *(bytes([byte]) for byte in endless), pause_s=0.02)) in ([], [400])


async def test_a_body_that_drips_is_cut_off(footfall: Footfall) -> None:
    """The same by the other half of a request, with a deadline of its own."""
    async with impatient(footfall) as port:
        pieces = (bytes([byte]) for byte in b" " * 4000)
        answer = await send_raw(port, head(Content_Length="4000"), *pieces, pause_s=0.02)
    assert statuses_of(answer) in ([], [408])  # who still writes when the connection ends may miss the answer
    assert footfall.metric("footfall_beacons_total", site="", outcome="refused", reason="timeout") == 1


async def test_silent_connections_keep_nobody_out(footfall: Footfall) -> None:
    """The cheapest attack of all is to connect and say nothing."""
    async with impatient(footfall) as port:
        silent = [asyncio.create_task(send_raw(port)) for _ in range(100)]
        assert await send_all(port, [beacon()] * 100) == {200: 100}
        assert set(await asyncio.gather(*silent)) == {b""}


async def _answer_to(footfall: Footfall, request: bytes) -> tuple[int, bytes]:
    """Send one whole request that asks for the end of its connection; status and body of the one answer."""
    port = footfall.public.server.port
    assert port is not None
    answer = await send_raw(port, request)
    (status,) = statuses_of(answer)
    return status, answer.partition(b"\r\n\r\n")[2]


def assert_answered_or_refused(status: int, body: bytes) -> None:
    """Never a 5xx; and every refusal by one of the words that are declared."""
    assert status in (200, 304) or (status, json.loads(body)["error"]) in REFUSALS


@fuzzed
@given(
    body=st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["site", "page", "kind", "visitor", "webdriver", "x"]), inner, max_size=6)
        ),
        max_leaves=12,
    ).map(lambda fields: json.dumps(fields).encode())
)
@example(b'{"site":"portal","page":"\\ud800"}')
@example(b'{"site":"portal","page":"\\u0000"}')
@example(b"[" * 4096)
@example(b'{"site":' + b"9" * 4000 + b"}")
@example(b'\xef\xbb\xbf{"site":"portal"}')
async def test_any_body_is_counted_or_refused(
    footfall: Footfall, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    """The address to which every page of the country posts is also the one that every attacker tries."""
    request = head(Content_Length=str(len(body)), Connection="close") + body
    assert_answered_or_refused(*await _answer_to(footfall, request))
    assert_quiet(caplog)


NAMES = (
    *(
        "Origin",
        "Referer",
        "User-Agent",
        "X-Forwarded-For",
        "Content-Type",
        "Content-Encoding",
        "Accept-Encoding",
        "Range",
    ),
    *(
        "Sec-Purpose",
        "Purpose",
        "Sec-GPC",
        "Sec-Fetch-Site",
        "If-None-Match",
        "Authorization",
        "Upgrade",
        "Date",
        "Cookie",
    ),
)
ODD_VALUES = (
    *(
        b"null",
        b"https://portal.example.vn:99999",
        b"https://[::1",
        b"https://" + b"a." * 200,
        b"https://\xe2\x98\x83.vn",
    ),
    *(b"127.0.0.1," * 300, b'for="[::1]"', b'W/"', b"*", b"gzip;q=", b"br", b"bytes=0-0", b"text/plain; charset=utf-7"),
)
VALUES = st.binary(max_size=80).filter(lambda value: not set(value) & set(b"\r\n")) | st.sampled_from(ODD_VALUES)


@fuzzed
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=6),
    st.sampled_from(["/seen", "/counts?site=portal", "/footfall.js"]),
)
async def test_any_header_is_read_or_refused(
    footfall: Footfall, caplog: pytest.LogCaptureFixture, lines: list[tuple[str, bytes]], target: str
) -> None:
    """Everything in a request is the sender's to choose, and what decides here is mostly in its head."""
    headers = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in lines)
    whole = beacon(Connection="close") if target == "/seen" else head("GET", target, Connection="close")
    first, _, rest = whole.partition(b"\r\n")
    assert_answered_or_refused(*await _answer_to(footfall, first + b"\r\n" + headers + rest))
    assert_quiet(caplog)


@fuzzed
@given(
    path=st.sampled_from(["/counts", "/counts.svg", "/counts.html", "/seen.gif", "/seen", "/", "/nothing"]),
    query=st.binary(max_size=60).filter(lambda query: not set(query) & set(b" \r\n"))
    | st.sampled_from(
        [b"site=portal&lang=fr", b"site=portal&theme=<svg>", b"site=portal&site=x", b"site=%00", b"site=%zz"]
    ),
    method=st.sampled_from(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "PROPFIND"]),
)
async def test_any_query_is_read_or_refused(
    footfall: Footfall, caplog: pytest.LogCaptureFixture, path: str, query: bytes, method: str
) -> None:
    """A value of the query may become part of an image or of a page."""
    first, _, rest = head(method, "TARGET", Connection="close").partition(b"TARGET")
    status, body = await _answer_to(footfall, first + path.encode() + b"?" + query + rest)
    assert status in (200, 204) or status in {status for status, _ in REFUSALS}
    assert b"<svg>" not in body
    assert_quiet(caplog)
