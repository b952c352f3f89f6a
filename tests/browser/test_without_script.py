"""Browsers without JavaScript: a pixel counts, an image and a fragment show."""

import pytest
from playwright.async_api import Page, expect

from footfall.display.block import snippet
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from tests.browser.conftest import NewContext, ReadCounts
from tests.browser.pages import number
from tests.browser.portal import BLOCK, Portal, html, script_line
from tests.browser.relay import Relay


@pytest.fixture
def pasted(relay: Relay, site: str) -> str:
    """Return what the webmaster pasted."""
    return snippet(Site(id=SiteId(site), name="Portal", hosts=("localhost",)), relay.url)


@pytest.mark.parametrize("policy", ["strict-origin-when-cross-origin", "no-referrer"])
async def test_a_page_without_script_is_counted_by_its_pixel(  # noqa: PLR0913 (pytest passes fixtures by name)
    new_context: NewContext, portal: Portal, relay: Relay, pasted: str, site: str, counts: ReadCounts, policy: str
) -> None:
    """The page shows its labels too. The pixel sends the page's origin even where other requests send none."""
    page = await (await new_context(java_script_enabled=False)).new_page()
    await page.goto(portal.put("*", html(pasted), {"Referrer-Policy": policy}))
    assert await relay.passed(1) == ["image"]
    assert relay.beacons[0].headers["Referer"] == portal.url + "/"
    assert (await counts(site))["views_today"] == 1
    await expect(page.locator(".footfall li").first).to_have_text("Đang online: –")


async def test_with_script_the_pixel_is_not_loaded(
    page: Page, portal: Portal, relay: Relay, pasted: str, site: str, counts: ReadCounts
) -> None:
    """Both together would count twice."""
    await page.goto(portal.put("*", html(pasted)))
    await expect(number(page, "today")).to_have_text("1")
    assert relay.kinds == ["view"]
    assert (await counts(site))["views_today"] == 1


@pytest.mark.parametrize("theme", ["auto", "light", "dark"])
async def test_the_image_of_the_block_is_drawn(
    new_context: NewContext, portal: Portal, relay: Relay, site: str, theme: str
) -> None:
    """For pages where only an image may be placed."""
    page = await (await new_context(java_script_enabled=False)).new_page()
    image = f'<img src="{relay.url}/counts.svg?site={site}&theme={theme}" alt="Thống kê truy cập">'
    await page.goto(portal.put("*", html(image)), wait_until="load")
    box = await page.locator("img").bounding_box()
    assert box is not None
    assert box["width"] > 150
    assert box["height"] > 100


async def test_a_server_side_include_is_filled_and_then_kept_fresh(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """The fragment has numbers for every reader, and the script fills the same elements in it."""
    await page.goto(portal.put("*", html(BLOCK, script_line(relay.url, site))))
    await expect(number(page, "today")).to_have_text("1")
    async with relay.session.get(f"{relay.service}/counts.html", params={"site": site}) as answer:
        fragment = await answer.text()
    assert "Hôm nay: <b" in fragment
    relay.down = True
    page_without_answer = await page.context.new_page()
    await page_without_answer.goto(portal.put("*", html(fragment, script_line(relay.url, site))))
    await expect(number(page_without_answer, "today")).to_have_text("1")
    relay.down = False
    await page.goto(portal.put("*", html(fragment, script_line(relay.url, site))))
    await expect(number(page, "total")).to_have_text("1")
