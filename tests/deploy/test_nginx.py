"""deploy/nginx.conf in Debian's nginx, as it is shipped, in front of a real Footfall."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from tests.support.footfall import (
    ADDRESS,
    BROWSER,
    NOON,
    ORIGIN,
    FakeClock,
    Footfall,
    running,
    settings_for,
)
from tests.support.nginx import nginx_of
from tests.support.ports import free_port
from tests.support.project import PACKAGE, PROJECT

NGINX = (PROJECT / "deploy" / "nginx.conf").read_text("utf-8")
ADDRESS_OF_BROWSER = "127.0.0.1"
VALUES = {"site": "portal", "lang": "en", "show": "today,views_month", "page": "/tin-tuc/1", "count": "1"}
BEACON = b'{"site":"portal","page":"/"}'


@dataclass(frozen=True, slots=True)
class Proxied:
    """A Footfall, and a browser that reaches it through nginx."""

    footfall: Footfall
    browser: aiohttp.ClientSession
    folder: Path
    port: int

    async def get(self, path: str) -> tuple[int, bytes]:
        """Return the status and the body of an answer."""
        async with self.browser.get(path) as response:
            return response.status, await response.read()

    def reads(self) -> float:
        """Return how many reads of the numbers have reached Footfall."""
        return self.footfall.metric("footfall_request_seconds_count", route="/counts", status="200")


def address_of(footfall: Footfall) -> str:
    return f"{footfall.public.host}:{footfall.public.port}"


@asynccontextmanager
async def browser_of(url: str, folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Trust the certificate that nginx shows, and send what a page of the portal sends."""
    trust = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=folder / "authority.pem"))
    headers = {"Origin": ORIGIN, "User-Agent": BROWSER}
    async with aiohttp.ClientSession(url, connector=trust, headers=headers) as browser:
        yield browser


@pytest.fixture
async def proxied(redis_url: str, postgres_url: str, own_folder: Path) -> AsyncIterator[Proxied]:
    """Run both, with a clock that the test moves."""
    own_folder.mkdir()
    settings = settings_for(redis_url, postgres_url, own_folder / "data")
    async with (
        running(settings, clock=FakeClock(NOON.replace(hour=23, minute=59, second=50))) as footfall,
        nginx_of(NGINX, own_folder, [address_of(footfall)]) as url,
        browser_of(url, own_folder) as browser,
    ):
        yield Proxied(footfall, browser, own_folder, int(url.rpartition(":")[2]))


async def test_the_file_works_on_debian_as_it_is_shipped(proxied: Proxied) -> None:
    """/var/cache/nginx does not exist there, so nginx did not start; and browsers were offered HTTP/1.1 alone."""
    async with proxied.browser.post("/seen", data=BEACON) as response:
        assert (response.status, (await response.json())["today"]) == (200, 1)
    for path in ("/counts?site=portal", "/counts.svg?site=portal", "/footfall.js", "/seen.gif?site=portal"):
        assert (await proxied.get(path))[0] == 200, path
    trust = ssl.create_default_context(cafile=proxied.folder / "authority.pem")
    trust.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection("localhost", proxied.port, ssl=trust)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    writer.close()


async def test_no_parameter_leads_around_the_cache(proxied: Proxied) -> None:
    """A random one made every request a question to Footfall."""
    before, began_s = proxied.reads(), time.monotonic()
    answers = set()
    ways = ("site=portal", "x=%d&site=portal", "site=portal&%d", "site=portal&lang=", "SITE=portal&b=%d")
    for number in range(5):
        for way in ways:
            answers.add(await proxied.get("/counts?" + (way % number if "%d" in way else way)))
    took_s = time.monotonic() - began_s
    assert {status for status, _ in answers} == {200}
    assert 1 <= proxied.reads() - before <= 2 + took_s  # one for each second that has begun meanwhile
    assert (await proxied.get("/counts?x=1"))[0] == 404
    for lang, words in (("vi", "Hôm nay"), ("en", "Today")):
        for way in (f"site=portal&lang={lang}", f"lang={lang}&site=portal&y=2"):
            assert words in (await proxied.get(f"/counts.html?{way}"))[1].decode()
    assert (await proxied.get("/counts.html?site=portal&lang=xx"))[0] == 400
    assert b"#" in (await proxied.get("/counts.svg?site=portal&theme=dark"))[1]


