"""Connections over raw sockets: what is not HTTP, what never ends, and what comes all at once."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web

from footfall.http.body import BODY_TIMEOUT_S
from footfall.http.ops import create_ops_app
from footfall.http.public import create_public_app
from footfall.http.server import UNREAD_S, ConnectionLimiter, Listener
from footfall.ingest.client_address import AddressResolver
from footfall.log_throttle import LogThrottle
from tests.support.footfall import BROWSER, HOST, ORIGIN, SITE, FakeClock, Footfall, running, settings_for, until
from tests.support.patience import PATIENCE_S

BEACON = json.dumps({"site": SITE}).encode()
HEAD = f"POST /seen HTTP/1.1\r\nHost: {HOST}\r\nOrigin: {ORIGIN}\r\nUser-Agent: {BROWSER}\r\n"
LAST = f"GET /counts?site={SITE} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()


@pytest.fixture
async def footfall(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Footfall]:
    """A worker with the site `portal`."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        yield footfall


class Connection:
    """A client that sends bytes as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send without waiting for an answer."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: status, headers, body."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:-2])
        return int(head[0].split()[1]), headers, await self._reader.readexactly(int(headers["Content-Length"]))

    async def read_some(self) -> bytes:
        """Read a little of what has come: more than the system's buffers hide from the server."""
        return await self._reader.readexactly(TINY)

    async def is_closed(self) -> bool:
        """Wait until the server hangs up; False if it says something more."""
        return await self._reader.read() == b""


@asynccontextmanager
async def connected(footfall: Footfall) -> AsyncIterator[Connection]:
    """A raw connection to the public listener."""
    reader, writer = await asyncio.open_connection("127.0.0.1", footfall.public.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


MALFORMED = {
    "not http": b"hello\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "unknown method": b"BREW /seen HTTP/1.1\r\nHost: x\r\n\r\n",
    "space before colon": b"GET /counts HTTP/1.1\r\nHost : x\r\n\r\n",
    "nul in a header": b"GET /counts HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    "folded header": b"GET /counts HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "two lengths": b"POST /seen HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunks": (
        b"POST /seen HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "chunked twice": b"POST /seen HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": b"POST /seen HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "negative length": b"POST /seen HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "signed length": b"POST /seen HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}",
    "bad chunk": b"POST /seen HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "long target": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "long header": b"GET /counts HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    "many headers": b"GET /counts HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 300 + b"\r\n",
}


async def test_malformed_requests_get_400_in_our_shape_and_one_line_in_the_log(
    footfall: Footfall, caplog: pytest.LogCaptureFixture
) -> None:
    """Scanners send such things all day: no traceback, no address, no banner, nothing echoed, no 500."""
    with caplog.at_level(logging.INFO):
        for name, data in MALFORMED.items():
            async with connected(footfall) as connection:
                await connection.send(data)
                status, headers, body = await connection.answer()
                assert (status, json.loads(body)) == (400, {"error": "bad_request"}), name
                assert headers["Access-Control-Allow-Origin"] == "*"
                assert headers["X-Content-Type-Options"] == "nosniff"
                assert "Server" not in headers
                assert await connection.is_closed(), name
    assert [record.message.partition(" times=")[0] for record in caplog.records] == ["Requests were no HTTP."]
    assert "127.0.0.1" not in caplog.text
    assert "Traceback" not in caplog.text
    assert (await footfall.see())["views_today"] == 1


async def test_two_megabytes_of_header_are_not_taken(footfall: Footfall, caplog: pytest.LogCaptureFixture) -> None:
    """The connection ends long before the end of the flood, and other connections are still answered."""
    async with connected(footfall) as connection:
        with suppress(ConnectionError):
            await connection.send(b"GET /counts HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2_000_000)
        with suppress(ConnectionError):
            await connection.is_closed()
    assert len(caplog.records) == 1
    assert (await footfall.see())["views_today"] == 1


async def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(footfall: Footfall) -> None:
    """4 KB are more than any page needs; no client can make the service wait for more, or hold more."""
    async with connected(footfall) as connection:
        await connection.send(f"{HEAD}Content-Length: 4097\r\n\r\n".encode())
        status, _, body = await connection.answer()
        assert (status, json.loads(body)) == (413, {"error": "too_large"})
    assert footfall.metric("footfall_beacons_total", site="", outcome="refused", reason="too_large") == 1


async def test_a_chunked_body_is_read_up_to_the_limit(footfall: Footfall) -> None:
    """Some proxies send beacons in chunks, without a length: they count, and the limit holds for them too."""
    async with connected(footfall) as connection:
        head = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
        await connection.send(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BEACON), BEACON))
        assert (await connection.answer())[0] == 200
        await connection.send(head + b"400\r\n%s\r\n" % (b" " * 1024) * 5)
        status, _, body = await connection.answer()
        assert (status, json.loads(body)) == (413, {"error": "too_large"})
    assert footfall.metric("footfall_beacons_total", site="", outcome="refused", reason="too_large") == 1


