"""The public routes, through the whole application: shapes, headers, refusals, and what they leave behind."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from redis.asyncio import Redis

from footfall.embedded.servers import Valkey
from footfall.http.public import PIXEL
from footfall.ingest.beacon import BODY_MAX_BYTES
from footfall.model.counts import NUMBERS
from tests.support.footfall import BROWSER, HOST, ORIGIN, SITE, FakeClock, Footfall, running, settings_for, until

PUBLIC_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Retry-After, Footfall-Ignored",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "X-Content-Type-Options": "nosniff",
}
STAFF = "198.51.100.9"
READS = ("/counts?site=portal", "/counts.svg?site=portal", "/counts.html?site=portal")


@pytest.fixture
async def footfall(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Footfall]:
    """A worker with the site `portal`, which does not count the network of its staff."""
    portal = {"excluded_networks": [STAFF]}
    async with running(settings_for(redis_url, postgres_url, tmp_path, portal=portal)) as footfall:
        yield footfall


async def stored(redis: Redis) -> dict[Any, Any]:
    """Every key with its bytes; equal before and after is the proof that nothing was counted."""
    return {key: await redis.dump(key) for key in sorted(await redis.keys())}


def fields_of(response: ClientResponse) -> dict[str, str]:
    """The headers of an answer, but for the ones that HTTP itself adds."""
    return {name: value for name, value in response.headers.items() if name not in ("Date", "Content-Length")}


async def test_a_counted_beacon_is_answered_with_the_numbers_that_include_it(footfall: Footfall) -> None:
    """A page needs one request, not two, and its visitor sees itself."""
    response = await footfall.send(page="/tin-tuc/1")
    answer = await response.json()
    now, peak_online_at = answer.pop("as_of"), answer.pop("peak_online_at")
    assert peak_online_at <= now
    assert answer == {
        "site": "portal",
        "online": 1,
        "today": 1,
        "week": 1,
        "total": 1,
        "views_today": 1,
        "pages": {"/tin-tuc/1": {"views": 1}},
        "measure": "visitors",
        "day_of": "2054-11-25",
        "week_of": "2054-11-23",
        "revision": answer["revision"],
        "stale": False,
        "poll_after_s": 15,
        "ping_after_s": 60,
        "language": "vi",
        "visitor_id": "network",
        "yesterday": 0,
        "last_week": 0,
        "month": 1,
        "last_month": 0,
        "year": 1,
        "views_month": 1,
        "views_total": 1,
        "peak_online": 1,
        "definitions": 2,
        "exact": ["online", "today", "week", "total", "views_today", "views_month", "views_total", "peak_online"],
    }
    assert now.endswith("+07:00")
    assert (response.status, fields_of(response)) == (
        200,
        PUBLIC_HEADERS | {"Cache-Control": "no-store", "Content-Type": "application/json"},
    )


async def test_counts_are_the_same_object_as_the_answer_to_a_beacon(footfall: Footfall) -> None:
    """The script reads both with the same lines."""
    answer = await footfall.see()
    response = await footfall.public.get("/counts?site=portal")
    assert await response.json() == answer
    etag = response.headers["ETag"]
    assert fields_of(response) == PUBLIC_HEADERS | {
        "Cache-Control": "public, max-age=5",
        "Content-Type": "application/json",
        "Etag": etag,
    }


async def test_a_query_behind_the_address_of_beacons_is_for_balancers(footfall: Footfall) -> None:
    """`/seen?site=portal` lets a balancer keep a portal on one host; the body alone says what is counted."""
    for query in ("?site=portal", "?site=other&page=/x"):
        body = b'{"site":"portal","page":"/"}'
        headers = {"Origin": ORIGIN, "User-Agent": BROWSER}
        response = await footfall.public.post(f"/seen{query}", data=body, headers=headers)
        assert (response.status, (await response.json())["site"]) == (200, "portal")


async def test_a_ping_makes_present_and_adds_no_view(footfall: Footfall) -> None:
    """A page that stays open for an hour is one view."""
    answer = await footfall.see(kind="ping")
    assert (answer["online"], answer["today"], answer["views_today"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        pytest.param(b"{", {}, 400, "bad_json", id="not json"),
        pytest.param(b"", {}, 400, "bad_json", id="empty"),
        pytest.param(b"\xff\xfe", {}, 400, "bad_json", id="not utf-8"),
        pytest.param(b"[" * 4000, {}, 400, "bad_json", id="deep"),
        pytest.param(gzip.compress(b"{}"), {"Content-Encoding": "gzip"}, 400, "bad_json", id="gzip"),
        pytest.param(b"plain", {"Content-Encoding": "gzip"}, 400, "bad_json", id="gzip that is none"),
        pytest.param(b'{"site":7}', {}, 400, "bad_field", id="site is a number"),
        pytest.param(b'{"site":"portal","page":"\\u0000"}', {}, 400, "bad_field", id="nul in the page"),
        pytest.param(b'{"site":"portal","kind":"hit"}', {}, 400, "bad_field", id="unknown kind"),
        pytest.param(b'{"site":"nope"}', {}, 404, "unknown_site", id="site not configured"),
        pytest.param(b'{"site":"portal"}', {"Origin": "https://evil.example"}, 403, "wrong_origin", id="other page"),
        pytest.param(b'{"site":"portal"}', {"Origin": ""}, 403, "no_origin", id="no page"),
        pytest.param(b" " * (BODY_MAX_BYTES + 1), {}, 413, "too_large", id="too large"),
    ],
)
async def test_a_refused_beacon_names_its_reason_and_leaves_nothing(
    footfall: Footfall, redis: Redis, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    """Site owners debug their snippet from the response alone; attackers must not fill Redis."""
    before = await stored(redis)
    sender = {"Origin": ORIGIN, "User-Agent": BROWSER, "Content-Type": "text/plain"} | headers
    response = await footfall.public.post("/seen", data=body, headers=sender)
    assert (response.status, await response.json()) == (status, {"error": reason})
    assert fields_of(response) == PUBLIC_HEADERS | {"Cache-Control": "no-store", "Content-Type": "application/json"}
    assert await stored(redis) == before
    site = SITE if status == 403 else ""
    assert footfall.metric("footfall_beacons_total", site=site, outcome="refused", reason=reason) == 1


@pytest.mark.parametrize(
    ("reason", "beacon"),
    [
        pytest.param("robot", {"agent": "Mozilla/5.0 (compatible; Googlebot/2.1)"}, id="user agent"),
        pytest.param("robot", {"agent": ""}, id="no user agent"),
        pytest.param("robot", {"webdriver": True}, id="webdriver"),
        pytest.param("prefetch", {"headers": {"Sec-Purpose": "prefetch;prerender"}}, id="prerender"),
        pytest.param("prefetch", {"headers": {"Sec-Speculation-Tags": '"news"'}}, id="by speculation rules"),
        pytest.param("opt_out", {"headers": {"Sec-GPC": "1"}}, id="global privacy control"),
        pytest.param("excluded", {"address": STAFF}, id="staff"),
    ],
)
async def test_an_ignored_beacon_reads_the_numbers_and_is_in_none_of_them(
    footfall: Footfall, redis: Redis, reason: str, beacon: dict[str, Any]
) -> None:
    """No error shows a robot that it was found out, so it has nothing to adapt to; a staff page still shows numbers."""
    numbers = await footfall.see()
    before = await stored(redis)
    response = await footfall.send(**beacon)
    assert (response.status, response.headers["Footfall-Ignored"]) == (200, reason)
    assert await response.json() == numbers
    assert await stored(redis) == before
    assert footfall.metric("footfall_beacons_total", site=SITE, outcome="ignored", reason=reason) == 1


async def test_an_unknown_site_creates_no_key_and_no_label(footfall: Footfall, redis: Redis) -> None:
    """Edge case of every public counter: invented ids must not grow memory, nor show zeros as if they were true."""
    before = await stored(redis)
    for path in ("/seen.gif", "/counts", "/counts.svg", "/counts.html"):
        for query in ("?site=invented", "?site=", "", "?site=" + "x" * 3000):
            response = await footfall.public.get(path + query, headers={"Origin": ORIGIN})
            assert (response.status, await response.json()) == (404, {"error": "unknown_site"})
    assert (await footfall.send(site="invented")).status == 404
    assert await stored(redis) == before
    metrics = await (await footfall.ops.get("/metrics")).text()
    assert "invented" not in metrics
    assert "xxx" not in metrics


async def test_an_unknown_field_is_ignored(footfall: Footfall) -> None:
    """A script that is cached for a year meets newer services, and a newer script older ones."""
    assert (await footfall.see(screen={"width": 360}, future=[1]))["views_today"] == 1


async def test_the_pixel_counts_a_view_and_is_never_cached(footfall: Footfall) -> None:
    """A cached image would be no view, and the smallest possible GIF costs a slow line least."""
    response = await footfall.public.get(
        "/seen.gif?site=portal", headers={"Referer": f"{ORIGIN}/", "User-Agent": BROWSER}
    )
    body = await response.read()
    assert (response.status, body, len(body), body[:6], body[-1:]) == (200, PIXEL, 43, b"GIF89a", b";")
    assert fields_of(response) == PUBLIC_HEADERS | {"Cache-Control": "no-store", "Content-Type": "image/gif"}
    assert (await footfall.see(kind="ping"))["views_today"] == 1


async def test_a_head_is_not_a_view(footfall: Footfall, redis: Redis) -> None:
    """Link checkers ask for heads, and no person sees a page then."""
    before = await stored(redis)
    response = await footfall.public.head(
        "/seen.gif?site=portal", headers={"Referer": f"{ORIGIN}/", "User-Agent": BROWSER}
    )
    assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
    assert (response.headers["Content-Length"], await response.read()) == ("43", b"")
    assert await stored(redis) == before


async def test_head_answers_the_headers_of_get(footfall: Footfall) -> None:
    """Caches and monitors compare the headers of both."""
    await footfall.see()
    for path in (*READS, "/footfall.js"):
        got = await footfall.public.get(path)
        head = await footfall.public.head(path)
        assert (head.status, fields_of(head), await head.read()) == (200, fields_of(got), b"")
        assert head.headers["Content-Length"] == got.headers["Content-Length"]


async def test_a_preflight_is_answered_everywhere(footfall: Footfall) -> None:
    """The script needs none, but an operator's own page that sends JSON does."""
    for path in ("/seen", "/seen.gif", *READS, "/footfall.js"):
        response = await footfall.public.options(path, headers={"Origin": "https://elsewhere.example"})
        assert (response.status, await response.read()) == (204, b"")
        assert fields_of(response) == PUBLIC_HEADERS | {
            "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
            "Access-Control-Allow-Headers": "Content-Type, If-None-Match",
            "Access-Control-Max-Age": "86400",
        }


