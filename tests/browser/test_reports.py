"""Reports in a real browser: for people without script, on phones, on paper; and closed to pages of strangers."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from footfall.embedded.servers import running_servers
from footfall.model.site_id import SiteId
from footfall.stores.report_tokens import open_report_tokens
from tests.browser.conftest import NewContext, NewSite, ReadCounts
from tests.browser.portal import Portal, html
from tests.browser.test_demo import LOW_CONTRAST
from tests.support.footfall import VIETNAM
from tests.support.history import Owner, add_days, every_day

TODAY = datetime.now(VIETNAM).date()
MONTH_AGO = TODAY - timedelta(days=29)
READ = """async url => {
  const results = {};
  for (const [name, options] of [["cors", {}], ["cookies", {credentials: "include"}], ["opaque", {mode: "no-cors"}]]) {
    results[name] = await fetch(url, options).then(answer => answer.status, error => error.name);
  }
  return results;
}"""
OVERFLOW = "() => document.documentElement.scrollWidth - innerWidth"


@pytest.fixture
def postgres_of_service(service_url: str, servers_folder: Path) -> str:
    """The PostgreSQL of the Footfall that the browser asks."""
    return running_servers(servers_folder / "browser" / "data").postgres


@pytest_asyncio.fixture(loop_scope="session")
async def owner(postgres_of_service: str) -> AsyncIterator[Owner]:
    """A connection to it."""
    connection = await asyncpg.connect(postgres_of_service)
    yield connection
    await connection.close()


@pytest_asyncio.fixture(loop_scope="session")
async def reported(owner: Owner, new_site: NewSite, counts: ReadCounts) -> str:
    """A site whose report is public, with a month behind it; the worker knows what is live."""
    site = new_site("reported")
    while (await counts(site))["stale"]:  # noqa: ASYNC110 (another process: one can only look)
        await asyncio.sleep(0.05)
    await add_days(owner, every_day(MONTH_AGO, TODAY - timedelta(days=1), 1234, 5678), site=site)
    await owner.execute(
        "INSERT INTO footfall.adjustment (site, id, amount, reason) VALUES ($1, 'a', 1373876, '<b>cũ</b>')", site
    )
    return site


async def test_without_script_the_report_is_read_and_switched_by_its_links(
    new_context: NewContext, service_url: str, reported: str
) -> None:
    """The browser of a clerk may forbid scripts; the policy of the page allows none."""
    page = await (await new_context(java_script_enabled=False)).new_page()
    await page.goto(f"{service_url}/reports/{reported}")
    await expect(page.locator("h1")).to_have_text("reported")
    await expect(page.locator("svg.chart.wide .bar")).to_have_count(30)
    await expect(page.locator("svg.chart.narrow")).to_be_hidden()
    row = page.locator("table").first.locator("tbody tr").first
    await expect(row).to_contain_text("≈\u00a01.234")
    await expect(page.locator("main")).to_contain_text("<b>cũ</b>")
    await page.get_by_role("link", name="Lượt xem trang").click()
    await expect(page.locator("h2", has_text="Biểu đồ")).to_have_text("Biểu đồ: Lượt xem trang theo ngày")
    await page.get_by_role("link", name="theo tháng").click()
    await expect(page.locator("table").first.locator("tbody tr").first).to_contain_text("/20")
    await page.get_by_role("link", name="English").click()
    await expect(page.locator("html")).to_have_attribute("lang", "en")
    await page.locator("input[name=from]").fill(str(MONTH_AGO + timedelta(days=1)))
    await page.get_by_role("button", name="Show").click()
    assert f"from={MONTH_AGO + timedelta(days=1)}" in page.url
    await expect(page.locator("main")).to_contain_text("1,234")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 360, 1100])
async def test_the_report_fits_its_screen_and_every_text_has_contrast(
    new_context: NewContext, service_url: str, reported: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    """On a phone the page does not move sideways; in the dark nothing is grey on black."""
    context = await new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = await context.new_page()
    for language in ("vi", "en"):
        await page.goto(f"{service_url}/reports/{reported}?lang={language}")
        assert await page.evaluate(OVERFLOW) <= 0
        assert await page.evaluate(LOW_CONTRAST) == []
        await expect(page.locator("svg.chart.narrow" if width < 500 else "svg.chart.wide")).to_be_visible()


async def test_a_keyboard_reaches_everything_and_a_screen_reader_hears_the_chart(
    page: Page, service_url: str, reported: str
) -> None:
    """The chart is one image with a name; its numbers are in the table, which can be scrolled by keys."""
    await page.goto(f"{service_url}/reports/{reported}?lang=en")
    await expect(page.get_by_role("img", name="reported: Visitors by day")).to_be_visible()
    await expect(page.get_by_role("region", name="Figures")).to_have_attribute("tabindex", "0")
    await expect(page.get_by_role("table").first.locator("caption")).to_contain_text("different visitors")
    names = await page.evaluate("() => [...document.querySelectorAll('h1,h2')].map(h => h.tagName).join('')")
    assert names == "H1" + "H2" * 7
    await page.keyboard.press("Tab")
    focused = await page.evaluate("() => document.activeElement.tagName")
    assert focused == "A"


async def test_on_paper_it_is_a_report_on_a4_with_name_and_period(page: Page, service_url: str, reported: str) -> None:
    """What is handed in has no buttons, and says whose it is and of when."""
    await page.goto(f"{service_url}/reports/{reported}")
    await page.emulate_media(media="print")
    for hidden in ("nav", "form", "footer"):
        await expect(page.locator(hidden).first).to_be_hidden()
    for shown in ("h1", ".facts", "svg.chart.wide", "table"):
        await expect(page.locator(shown).first).to_be_visible()
    first = f"{MONTH_AGO:%d/%m/%Y}"
    await expect(page.locator(".facts")).to_contain_text(first)
    pdf = await page.pdf(prefer_css_page_size=True)
    sizes = {tuple(map(float, found.split()[2:4])) for found in _media_boxes(pdf)}
    assert {(round(width), round(height)) for width, height in sizes} == {(595, 842)}


async def test_a_page_of_a_stranger_neither_frames_nor_reads_it(
    new_context: NewContext, portal: Portal, service_url: str, reported: str
) -> None:
    """A report that is public to readers is no material for another site, with its readers' cookies or without."""
    context = await new_context()
    page = await context.new_page()
    url = f"{service_url}/reports/{reported}"
    await page.goto(portal.put("*", html(f'<iframe id="report" src="{url}"></iframe>')))
    frame = page.frames[1]
    await frame.wait_for_load_state()
    assert urlsplit(frame.url).netloc != urlsplit(url).netloc or "chrome-error" in frame.url
    for form in ("", ".csv", ".json"):
        results = await page.evaluate(READ, url + form)
        assert results == {"cors": "TypeError", "cookies": "TypeError", "opaque": "TypeError"}
    async with context.expect_page() as opening:
        await page.evaluate("url => { window.report = open(url); }", url)
    await expect((await opening.value).locator("h1")).to_have_text("reported")
    assert await page.evaluate("() => window.report.closed")  # to the opener, which has no hold of it


