"""What is counted: one view for each page that a person opened and saw, one visitor for each browser."""

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import NewContext, NewSite, ReadCounts
from tests.browser.pages import let_pass, number, settle, turn_clock
from tests.browser.portal import BLOCK, Portal, html, script_line
from tests.browser.relay import Relay
from tests.browser.serving import serve
from tests.browser.tabs import Tabs


async def test_an_opened_page_counts_one_view_and_shows_it(
    page: Page, portal: Portal, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """One round trip is enough: the answer to the first beacon already includes its sender."""
    await page.goto(portal.put("/tin-tuc/1", html(BLOCK, script_line(relay.url, site))) + "?q=secret#there")
    await expect(number(page, "today")).to_have_text("1")
    assert await relay.passed(1) == ["view"]
    body = dict(relay.beacons[0].body)
    assert len(body.pop("view")) == 16
    assert body == {"site": site, "page": "/tin-tuc/1", "kind": "view"}
    assert (await counts(site))["views_today"] == 1


async def test_a_beacon_is_a_simple_request_that_tells_nothing_of_the_page_but_its_path(
    page: Page, address: str, portal: Portal, relay: Relay
) -> None:
    """A preflight would double the requests; a cookie or a full Referer would reveal more than needed."""
    await page.goto(address + "?q=secret")
    await relay.passed(1)
    headers = relay.beacons[0].headers
    assert headers["Content-Type"] == "text/plain;charset=UTF-8"
    assert (headers["Origin"], headers["Referer"]) == (portal.url, portal.url + "/")
    assert "Cookie" not in headers
    assert "secret" not in str(relay.beacons[0])


async def test_ten_reloads_are_ten_views_of_one_visitor(
    page: Page, address: str, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """A visitor who reloads is still one person."""
    await page.goto(address)
    for views in range(1, 11):
        await relay.passed(views)
        await page.reload()
    await relay.passed(11)
    numbers = await counts(site)
    assert (numbers["views_today"], numbers["today"], numbers["online"]) == (11, 1, 1)


async def test_two_tabs_are_one_visitor(page: Page, address: str, relay: Relay, site: str, counts: ReadCounts) -> None:
    """People read in several tabs."""
    await page.goto(address)
    other = await page.context.new_page()
    await other.goto(address)
    await relay.passed(2)
    numbers = await counts(site)
    assert (numbers["views_today"], numbers["today"], numbers["online"]) == (2, 1, 1)


async def test_two_different_browsers_are_two_visitors(
    page: Page, new_context: NewContext, address: str, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """The user agent is the other half of the visitor's identity."""
    await page.goto(address)
    other = await new_context(user_agent="Mozilla/5.0 (Android 9; Mobile; rv:128.0) Gecko/128.0 Firefox/128.0")
    await (await other.new_page()).goto(address)
    await relay.passed(2)
    assert (await counts(site))["online"] == 2


async def test_a_script_that_is_included_twice_counts_once(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """A template and an editor paste the same line, and a router runs it again."""
    line = script_line(relay.url, site)
    await page.goto(portal.put("*", html(line, BLOCK, line)))
    await expect(number(page, "today")).to_have_text("1")
    await page.evaluate(
        """([address, site]) => new Promise(done => {
          const script = document.createElement("script");
          script.onload = done;
          script.dataset.site = site;
          script.src = address;
          document.body.append(script);
        })""",
        [f"{relay.url}/footfall.js?again", site],
    )
    await settle(page, relay)
    assert relay.kinds == ["view"]


async def test_another_path_without_loading_is_a_view_and_the_same_path_is_none(
    page: Page, address: str, relay: Relay
) -> None:
    """Single-page portals load once; counting queries and repaired addresses too would invent views."""
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1")
    await page.evaluate("history.replaceState(0, '', '/?tab=2')")
    await page.evaluate("history.pushState(0, '', '/?tab=3')")
    await page.evaluate("history.pushState(0, '', '#top')")
    await settle(page, relay)
    assert relay.kinds == ["view"]
    await page.evaluate("history.pushState(0, '', '/tin-tuc')")
    await relay.passed(2)
    await page.evaluate("history.replaceState(0, '', '/tin-tuc/')")
    await page.evaluate("history.pushState(0, '', '/tin-tuc/?page=2')")
    await settle(page, relay)
    await page.evaluate("history.go(-2)")
    await relay.passed(3)
    assert [(beacon.kind, beacon.body["page"]) for beacon in relay.beacons] == [
        ("view", "/"),
        ("view", "/tin-tuc"),
        ("view", "/"),
    ]


async def test_routes_that_follow_each_other_at_once_are_all_counted(
    page: Page, address: str, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """A view waits while another one is in a request, and is not forgotten."""
    await page.goto(address)
    await relay.passed(1)
    await page.evaluate("for (const path of ['/a', '/b', '/c']) history.pushState(0, '', path)")
    await relay.passed(4)
    assert [beacon.body["page"] for beacon in relay.beacons] == ["/", "/a", "/b", "/c"]
    assert (await counts(site))["views_today"] == 4


async def test_a_router_still_gets_its_errors_and_its_state(page: Page, address: str, relay: Relay) -> None:
    """The script only listens to the page's history."""
    await page.goto(address)
    await relay.passed(1)
    refused = "(() => { try { history.pushState(0, '', 'https://else.example/') } catch (e) { return e.name } })()"
    assert await page.evaluate(refused) == "SecurityError"
    assert await page.evaluate("history.pushState({ id: 7 }, '', '/x'), history.state.id") == 7


async def test_a_page_restored_from_the_back_forward_cache_is_a_view(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """A visitor who navigates back sees the page again, without a load; the script must not prevent that."""
    first = portal.put("/first", html(BLOCK, '<a href="/second">next</a>', script_line(relay.url, site)))
    portal.put("/second", html(BLOCK, script_line(relay.url, site)))
    await page.goto(first)
    await expect(number(page, "views_today")).to_have_text("1")
    await page.evaluate("window.was = 'here'")
    await page.click("a")
    await expect(number(page, "views_today")).to_have_text("2")
    await page.evaluate("history.back()")
    await page.wait_for_url("**/first", wait_until="commit")
    await expect(number(page, "views_today")).to_have_text("3")
    assert await page.evaluate("window.was") == "here"
    assert [(beacon.kind, beacon.body["page"]) for beacon in relay.beacons] == [
        ("view", "/first"),
        ("view", "/second"),
        ("view", "/first"),
    ]


async def test_a_page_restored_after_an_hour_is_a_view_and_no_ping_beside_it(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """Such a page becomes visible just before its pageshow event."""
    first = portal.put("/first", html(BLOCK, '<a href="/second">next</a>', script_line(relay.url, site)))
    portal.put("/second", html("Not counted"))
    await page.goto(first)
    await expect(number(page, "views_today")).to_have_text("1")
    await turn_clock(page, 3600)
    await page.click("a")
    await page.wait_for_url("**/second")
    await page.evaluate("history.back()")
    await page.wait_for_url("**/first", wait_until="commit")
    await expect(number(page, "views_today")).to_have_text("2")
    await settle(page, relay)
    assert relay.kinds == ["view", "view"]


async def test_a_prefetched_page_is_not_counted(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """Browsers and portals load what people may click next."""
    other = portal.put("/other", html(BLOCK, script_line(relay.url, site)))
    await page.goto(portal.put("/", html(head='<link rel="prefetch" href="/other">')))
    await portal.until_asked("/other")
    await settle(page, relay)
    assert "/other" in portal.asked
    assert relay.kinds == []
    await page.goto(other)
    assert await relay.passed(1) == ["view"]


async def test_a_prerendered_page_is_counted_when_it_is_shown(
    tabs: Tabs, portal: Portal, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """A page that was prepared and never opened had no visitor."""
    rules = '{"prerender": [{"source": "list", "urls": ["/next"], "eagerness": "immediate"}]}'
    tell = "<script>fetch('/ran-' + document.prerendering)</script>"
    portal.put("/next", html(BLOCK, script_line(relay.url, site), tell))
    start = portal.put("/start", html('<a href="/next">next</a>', f'<script type="speculationrules">{rules}</script>'))
    tab = await tabs.open(start)
    await portal.until_asked("/ran-true")
    # The script has run behind the page, and has had as much time as in the other tests.
    await relay.until(lambda relay: relay.scripts == 1)
    assert relay.kinds == []
    await tabs.evaluate(tab, "document.querySelector('a').click()")
    assert await relay.passed(1) == ["view"]
    assert await tabs.evaluate(tab, "performance.getEntriesByType('navigation')[0].activationStart > 0")
    assert (await counts(site))["views_today"] == 1


async def test_a_page_opened_in_the_background_is_counted_when_it_is_first_visible(
    tabs: Tabs, address: str, relay: Relay
) -> None:
    """People open ten results in tabs and read three."""
    await tabs.open("about:blank")
    behind = await tabs.open(address, in_background=True)
    await relay.until(lambda relay: relay.scripts == 1)
    assert await tabs.evaluate(behind, "document.visibilityState") == "hidden"
    assert relay.kinds == []
    await tabs.bring_to_front(behind)
    assert await relay.passed(1) == ["view"]


async def test_blocked_storage_does_not_stop_counting(
    page: Page, portal: Portal, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """In a sandbox, and with cookies off, even reading localStorage raises."""
    sandbox = {"Content-Security-Policy": "sandbox allow-scripts"}
    line = script_line(relay.url, site, 'data-visitor="browser"')
    await page.goto(portal.put("*", html(BLOCK, line), sandbox))
    await expect(number(page, "today")).to_have_text("1")
    raises = "(() => { try { return localStorage.length } catch (error) { return error.name } })()"
    assert await page.evaluate(raises) == "SecurityError"
    await let_pass(page, relay, 60)
    assert relay.kinds == ["view", "ping"]
    assert "visitor" not in relay.beacons[0].body
    assert (await counts(site))["views_today"] == 1


async def test_browsers_behind_one_address_are_told_apart_where_the_site_wants_it(
    page: Page, new_context: NewContext, portal: Portal, relay: Relay, new_site: NewSite, counts: ReadCounts
) -> None:
    """An office of a thousand people has one address; a random id in the browser distinguishes them."""
    site = new_site("browser")
    address = portal.put("*", html(BLOCK, script_line(relay.url, site, 'data-visitor="browser"')))
    colleague = await (await new_context()).new_page()
    for tab in (page, colleague, page):
        await tab.goto(address)
        await expect(number(tab, "views_today")).not_to_have_text("–")
    await relay.passed(3)
    first, second, again = (beacon.body["visitor"] for beacon in relay.beacons)
    assert first == again != second
    assert (await counts(site))["today"] == 2


async def test_no_id_is_sent_once_the_service_has_said_that_it_wants_none(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """The operator has switched the id off, and a thousand pages still carry the old line."""
    await page.goto(portal.put("*", html(BLOCK, script_line(relay.url, site, 'data-visitor="browser"'))))
    await expect(number(page, "today")).to_have_text("1")
    await page.reload()
    await relay.passed(2)
    assert ["visitor" in beacon.body for beacon in relay.beacons] == [True, False]


async def test_global_privacy_control_shows_the_numbers_and_counts_nothing(
    page: Page, address: str, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """Visitors who ask not to be followed may still read."""
    await page.add_init_script("Object.defineProperty(navigator, 'globalPrivacyControl', { value: true })")
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("0")
    await let_pass(page, relay, 60)
    assert relay.kinds == []
    assert (await counts(site))["views_today"] == 0


async def test_staff_who_opt_out_in_localstorage_are_not_counted(page: Page, address: str, relay: Relay) -> None:
    """The editors of a portal open it more often than other visitors."""
    await page.add_init_script("localStorage.setItem('footfall', 'off')")
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("0")
    await settle(page, relay)
    assert relay.kinds == []


async def test_a_page_under_automation_says_so_and_is_not_counted(
    page: Page, address: str, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """Monitors drive real browsers, which no list of user agents contains."""
    await page.add_init_script("Object.defineProperty(navigator, 'webdriver', { value: true })")
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("0")
    assert relay.beacons[0].body["webdriver"] is True
    assert (await counts(site))["views_today"] == 0


async def test_a_page_that_only_shows_counts_nothing(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """An intranet screen shows the public portal's numbers."""
    await page.goto(portal.put("*", html(BLOCK, script_line(relay.url, site, 'data-beacon="off"'))))
    await expect(number(page, "today")).to_have_text("0")
    assert (relay.kinds, relay.reads) == ([], 1)


@pytest.mark.parametrize(
    "framing",
    [
        pytest.param(("127.0.0.1", "", [], 0), id="a foreign page"),
        pytest.param(("127.0.0.1", 'data-framed="on"', ["view"], 0), id="a foreign page, and the tag counts frames"),
        pytest.param(("localhost", "", [], 0), id="a page of the site"),
        pytest.param(("localhost", 'data-framed="on"', ["view"], 1), id="the site's page, and the tag counts frames"),
    ],
)
async def test_a_framed_page_is_a_view_only_by_its_tag_and_in_pages_of_its_site(
    page: Page, portal: Portal, relay: Relay, site: str, counts: ReadCounts, framing: tuple[str, str, list[str], int]
) -> None:
    """A hidden frame in a popular page of somebody else would count a visitor at each load of that page."""
    outer, option, kinds, views = framing
    inner = portal.put("/inner", html(BLOCK, script_line(relay.url, site, option)))
    portal.put("/outer", html(f'<iframe src="{inner}" style="display: none"></iframe>'))
    async with serve(portal.answer, outer) as around:
        await page.goto(f"{around}/outer")
        shown = page.frame_locator("iframe").locator('[data-count="views_today"]')
        await expect(shown).to_have_text(str(views))
        await settle(page, relay)
        assert relay.kinds == kinds
    assert (await counts(site))["views_today"] == views