async def test_what_is_not_offered_is_refused_readably(footfall: Footfall) -> None:
    """Any page may read the reason; no file, and no operators' route, is served here. `/` is the demo's alone."""
    for method, path, status, allow in (
        ("GET", "/seen", 405, "OPTIONS,POST"),
        ("HEAD", "/seen", 405, "OPTIONS,POST"),
        ("POST", "/counts?site=portal", 405, "GET,HEAD,OPTIONS"),
        ("DELETE", "/seen.gif?site=portal", 405, "GET,HEAD,OPTIONS"),
        ("PATCH", "/footfall.js", 405, "GET,HEAD,OPTIONS"),
        ("GET", "/", 404, None),
        ("OPTIONS", "/nothing", 404, None),
        ("GET", "/metrics", 404, None),
        ("GET", "/healthz", 404, None),
        ("GET", "/static/footfall.js", 404, None),
        ("GET", "/..%2fservice/config.py", 404, None),
        ("GET", "/demo/", 404, None),
        ("GET", "/footfall.js/", 404, None),
        ("GET", "/footfall.js%00.html", 404, None),
    ):
        response = await footfall.public.request(method, path)
        reason = {404: "not_found", 405: "method_not_allowed"}[status]
        assert (response.status, response.headers.get("Allow")) == (status, allow), (method, path)
        if method != "HEAD":
            assert await response.json() == {"error": reason}
        assert PUBLIC_HEADERS.items() <= fields_of(response).items()
        assert "Server" not in response.headers


