"""What the script costs the page around it: no work while the page changes, no shift, no wait."""

import socket
from pathlib import Path

from playwright.async_api import Page, expect

from footfall.display.block import snippet
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from tests.browser.conftest import NewContext
from tests.browser.pages import layout_shift, number, settle
from tests.browser.portal import BLOCK, Portal, html
from tests.browser.relay import Relay

GUIDE = Path(__file__).parents[2] / "deploy" / "WEBMASTERS.md"
WATCH = """
window.searches = 0;
for (const kind of [Document, ShadowRoot]) {
  const original = kind.prototype.querySelectorAll;
  kind.prototype.querySelectorAll = function (selector) {
    window.searches += 1;
    return original.call(this, selector);
  };
}
"""


def of_the_guide(beginning: str) -> str:
    """Return the line of the webmasters' guide that begins so."""
    (line,) = (line.strip() for line in GUIDE.read_text().splitlines() if line.strip().startswith(beginning))
    return line


async def test_a_page_that_changes_without_numbers_is_not_searched(page: Page, address: str, relay: Relay) -> None:
    """A page of 20,000 elements that changes all the time spent a tenth of its time in searches."""
    await page.add_init_script(WATCH)
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1")
    await settle(page, relay)
    await page.clock.run_for(1000)
    await page.evaluate("searches = 0")
    await page.evaluate(
        "for (let i = 0; i < 500; i++) { document.body.append(document.createElement('p'), 'text') }"
        "document.querySelectorAll = () => [];"
        "document.querySelector('p').remove(); document.querySelector('[data-count]').textContent = '7'"
    )
    await page.evaluate("delete document.querySelectorAll")
    await page.clock.run_for(1000)
    assert await page.evaluate("searches") == 0
    await page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p><i data-count=today></i></p>')")
    await page.clock.run_for(1000)
    await expect(page.locator("i")).to_have_text("1")


async def test_numbers_in_a_shadow_root_are_filled_where_the_page_asks_for_it(
    page: Page, address: str, relay: Relay
) -> None:
    """A footer may be a web component, whose inside no selector of the document finds."""
    await page.goto(address)
    await expect(number(page, "today").first).to_have_text("1")
    await page.evaluate(
        """const host = document.body.appendChild(document.createElement("my-footer"));
        const root = host.attachShadow({ mode: "open" });
        root.innerHTML = "<i data-count=today></i><visitor-counts></visitor-counts>";
        footfall.fill(root);"""
    )
    await expect(page.locator("my-footer i")).to_have_text("1")
    relay.change = {"today": 2, "as_of": "2099-01-01T00:00:00.000+07:00"}
    await page.evaluate("history.pushState(0, '', '/next')")
    await expect(page.locator("my-footer i")).to_have_text("2")
    await expect(page.locator("my-footer li").nth(1)).to_have_text("Hôm nay: 2")


async def test_two_pasted_blocks_are_both_filled_and_share_no_id(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """A page may have the block at its top and in its foot."""
    pasted = snippet(Site(id=SiteId(site), name="Portal", hosts=("localhost",)), relay.url)
    await page.goto(portal.put("*", html(pasted, pasted)))
    await expect(page.locator(".footfall .footfall-today")).to_have_text(["1", "1"])
    assert await page.locator("[id]").count() == 0
    assert relay.kinds == ["view"]


async def test_the_short_form_shifts_nothing_where_its_room_is_reserved(
    new_context: NewContext, portal: Portal, relay: Relay, site: str
) -> None:
    """The script comes after the first frame, and what is below must stay where a reader reads it."""
    page = await (await new_context()).new_page()
    style = f"<style>{of_the_guide('visitor-counts {')}</style>"
    below = "<visitor-counts></visitor-counts>" + "<p>Text that must not move.</p>" * 5
    await page.goto(portal.put("*", html(below, head=style)))
    await page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    await page.evaluate(
        "address => { document.head.append(Object.assign(document.createElement('script'), { src: address })) }",
        f"{relay.url}/footfall.js?site={site}",
    )
    await expect(page.locator("visitor-counts")).to_contain_text("Hôm nay: 1")
    assert await layout_shift(page) == 0


async def test_a_counter_that_hangs_does_not_hold_back_a_page_that_loads_it_afterwards(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """Portals measure their load event, and some show their content only after it."""
    line = of_the_guide("<script>addEventListener")
    with socket.create_server(("127.0.0.1", 0)) as never_answers:
        port = never_answers.getsockname()[1]
        ours = line.replace("https://count.example.vn", f"http://127.0.0.1:{port}")
        assert str(port) in ours
        await page.goto(portal.put("*", html(BLOCK, ours)), wait_until="load")
        assert await page.evaluate("document.readyState") == "complete"
    ours = line.replace("https://count.example.vn", relay.url).replace("site=portal", f"site={site}")
    await page.goto(portal.put("*", html(BLOCK, ours)))
    await expect(number(page, "today")).to_have_text("1")
    assert relay.kinds == ["view"]