async def test_after_a_quiet_time_the_numbers_are_those_of_now(proxied: Proxied) -> None:
    """The cache answered with numbers of up to a minute ago first, and after midnight with yesterday's."""
    await proxied.footfall.see(address=ADDRESS)
    _, yesterday = await proxied.get("/counts?site=portal")
    await asyncio.sleep(2.1)  # the cache has a clock of its own, of whole seconds
    proxied.footfall.clock.advance(timedelta(seconds=20).total_seconds())
    _, today = await proxied.get("/counts?site=portal")
    assert b'"today":1' in yesterday.replace(b" ", b"")
    assert b'"today":0' in today.replace(b" ", b"")


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def host(seen: list[bytes], *, answers: bool) -> AsyncIterator[str]:
    """Run a host that notes each request; where not `answers`, it reads a beacon to its end and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                seen.append(head)
                if not (answers or b"/footfall.js" in head):
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def statuses(browser: aiohttp.ClientSession, method: str, path: str, times: int) -> list[int]:
    """Ask from pages of as many portals, which nginx spreads over the hosts; return the statuses of the answers."""
    found = []
    for number in range(times):
        headers = {"Origin": f"https://portal-{number}.example.vn"}
        body = BEACON if method == "POST" else None
        async with browser.request(method, path, data=body, headers=headers) as response:
            found.append(response.status)
    return found


async def test_a_host_that_is_stopped_costs_no_beacon(own_folder: Path) -> None:
    """With one of two hosts stopped, half of all answers were 502, for as long as it was stopped."""
    own_folder.mkdir()
    seen: list[bytes] = []
    async with (
        host(seen, answers=True) as alive,
        nginx_of(NGINX, own_folder, [f"127.0.0.1:{free_port()}", alive]) as url,
        browser_of(url, own_folder) as browser,
    ):
        assert await statuses(browser, "POST", "/seen", 20) == [200] * 20
        assert await statuses(browser, "GET", "/footfall.js", 20) == [200] * 20
    assert sum(head.startswith(b"POST /seen ") for head in seen) == 20


@pytest.mark.parametrize("hosts", [1, 2])
async def test_a_host_that_is_stopped_is_seen_in_the_log(own_folder: Path, hosts: int) -> None:
    """The error log names clients, so it has none of this; and with another host no answer is 5xx."""
    own_folder.mkdir()
    stopped = f"127.0.0.1:{free_port()}"
    async with (
        host([], answers=True) as alive,
        nginx_of(NGINX, own_folder, [stopped, alive][:hosts]) as url,
        browser_of(url, own_folder) as browser,
    ):
        assert set(await statuses(browser, "GET", "/footfall.js", 20)) == {502 if hosts == 1 else 200}
    logs = own_folder / "var/log/nginx"
    assert stopped in (logs / "footfall-failed.log").read_text()
    for log in logs.iterdir():
        assert ADDRESS_OF_BROWSER not in log.read_text().replace(stopped, "").replace(alive, "")


async def test_a_portal_stays_on_one_host(own_folder: Path) -> None:
    """Beacons that reach one worker together share a batch; spread over hosts, each would be a call of its own."""
    own_folder.mkdir()
    one_has: list[bytes] = []
    other_has: list[bytes] = []
    async with (
        host(one_has, answers=True) as one,
        host(other_has, answers=True) as other,
        nginx_of(NGINX, own_folder, [one, other]) as url,
        browser_of(url, own_folder) as browser,
    ):
        for number in range(12):
            origin = f"https://portal-{number}.example.vn"
            for path in ("/seen", "/seen", f"/seen?site=portal-{number}", f"/seen?site=portal-{number}"):
                async with browser.post(path, data=BEACON, headers={"Origin": origin}) as response:
                    assert response.status == 200
    assert len(one_has) + len(other_has) == 48
    for by_site in (False, True):
        heads = [head for head in one_has if (b"?site=" in head) is by_site]
        of_each = [sum(f"portal-{number}.".encode() in head for head in heads) for number in range(12)]
        assert set(of_each) == {0, 2}, of_each  # all of a portal or none, and some portals on each host


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/seen"), ("GET", "/seen.gif?site=portal"), ("GET", "/counts.svg?site=portal&count=1")],
)
async def test_a_beacon_that_was_sent_is_never_sent_again(own_folder: Path, method: str, path: str) -> None:
    """A host that hangs up may have counted it; the other host would count it a second time."""
    own_folder.mkdir()
    seen: list[bytes] = []
    async with (
        host(seen, answers=False) as one,
        host(seen, answers=False) as other,
        nginx_of(NGINX, own_folder, [one, other]) as url,
        browser_of(url, own_folder) as browser,
    ):
        assert await statuses(browser, method, path, 1) == [502]
    assert len(seen) == 1
    failed = (own_folder / "var/log/nginx/footfall-failed.log").read_text().split()
    # What failed, and where, is found without the client's address.
    assert failed[1:6] == ["502", method, path.partition("?")[0], failed[4], "502"]
    assert failed[4] in (one, other)


async def test_what_the_service_knows_of_a_query_reaches_it(own_folder: Path) -> None:
    """The cache's key has known parameters only: one that is new in the service would be left out on its way."""
    own_folder.mkdir()
    contract = json.loads((PACKAGE / "static" / "openapi.json").read_text())
    shared = contract["components"]["parameters"]
    known = {
        (path, parameter["name"])
        for path, methods in contract["paths"].items()
        if path.startswith("/counts")
        for listed in methods["get"]["parameters"]
        if (parameter := shared[listed["$ref"].rpartition("/")[2]] if "$ref" in listed else listed)["in"] == "query"
    }
    assert ("/counts.svg", "theme") in known
    seen: list[bytes] = []
    async with (
        host(seen, answers=True) as alive,
        nginx_of(NGINX, own_folder, [alive]) as url,
        browser_of(url, own_folder) as browser,
    ):
        for path, name in sorted(known):
            value = VALUES.get(name, "light")
            assert await statuses(browser, "GET", f"{path}?x=1&{name}={value}", 1) == [200]
            assert f"{name}={value}".encode() in seen[-1].partition(b"\r\n")[0].replace(b"%2C", b","), (path, name)
        pages = "&".join(f"page=/tin-tuc/{number}" for number in range(50))
        assert await statuses(browser, "GET", f"/counts?site=portal&{pages}", 1) == [200]
        assert seen[-1].count(b"page=/tin-tuc/") == 50


async def test_every_path_has_a_limit(own_folder: Path) -> None:
    """A flood of the script's file had none, and reached Footfall whole."""
    own_folder.mkdir()
    strict = (
        NGINX.replace("rate=100r/s", "rate=1r/m")
        .replace("rate=800r/s", "rate=1r/m")
        .replace("burst=24000 ", "")
        .replace("burst=12000 ", "")
    )
    seen: list[bytes] = []
    async with (
        host(seen, answers=True) as alive,
        nginx_of(strict, own_folder, [alive]) as url,
        browser_of(url, own_folder) as browser,
    ):
        assert await statuses(browser, "GET", "/footfall.js", 2) == [200, 429]
        assert await statuses(browser, "GET", "/counts?site=portal", 1) == [429]
        assert await statuses(browser, "POST", "/seen", 2) == [200, 429]
        assert await statuses(browser, "GET", "/seen.gif?site=portal", 1) == [429]
        assert await statuses(browser, "GET", "/counts.svg?site=portal&count=1", 1) == [429]