@pytest.mark.parametrize("path", READS)
async def test_numbers_that_did_not_change_are_not_sent_again(footfall: Footfall, path: str) -> None:
    """Thousands of open pages poll; the ETag stands for all but the time of reading."""
    await footfall.see()
    first = await footfall.public.get(path)
    etag = first.headers["ETag"]
    assert etag.startswith('W/"')
    footfall.clock.advance(2)  # read from Redis again, at another moment
    for known in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
        again = await footfall.public.get(path, headers={"If-None-Match": known})
        assert (again.status, await again.read()) == (304, b"")
        assert (again.headers["ETag"], again.headers["Cache-Control"]) == (etag, "public, max-age=5")
        assert PUBLIC_HEADERS.items() <= fields_of(again).items()
    await footfall.see(address="203.0.113.8")
    changed = await footfall.public.get(path, headers={"If-None-Match": etag})
    assert (changed.status, changed.headers["ETag"] == etag) == (200, False)


async def test_the_block_comes_as_an_image_and_as_a_fragment_in_both_languages(footfall: Footfall) -> None:
    """For pages where no script is allowed, and for server-side includes."""
    await footfall.see()
    for path, kind in (("/counts.svg", "image/svg+xml"), ("/counts.html", "text/html")):
        for query, word in (("", "Hôm nay"), ("&lang=vi", "Hôm nay"), ("&lang=en", "Today")):
            response = await footfall.public.get(f"{path}?site=portal{query}")
            assert (response.status, response.headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
            assert word in await response.text()


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("lang=xx", "lang must be one of these: vi, en, zh, fr, lo, km."),
        ("theme=pink", "theme must be one of these: light, dark, auto, none."),
        ("layout=wide", "layout must be one of these: list, line, cards, badge, digits."),
        ("color=red", "color must be three or six hexadecimal digits, such as 00aa77."),
        ("count=2", "count must be one of these: 0, 1."),
        ("show=today,nothing", "show must name numbers, with commas between: " + ", ".join(NUMBERS) + "."),
    ],
)
async def test_a_choice_that_is_not_offered_is_refused_with_a_sentence(
    footfall: Footfall, query: str, sentence: str
) -> None:
    """A webmaster sees a broken image, opens its address, and reads what to write instead."""
    response = await footfall.public.get(f"/counts.svg?site=portal&{query}")
    assert (response.status, await response.json()) == (400, {"error": "bad_field", "message": sentence})


