"""Reports of the ops listener in a browser, which cannot send a bearer token: a form, a cookie, and the way out."""

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from aiohttp import ClientResponse

from footfall.ingest.rate_limits import REPORT_WEIGHT
from tests.http.test_report_access import is_kept_from_strangers
from tests.support.footfall import SITE, Footfall, running, settings_for

TOKEN = "mật khẩu; dài"  # noqa: S105 (not in use anywhere)
PAGES = ("/reports", f"/reports/{SITE}")
TABLES = tuple(f"{path}.{form}" for path in PAGES for form in ("csv", "json"))


@pytest.fixture
async def footfall(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Footfall]:
    """A worker whose ops routes ask for a token, and whose limits let a network guess three times."""
    limits = {"reads_per_s": 1.0, "reads_burst": 3 * REPORT_WEIGHT}
    settings = settings_for(redis_url, postgres_url, tmp_path, ops_token=TOKEN, limits=limits)
    async with running(settings) as footfall:
        yield footfall


async def get(footfall: Footfall, path: str, **headers: str) -> ClientResponse:
    """Ask the ops listener."""
    return await footfall.ops.get(path, headers=headers, allow_redirects=False)


async def post(footfall: Footfall, path: str, headers: dict[str, str] | None = None, **form: str) -> ClientResponse:
    """Send the form of a page of the ops listener."""
    return await footfall.ops.post(path, data=form, headers=headers, allow_redirects=False)


async def logged_in(footfall: Footfall) -> dict[str, str]:
    """Enter the token; return the headers of a browser that did."""
    (cookie,) = SimpleCookie((await post(footfall, "/reports", token=TOKEN)).headers["Set-Cookie"]).values()
    footfall.ops.session.cookie_jar.clear()
    return {"Cookie": f"{cookie.key}={cookie.value}"}


async def test_a_page_asks_for_the_token_and_the_tables_refuse(footfall: Footfall) -> None:
    """A person gets a form, a program its 401, and neither a number."""
    for path in PAGES:
        page = await get(footfall, f"{path}?lang=en&from=2054-11-01")
        text = await page.text()
        assert (page.status, page.content_type, page.headers["WWW-Authenticate"]) == (401, "text/html", "Bearer")
        assert is_kept_from_strangers(page)
        assert 'type="password" name="token"' in text
        assert "ops_token" in text
        assert f'action="{path.rpartition("/")[2]}?from=2054-11-01&amp;lang=en"' in text
        assert "Cổng thử" not in text
    for path in TABLES:
        assert (await get(footfall, path)).status == 401


async def test_the_right_token_sets_a_cookie_that_opens_every_report_and_nothing_else(footfall: Footfall) -> None:
    """The cookie is not the token: a browser that is stolen reads reports, and no metrics or status."""
    for path in PAGES:
        entered = await post(footfall, f"{path}?from=2054-11-01&lang=en&token=x", token=TOKEN)
        where = f"{path.rpartition('/')[2]}?from=2054-11-01&lang=en"
        assert (entered.status, entered.headers["Location"]) == (303, where)
        assert is_kept_from_strangers(entered)
        (cookie,) = SimpleCookie(entered.headers["Set-Cookie"]).values()
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/reports")
        assert (cookie["secure"], cookie["max-age"], cookie["expires"]) == ("", "", "")
    headers = await logged_in(footfall)
    assert TOKEN not in headers["Cookie"]
    for path in (*PAGES, *TABLES):
        assert (await get(footfall, path, **headers)).status == 200
        assert (await get(footfall, path, Cookie=headers["Cookie"] + "x")).status == 401
        assert (await get(footfall, path, Authorization=f"Bearer {TOKEN}")).status == 200
    for path in ("/metrics", "/healthz", "/readyz", "/status", "/version", "/reportsx"):
        assert (await get(footfall, path, **headers)).status == 401
        assert (await get(footfall, path)).content_type == "application/json"


async def test_by_https_the_cookie_is_for_https(footfall: Footfall) -> None:
    """A proxy in front speaks TLS, and says so."""
    entered = await post(footfall, "/reports", {"X-Forwarded-Proto": "https"}, token=TOKEN)
    assert "; Secure" in entered.headers["Set-Cookie"]


async def test_who_logs_out_has_no_cookie_any_more(footfall: Footfall) -> None:
    """A clerk's machine is used by others, too; who came with a bearer token needs no way out."""
    headers = await logged_in(footfall)
    for path in PAGES:
        assert 'name="leave"' in await (await get(footfall, path, **headers)).text()
        assert 'name="leave"' not in await (await get(footfall, path, Authorization=f"Bearer {TOKEN}")).text()
        left = await post(footfall, path, headers, leave="1")
        (cookie,) = SimpleCookie(left.headers["Set-Cookie"]).values()
        assert (left.status, cookie.value, cookie["max-age"], cookie["path"]) == (303, "", "0", "/reports")
        assert headers["Cookie"].startswith(f"{cookie.key}=")


async def test_guesses_of_a_network_are_limited_and_others_are_not_held_up(footfall: Footfall) -> None:
    """With a form a person can guess from any browser that reaches the listener."""
    guesser, other = ({"X-Forwarded-For": f"203.0.113.{number}"} for number in (50, 51))
    for guess in ("", "x", TOKEN[:-1]):
        refused = await post(footfall, "/reports?lang=en", guesser, token=guess)
        assert (refused.status, "Set-Cookie" in refused.headers) == (401, False)
        assert "This token is wrong" in await refused.text()
    limited = await post(footfall, "/reports", guesser, token=TOKEN)
    assert (limited.status, limited.content_type) == (429, "text/html")
    assert int(limited.headers["Retry-After"]) > 0
    assert (await post(footfall, "/reports", other, token=TOKEN)).status == 303
    assert (await get(footfall, "/metrics", **guesser, Authorization=f"Bearer {TOKEN}")).status == 200
    footfall.clock.advance(REPORT_WEIGHT)
    assert (await post(footfall, "/reports", guesser, token=TOKEN)).status == 303


async def test_a_page_of_a_stranger_cannot_send_the_form(footfall: Footfall) -> None:
    """It would use up the guesses of the operator, or log the operator out."""
    for site in ("cross-site", "same-site"):
        for form in ({"token": TOKEN}, {"leave": "1"}):
            refused = await post(footfall, "/reports", {"Sec-Fetch-Site": site}, **form)
            assert (refused.status, "Set-Cookie" in refused.headers) == (403, False)


async def test_without_a_token_there_is_no_form_and_no_cookie(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """The listener is private already."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        for path in PAGES:
            assert 'name="leave"' not in await (await get(footfall, path, Cookie="footfall-reports=x")).text()
            entered = await post(footfall, path, token="x")  # noqa: S106 (none is in use)
            assert (entered.status, "Set-Cookie" in entered.headers) == (303, False)
