"""Browsers without JavaScript: an image counts and shows, a fragment shows."""

import pytest
from playwright.async_api import Page, expect

from footfall.display.block import snippet
from footfall.display.labels import LABELS
from footfall.display.svg import Layout, Look, counts_svg
from footfall.model.counts import NUMBERS
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from tests.browser.conftest import NewContext, ReadCounts
from tests.browser.pages import number
from tests.browser.portal import BLOCK, Portal, html, script_line
from tests.browser.relay import Relay
from tests.support.portal import COUNTS

LAYOUTS: tuple[Layout, ...] = ("list", "cards")
OUTSIDE = """() => {
  const image = document.querySelector("svg");
  const boxes = [...image.querySelectorAll("text")].map(text => text.getBBox());
  const apart = (a, b) => a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + 15 <= b.y || b.y + 15 <= a.y;
  const inside = box => box.x >= 0 && box.y >= 0
    && box.x + box.width <= image.width.baseVal.value && box.y + box.height <= image.height.baseVal.value;
  return boxes.filter((box, i) => !inside(box) || boxes.slice(0, i).some(other => !apart(box, other)))
    .map(box => [box.x, box.y, box.width, box.height]);
}"""


@pytest.fixture
def pasted(relay: Relay, site: str) -> str:
    """Return what the webmaster pasted."""
    return snippet(Site(id=SiteId(site), name="Portal", hosts=("localhost",)), relay.url)


@pytest.mark.parametrize("policy", ["strict-origin-when-cross-origin", "no-referrer"])
async def test_a_page_without_script_is_counted_by_the_image_that_shows_its_numbers(  # noqa: PLR0913 (pytest passes fixtures by name)
    new_context: NewContext, portal: Portal, relay: Relay, pasted: str, site: str, counts: ReadCounts, policy: str
) -> None:
    """The image sends the page's origin even where other requests send none."""
    page = await (await new_context(java_script_enabled=False)).new_page()
    await page.goto(portal.put("*", html(pasted), {"Referrer-Policy": policy}))
    assert await relay.passed(1) == ["image"]
    assert relay.beacons[0].headers["Referer"] == portal.url + "/"
    assert (await counts(site))["views_today"] == 1
    await expect(page.locator(".footfall [role=listitem]").first).to_have_text("Đang online: –")
    box = await page.locator("noscript img").bounding_box()
    assert box is not None
    assert box["height"] > 100


async def test_with_script_the_image_is_not_loaded(
    page: Page, portal: Portal, relay: Relay, pasted: str, site: str, counts: ReadCounts
) -> None:
    """Both together would count twice."""
    await page.goto(portal.put("*", html(pasted)))
    await expect(number(page, "today")).to_have_text("1")
    assert relay.kinds == ["view"]
    assert (await counts(site))["views_today"] == 1


@pytest.mark.parametrize("layout", ["list", "line", "cards", "badge", "digits"])
async def test_no_text_leaves_the_image_and_none_lies_on_another(page: Page, layout: Layout) -> None:
    """The service has no fonts: the image must have room for the words in those of any browser."""
    site = Site(
        id=SiteId("a"), name="A", hosts=("a.vn",), labels={"today": "Khách trong ngày " * 4, "week": "KMW@" * 20}
    )
    await page.set_content(counts_svg(site, COUNTS, "vi", Look(layout=layout), () if layout != "badge" else ("today",)))
    assert await page.evaluate(OUTSIDE) == []


async def test_the_image_has_room_for_the_words_of_every_language(page: Page) -> None:
    """Scripts of Laos and Cambodia stack their letters, and Chinese ones are wide."""
    site = Site(id=SiteId("a"), name="A", hosts=("a.vn",))
    for language in LABELS:
        for layout in LAYOUTS:
            await page.set_content(counts_svg(site, COUNTS, language, Look(layout=layout), NUMBERS))
            assert (language, layout, await page.evaluate(OUTSIDE)) == (language, layout, [])


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
