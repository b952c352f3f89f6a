"""The demo portal as people see it: every page, phone and desktop, light and dark, with and without script."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from footfall.http.assets import DEMO_ARTICLES, DEMO_PAGES, DEMO_STYLES
from tests.browser.conftest import NewContext
from tests.browser.pages import layout_shift

PATHS = [path for _, vi_path, en_path in (*DEMO_PAGES, DEMO_STYLES) for path in (vi_path, en_path)]
ARTICLES = [path for _, vi_path, en_path in DEMO_ARTICLES for path in (vi_path, en_path)]
Scheme = Literal["light", "dark"]

# Compares every text with the nearest colour behind it, by the formula of WCAG 2.
LOW_CONTRAST = """() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length === 3) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.getClientRects().length || element.closest("noscript")) continue;
    const pair = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) found.push([texts.currentNode.data.trim(), ratio]);
  }
  return found;
}"""
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def in_foot(page: Page, name: str) -> Locator:
    """Return the number `name` of the block in the foot of the page."""
    return page.locator("footer").locator(f'[data-count="{name}"]')


@pytest_asyncio.fixture(loop_scope="session", params=["light", "dark"])
async def screen(
    new_context: NewContext, request: pytest.FixtureRequest, width: int
) -> AsyncIterator[tuple[Page, Scheme]]:
    """Open a tab on a screen of that width, in each colour scheme."""
    context = await new_context(viewport={"width": width, "height": 800}, color_scheme=request.param)
    yield await context.new_page(), request.param


@pytest.mark.parametrize("width", [360, 1280])
async def test_every_page_fits_the_screen_and_can_be_read(
    screen: tuple[Page, Scheme], service_url: str, width: int
) -> None:
    """Contrast of AA in light and dark; no sideways scrolling, not even with text of twice the size."""
    page, _ = screen
    for path in [*PATHS, *ARTICLES[:2]]:
        await page.goto(service_url + path)
        await expect(in_foot(page, "today")).not_to_have_text("–")
        assert (path, await page.evaluate(LOW_CONTRAST)) == (path, [])
        assert (path, await page.evaluate(SIDEWAYS)) == (path, 0)
        await page.evaluate("document.documentElement.style.fontSize = '200%'")
        assert (path, await page.evaluate(SIDEWAYS)) == (path, 0)


@pytest.mark.parametrize("width", [360, 1280])
async def test_the_home_page_can_be_looked_at(
    screen: tuple[Page, Scheme], service_url: str, width: int, tmp_path: Path
) -> None:
    """Pictures for people who change the look; pytest keeps those of the last three runs."""
    page, scheme = screen
    await page.goto(service_url + "/")
    await expect(in_foot(page, "today")).not_to_have_text("–")
    picture = await page.screenshot(path=tmp_path / f"home-{scheme}-{width}.png", full_page=True)
    assert len(picture) > 10_000


async def test_the_footer_counts_and_speaks_the_pages_language(page: Page, service_url: str) -> None:
    """A newcomer looks at the demo first after `make run`."""
    await page.goto(service_url + "/")
    block = page.locator("footer .footfall")
    await expect(block.locator("h2")).to_have_text("Thống kê truy cập")
    await expect(in_foot(page, "online")).not_to_have_text("–")
    assert [text.split(":")[0] for text in await block.get_by_role("listitem").all_inner_texts()] == [
        "Đang online",
        "Hôm nay",
        "Trong tuần",
        "Tất cả",
    ]
    await page.get_by_role("link", name="English").click()
    await page.wait_for_url("**/en/")
    await expect(block.locator("h2")).to_have_text("Visitor statistics")
    await expect(in_foot(page, "today")).not_to_have_text("–")


@pytest.mark.parametrize(("article", "lists"), [(ARTICLES[0], ["/", "/tin-tuc"]), (ARTICLES[1], ["/en/", "/en/news"])])
async def test_an_article_and_the_lists_of_news_show_its_views(
    page: Page, service_url: str, article: str, lists: list[str]
) -> None:
    """Each view counts once, below the article and in both lists, in either language."""
    numbers = []
    for _ in range(2):
        async with page.expect_response("**/seen") as seen:
            await page.goto(service_url + article)
        numbers.append((await (await seen.value).json())["pages"][article]["views"])
        await expect(page.locator('article .byline [data-count="page_views"]')).to_have_text(str(numbers[-1]))
    assert numbers[1] == numbers[0] + 1
    for path in lists:
        await page.goto(service_url + path)
        await expect(page.locator(f'[data-count="page_views"][data-page="{article}"]')).to_have_text(str(numbers[1]))


async def test_every_link_leads_somewhere(page: Page, service_url: str) -> None:
    """Visitors of a demonstration remember a dead link."""
    targets: set[str] = set()
    for path in [*PATHS, *ARTICLES]:
        await page.goto(service_url + path)
        targets |= set(await page.evaluate("[...document.links].map(link => link.href)"))
    for target in sorted(targets):
        if target.startswith("mailto:"):
            continue
        response = await page.request.get(target)
        assert (target, response.status) == (target, 200)
        place = target.partition("#")[2]
        assert not place or f'id="{place}"' in await response.text(), target


async def test_the_keyboard_finds_the_content_first(page: Page, service_url: str) -> None:
    """People who use no mouse skip the menu."""
    await page.goto(service_url + "/")
    await page.keyboard.press("Tab")
    skip = page.locator(".skip")
    await expect(skip).to_be_focused()
    await expect(skip).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()


async def test_the_page_says_where_it_is(page: Page, service_url: str) -> None:
    """A screen reader finds one main heading, landmarks, the current page and language."""
    for path in PATHS:
        await page.goto(service_url + path)
        assert await page.locator("h1").count() == 1
        assert await page.locator('.menu a[aria-current="page"]').get_attribute("href") == path
        lang = "en" if path.startswith("/en") else "vi"
        assert await page.locator("html").get_attribute("lang") == lang
        for landmark in ("banner", "main", "contentinfo"):
            assert await page.get_by_role(landmark).count() == 1
    for path in ARTICLES:
        await page.goto(service_url + path)
        assert await page.locator("h1").count() == 1
        assert await page.locator('.menu a[aria-current="true"]').get_attribute("href") == path.rpartition("/")[0]


@pytest.mark.parametrize("width", [360, 1280])
async def test_nothing_shifts(new_context: NewContext, service_url: str, width: int) -> None:
    """Numbers come late, and the page does not move for them."""
    page = await (await new_context(viewport={"width": width, "height": 3500})).new_page()
    await page.goto(service_url + "/")
    await expect(in_foot(page, "today")).not_to_have_text("–")
    assert await layout_shift(page) == 0


async def test_the_demo_needs_no_exception_from_a_strict_policy(page: Page, service_url: str) -> None:
    """The public embed works on a page with a Content-Security-Policy of a ministry."""
    output = []
    page.on("console", lambda message: output.append(message.text))
    response = await page.goto(service_url + "/")
    assert response is not None
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    await expect(in_foot(page, "today")).not_to_have_text("–")
    assert output == []


async def test_without_script_everything_but_the_numbers_is_there(new_context: NewContext, service_url: str) -> None:
    """The portal must not depend on its counter."""
    page = await (await new_context(java_script_enabled=False)).new_page()
    await page.goto(service_url + "/")
    await expect(page.locator("footer .footfall [role=listitem]").last).to_have_text("Tất cả: –")


async def test_on_a_phone_the_numbers_are_on_top_too(new_context: NewContext, service_url: str) -> None:
    """The foot of a page is many screens down; on a wide screen it is not."""
    page = await (await new_context(viewport={"width": 360, "height": 800})).new_page()
    await page.goto(service_url + "/")
    top = page.locator(".numbers-on-top")
    await expect(top.locator("[data-count=total]")).not_to_have_text("–")
    await expect(top).to_be_in_viewport()
    await page.set_viewport_size({"width": 1000, "height": 800})
    await expect(top).to_be_hidden()


async def test_a_printed_page_is_black_on_white(page: Page, service_url: str) -> None:
    """Ink and readers: no menu, no dark areas, and the text that stood on them is not white."""
    await page.emulate_media(media="print")
    await page.goto(service_url + "/lien-he")
    await expect(page.locator(".menu")).to_be_hidden()
    colours = [
        await page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).{name}")
        for selector, name in (("footer", "color"), ("footer", "backgroundColor"), ("footer h2", "color"))
    ]
    assert colours == ["rgb(0, 0, 0)", "rgba(0, 0, 0, 0)", "rgb(0, 0, 0)"]