@pytest.mark.slow
async def test_slow_bodies_are_given_up_and_hold_nobody_up(footfall: Footfall) -> None:
    """A client that never ends its body, or drips it, gets 408; other clients are answered meanwhile."""
    async with connected(footfall) as silent, connected(footfall) as dripping, asyncio.timeout(PATIENCE_S):
        announced = f"{HEAD}Content-Length: 2000\r\n\r\n".encode()
        await silent.send(announced)
        await dripping.send(announced)
        answers = asyncio.gather(silent.answer(), dripping.answer())
        views = 0
        while not answers.done():
            with suppress(ConnectionError):
                await dripping.send(b" ")
            async with asyncio.timeout(BODY_TIMEOUT_S - 1):
                views += 1
                assert (await footfall.see())["views_today"] == views
            await asyncio.wait([answers], timeout=0.2)
        for status, _, body in await answers:
            assert (status, json.loads(body)) == (408, {"error": "timeout"})
    assert footfall.metric("footfall_beacons_total", site="", outcome="refused", reason="timeout") == 2


async def test_a_client_that_leaves_halfway_is_no_error_of_ours(
    footfall: Footfall, caplog: pytest.LogCaptureFixture
) -> None:
    """Every closed tab and every tunnel does it: no traceback, nothing counted as a failure."""
    for ending in ("close", "abort"):
        async with connected(footfall) as connection:
            await connection.send(f"{HEAD}Content-Length: 40\r\n\r\n".encode() + BEACON[:5])
            if ending == "abort":
                connection.writer.transport.abort()
    await until(lambda: footfall.metric("footfall_request_seconds_count", route="/seen", status="400") == 2)
    assert footfall.metric("footfall_beacons_total", site="", outcome="refused", reason="bad_request") == 2
    assert caplog.records == []


async def test_pipelined_requests_are_answered_in_their_order(footfall: Footfall) -> None:
    """More than the server queues: it stops reading for a while, and loses and mixes up nothing."""
    beacon = f"{HEAD}Content-Length: {len(BEACON)}\r\n\r\n".encode() + BEACON
    async with connected(footfall) as connection:
        await connection.send(beacon * 100 + LAST)
        views = [json.loads((await connection.answer())[2])["views_today"] for _ in range(101)]
        assert views == [*range(1, 101), 100]
        assert await connection.is_closed()


@pytest.mark.parametrize(
    ("request_line", "fields", "status", "reason"),
    [
        pytest.param("POST /seen HTTP/2.0", "", 505, "http_version", id="another major version"),
        pytest.param("POST /seen HTTP/9.9", "", 505, "http_version", id="a version that nothing speaks"),
        pytest.param("POST /seen HTTP/1.1", "Transfer-Encoding: gzip, chunked", 501, "transfer_coding", id="gzip"),
        pytest.param("POST /seen HTTP/1.1", "Transfer-Encoding: CHUNKED", 200, None, id="a coding in capitals"),
        pytest.param("POST /seen HTTP/1.0", "Transfer-Encoding: chunked", 400, "bad_request", id="chunks in 1.0"),
    ],
)
async def test_what_http_1_1_does_not_have_is_refused_as_the_rfc_says(
    footfall: Footfall, request_line: str, fields: str, status: int, reason: str
) -> None:
    """A coding that is not taken off would be read as the body (RFC 9112 6.1); a version, as one that we speak."""
    head = HEAD.replace("POST /seen HTTP/1.1", request_line)
    framing = fields or f"Content-Length: {len(BEACON)}"
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BEACON), BEACON) + LAST if fields else BEACON
    async with connected(footfall) as connection:
        await connection.send(f"{head}{framing}\r\n\r\n".encode() + body)
        answered, headers, said = await connection.answer()
        assert (answered, json.loads(said).get("error")) == (status, reason)
        if reason is not None:
            assert headers["Connection"] == "close"
            assert await connection.is_closed()
    assert (await footfall.see(kind="ping"))["views_today"] == (reason is None)


