"""The demo's page of styles: what it shows lives, and what it prints works when it is pasted."""

import re

import pytest
from playwright.async_api import Page, expect

from footfall.display.block import STYLES
from footfall.http.assets import DEMO_STYLES
from tests.browser.conftest import NewContext
from tests.browser.pages import layout_shift, settle
from tests.browser.portal import Portal, html
from tests.browser.relay import Relay

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
OF_IMAGES = "[...document.querySelectorAll('.sample img')].map(image => image.complete && image.naturalWidth > 100)"


def pasted(code: str, relay: Relay, site: str) -> str:
    """Return the lines as they would be printed for a site of this test, whose counter is behind the relay."""
    return ADDRESS.sub(relay.url, code).replace("portal", site)


@pytest.mark.parametrize("path", DEMO_STYLES[1:])
async def test_every_style_lives_beside_its_code(page: Page, service_url: str, path: str) -> None:
    """A webmaster chooses by looking, on a white page and in a navy footer."""
    await page.goto(service_url + path)
    await expect(page.locator(".sample [data-count=total]").last).not_to_have_text("––––––")
    shown = await page.locator(".sample [data-count=total]").all_inner_texts()
    assert len(shown) == 2 * (len(STYLES) - 1)
    assert all(re.search(r"\d", text) for text in shown)
    assert await page.evaluate(OF_IMAGES) == [True, True]
    assert await page.locator(".code").count() == len(STYLES)
    language = await page.evaluate("document.documentElement.lang")
    await expect(page.locator("[name=lang]")).to_have_value(language)


async def test_what_each_style_prints_works_in_an_empty_page(
    new_context: NewContext, portal: Portal, relay: Relay, site: str, service_url: str
) -> None:
    """The very text of the page is pasted: it counts, its numbers are filled, it fits a phone."""
    page = await (await new_context(viewport={"width": 320, "height": 800})).new_page()
    await page.goto(service_url + DEMO_STYLES[1])
    codes = [await code.input_value() for code in await page.locator(".code").all()]
    for views, (style, code) in enumerate(zip(STYLES, codes, strict=True), start=1):
        head = '<meta name="viewport" content="width=device-width">'
        await page.goto(portal.put("*", html(pasted(code, relay, site), head=head)))
        if style == "image":
            await page.wait_for_function("document.images[0].complete")
            assert await page.evaluate("document.images[0].naturalWidth > 100")
        else:
            today = "000001" if style == "digits" else "1"
            await expect(page.locator("[data-count=today]")).to_have_text(today)
            box = await page.locator(".footfall").bounding_box()
            assert box is not None
            assert 15 < box["height"] < 400
            assert await layout_shift(page) < 0.002
        await settle(page, relay)
        assert len([kind for kind in relay.kinds if kind != "ping"]) == views, style
        assert (style, await page.evaluate(SIDEWAYS)) == (style, 0)


async def test_the_form_builds_the_lines_that_were_asked_for(
    page: Page, portal: Portal, relay: Relay, site: str, service_url: str
) -> None:
    """Site, language, numbers, style, heading, colour; without a framework, and without script too."""
    await page.goto(service_url + DEMO_STYLES[1])
    await page.select_option("[name=lang]", "en")
    await page.select_option("[name=style]", "cards")
    await page.select_option("[name=heading]", "3")
    for name in ("online", "week"):
        await page.uncheck(f"[name=show][value={name}]")
    await page.fill("[name=color]", "b3261e")
    await page.click("button[type=submit]")
    result = page.locator("section[aria-labelledby=ket-qua]")
    await expect(result.locator("[data-count=today]").first).not_to_have_text("–")
    code = await result.locator(".code").input_value()
    await page.goto(portal.put("*", html(pasted(code, relay, site))))
    await expect(page.locator("h3")).to_have_text("Visitor statistics")
    await expect(page.locator("[role=listitem]")).to_have_text(["Today 1", "All time 1"])
    colour = "getComputedStyle(document.querySelector('.footfall b')).color"
    assert await page.evaluate(colour) == "rgb(179, 38, 30)"


async def test_a_button_copies_the_code(new_context: NewContext, service_url: str) -> None:
    """Selecting twelve lines on a phone is hard."""
    context = await new_context()
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = await context.new_page()
    await page.goto(service_url + DEMO_STYLES[2])
    await page.locator("#cards ~ .code + button").click()
    await expect(page.locator("#cards ~ .code + button")).to_have_text("Copied")
    assert "footfall-cards" in await page.evaluate("navigator.clipboard.readText()")
