"""The styles of the block, pasted into pages as webmasters do: filled, in their place, readable."""

import pytest
from playwright.async_api import Page, expect

from footfall.display.block import STYLES, Preset, Style, snippet
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from tests.browser.conftest import NewContext
from tests.browser.pages import layout_shift, number
from tests.browser.portal import Portal, html
from tests.browser.relay import Relay

BY_SCRIPT = tuple(style for style in STYLES if style != "image")
ROOMS: tuple[tuple[Style, float], ...] = (("plain", 0), ("line", 0.002))
"""Within a line of text a number moves what follows it on the line, by the width of a digit."""
BIG = {"online": 41, "today": 1373, "week": 56_789, "total": 1_373_876}
FOOTERS = {
    "white": "background:#fff;color:#222",
    "navy": "background:#07365f;color:#e4edf6",
    "red": "background:#a8201a;color:#fff",
}
OUTSIDE = """() => [...document.querySelectorAll(".footfall b, .footfall b *")].filter(element => {
  const box = element.getBoundingClientRect();
  const around = element.closest(".footfall [role=listitem], .footfall > div > span").getBoundingClientRect();
  return box.left < around.left - 1 || box.right > around.right + 1 || box.right > innerWidth || box.left < 0;
}).map(element => element.outerHTML)"""
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def pasted(relay: Relay, site: str, preset: Preset) -> str:
    """Return what the webmaster pasted."""
    return snippet(Site(id=SiteId(site), name="Portal", hosts=("localhost",)), relay.url, preset)


def footer(text: str, look: str = FOOTERS["white"], page_style: str = "", attributes: str = "") -> str:
    """Return a page whose footer is the block, in the manner of a portal."""
    style = f"<style>body{{margin:0;font:100%/1.6 Arial,sans-serif}}footer{{{look};padding:1rem}}{page_style}</style>"
    meta = '<meta name="viewport" content="width=device-width">'
    return html(f"<footer {attributes}>{text}</footer>", head=meta + style)


@pytest.mark.parametrize("width", [320, 1000])
async def test_every_style_is_filled_and_fits_also_with_text_of_twice_the_size(
    new_context: NewContext, portal: Portal, relay: Relay, site: str, width: int
) -> None:
    """The narrowest phone in use, and readers who need large text; from the right to the left too."""
    relay.change = BIG
    page = await (await new_context(viewport={"width": width, "height": 800})).new_page()
    blocks = "".join(pasted(relay, site, Preset(style)) for style in BY_SCRIPT)
    for attributes in ("", 'dir="rtl"'):
        await page.goto(portal.put("*", footer(blocks, attributes=attributes)))
        await expect(number(page, "total")).to_have_text([*4 * ["1.373.876"], "1373876"])
        for size in ("100%", "200%"):
            await page.evaluate(f"document.documentElement.style.fontSize = '{size}'")
            assert (size, await page.evaluate(OUTSIDE)) == (size, [])
            assert (size, await page.evaluate(SIDEWAYS)) == (size, 0)


async def test_filling_a_style_moves_nothing(new_context: NewContext, portal: Portal, relay: Relay, site: str) -> None:
    """The room of the numbers is there before the numbers; on one line of text what follows moves by a digit."""
    relay.change = BIG
    page = await (await new_context(viewport={"width": 360, "height": 1500})).new_page()
    below = "<p>Text that must not move.</p>" * 5
    blocks = "".join(pasted(relay, site, Preset(style)) for style in ("list", "cards", "digits"))
    await page.goto(portal.put("*", footer(blocks + below)))
    await expect(number(page, "week").last).to_have_text("056789")
    assert await layout_shift(page) == 0
    for style, most in ROOMS:
        await page.goto(portal.put("*", footer(pasted(relay, site, Preset(style)) + below)))
        await expect(number(page, "week")).to_have_text("56.789")
        assert await layout_shift(page) <= most