async def test_a_coding_that_an_answer_might_have_is_not_one_of_the_request(footfall: Footfall) -> None:
    """TE says what the client could read; an answer without a coding is right for every client."""
    async with connected(footfall) as connection:
        await connection.send(f"{HEAD}TE: gzip, chunked\r\nContent-Length: {len(BEACON)}\r\n\r\n".encode() + BEACON)
        status, headers, _ = await connection.answer()
        assert (status, "Transfer-Encoding" in headers) == (200, False)


@pytest.mark.parametrize("half", [b"", HEAD.encode()[:40], HEAD.encode() + b"Content-Length: 40\r\n\r\n{"])
async def test_a_client_that_ends_its_half_gets_all_its_answers(footfall: Footfall, half: bytes) -> None:
    """983 of 1,000 were answered: the end of what a client sends is not the end of what it reads."""
    beacon = f"{HEAD}Content-Length: {len(BEACON)}\r\n\r\n".encode() + BEACON
    async with connected(footfall) as connection:
        await connection.send(beacon * 1000 + half)
        connection.writer.write_eof()
        views = [json.loads((await connection.answer())[2])["views_today"] for _ in range(1000)]
        assert views == [*range(1, 1001)]
        if half.endswith(b"{"):
            assert json.loads((await connection.answer())[2]) == {"error": "bad_request"}
        async with asyncio.timeout(PATIENCE_S):
            assert await connection.is_closed()


async def test_a_smuggled_request_is_not_run(footfall: Footfall) -> None:
    """What follows a request of doubtful length is never taken for another request."""
    smuggled = (
        f"{HEAD}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        f"{HEAD}Content-Length: {len(BEACON)}\r\n\r\n"
    ).encode() + BEACON
    async with connected(footfall) as connection:
        await connection.send(smuggled)
        assert (await connection.answer())[0] == 400
        assert await connection.is_closed()
    assert (await footfall.see(kind="ping"))["views_today"] == 0


async def test_an_idle_connection_is_closed(footfall: Footfall) -> None:
    """A client that sends nothing, or half of a head, holds a connection, and connections are few."""
    listener = Listener(create_public_app(footfall.services), keepalive_s=0.2)
    await listener.setup()
    with socket.create_server(("127.0.0.1", 0)) as server:
        await web.SockSite(listener, server).start()
        for begun in (b"", b"GET /counts HTTP/1.1\r\nHost"):
            reader, writer = await asyncio.open_connection(*server.getsockname())
            writer.write(begun)
            async with asyncio.timeout(PATIENCE_S):
                assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        await listener.cleanup()


async def test_a_worker_that_stops_still_answers_who_is_connected_once(footfall: Footfall) -> None:
    """A proxy reuses connections: on one that is merely closed, a beacon may be on its way that is not sent again."""
    listener = Listener(create_public_app(footfall.services))
    await listener.setup()
    with socket.create_server(("127.0.0.1", 0)) as server:
        await web.SockSite(listener, server).start()
        reader, writer = await asyncio.open_connection(*server.getsockname())
        request = f"{HEAD}Content-Length: {len(BEACON)}\r\n\r\n".encode() + BEACON
        writer.write(request)
        assert b"200 OK" in await reader.readuntil(b"}")
        leaving = asyncio.create_task(listener.drain())
        await asyncio.sleep(0)
        writer.write(request)
        async with asyncio.timeout(PATIENCE_S):
            last = await reader.read()
            await leaving
        assert last.startswith(b"HTTP/1.1 200 OK")
        assert b"Connection: close" in last
        writer.close()
        await writer.wait_closed()
        await listener.cleanup()
    assert (await footfall.see(kind="ping"))["views_today"] == 2


async def test_a_proxy_on_a_unix_socket_is_believed(footfall: Footfall, tmp_path: Path) -> None:
    """nginx on the same host talks to a socket file; two visitors behind it are two."""
    listener = Listener(create_public_app(footfall.services))
    await listener.setup()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "web"))
        await web.SockSite(listener, server).start()
        for address in ("203.0.113.1", "203.0.113.2"):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "web"))
            head = f"{HEAD}X-Forwarded-For: {address}\r\nConnection: close\r\nContent-Length: {len(BEACON)}\r\n\r\n"
            writer.write(head.encode() + BEACON)
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await writer.wait_closed()
        await listener.cleanup()
    assert (await footfall.see(kind="ping", address="203.0.113.2"))["today"] == 2


