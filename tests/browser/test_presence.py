"""Who is online: a visible page pings at the server's pace, a hidden or sleeping page does not."""

from playwright.async_api import Page, expect

from tests.browser.conftest import ReadCounts
from tests.browser.pages import hide, let_pass, number, settle, show, turn_clock
from tests.browser.portal import BLOCK, Portal, html, script_line
from tests.browser.relay import Relay


async def test_a_visible_page_pings_once_a_minute_and_pings_are_no_views(
    page: Page, address: str, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """A visitor who reads a long text is present, without a second view."""
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1")
    await let_pass(page, relay, 60)
    assert relay.kinds == ["view", "ping"]
    await let_pass(page, relay, 60)
    assert relay.kinds == ["view", "ping", "ping"]
    assert relay.beacons[2].body == {"site": site, "page": "/", "kind": "ping"}
    assert (await counts(site))["views_today"] == 1


async def test_the_numbers_of_a_page_that_counts_come_with_its_pings(page: Page, address: str, relay: Relay) -> None:
    """A minute is fresh enough for a footer; reads between the pings would cost four times the requests."""
    relay.change = {"today": 5, "poll_after_s": 5}
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("5")
    relay.change = {"today": 6, "poll_after_s": 5, "as_of": "2099-01-01T00:00:00.000+07:00"}
    await let_pass(page, relay, 40)
    assert (relay.kinds, relay.reads) == (["view"], 0)
    await let_pass(page, relay, 20)
    assert (relay.kinds, relay.reads) == (["view", "ping"], 0)
    await expect(number(page, "today")).to_have_text("6")


async def test_the_pace_of_pings_comes_from_the_answers(page: Page, address: str, relay: Relay) -> None:
    """The script is cached for days, and an operator under load wants a slower pace now."""
    relay.change = {"ping_after_s": 600}
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1")
    await let_pass(page, relay, 420)
    assert relay.kinds == ["view"]
    await let_pass(page, relay, 180)
    assert relay.kinds == ["view", "ping"]


async def test_a_hidden_page_does_not_ping_and_is_back_at_once(page: Page, address: str, relay: Relay) -> None:
    """A forgotten tab behind others is not online; a visitor who returns to it is."""
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1")
    await hide(page)
    await let_pass(page, relay, 600)
    assert relay.kinds == ["view"]
    await show(page)
    assert await relay.passed(2) == ["view", "ping"]


async def test_turning_to_another_tab_for_a_moment_sends_nothing(page: Page, address: str, relay: Relay) -> None:
    """Presence is still fresh, and people switch tabs all day."""
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1")
    for _ in range(5):
        await hide(page)
        await show(page)
    await settle(page, relay)
    assert relay.kinds == ["view"]


async def test_a_laptop_that_slept_for_two_hours_comes_back_as_one_beacon(
    page: Page, address: str, relay: Relay
) -> None:
    """A hundred laptops that wake at eight must not send the pings that they missed."""
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1")
    await page.clock.fast_forward("02:00:00")
    await relay.passed(2)
    await settle(page, relay)
    assert relay.kinds == ["view", "ping"]


async def test_a_phone_whose_timers_stood_still_pings_when_it_is_looked_at(
    page: Page, address: str, relay: Relay
) -> None:
    """Timers stop in a pocket, and a returning visitor must not wait for the rest of the minute."""
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1")
    await hide(page)
    await turn_clock(page, 7200)
    await show(page)
    assert await relay.passed(2) == ["view", "ping"]


async def test_a_clock_that_is_set_back_does_not_silence_the_page(page: Page, address: str, relay: Relay) -> None:
    """Phones correct their clocks by hours."""
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1")
    await turn_clock(page, -7200)
    await hide(page)
    await let_pass(page, relay, 120)
    await show(page)
    assert await relay.passed(2) == ["view", "ping"]


async def test_a_page_that_does_not_count_reads_at_the_servers_pace_while_visible(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """Numbers stay fresh for visitors who opted out; a hidden page costs no request."""
    relay.change = {"poll_after_s": 30}
    await page.goto(portal.put("*", html(BLOCK, script_line(relay.url, site, 'data-beacon="off"'))))
    await expect(number(page, "today")).to_have_text("0")
    assert relay.reads == 1
    await let_pass(page, relay, 30)
    assert relay.reads == 2
    await hide(page)
    await let_pass(page, relay, 300)
    assert relay.reads == 2
    await show(page)
    await relay.until(lambda relay: relay.reads == 3)
    assert relay.kinds == []


async def test_a_page_without_a_block_and_without_counting_asks_for_nothing(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """An old phone must not spend battery on hidden numbers."""
    await page.goto(portal.put("*", html("No block", script_line(relay.url, site, 'data-beacon="off"'))))
    await relay.until(lambda relay: relay.scripts == 1)
    await let_pass(page, relay, 120)
    assert (relay.kinds, relay.reads) == ([], 0)


async def test_a_visitor_present_through_midnight_stays_and_sees_the_new_day(
    page: Page, address: str, relay: Relay
) -> None:
    """The page keeps pinging; what it shows for today starts again, as the server reports."""
    relay.change = {"today": 940, "day_of": "2026-11-22", "as_of": "2026-11-22T23:59:50.000+07:00"}
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("940")
    relay.change = {"today": 3, "day_of": "2026-11-23", "as_of": "2026-11-23T00:00:50.000+07:00"}
    await let_pass(page, relay, 60)
    await expect(number(page, "today")).to_have_text("3")
    assert relay.kinds == ["view", "ping"]
