"""Views without a load: which change of the address is one, and what a page tells the script itself."""

import pytest
from playwright.async_api import Page, expect

from tests.browser.pages import number, settle
from tests.browser.portal import BLOCK, Portal, html, script_line
from tests.browser.relay import Relay

WITHOUT_NAVIGATION = "delete window.navigation; Object.defineProperty(window, 'navigation', { value: undefined })"


@pytest.fixture(params=[pytest.param("", id="navigation"), pytest.param(WITHOUT_NAVIGATION, id="history only")])
def engine(request: pytest.FixtureRequest) -> str:
    """Return what makes the browser one with the Navigation API, or one without it."""
    return str(request.param)


def views(relay: Relay) -> list[str]:
    """Return the pages of the views so far; other beacons fail the test."""
    assert set(relay.kinds) <= {"view"}
    return [str(beacon.body["page"]) for beacon in relay.beacons]


@pytest.mark.parametrize(
    ("route", "moves", "pages"),
    [
        pytest.param("path", ["/?a=1", "/#/x", "/b"], ["/", "/b"], id="path"),
        pytest.param("search", ["/?a=1", "/?a=1#x", "/?a=2", "/b"], ["/", "/", "/", "/b"], id="search"),
        pytest.param("hash", ["/?a=1", "/#/x", "/#!/x/y", "/b"], ["/", "/x", "/x/y", "/b"], id="hash"),
        pytest.param("off", ["/?a=1", "/#/x", "/b"], ["/"], id="off"),
    ],
)
async def test_the_tag_says_which_change_of_the_address_is_a_view(  # noqa: PLR0913 (fixtures)
    page: Page, portal: Portal, relay: Relay, site: str, engine: str, route: str, moves: list[str], pages: list[str]
) -> None:
    """Old portals keep their routes in the query or behind #, and the path never changes there."""
    await page.add_init_script(engine)
    await page.goto(portal.put("*", html(BLOCK, script_line(relay.url, site, f'data-route="{route}"'))))
    await relay.passed(1)
    for move in moves:
        await page.evaluate("address => history.pushState(0, '', address)", move)
        await settle(page, relay)
    assert views(relay) == pages


async def test_a_link_to_a_fragment_is_a_view_where_routes_are_fragments(
    page: Page, portal: Portal, relay: Relay, site: str, engine: str
) -> None:
    """Such a router needs no pushState."""
    await page.add_init_script(engine)
    links = '<a href="#/tin/1">1</a>'
    await page.goto(portal.put("*", html(links, script_line(relay.url, site, 'data-route="hash"'))) + "app/")
    await relay.passed(1)
    await page.click("a")
    await relay.passed(2)
    await page.go_back()
    await relay.passed(3)
    assert views(relay) == ["/app/", "/app/tin/1", "/app/"]


async def test_a_router_that_kept_pushstate_from_before_is_followed(
    page: Page, portal: Portal, relay: Relay, site: str, engine: str
) -> None:
    """Frameworks take the function once, when they start, and an async script comes later."""
    await page.add_init_script(engine + ";window.push = history.pushState.bind(history)")
    await page.goto(portal.put("*", html(BLOCK, script_line(relay.url, site))))
    await relay.passed(1)
    await page.evaluate("push(0, '', '/a'); document.body.append('page a')")
    await relay.passed(2)
    assert views(relay) == ["/", "/a"]


@pytest.mark.parametrize(
    "frozen",
    [
        pytest.param("Object.freeze(history)", id="frozen"),
        pytest.param(
            "for (const name of ['pushState', 'replaceState'])"
            " Object.defineProperty(history, name, { value: history[name], writable: false })",
            id="not writable",
        ),
    ],
)
async def test_a_frozen_history_does_not_stop_the_script(
    page: Page, portal: Portal, relay: Relay, site: str, engine: str, frozen: str
) -> None:
    """Security tools freeze what they guard."""
    await page.add_init_script(f"{engine};{frozen}")
    await page.goto(portal.put("*", html(BLOCK, script_line(relay.url, site))))
    await expect(number(page, "today")).to_have_text("1")
    await page.evaluate("history.pushState(0, '', '/a'); document.body.append('page a')")
    await relay.passed(2)
    assert views(relay) == ["/", "/a"]


async def test_a_state_that_is_replaced_on_the_way_back_does_not_hide_the_view(
    page: Page, portal: Portal, relay: Relay, site: str, engine: str
) -> None:
    """htmx 2 does this when a visitor goes back."""
    before = "addEventListener('popstate', () => history.replaceState({ back: 1 }, '', location.href))"
    await page.add_init_script(f"{engine};{before}")
    await page.goto(portal.put("*", html(BLOCK, script_line(relay.url, site))))
    await relay.passed(1)
    await page.evaluate("history.pushState(0, '', '/a')")
    await relay.passed(2)
    await page.evaluate("history.back()")
    await relay.passed(3)
    assert views(relay) == ["/", "/a", "/"]


async def test_a_page_may_say_itself_what_is_a_view(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """A portal that opens articles in a dialog knows better than its address."""
    await page.goto(portal.put("*", html(BLOCK, script_line(relay.url, site, 'data-route="off"'))))
    await relay.passed(1)
    await page.evaluate("history.pushState(0, '', '/a'); footfall.view('/tin/7')")
    await relay.passed(2)
    await page.evaluate("footfall.view()")
    await relay.passed(3)
    assert views(relay) == ["/", "/tin/7", "/a"]