async def test_one_client_cannot_have_all_connections(
    footfall: Footfall, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A silent connection costs its client nothing: beyond a network's share the server hangs up at once."""
    only_unix = footfall.services.settings.model_copy(update={"trusted_proxies": ("unix",)})
    async with in_a_room(footfall, ConnectionLimiter(AddressResolver(only_unix), 8), tmp_path) as (port, proxy):
        inside = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _ in range(20):
            assert await answer_to_last(*await asyncio.open_connection("127.0.0.1", port)) is None
        proxied = [await asyncio.open_unix_connection(proxy) for _ in range(6)]
        assert [await answer_to_last(*connection) for connection in inside + proxied] == [200] * 8
    assert [record.message for record in caplog.records] == ["Connections were turned away: too many are open. times=1"]


async def test_a_place_that_is_left_is_free_again(footfall: Footfall, tmp_path: Path) -> None:
    """Places become free again, and the files that the stores need are never given away, not even to a proxy."""
    async with in_a_room(footfall, ConnectionLimiter(footfall.services.resolver, 4), tmp_path) as (port, _):
        for _ in range(5):
            inside = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
            assert await answer_to_last(*await asyncio.open_connection("127.0.0.1", port)) is None
            assert [await answer_to_last(*connection) for connection in inside] == [200] * 4


@asynccontextmanager
async def in_a_room(footfall: Footfall, limiter: ConnectionLimiter, folder: Path) -> AsyncIterator[tuple[int, str]]:
    """Another listener, where there is only so much room: its port, and the path of its unix socket."""
    listener = Listener(create_public_app(footfall.services), limiter=limiter)
    await listener.setup()
    await web.TCPSite(listener, "127.0.0.1", 0).start()
    await web.UnixSite(listener, folder / "proxy").start()
    try:
        yield listener.addresses[0][1], str(folder / "proxy")
    finally:
        await listener.cleanup()


async def answer_to_last(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
    """Ask one thing and wait for the end of the connection; the status, None if there was no answer."""
    answer = b""
    with suppress(ConnectionError):
        writer.write(LAST)
        answer = await reader.read()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return int(answer.split()[1]) if answer else None


def test_a_flood_is_one_line_a_minute_with_a_count() -> None:
    """The first one is logged at once; a line for each malformed request would be an attack on the disk."""
    clock = FakeClock()
    seldom = LogThrottle(every_s=60, monotonic=clock.monotonic)
    lines = []
    for _ in range(180):
        lines += [times for _ in range(10) if (times := seldom.happened())]
        clock.advance(1)
    assert lines == [1, 600, 600]


TINY = 4096
"""What the system may keep of an answer on each side of a connection, as far as it lets one choose."""


@asynccontextmanager
async def listening(
    app: web.Application, limiter: ConnectionLimiter | None = None, unread_s: float = UNREAD_S
) -> AsyncIterator[Listener]:
    """A listener whose connections keep little of an answer in the system."""
    listener = Listener(app, limiter=limiter, unread_s=unread_s)
    await listener.setup()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, TINY)
        await web.SockSite(listener, server).start()
        try:
            yield listener
        finally:
            await listener.cleanup()


@asynccontextmanager
async def unreading(listener: Listener) -> AsyncIterator[Connection]:
    """A client that takes little before it reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TINY)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, listener.addresses[0])
    reader, writer = await asyncio.open_connection(sock=client, limit=TINY)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


def waiting_bytes(listener: Listener) -> list[int]:
    """How much of its answers each connection of a listener holds in memory."""
    assert listener.server is not None
    return [one.transport.get_write_buffer_size() for one in listener.server.connections if one.transport]


@pytest.mark.parametrize("path", ["/openapi.json", "/footfall.js", f"/counts?site={SITE}", "/nothing", "ops/metrics"])
async def test_answers_that_a_client_does_not_read_do_not_gather_in_memory(footfall: Footfall, path: str) -> None:
    """A connection that pipelines reads and takes no answer made 3 GB of 7 MB; now it has one answer, and waits."""
    services = footfall.services
    app = create_ops_app(services) if path.startswith("ops") else create_public_app(services)
    request = f"GET {path.removeprefix('ops')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    async with listening(app) as listener, unreading(listener) as client:
        client.writer.write(request)
        size = 2 * len((await client.answer())[2]) + 1000  # the metrics grow with their numbers; a head
        client.writer.write(request * 20_000)
        await until(lambda: any(waiting_bytes(listener)))
        for _ in range(2000):
            await asyncio.sleep(0)
            assert max(waiting_bytes(listener)) <= size
        for _ in range(100):
            assert len((await client.answer())[2]) <= size


async def test_a_client_that_takes_nothing_of_an_answer_loses_its_connection_and_its_place(
    footfall: Footfall, caplog: pytest.LogCaptureFixture
) -> None:
    """Four addresses held all places until they chose to leave; asked to close, half closed, or open all the same."""
    script = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n"
    limiter = ConnectionLimiter(footfall.services.resolver, 3)
    async with (
        listening(create_public_app(footfall.services), limiter, unread_s=0.2) as listener,
        AsyncExitStack() as s,
    ):
        port = listener.addresses[0][1]
        kept, closing, half = [await s.enter_async_context(unreading(listener)) for _ in range(3)]
        kept.writer.write((script + b"\r\n") * 100)
        closing.writer.write((script + b"\r\n") * 20 + script + b"Connection: close\r\n\r\n")
        half.writer.write((script + b"\r\n") * 20)
        half.writer.write_eof()
        await until(lambda: len(waiting_bytes(listener)) == 3 and min(waiting_bytes(listener)) > 0)
        assert await answer_to_last(*await asyncio.open_connection("127.0.0.1", port)) is None
        await until(lambda: footfall.metric("footfall_unread_answers_total") == 3)
        await until(lambda: listener.server is not None and not listener.server.connections)
        assert await answer_to_last(*await asyncio.open_connection("127.0.0.1", port)) == 200
    messages = [record.message for record in caplog.records]
    assert [message for message in messages if "127" in message] == []
    assert [message.partition(" seconds=")[0] for message in messages if "ended" in message] == [
        "Connections were ended: their clients took nothing of an answer."
    ]


async def test_the_system_drops_an_answer_that_its_client_does_not_take(footfall: Footfall) -> None:
    """It would keep megabytes for each connection that was ended, for a minute or two, and offer them to the client."""
    async with listening(create_public_app(footfall.services), unread_s=0.2) as listener, unreading(listener) as client:
        client.writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        await until(lambda: any(waiting_bytes(listener)))
        await until(lambda: footfall.metric("footfall_unread_answers_total") == 1)
        with pytest.raises(ConnectionResetError):
            [await client.answer() for _ in range(3)]


async def test_requests_behind_an_answer_that_is_not_read_stay_where_they_are(footfall: Footfall) -> None:
    """The head of a request may have a megabyte, and 32 of them would wait in memory for their turn."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n"
    async with listening(create_public_app(footfall.services)) as listener, unreading(listener) as client:
        client.writer.write((request + b"\r\n") * 20)
        await until(lambda: any(waiting_bytes(listener)))
        for _ in range(2000):
            await asyncio.sleep(0)
        client.writer.write((request + b"X: %b\r\n" % (b"a" * 8000) * 100 + b"\r\n") * 20)
        for _ in range(2000):
            await asyncio.sleep(0)
        assert client.writer.transport.get_write_buffer_size() > 8_000_000
        for _ in range(40):
            assert (await client.answer())[0] == 200


async def test_a_worker_that_stops_does_not_wait_for_a_client_that_does_not_read(footfall: Footfall) -> None:
    """An upgrade must not take as long as a stranger likes."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with listening(create_public_app(footfall.services)) as listener, unreading(listener) as client:
        client.writer.write(request * 20_000)
        await until(lambda: any(waiting_bytes(listener)))
        for _ in range(2000):  # the client takes what it has room for
            await asyncio.sleep(0)
        assert any(waiting_bytes(listener))
        async with asyncio.timeout(PATIENCE_S):
            await listener.cleanup()


@pytest.mark.slow
async def test_a_client_that_reads_slowly_keeps_its_connection(footfall: Footfall) -> None:
    """A telephone at the edge of its net takes longer than the limit for an answer, but takes something of it."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with listening(create_public_app(footfall.services), unread_s=1) as listener, unreading(listener) as client:
        await client.send(request * 2)
        await until(lambda: any(waiting_bytes(listener)))
        for _ in range(8):
            await asyncio.sleep(0.3)
            assert await client.read_some()
        assert listener.server is not None
        assert len(listener.server.connections) == 1
    assert footfall.metric("footfall_unread_answers_total") == 0
