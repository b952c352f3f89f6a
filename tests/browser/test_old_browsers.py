"""Browsers that cannot read the script: an image counts the view and shows the numbers."""

import pytest
from playwright.async_api import Page, expect

from footfall.display.block import snippet
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from tests.browser.conftest import ReadCounts
from tests.browser.pages import number, settle
from tests.browser.portal import Portal, html
from tests.browser.relay import Relay

IS_OLD = """
delete Object.getOwnPropertyDescriptors;
delete window.fetch;
"""


def as_old_browsers_see_it(pasted: str) -> str:
    """Return a page as a browser without modules runs it: nomodule means nothing, the other script is not read."""
    return pasted.replace("nomodule ", "").replace("<script async", '<script type="cannot/be-read"')


@pytest.fixture
def pasted(relay: Relay, site: str) -> str:
    """Return what the webmaster pasted."""
    return snippet(Site(id=SiteId(site), name="Portal", hosts=("localhost",)), relay.url)


async def test_an_old_browser_gets_an_image_in_place_of_the_block(
    page: Page, portal: Portal, relay: Relay, pasted: str, site: str, counts: ReadCounts
) -> None:
    """Cheap boxes with Android 4, and kiosks with QtWebKit, do not get a newer browser."""
    await page.add_init_script(IS_OLD)
    await page.goto(portal.put("*", html(as_old_browsers_see_it(pasted))))
    assert await relay.passed(1) == ["image"]
    assert (await counts(site))["views_today"] == 1
    image = page.locator(".footfall img")
    await expect(image).to_be_visible()
    assert await image.evaluate("image => image.complete && image.naturalWidth > 100")
    assert await page.locator(".footfall b").count() == 0


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(
            '<script async src="{url}/footfall.js" data-site="{site}" data-beacon="off"></script>', id="beacon"
        ),
        pytest.param("<script>localStorage.footfall = 'off'</script>", id="opted out"),
    ],
)
async def test_an_old_browser_that_may_not_count_only_shows(
    page: Page, portal: Portal, relay: Relay, site: str, line: str
) -> None:
    """The choice of the page and of the visitor are the same in every browser."""
    await page.add_init_script(IS_OLD)
    first = line.format(url=relay.url, site=site)
    old = f'<script src="{relay.url}/footfall-old.js?site={site}"></script>'
    block = '<div class="footfall">–</div>'
    await page.goto(portal.put("*", html(block, as_old_browsers_see_it(first), old)))
    await expect(page.locator(".footfall img")).to_be_visible()
    await settle(page, relay)
    assert relay.kinds == []


async def test_without_a_block_an_old_browser_loads_a_pixel(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """A page may only count."""
    await page.add_init_script(IS_OLD)
    old = f'<script src="{relay.url}/footfall-old.js?site={site}"></script>'
    await page.goto(portal.put("*", html("<p>Text</p>", old)))
    assert await relay.passed(1) == ["image"]
    assert "/seen.gif" in relay.paths


async def test_a_newer_browser_does_not_load_it_and_leaves_at_once_where_it_does(
    page: Page, portal: Portal, relay: Relay, pasted: str
) -> None:
    """Safari 10.1 reads both lines, and must not count twice."""
    await page.goto(portal.put("*", html(pasted)))
    await expect(number(page, "today")).to_have_text("1")
    assert "/footfall-old.js" not in relay.paths
    await page.goto(portal.put("*", html(pasted.replace("nomodule ", ""))))
    await expect(number(page, "views_today")).to_have_count(0)
    await relay.passed(2)
    await settle(page, relay)
    assert "/footfall-old.js" in relay.paths
    assert relay.kinds == ["view", "view"]
