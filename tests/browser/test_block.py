"""What a visitor sees: the page's own markup, filled with numbers that do not jump."""

from typing import Any

import pytest
from playwright.async_api import Page, expect

from footfall.display.block import snippet
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from tests.browser.conftest import NewContext, NewSite
from tests.browser.pages import layout_shift, let_pass, number, settle
from tests.browser.portal import BLOCK, Portal, html, script_line
from tests.browser.relay import Relay

BIG = {"online": 41, "today": 1373, "week": 56_789, "total": 1_373_876, "views_today": 2048}
DAY: dict[str, Any] = {
    **BIG,
    "day_of": "2026-11-23",
    "week_of": "2026-11-23",
    "revision": "one",
    "measure": "visitors",
    "as_of": "2026-11-23T08:00:00.000+07:00",
}
ONE_MINUTE_LATER = "2026-11-23T08:01:00.000+07:00"
ONE_MINUTE_EARLIER = "2026-11-23T07:59:00.000+07:00"


async def test_the_pasted_lines_count_and_show(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """A webmaster does only this: paste what `footfall snippet` prints into any page."""
    pasted = snippet(Site(id=SiteId(site), name="Portal", hosts=("localhost",)), relay.url)
    relay.change = BIG
    await page.goto(portal.put("*", f"<title>Plain</title><p>Text</p>\n{pasted}"))
    await expect(page.locator(".footfall")).to_contain_text("Tất cả: 1.373.876")
    snapshot = await page.locator("body").aria_snapshot()
    assert snapshot.splitlines() == [
        "- paragraph: Text",
        "- paragraph:",
        "  - strong: Thống kê truy cập",
        '- list "Thống kê truy cập":',
        '  - listitem: "Đang online: 41"',
        '  - listitem: "Hôm nay: 1.373"',
        '  - listitem: "Trong tuần: 56.789"',
        '  - listitem: "Tất cả: 1.373.876"',
    ]
    assert relay.kinds == ["view"]


@pytest.mark.parametrize(
    "markup",
    [
        pytest.param('<p>Hôm nay: <span data-count="today"></span></p>', id="span by hand"),
        pytest.param('<p>Hôm nay: <span class="count footfall-today">…</span></p>', id="class only"),
        pytest.param('<p>Hôm nay: <i class="footfall-today" data-count="today">–</i></p>', id="both"),
        pytest.param('<table><tr><td>Hôm nay: <td data-count="today">0</table>', id="table"),
    ],
)
async def test_markup_written_by_hand_is_filled(
    page: Page, portal: Portal, relay: Relay, site: str, markup: str
) -> None:
    """Old pages have markup of other counters, and editors strip unknown attributes."""
    relay.change = BIG
    await page.goto(portal.put("*", html(markup, script_line(relay.url, site))))
    await expect(page.locator("[data-count], .footfall-today")).to_have_text("1.373")


async def test_a_script_line_without_data_attributes_works(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """The editor that strips data-count strips data-site as well."""
    line = f'<script async src="{relay.url}/footfall.js?site={site}"></script>'
    await page.goto(portal.put("*", html('<b class="footfall-today"></b>', line)))
    await expect(page.locator("b")).to_have_text("1")


async def test_what_another_script_calls_data_count_is_left_alone(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """Themes animate numbers with the same attribute."""
    theme = '<b id="theme" data-count="500">0</b>'
    await page.goto(portal.put("*", html(BLOCK, theme, script_line(relay.url, site))))
    await expect(number(page, "today")).to_have_text("1")
    await expect(page.locator("#theme")).to_have_text("0")


async def test_a_block_that_comes_late_is_filled_too(page: Page, address: str, portal: Portal, relay: Relay) -> None:
    """Frameworks build the foot of a page after the answer has come."""
    address = portal.put("*", portal.pages["*"][0].replace(BLOCK, ""))
    await page.goto(address)
    await relay.passed(1)
    await settle(page, relay)
    await page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<b data-count=today></b><visitor-counts></visitor-counts>')"
    )
    await expect(page.locator("body > b")).to_have_text("1")
    await expect(page.locator("visitor-counts li").nth(1)).to_have_text("Hôm nay: 1")


async def test_the_short_form_makes_the_same_list(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """The list is in the page's own document, so that the page's style sheet applies."""
    relay.change = BIG
    await page.goto(portal.put("*", html("<visitor-counts></visitor-counts>", script_line(relay.url, site))))
    await expect(page.locator("visitor-counts")).to_contain_text("41")
    assert (await page.locator("body").aria_snapshot()).splitlines() == [
        '- list "Thống kê truy cập":',
        '  - listitem: "Đang online: 41"',
        '  - listitem: "Hôm nay: 1.373"',
        '  - listitem: "Trong tuần: 56.789"',
        '  - listitem: "Tất cả: 1.373.876"',
    ]
    assert await page.evaluate("document.querySelector('visitor-counts').shadowRoot") is None


async def test_words_that_did_not_come_are_read_again(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """The script has no words of its own, because few pages need them: it reads them where there is a short form."""
    await page.route("**/footfall-words.json", lambda route: route.abort(), times=1)
    await page.goto(portal.put("*", html("<visitor-counts></visitor-counts>", script_line(relay.url, site))))
    await expect(page.locator("visitor-counts")).to_contain_text("Hôm nay: 1")
    await settle(page, relay)
    assert relay.kinds == ["view"]


async def test_a_page_that_takes_the_list_apart_is_still_counted(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """Whatever a page does to our elements, the script must cause no error on it."""
    block = '<visitor-counts data-show=" ,no-such-number, today"></visitor-counts>'
    await page.goto(portal.put("*", html(block, BLOCK, script_line(relay.url, site))))
    await expect(page.locator("visitor-counts li")).to_have_text("Hôm nay: 1")
    await page.evaluate("document.querySelector('visitor-counts b').previousSibling.remove()")
    await let_pass(page, relay, 60)
    assert relay.kinds == ["view", "ping"]


async def test_labels_come_from_the_attribute_then_from_the_site_then_from_the_script(
    page: Page, portal: Portal, relay: Relay, new_site: NewSite
) -> None:
    """Each portal has its own words, and one page may want others."""
    block = '<visitor-counts data-show="today week views_today" data-label-week="7 ngày"></visitor-counts>'
    await page.goto(portal.put("*", html(block, script_line(relay.url, new_site("labelled")))))
    await expect(page.locator("visitor-counts")).to_contain_text("Khách hôm nay: 1")
    assert (await page.locator("visitor-counts").aria_snapshot()).splitlines() == [
        '- list "Lượt truy cập":',
        '  - listitem: "Khách hôm nay: 1"',
        '  - listitem: "7 ngày: 1"',
        '  - listitem: "Lượt xem hôm nay: 1"',
    ]


@pytest.mark.parametrize(
    ("kind", "lang", "text", "list_lang"),
    [
        pytest.param("plain", "vi", "Tất cả: 1.373.876", None, id="the page's vi"),
        pytest.param("plain", "vi-VN", "Tất cả: 1.373.876", None, id="vi-VN is vi"),
        pytest.param("plain", "en", "All time: 1,373,876", None, id="an English page of a Vietnamese site"),
        pytest.param("english", "vi", "Tất cả: 1.373.876", None, id="a Vietnamese page of an English site"),
        pytest.param("plain", "fr", "Tất cả: 1.373.876", "vi", id="another language: the site's, and said so"),
        pytest.param("english", "fr", "All time: 1,373,876", "en", id="another language, English site"),
        pytest.param("chinese", "zh-Hans", "总计: 1,373,876", None, id="a Chinese page and site"),
        pytest.param("chinese", "fr", "总计: 1,373,876", "zh", id="another language, Chinese site"),
        pytest.param("chinese", "de", "All time: 1.373.876", None, id="a language with words of the site's own"),
        pytest.param("english", "", "All time: 1,373,876", "en", id="no language at all"),
        pytest.param("labelled", "en-GB", "All time: 1,373,876", None, id="the site's own words are Vietnamese"),
    ],
)
async def test_the_block_speaks_the_pages_language(  # noqa: PLR0913 (pytest passes fixtures by name)
    page: Page, portal: Portal, relay: Relay, new_site: NewSite, kind: str, lang: str, text: str, list_lang: str
) -> None:
    """A portal in two languages has one script line."""
    relay.change = BIG
    block = "<visitor-counts></visitor-counts>"
    await page.goto(portal.put("*", html(block, script_line(relay.url, new_site(kind)), lang=lang)))
    await expect(page.locator("visitor-counts li").last).to_have_text(text)
    assert await page.locator("visitor-counts ul").get_attribute("lang") == list_lang


async def test_the_nearest_language_counts(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """A Vietnamese page may have an English footer."""
    relay.change = BIG
    block = '<footer lang="en"><b data-count="total"></b></footer><b class="footfall-total"></b>'
    await page.goto(portal.put("*", html(block, script_line(relay.url, site))))
    await expect(page.locator("footer b")).to_have_text("1,373,876")
    await expect(page.locator("body > b")).to_have_text("1.373.876")


async def test_the_largest_numbers_are_right(page: Page, address: str, relay: Relay) -> None:
    """Numbers are right beyond 2^31, up to 2^53."""
    relay.change = {"total": 2**53 - 1, "week": 2**31}
    await page.goto(address)
    await expect(number(page, "total")).to_have_text("9.007.199.254.740.991")
    await expect(number(page, "week")).to_have_text("2.147.483.648")


async def test_an_unknown_number_is_a_dash_and_later_the_last_one_known(page: Page, address: str, relay: Relay) -> None:
    """While Redis is away the number online is unknown; 0 would be false."""
    relay.change = {**DAY, "online": None}
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1.373")
    await expect(number(page, "online")).to_have_text("–")
    relay.change = {**DAY, "as_of": ONE_MINUTE_LATER}
    await let_pass(page, relay, 60)
    await expect(number(page, "online")).to_have_text("41")
    relay.change = {**DAY, "online": None, "today": None, "total": None}
    await let_pass(page, relay, 60)
    await expect(number(page, "online")).to_have_text("41")
    await expect(number(page, "total")).to_have_text("1.373.876")


async def test_nothing_known_at_all_changes_nothing(page: Page, address: str, relay: Relay) -> None:
    """A worker that has just started, with both stores away, does not know the day."""
    relay.change = DAY
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1.373")
    relay.change = dict.fromkeys([*BIG, "day_of", "week_of", "revision", "as_of"])
    await let_pass(page, relay, 60)
    relay.change = {**DAY, "today": 1370, "as_of": ONE_MINUTE_LATER}
    await let_pass(page, relay, 60)
    assert len(relay.beacons) == 3
    await expect(number(page, "today")).to_have_text("1.373")


@pytest.mark.parametrize("as_of", [ONE_MINUTE_LATER, ONE_MINUTE_EARLIER])
async def test_no_number_steps_down_within_its_period(page: Page, address: str, relay: Relay, as_of: str) -> None:
    """The next answer comes from a worker whose counts are a second older."""
    relay.change = DAY
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1.373")
    relay.change = {**DAY, "today": 1372, "week": 56_788, "total": 1_373_875, "views_today": 2047, "as_of": as_of}
    await let_pass(page, relay, 60)
    assert relay.kinds == ["view", "ping"]
    assert await page.locator("b").all_inner_texts() == ["41", "1.373", "56.789", "1.373.876", "2.048"]


async def test_online_goes_down_but_never_back_in_time(page: Page, address: str, relay: Relay) -> None:
    """People leave, so the number may fall; only an older answer must not change it."""
    relay.change = DAY
    await page.goto(address)
    await expect(number(page, "online")).to_have_text("41")
    relay.change = {**DAY, "online": 12, "as_of": ONE_MINUTE_LATER}
    await let_pass(page, relay, 60)
    await expect(number(page, "online")).to_have_text("12")
    relay.change = {**DAY, "online": 55}
    await let_pass(page, relay, 60)
    assert len(relay.beacons) == 3
    await expect(number(page, "online")).to_have_text("12")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"day_of": "2026-11-24"}, id="a new day"),
        pytest.param({"week_of": "2026-11-30"}, id="a new week"),
        pytest.param({"revision": "two"}, id="an adjustment"),
        pytest.param({"measure": "views"}, id="another measure"),
    ],
)
async def test_numbers_fall_at_once_when_the_period_or_the_revision_changes(
    page: Page, address: str, relay: Relay, change: dict[str, str]
) -> None:
    """An operator's correction must appear at once, though the pages have shown a higher number."""
    relay.change = DAY
    await page.goto(address)
    await expect(number(page, "total")).to_have_text("1.373.876")
    relay.change = {**DAY, **change, "today": 5, "total": 1_000_000, "as_of": ONE_MINUTE_LATER}
    await let_pass(page, relay, 60)
    await expect(number(page, "total")).to_have_text("1.000.000")
    await expect(number(page, "today")).to_have_text("5")


async def test_an_older_answer_about_yesterday_is_left_aside(page: Page, address: str, relay: Relay) -> None:
    """At midnight one worker turns the day a second after the other."""
    relay.change = {**DAY, "today": 5}
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("5")
    relay.change = {**DAY, "day_of": "2026-11-22", "today": 9000, "as_of": ONE_MINUTE_EARLIER}
    await let_pass(page, relay, 60)
    assert relay.kinds == ["view", "ping"]
    await expect(number(page, "today")).to_have_text("5")


async def test_a_clock_that_was_a_year_ahead_does_not_freeze_the_numbers(
    page: Page, address: str, relay: Relay
) -> None:
    """The browser stores numbers from a wrong clock, and must drop them after the clock is right."""
    relay.change = {**DAY, "day_of": "2027-11-23", "as_of": "2027-11-23T08:00:00.000+07:00", "today": 9000}
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("9.000")
    relay.change = DAY
    await let_pass(page, relay, 60)
    await expect(number(page, "today")).to_have_text("1.373")


async def test_the_last_numbers_are_there_before_the_first_answer(page: Page, address: str, relay: Relay) -> None:
    """From page to page the footer does not flicker, and never shows a lower number."""
    relay.change = DAY
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1.373")
    relay.down = True
    await page.goto(address + "next")
    await expect(number(page, "today")).to_have_text("1.373")
    relay.down = False
    relay.change = {**DAY, "today": 1372, "as_of": ONE_MINUTE_LATER}
    await let_pass(page, relay, 20)
    assert len(relay.beacons) == 2
    await expect(number(page, "today")).to_have_text("1.373")


async def test_what_was_kept_and_is_broken_is_forgotten(page: Page, address: str, relay: Relay, site: str) -> None:
    """A browser's storage may hold any text."""
    broken = '{"today":"<img src=x onerror=alert(1)>","language":"zz-!","labels":5,"as_of":7}'
    await page.add_init_script(f"localStorage.setItem('footfall:{site}', '{broken}')")
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1")
    await page.evaluate(f"localStorage.setItem('footfall:{site}', '[')")
    await page.reload()
    await expect(number(page, "views_today")).to_have_text("2")


async def test_a_restored_page_shows_what_other_pages_have_shown_meanwhile(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """Going back must not show older numbers."""
    page_text = html(BLOCK, '<a href="/second">next</a>', script_line(relay.url, site))
    first = portal.put("/first", page_text)
    portal.put("/second", page_text)
    relay.change = DAY
    await page.goto(first)
    await expect(number(page, "today")).to_have_text("1.373")
    relay.change = {**DAY, "today": 1400, "as_of": ONE_MINUTE_LATER}
    await page.click("a")
    await expect(number(page, "today")).to_have_text("1.400")
    relay.down = True
    await page.evaluate("history.back()")
    await page.wait_for_url("**/first", wait_until="commit")
    await expect(number(page, "today")).to_have_text("1.400")


async def test_a_number_that_stays_is_not_written_again(page: Page, address: str, relay: Relay) -> None:
    """An unchanged number must not reach screen readers, frameworks and batteries."""
    relay.change = DAY
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1.373")
    await page.evaluate(
        """window.changes = 0;
        const watch = { childList: true, characterData: true, attributes: true, subtree: true };
        new MutationObserver(list => { changes += list.length }).observe(document.querySelector("ul"), watch)"""
    )
    relay.change = {**DAY, "online": 40, "as_of": ONE_MINUTE_LATER}
    await let_pass(page, relay, 60)
    await expect(number(page, "online")).to_have_text("40")
    assert await page.evaluate("changes") == 1


async def test_a_screen_reader_is_not_interrupted(new_context: NewContext, address: str, relay: Relay) -> None:
    """Users would switch off a screen reader that announces a counter every minute."""
    page = await (await new_context()).new_page()
    relay.change = BIG
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1.373")
    devtools = await page.context.new_cdp_session(page)
    tree = await devtools.send("Accessibility.getFullAXTree")
    live = [
        (node["role"]["value"], prop["value"]["value"])
        for node in tree["nodes"]
        for prop in node.get("properties", [])
        if prop["name"] == "live"
    ]
    assert live == []
    spoken = " ".join(n["name"]["value"] for n in tree["nodes"] if n.get("role", {}).get("value") == "StaticText")
    assert "Hôm nay: 1.373" in " ".join(spoken.split())


async def test_filling_the_block_shifts_nothing(
    new_context: NewContext, portal: Portal, relay: Relay, site: str
) -> None:
    """The lines are there from the start, and only their numbers change."""
    page = await (await new_context()).new_page()
    relay.change = BIG
    below = "<p>Text that must not move.</p>" * 5
    await page.goto(portal.put("*", html(BLOCK, below, script_line(relay.url, site))))
    await expect(number(page, "total")).to_have_text("1.373.876")
    assert await layout_shift(page) == 0


async def test_footfall_works_below_a_path_of_the_portal(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """Behind a reverse proxy every address is relative to the script's."""
    await page.goto(portal.put("*", html(BLOCK, script_line(relay.url + "/thong-ke", site))))
    await expect(number(page, "today")).to_have_text("1")
    assert relay.paths == {"/thong-ke/footfall.js", "/thong-ke/seen"}
