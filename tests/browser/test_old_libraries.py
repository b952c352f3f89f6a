"""Pages of old portals, whose libraries put functions of their own in the place of the browser's."""

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import ReadCounts
from tests.browser.pages import number
from tests.browser.portal import BLOCK, Portal, html, script_line
from tests.browser.relay import Relay

MOOTOOLS = "mootools/lib/mootools-core-1.4.5-server.js"
"""Joomla up to 2.5 has it."""
AS_PROTOTYPE_DOES = """
Array.from = list => {
  const copy = [];
  for (let at = 0; at < ((list && list.length) || 0); at++) copy.push(list[at]);
  return copy;
};
"""
"""Prototype up to 1.7.3, of Magento 1 and many older portals: no sets, and no function for each element."""
AS_DATES_DO = "Date.parse = () => new Date(NaN);"
"""Libraries of dates return what is no number, for a form that they do not know."""


@pytest.mark.parametrize("late", [False, True], ids=["before the line", "after it"])
@pytest.mark.parametrize("library", [MOOTOOLS, AS_PROTOTYPE_DOES, AS_DATES_DO], ids=["MooTools", "Prototype", "dates"])
async def test_a_library_that_replaces_what_the_browser_has_stops_no_counting(  # noqa: PLR0913 (fixtures)
    page: Page,
    portal: Portal,
    relay: Relay,
    site: str,
    counts: ReadCounts,
    npm_packages: Path,
    library: str,
    late: bool,
) -> None:
    """Views were refused for a wrong id, and no number was filled, on each page of such a portal."""
    text = (npm_packages / library).read_text() if library == MOOTOOLS else library
    portal.put("/library.js", text)
    lines = ['<script src="/library.js"></script>', BLOCK + "<visitor-counts></visitor-counts>"]
    lines.insert(2, script_line(relay.url, site))
    await page.goto(portal.put("*", html(*(reversed(lines) if late else lines))))
    await expect(number(page, "today").first).to_have_text("1")
    await expect(page.locator("visitor-counts")).to_contain_text("Hôm nay: 1")
    await page.evaluate("history.pushState(0, '', '/next')")
    assert await relay.passed(2) == ["view", "view"]
    relay.change = {"today": 5, "as_of": "2099-01-01T00:00:00.000+07:00", "day_of": "2099-01-01"}
    await page.evaluate("history.pushState(0, '', '/last')")
    await expect(number(page, "today").first).to_have_text("5")
    assert (await counts(site))["views_today"] == 3