async def test_the_token_is_typed_once_and_only_into_its_report(
    new_context: NewContext, service_url: str, postgres_of_service: str, new_site: NewSite, portal: Portal
) -> None:
    """The cookie is for this browser session, unseen by scripts, and not sent from pages of strangers."""
    site = SiteId(new_site("guarded"))
    async with open_report_tokens(postgres_of_service) as tokens:
        token = await tokens.make(site)
    context = await new_context()
    page = await context.new_page()
    await page.goto(f"{service_url}/reports/{site}")
    await page.locator("input[name=token]").fill("wrong")
    await page.get_by_role("button").click()
    await expect(page.get_by_role("alert")).to_have_text("Mã này không đúng hoặc đã bị thu hồi.")
    await page.locator("input[name=token]").fill(token)
    await page.get_by_role("button").click()
    await expect(page.locator("h1")).to_have_text("guarded")
    assert page.url == f"{service_url}/reports/{site}?lang=vi"
    (cookie,) = await context.cookies(f"{service_url}/reports")
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"], cookie["expires"]) == (
        True,
        "Strict",
        "/reports",
        -1,
    )
    assert await page.evaluate("() => document.cookie") == ""
    await page.goto(portal.put("*", html(f'<a id="report" href="{service_url}/reports/{site}">report</a>')))
    await page.locator("#report").click()
    await expect(page.locator("input[name=token]")).to_be_visible()
    await page.goto(f"{service_url}/reports/{site}")
    await expect(page.locator("h1")).to_have_text("guarded")


async def test_the_demo_portal_links_to_its_report(page: Page, service_url: str) -> None:
    """Who tries Footfall finds the report from the page that is counted."""
    await page.goto(f"{service_url}/")
    await page.get_by_role("link", name="Báo cáo truy cập").click()
    await expect(page.locator("h1")).to_have_text("Demo")


def _media_boxes(pdf: bytes) -> list[str]:
    """Return the page sizes of a PDF as they stand in it, `0 0 width height`."""
    texts = [pdf]
    for part in pdf.split(b"stream\n")[1:]:
        try:
            texts.append(zlib.decompressobj().decompress(part))
        except zlib.error:
            continue
    found = [text.split(b"]")[0] for whole in texts for text in whole.split(b"/MediaBox [")[1:]]
    return [text.decode() for text in found]