async def test_the_styles_need_no_exception_from_a_strict_policy(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """A ministry's page allows the counter's host and nothing inline."""
    policy = "; ".join(
        ["default-src 'none'", *(f"{kind}-src {relay.url}" for kind in ("script", "style", "img", "connect"))]
    )
    blocks = "".join(pasted(relay, site, Preset(style, color="b3261e")) for style in ("list", "cards", "digits"))
    await page.goto(portal.put("*", html(blocks), {"Content-Security-Policy": policy}))
    await expect(number(page, "today").first).to_have_text("1")
    color = "getComputedStyle(document.querySelector('.footfall b')).color"
    assert await page.evaluate(color) == "rgb(179, 38, 30)"
    display = "getComputedStyle(document.querySelector('.footfall-cards [role=list]')).display"
    assert await page.evaluate(display) == "grid"


async def test_boxes_of_digits_are_one_number_to_a_screen_reader(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """Seven boxes, spoken as seven digits or with zeros in front, would be a riddle."""
    relay.change = BIG
    await page.goto(portal.put("*", html(pasted(relay, site, Preset("digits")))))
    await expect(number(page, "today")).to_have_text("001373")
    assert await number(page, "today").locator("span").count() == 6
    spoken = [await image.get_attribute("aria-label") for image in await page.get_by_role("img").all()]
    assert spoken == ["41", "1.373", "56.789", "1.373.876"]
    relay.change = {**BIG, "today": 1374, "as_of": "2099-01-01T00:00:00.000+07:00"}
    await page.evaluate("history.pushState(0, '', '/next')")
    await expect(number(page, "today")).to_have_text("001374")
    await expect(number(page, "today")).to_have_attribute("aria-label", "1.374")


async def test_a_style_takes_the_colours_of_the_footer_it_stands_in(
    new_context: NewContext, portal: Portal, relay: Relay, site: str
) -> None:
    """White, navy or red; in high contrast and on paper the edges stay, and the text is that of the system."""
    page = await (await new_context()).new_page()
    blocks = "".join(pasted(relay, site, Preset(style)) for style in BY_SCRIPT)
    colours = "[...document.querySelectorAll('[data-count=today]')].map(b => getComputedStyle(b).color)"
    for look, expected in ((FOOTERS["navy"], "rgb(228, 237, 246)"), (FOOTERS["red"], "rgb(255, 255, 255)")):
        await page.goto(portal.put("*", footer(blocks, look)))
        assert await page.evaluate(colours) == 5 * [expected]
    await page.emulate_media(media="print")
    assert await page.evaluate(colours) == 5 * ["rgb(0, 0, 0)"]
    await page.emulate_media(media="screen", forced_colors="active")
    lists = "[...document.querySelectorAll('.footfall > div')]"
    edges = f"{lists}.map(list => getComputedStyle(list.firstElementChild).borderTopStyle)"
    assert await page.evaluate(edges) == ["solid", "solid", "none", "solid", "solid"]


@pytest.mark.parametrize("shape", ["list", "line"])
async def test_the_short_form_has_its_room_from_the_style_sheet(
    new_context: NewContext, portal: Portal, relay: Relay, site: str, shape: str
) -> None:
    """The script comes after the first frame, and what is below must stay where a reader reads it."""
    page = await (await new_context()).new_page()
    below = f'<visitor-counts class="footfall footfall-{shape}"></visitor-counts>' + "<p>Text.</p>" * 5
    sheet = f'<link rel="stylesheet" href="{relay.url}/footfall.css">'
    await page.goto(portal.put("*", html(below, head=sheet)))
    await page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    await page.evaluate(
        "address => { document.head.append(Object.assign(document.createElement('script'), { src: address })) }",
        f"{relay.url}/footfall.js?site={site}",
    )
    await expect(page.locator("visitor-counts")).to_contain_text("Hôm nay: 1")
    assert await layout_shift(page) <= (0.002 if shape == "line" else 0)
