"""The reports of the ops listener in a real browser, where the ops routes ask for a token."""

from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
from playwright.async_api import expect

from tests.browser.conftest import NewContext
from tests.browser.portal import Portal, html
from tests.support.footfall import HOST, SITE, VIETNAM, FakeClock, running, settings_for
from tests.support.history import add_days, every_day

TOKEN = "a token with spaces; and ế"  # noqa: S105 (not in use anywhere)
TODAY = datetime.now(VIETNAM).date()
MONTH_AGO = TODAY - timedelta(days=29)
SITES = {
    SITE: {"name": "Cổng tỉnh", "hosts": [HOST], "group": "tinh"},
    "so-y-te": {"name": "Sở Y tế", "hosts": ["soyte.example.vn"], "group": "so"},
}


async def test_an_operator_enters_the_token_once_reads_every_report_and_logs_out(
    new_context: NewContext, portal: Portal, redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """A browser sends no bearer token; the form leads to the report that was asked for, no address has the token."""
    settings = settings_for(redis_url, postgres_url, tmp_path, sites=SITES, ops_token=TOKEN)
    async with running(settings, clock=FakeClock(datetime.now(VIETNAM))) as footfall:
        connection = await asyncpg.connect(postgres_url)
        await add_days(connection, every_day(MONTH_AGO, TODAY - timedelta(days=1), 10, 30))
        await connection.close()
        reports = str(footfall.ops.make_url("/reports"))
        context = await new_context()
        page = await context.new_page()
        visited: list[str] = []
        page.on("request", lambda request: visited.append(request.url))
        await page.goto(f"{reports}/{SITE}?from={MONTH_AGO}&lang=en")
        await page.locator("input[name=token]").fill("wrong")
        await page.get_by_role("button").click()
        await expect(page.get_by_role("alert")).to_have_text("This token is wrong or was revoked.")
        await page.locator("input[name=token]").fill(TOKEN)
        await page.keyboard.press("Enter")
        await expect(page.locator("h1")).to_have_text("Cổng tỉnh")
        assert page.url == f"{reports}/{SITE}?from={MONTH_AGO}&lang=en"
        (cookie,) = await context.cookies(reports)
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["expires"]) == (True, "Strict", -1)
        assert await page.evaluate("() => document.cookie") == ""
        await page.get_by_role("link", name="All portals").click()
        await expect(page.locator("table").last.locator("tbody tr")).to_have_count(2)
        await page.get_by_role("link", name="tinh").click()
        await expect(page.locator("h1")).to_have_text("Group: tinh")
        await page.get_by_role("link", name="Cổng tỉnh").click()
        await expect(page.locator("h1")).to_have_text("Cổng tỉnh")
        await page.goto(portal.put("*", html(f'<a id="report" href="{reports}">report</a>')))
        await page.locator("#report").click()
        await expect(page.locator("input[name=token]")).to_be_visible()
        await page.goto(f"{reports}?lang=en")
        await page.get_by_role("button", name="Log out").click()
        await expect(page.locator("input[name=token]")).to_be_visible()
        assert await context.cookies(reports) == []
        await page.goto(f"{reports}/{SITE}")
        await expect(page.locator("input[name=token]")).to_be_visible()
        assert not any("token" in url or "spaces" in url for url in visited)
