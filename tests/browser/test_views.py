"""What is counted: one view for each page that a person opened and saw."""

from playwright.async_api import BrowserContext, Page, expect

from tests.browser.conftest import NewContext, ReadCounts
from tests.browser.portal import BLOCK, Portal, html, script_line
from tests.browser.relay import Relay


async def test_an_opened_page_counts_one_view_and_shows_it(
    page: Page, portal: Portal, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """The whole job in one round trip: the answer to the first beacon already includes its sender."""
    await page.goto(portal.put("/tin-tuc", html(BLOCK, script_line(relay.url, site))))
    await expect(page.locator('[data-count="today"]')).to_have_text("1")
    assert await relay.passed(1) == ["view"]
    assert relay.beacons[0].body == {"site": site, "page": "/tin-tuc", "kind": "view"}
    assert (await counts(site))["views_today"] == 1
