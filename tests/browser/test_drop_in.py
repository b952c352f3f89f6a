"""In place of busuanzi and vercount: the real templates of two themes of Hexo, filled by Footfall."""

import json
import subprocess
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import ReadCounts
from tests.browser.portal import Portal, html
from tests.browser.relay import Relay

NEXT = r"""
const { readFileSync } = require("fs");
const nunjucks = require("nunjucks");
const layout = name => readFileSync(`${packages}/hexo-theme-next/layout/${name}.njk`, "utf8");
const part = (name, pattern) => layout(name).match(pattern)[0];
const theme = {
  busuanzi_count: { enable: true, total_visitors: true, total_views: true, post_views: true },
  vendors: { busuanzi: address },
};
const parts = [
  part("_partials/post/post-meta", /  {%- if not is_index and theme.busuanzi_count[^]*?\n  {%- endif %}/),
  part("_partials/footer", /{%- if theme.busuanzi_count.enable %}[^]*?\n{%- endif %}/),
  layout("_third-party/statistics/busuanzi-counter"),
];
const style = "<style>[id^=busuanzi_container] { display: none }</style>";
console.log(style + parts.map(text => nunjucks.renderString(text, { theme, __: word => word })).join("\n"));
"""
FLUID = r"""
const { readFileSync } = require("fs");
const ejs = require("ejs");
const scripts = new Set();
const context = {
  theme: {
    footer: { statistics: { source: "busuanzi", pv_format: "Views {}", uv_format: "Visitors {}" } },
    static_prefix: { busuanzi: address },
  },
  __: word => word,
  import_js: (folder, name) => scripts.add(`<script defer src="${folder}${name}"></script>`),
};
const file = `${packages}/hexo-theme-fluid/layout/_partials/footer/statistics.ejs`;
console.log(ejs.render(readFileSync(file, "utf8"), context) + [...scripts].join(""));
"""


def rendered(program: str, packages: Path, address: str) -> str:
    """Return what the theme's own template gives where `address` is its setting."""
    given = f"const packages = {json.dumps(str(packages))}, address = {json.dumps(address)};"
    command = ["node", "-e", given + program]
    return subprocess.run(command, cwd=packages, check=True, capture_output=True, text=True).stdout


async def test_hexo_next_is_filled_by_one_address(
    page: Page, portal: Portal, relay: Relay, site: str, counts: ReadCounts, npm_packages: Path
) -> None:
    """Views and visitors of the site, views of the page; its containers are hidden until then."""
    template = rendered(NEXT, npm_packages, f"{relay.url}/busuanzi.js?site={site}")
    await page.goto(portal.put("*", html(template)))
    for name in ("site_pv", "site_uv", "page_pv"):
        await expect(page.locator(f"#busuanzi_value_{name}")).to_have_text("1")
        await expect(page.locator(f"#busuanzi_container_{name}")).to_be_visible()
    assert relay.kinds == ["view"]
    assert (await counts(site))["views_total"] == 1


async def test_hexo_fluid_is_filled_by_a_folder(
    page: Page, portal: Portal, relay: Relay, site: str, npm_packages: Path
) -> None:
    """Its setting is a folder, and the name of the file in it is fixed."""
    template = rendered(FLUID, npm_packages, f"{relay.url}/busuanzi/{site}/")
    assert "busuanzi.pure.mini.js" in template
    await page.goto(portal.put("*", html(template)))
    await expect(page.locator(".statistics")).to_have_text("Views 1 Visitors 1", use_inner_text=True)
    assert relay.kinds == ["view"]


@pytest.mark.parametrize("mark", ["id", "class"])
async def test_vercount_has_the_same_and_what_is_not_counted_stays_hidden(
    page: Page, portal: Portal, relay: Relay, site: str, warnings: list[str], mark: str
) -> None:
    """Visitors of single pages are not counted, and a page that has a place for them says so once."""
    block = "".join(
        f'<p {mark}="vercount_container_{name}" style="display: none">{name} <b {mark}="vercount_value_{name}"></b></p>'
        for name in ("site_pv", "site_uv", "page_pv", "page_uv")
    )
    script = f'<script async src="{relay.url}/busuanzi.js?site={site}"></script>'
    await page.goto(portal.put("*", html(block, script)))
    await expect(page.locator("body")).to_have_text("site_pv 1 site_uv 1 page_pv 1", use_inner_text=True)
    assert len(warnings) == 1
    assert "visitors of single pages are not counted" in warnings.pop()


async def test_a_theme_that_runs_its_script_again_on_each_page_counts_each_once(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """Themes with pjax replace the page and run the scripts in it."""
    value = '<b id="busuanzi_value_page_pv"></b>'
    script = f'<script src="{relay.url}/busuanzi.js?site={site}"></script>'
    await page.goto(portal.put("*", html(value, script)))
    await expect(page.locator("b")).to_have_text("1")
    await page.evaluate(
        """address => {
          history.pushState(0, "", "/next");
          document.querySelector("b").outerHTML = '<b id="busuanzi_value_page_pv"></b>';
          document.body.append(Object.assign(document.createElement("script"), { src: address }));
        }""",
        f"{relay.url}/busuanzi.js?site={site}",
    )
    await relay.passed(2)
    await expect(page.locator("b")).to_have_text("1")
    assert [beacon.body["page"] for beacon in relay.beacons] == ["/", "/next"]