async def test_an_image_may_count_its_view_and_show_it_in_one_tag(footfall: Footfall) -> None:
    """Pages without script; without count=1 the image counts nothing, and neither does a checker's HEAD."""
    page = {"Referer": f"{ORIGIN}/", "User-Agent": BROWSER}
    for method, query in (("GET", ""), ("HEAD", "&count=1"), ("GET", "&count=0")):
        address = f"/counts.svg?site=portal&show=views_today{query}"
        response = await footfall.public.request(method, address, headers=page)
        assert response.status == 200
    for views in (1, 2):
        response = await footfall.public.get("/counts.svg?site=portal&show=views_today&count=1", headers=page)
        assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
        assert f"Lượt xem hôm nay: {views}</title>" in await response.text()
    gpc = await footfall.public.get("/counts.svg?site=portal&count=1", headers=page | {"Sec-GPC": "1"})
    assert (gpc.status, gpc.headers["Footfall-Ignored"]) == (200, "opt_out")
    foreign = await footfall.public.get("/counts.svg?site=portal&count=1", headers={"Referer": "https://x.example/"})
    assert foreign.status == 403


async def test_over_the_limit_is_429_with_a_time_to_come_back_and_the_numbers_can_still_be_read(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """A ministry behind one address that beacons too much must not lose its footer."""
    limits = {"beacons_per_s": 1, "beacons_burst": 2, "reads_per_s": 1, "reads_burst": 3}
    async with running(settings_for(redis_url, postgres_url, tmp_path, limits=limits)) as footfall:
        assert [(await footfall.send()).status for _ in range(3)] == [200, 200, 429]
        refused = await footfall.send()
        assert (refused.headers["Retry-After"], await refused.json()) == ("1", {"error": "rate_limited"})
        reader = {"X-Forwarded-For": "203.0.113.7"}
        reads = [(await footfall.public.get("/counts?site=portal", headers=reader)).status for _ in range(4)]
        assert reads == [200, 200, 200, 429]
        other = await footfall.public.get("/counts?site=portal", headers={"X-Forwarded-For": "203.0.113.8"})
        assert (other.status, (await other.json())["views_today"]) == (200, 2)


async def test_a_full_queue_refuses_at_once_and_what_it_holds_is_counted(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """Memory is bounded: while Redis hangs, the excess gets its 503 in milliseconds instead of waiting along."""
    settings = settings_for(
        own_valkey.url, postgres_url, tmp_path, queue_max_beacons=100, redis_timeout_s=10, limits={"enabled": False}
    )
    async with running(settings) as footfall:
        recorder = footfall.services.recorder
        own_valkey.suspend()
        waiting = [asyncio.create_task(footfall.see()) for _ in range(25)]  # a quarter of the queue: one site's share
        await until(lambda: recorder.queued == 25)
        async with asyncio.timeout(5):
            refused = await footfall.send()
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert await refused.json() == {"error": "busy"}
        own_valkey.resume()
        await asyncio.gather(*waiting)
        assert (await footfall.see())["views_today"] == 26
        assert (recorder.queued, recorder.sites[SITE].tasks) == (0, [])


async def test_while_redis_is_away_a_beacon_is_accepted_with_the_last_numbers_marked_stale(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """202: it is on this host's disk and will be counted once; the footer does not go blank meanwhile."""
    settings = settings_for(own_valkey.url, postgres_url, tmp_path)
    async with running(settings) as footfall:
        known = await footfall.see()
        own_valkey.kill()
        response = await footfall.send(address="203.0.113.8")
        assert (response.status, await response.json()) == (202, known | {"stale": True})
        assert response.headers["Cache-Control"] == "no-store"
        assert footfall.metric("footfall_beacons_total", site=SITE, outcome="spooled", reason="") == 1


@pytest.mark.parametrize("trusted", [[], ["unix"]], ids=["no proxy", "unix sockets"])
async def test_a_client_that_is_gone_is_still_the_peer_that_it_was(
    redis_url: str, postgres_url: str, tmp_path: Path, trusted: list[str]
) -> None:
    """A client that hangs up early must not pass for a trusted unix socket, whose forwarding header is believed."""
    settings = settings_for(redis_url, postgres_url, tmp_path, trusted_proxies=trusted)
    async with running(settings, clock=FakeClock()) as footfall:
        body = json.dumps({"site": SITE}).encode()
        for forged in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", footfall.public.port)
            writer.write(
                f"POST /seen HTTP/1.1\r\nHost: {HOST}\r\nOrigin: {ORIGIN}\r\nUser-Agent: {BROWSER}\r\n"
                f"X-Forwarded-For: 203.0.113.{forged}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            await writer.drain()
            writer.transport.abort()
        answer = await footfall.see(address="203.0.113.99", kind="ping")
        assert answer["today"] == 1


async def test_a_proxy_that_hides_its_clients_is_told_of_in_the_log(
    footfall: Footfall, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the forwarded address all the world is one visitor; the log names the reason."""
    for _ in range(3):
        await footfall.public.post(
            "/seen", data=b'{"site":"portal"}', headers={"Origin": ORIGIN, "User-Agent": BROWSER}
        )
    assert footfall.metric("footfall_unresolved_clients_total") == 3
    assert caplog.text.count("does it set X-Forwarded-For?") == 1


async def test_a_view_that_is_sent_again_counts_once(footfall: Footfall) -> None:
    """The page heard no answer, and cannot know whether the service did its part."""
    view = "0123456789abcdef"
    for again in (False, True, True):
        answer = await footfall.see(page="/a", view=view, again=again)
        assert (answer["views_today"], answer["pages"]["/a"]["views"]) == (1, 1)
    assert (await footfall.see(page="/a", view="f" * 16, again=True))["views_today"] == 2
    query = {"site": SITE, "page": "/a", "view": "00000000000000aa"}
    for repeated in ("0", "1"):
        pixel = await footfall.public.get(
            "/seen.gif", params=query | {"again": repeated}, headers={"Referer": f"{ORIGIN}/", "User-Agent": BROWSER}
        )
        assert (pixel.status, await pixel.read()) == (200, PIXEL)
    assert (await footfall.see(kind="ping"))["views_today"] == 3


@pytest.mark.parametrize("view", ["", "0123456789ABCDEF", "0123456789abcde", "0123456789abcdef0", "é" * 16, 1, ["a"]])
async def test_the_id_of_a_view_is_sixteen_hexadecimal_digits(footfall: Footfall, view: object) -> None:
    """What is kept for minutes has one form, and no room for anything that says who came."""
    response = await footfall.send(view=view)
    assert (response.status, await response.json()) == (400, {"error": "bad_field"})
    if isinstance(view, str):
        query = {"site": SITE, "view": view}
        response = await footfall.public.get("/seen.gif", params=query, headers={"Referer": f"{ORIGIN}/"})
        assert (response.status, await response.json()) == (400, {"error": "bad_field"})
