"""axe finds nothing: on the demo's pages, its page of styles, and each style in the footers of portals."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from footfall.display.block import STYLES, Preset, snippet
from footfall.http.assets import DEMO_ARTICLES, DEMO_PAGES, DEMO_STYLES
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from tests.browser.conftest import NewContext
from tests.browser.portal import Portal
from tests.browser.relay import Relay

PATHS = {
    "light": [*(vi_path for _, vi_path, _ in (*DEMO_PAGES, DEMO_ARTICLES[0])), *DEMO_STYLES[1:]],
    "dark": [DEMO_PAGES[0][2], DEMO_STYLES[1]],
}
FOOTERS = ("background:#fff;color:#222", "background:#07365f;color:#e4edf6", "background:#a8201a;color:#fff")
RUN = """async () => (await axe.run()).violations.map(found => [found.id, found.nodes.map(node => node.html)])"""


async def violations(page: Page, packages: Path) -> Any:
    """Return what axe finds on the page, by rule."""
    await page.evaluate((packages / "axe-core" / "axe.min.js").read_text())
    return await page.evaluate(RUN)


@pytest.mark.parametrize("scheme", PATHS)
async def test_axe_finds_nothing_on_the_demo(
    new_context: NewContext, service_url: str, npm_packages: Path, scheme: Any
) -> None:
    """Public bodies are bound by law to such rules, and copy what they see."""
    page = await (await new_context(color_scheme=scheme)).new_page()
    for path in PATHS[scheme]:
        await page.goto(service_url + path)
        await expect(page.locator("footer [data-count=today]")).not_to_have_text("–")
        assert (path, await violations(page, npm_packages)) == (path, [])


async def test_axe_finds_nothing_in_any_style(
    new_context: NewContext, portal: Portal, relay: Relay, site: str, npm_packages: Path
) -> None:
    """Contrast on white, navy and red; roles and names as ARIA wants them."""
    of_site = Site(id=SiteId(site), name="Portal", hosts=("localhost",))
    page = await (await new_context()).new_page()
    for look in FOOTERS:
        blocks = "".join(snippet(of_site, relay.url, Preset(style, heading=2)) for style in STYLES)
        await page.goto(
            portal.put(
                "*",
                f'<!doctype html><html lang="vi"><title>Portal</title><style>footer {{ {look} }}</style>'
                f"<main><h1>Portal</h1></main><footer>{blocks}</footer>",
            )
        )
        await expect(page.locator("[data-count=today]").last).to_have_text("000001")
        assert (look, await violations(page, npm_packages)) == (look, [])


async def test_axe_would_find_what_is_wrong(page: Page, portal: Portal, npm_packages: Path) -> None:
    """The silence above is worth something only where it speaks."""
    await page.clock.resume()
    faint = '<p style="color: #bbb">Faint</p><b role="listitem">Alone</b><img src="/x.gif">'
    await page.goto(portal.put("*", f'<!doctype html><html lang="vi"><title>Portal</title><main>{faint}</main>'))
    found = {rule for rule, _ in await violations(page, npm_packages)}
    assert {"color-contrast", "image-alt", "aria-required-parent"} <= found
