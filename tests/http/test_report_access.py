"""Who may read a report from outside: nobody, who has the token, or everyone; and no page of a stranger."""

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from aiohttp import ClientResponse

from footfall.ingest.rate_limits import REPORT_WEIGHT
from tests.support.footfall import HOST, SITE, Footfall, running, settings_for

CLOSED, GUARDED, OPEN = "closed", SITE, "open"
SITES = {
    GUARDED: {"name": "Cổng có mã", "hosts": [HOST], "reports": "token"},
    OPEN: {"name": "Cổng mở", "hosts": ["open.example.vn"], "reports": "public"},
    CLOSED: {"name": "Cổng kín", "hosts": ["closed.example.vn"]},
}
FORMS = ("", ".csv", ".json")
HEADERS = {
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex, nofollow",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.fixture
async def footfall(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Footfall]:
    """A worker with a report of each kind."""
    async with running(settings_for(redis_url, postgres_url, tmp_path, sites=SITES)) as footfall:
        yield footfall


async def ask(footfall: Footfall, path: str, **headers: str) -> ClientResponse:
    """Read a report as a stranger with these headers."""
    return await footfall.public.get(f"/reports/{path}", headers=headers, allow_redirects=False)


async def enter(footfall: Footfall, site: str, token: str, query: str = "") -> ClientResponse:
    """Send the form of a report."""
    path = f"/reports/{site}{query}"
    return await footfall.public.post(path, data={"token": token}, allow_redirects=False)


def is_kept_from_strangers(response: ClientResponse) -> bool:
    """Return whether no cache, no search engine and no page of another origin gets this answer."""
    policy = response.headers["Content-Security-Policy"]
    return (
        HEADERS.items() <= dict(response.headers).items()
        and "frame-ancestors 'none'" in policy
        and "default-src 'none'" in policy
        and "unsafe" not in policy
        and not any(name.lower().startswith("access-control") for name in response.headers)
    )


async def test_a_report_is_off_until_the_operator_opens_it(footfall: Footfall) -> None:
    """The history of a portal is nobody's business by default; no answer tells that there is one."""
    for form in FORMS:
        closed, unknown = await ask(footfall, CLOSED + form), await ask(footfall, "no-such-site" + form)
        assert (closed.status, unknown.status) == (404, 404)
        assert await closed.read() == await unknown.read()
    assert (await enter(footfall, CLOSED, "x")).status == 404
    for path in ("/reports", "/reports.csv", "/reports.json"):
        assert (await footfall.public.get(path)).status == 404


async def test_operators_read_every_report(footfall: Footfall) -> None:
    """The ops listener is private already."""
    for site in SITES:
        for form in FORMS:
            assert (await footfall.ops.get(f"/reports/{site}{form}")).status == 200
    for path in ("/reports", "/reports.csv", "/reports.json"):
        response = await footfall.ops.get(path)
        assert response.status == 200
        assert is_kept_from_strangers(response)


async def test_a_public_report_needs_nothing_and_still_keeps_strangers_pages_out(footfall: Footfall) -> None:
    """Readers open it; a page of another origin neither frames nor reads it, and no search engine lists it."""
    for form in FORMS:
        response = await ask(footfall, OPEN + form, Origin="https://bad.example")
        assert response.status == 200
        assert is_kept_from_strangers(response)
    assert 'name="robots" content="noindex, nofollow"' in await (await ask(footfall, OPEN)).text()
    for method in ("OPTIONS", "PUT", "DELETE"):
        refused = await footfall.public.request(method, f"/reports/{OPEN}", headers={"Origin": "https://bad.example"})
        assert refused.status == 405
        assert is_kept_from_strangers(refused)


async def test_the_token_opens_its_report_and_no_other(footfall: Footfall) -> None:
    """A token for one portal is given to its staff alone."""
    token = await footfall.services.report_tokens.make(SITE)
    for form in FORMS:
        for wrong in (
            {},
            {"Authorization": "Bearer "},
            {"Authorization": f"Bearer {token}x"},
            {"Authorization": token},
        ):
            refused = await ask(footfall, GUARDED + form, **wrong)
            assert refused.status == 401
            assert refused.headers["WWW-Authenticate"] == "Bearer"
            assert is_kept_from_strangers(refused)
            assert "Cổng có mã" not in await refused.text()
        assert (await ask(footfall, GUARDED + form, Authorization=f"Bearer {token}")).status == 200
    assert not await footfall.services.report_tokens.opens(SITE, "")
    other = await footfall.services.report_tokens.make(footfall.services.settings.sites[OPEN].id)
    assert (await ask(footfall, GUARDED, Authorization=f"Bearer {other}")).status == 401
    odd = {"Authorization": "Bearer " + "ế" * 300}
    assert (await ask(footfall, GUARDED, **odd)).status == 401


async def test_the_form_puts_the_token_into_a_cookie_that_only_the_browser_reads(footfall: Footfall) -> None:
    """A person types it once; no script, no other site and no other path gets it."""
    page = await ask(footfall, GUARDED)
    assert 'type="password" name="token"' in await page.text()
    token = await footfall.services.report_tokens.make(SITE)
    for wrong in ("", "x", token[:-1], "a\r\nSet-Cookie: b=c"):
        refused = await enter(footfall, GUARDED, wrong, "?lang=en")
        assert refused.status == 401
        assert "This token is wrong or was revoked." in await refused.text()
        assert "Set-Cookie" not in refused.headers
    entered = await enter(footfall, GUARDED, token, "?lang=en")
    assert (entered.status, entered.headers["Location"]) == (303, f"{SITE}?lang=en")
    assert is_kept_from_strangers(entered)
    (cookie,) = SimpleCookie(entered.headers["Set-Cookie"]).values()
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/reports")
    assert (cookie["secure"], cookie["max-age"], cookie["expires"]) == ("", "", "")
    footfall.public.session.cookie_jar.clear()
    for form in FORMS:
        assert (await ask(footfall, GUARDED + form, Cookie=f"{cookie.key}={cookie.value}")).status == 200
        assert (await ask(footfall, GUARDED + form, Cookie=f"{cookie.key}=x")).status == 401
    await footfall.services.report_tokens.revoke(SITE)
    assert (await ask(footfall, GUARDED, Cookie=f"{cookie.key}={cookie.value}")).status == 401


async def test_a_public_report_has_no_form_and_takes_no_cookie(footfall: Footfall) -> None:
    """What a client sends stands in no head before it is known to be a token."""
    answer = await enter(footfall, OPEN, "a\r\nSet-Cookie: b=c")
    assert answer.status == 303
    assert "Set-Cookie" not in answer.headers


async def test_by_https_the_cookie_is_for_https_and_below_the_path_of_the_portal(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """A proxy serves Footfall below a path of the portal: other parts of the portal do not get the cookie."""
    settings = settings_for(
        redis_url, postgres_url, tmp_path, sites=SITES, public_url="https://portal.example.vn/thong-ke"
    )
    async with running(settings) as footfall:
        token = await footfall.services.report_tokens.make(SITE)
        (cookie,) = SimpleCookie((await enter(footfall, GUARDED, token)).headers["Set-Cookie"]).values()
        assert (cookie["secure"], cookie["path"]) == (True, "/thong-ke/reports")


async def test_guesses_and_reports_of_one_network_are_limited(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """A report costs PostgreSQL some work, so one client must not ask for hundreds; others are not held up."""
    limits = {"reads_per_s": 1.0, "reads_burst": 3 * REPORT_WEIGHT}
    async with running(settings_for(redis_url, postgres_url, tmp_path, sites=SITES, limits=limits)) as footfall:
        token = await footfall.services.report_tokens.make(SITE)
        guesser, reader = {"X-Forwarded-For": "203.0.113.50"}, {"X-Forwarded-For": "203.0.113.51"}
        right = {"Authorization": f"Bearer {token}"}
        for _ in range(3):
            assert (await ask(footfall, GUARDED, **guesser, Authorization="Bearer x")).status == 401
        refused = await ask(footfall, f"{GUARDED}.json", **guesser, **right)
        assert (refused.status, (await refused.json())["error"]) == (429, "rate_limited")
        assert int(refused.headers["Retry-After"]) > 0
        page = await ask(footfall, GUARDED, **guesser)
        assert (page.status, "quá nhiều" in await page.text()) == (429, True)
        assert (await ask(footfall, GUARDED, **reader, **right)).status == 200
        footfall.clock.advance(REPORT_WEIGHT)
        assert (await ask(footfall, GUARDED, **guesser)).status == 401
        assert (await footfall.public.get("/counts", params={"site": SITE})).status == 200


async def test_a_page_says_in_words_what_was_wrong_with_the_question(footfall: Footfall) -> None:
    """A person who typed a date reads a sentence and no JSON."""
    page = await ask(footfall, f"{OPEN}?from=2054-02-30&lang=en")
    assert (page.status, page.content_type) == (400, "text/html")
    assert "from must be a day" in await page.text()
