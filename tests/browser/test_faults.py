"""Faults between page and service: a view counts once, and the page shows no error."""

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import NewSite, ReadCounts
from tests.browser.pages import hide, let_pass, number, settle, show, turn_clock
from tests.browser.portal import BLOCK, Portal, html, script_line
from tests.browser.relay import Fault, Relay

REFUSED = Fault("refuse", 503, {"Retry-After": "30"})


@pytest.mark.parametrize("status", [503, 429])
async def test_a_refused_view_is_sent_again_when_the_service_asks_for_it(
    page: Page, address: str, relay: Relay, site: str, counts: ReadCounts, status: int
) -> None:
    """A refusal with a time means that it was not counted, so it is no repeat, which would wait for Redis."""
    relay.faults.append(Fault("refuse", status, {"Retry-After": "30"}))
    await page.goto(address)
    await relay.passed(1)
    await let_pass(page, relay, 29)
    assert relay.kinds == ["view"]
    await let_pass(page, relay, 20)
    assert relay.kinds == ["view", "view"]
    assert ["again" in beacon.body for beacon in relay.beacons] == [False, False]
    assert (await counts(site))["views_today"] == 1


async def test_nothing_shortens_the_time_that_the_service_asked_for(page: Page, address: str, relay: Relay) -> None:
    """A busy service must not get a request for every switched tab and every route."""
    relay.faults.append(REFUSED)
    await page.goto(address)
    await relay.passed(1)
    await settle(page, relay)
    await hide(page)
    await show(page)
    await page.evaluate("dispatchEvent(new Event('online'))")
    await page.evaluate("history.pushState(0, '', '/next')")
    await settle(page, relay)
    assert relay.kinds == ["view"]
    await let_pass(page, relay, 50)
    assert [beacon.body["page"] for beacon in relay.beacons] == ["/", "/", "/next"]


async def test_a_refusal_without_a_time_is_answered_by_waiting_longer_and_longer(
    page: Page, address: str, relay: Relay
) -> None:
    """A page may stay open in front of a broken proxy for a day."""
    relay.faults.extend([Fault("refuse", 503)] * 100)
    await page.goto(address)
    await let_pass(page, relay, 600)
    assert 8 <= len(relay.kinds) <= 14
    assert set(relay.kinds[6:]) == {"ping"}


async def test_an_absurd_time_to_wait_is_an_hour_at_most(page: Page, address: str, relay: Relay) -> None:
    """A timer of more than 24 days fires at once, again and again."""
    relay.faults.extend([Fault("refuse", 503, {"Retry-After": "99999999"})] * 9)
    await page.goto(address)
    await let_pass(page, relay, 120)
    assert relay.kinds == ["view"]
    await page.clock.fast_forward("01:00:00")
    assert await relay.passed(2) == ["view", "view"]


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([Fault("lose answer")], id="counted, answer lost"),
        pytest.param([Fault("lose request")], id="never arrived"),
        pytest.param([Fault("lose request"), Fault("lose answer"), Fault("lose answer")], id="three times"),
        pytest.param([Fault("refuse", 502)], id="a proxy's error: who knows"),
        pytest.param([Fault("refuse", 503)], id="a proxy without a service"),
        pytest.param([Fault("refuse", 504)], id="a proxy that waited in vain"),
        pytest.param([Fault("refuse", 200)], id="a hotel's login page"),
    ],
)
async def test_a_view_without_an_answer_is_sent_again_and_counts_once(
    page: Page, address: str, relay: Relay, site: str, counts: ReadCounts, faults: list[Fault]
) -> None:
    """The view may have been counted: the service knows it by its id, and a new id would count twice."""
    relay.faults.extend(faults)
    await page.goto(address)
    await relay.passed(1)
    await let_pass(page, relay, 40 if len(faults) > 1 else 10)
    first, *others = [beacon.body for beacon in relay.beacons]
    assert re.fullmatch("[0-9a-f]{16}", first["view"])
    assert "again" not in first
    assert others == [{**first, "again": True}] * len(faults)
    numbers = await counts(site)
    assert (numbers["views_today"], numbers["online"]) == (1, 1)


async def test_a_view_is_sent_again_for_a_minute_and_then_a_ping_follows(
    page: Page, address: str, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """Later the service may have forgotten its id, and it would count twice."""
    relay.faults.extend([Fault("lose answer"), *[Fault("lose request")] * 6])
    await page.goto(address)
    await let_pass(page, relay, 20)
    assert relay.kinds == ["view"] * len(relay.kinds)
    await let_pass(page, relay, 280)
    views = relay.kinds.count("view")
    assert 4 <= views <= 6
    assert relay.kinds == ["view"] * views + ["ping"] * (len(relay.kinds) - views)
    assert (await counts(site))["views_today"] == 1


async def test_a_laptop_that_slept_does_not_send_its_view_again(page: Page, address: str, relay: Relay) -> None:
    """Timers stop while it sleeps, and the minute has passed when it wakes."""
    relay.faults.append(Fault("lose answer"))
    await page.goto(address)
    await relay.passed(1)
    await settle(page, relay)
    await turn_clock(page, 3600)
    await show(page)
    await let_pass(page, relay, 10)
    assert relay.kinds == ["view", "ping"]


async def test_a_view_without_an_answer_is_sent_again_behind_another_tab(
    page: Page, address: str, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """The page was seen and is still open; but what is behind another tab sends no ping."""
    relay.faults.append(Fault("lose request"))
    await page.goto(address)
    await relay.passed(1)
    await settle(page, relay)
    await hide(page)
    await let_pass(page, relay, 120)
    assert relay.kinds == ["view", "view"]
    assert (await counts(site))["views_today"] == 1


async def test_a_policy_that_forbids_the_words_alone_stops_no_counting(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """A careful webmaster allows single paths, and wrote them down before there were words to read."""
    policy = f"script-src {relay.url}; connect-src {relay.url}/seen {relay.url}/counts"
    block = "<visitor-counts></visitor-counts>"
    headers = {"Content-Security-Policy": policy}
    await page.goto(portal.put("*", html(BLOCK, block, script_line(relay.url, site)), headers))
    await expect(number(page, "today")).to_have_text("1")
    await let_pass(page, relay, 60)
    assert relay.kinds == ["view", "ping"]


@pytest.mark.parametrize("status", [500, 501, 505, 408])
async def test_after_another_error_a_view_is_not_sent_again(
    page: Page, address: str, relay: Relay, status: int
) -> None:
    """What a program could not digest once, it cannot digest again."""
    relay.faults.append(Fault("refuse", status))
    await page.goto(address)
    await relay.passed(1)
    await let_pass(page, relay, 10)
    assert relay.kinds == ["view", "ping"]


async def test_a_time_to_wait_in_a_proxys_error_is_kept(page: Page, address: str, relay: Relay) -> None:
    """A proxy that restarts knows how long that takes."""
    relay.faults.append(Fault("refuse", 502, {"Retry-After": "20"}))
    await page.goto(address)
    await relay.passed(1)
    await let_pass(page, relay, 19)
    assert relay.kinds == ["view"]
    await let_pass(page, relay, 15)
    assert [beacon.body.get("again") for beacon in relay.beacons] == [None, True]


async def test_a_route_after_a_lost_answer_counts_both_views_once(
    page: Page, address: str, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """Each view has an id of its own, and the lost one is sent again before the next one is sent."""
    relay.faults.append(Fault("lose answer"))
    await page.goto(address)
    await relay.passed(1)
    await settle(page, relay)
    await page.evaluate("history.pushState(0, '', '/next')")
    await relay.passed(3)
    assert [beacon.body["page"] for beacon in relay.beacons] == ["/", "/", "/next"]
    first, again, following = (beacon.body["view"] for beacon in relay.beacons)
    assert first == again != following
    assert (await counts(site))["views_today"] == 2


async def test_an_answer_that_does_not_come_is_given_up(
    page: Page, address: str, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """A request may hang for the life of the page, and the page would never show a number."""
    relay.faults.append(Fault("hold"))
    await page.goto(address)
    await relay.passed(1)
    await let_pass(page, relay, 30)
    assert relay.kinds == ["view", "view"]
    assert (await counts(site))["views_today"] == 1


async def test_offline_keeps_the_last_numbers_and_being_back_is_told_at_once(
    page: Page, address: str, relay: Relay
) -> None:
    """Trains lose the network in tunnels."""
    await page.goto(address)
    await expect(number(page, "today")).to_have_text("1")
    await page.context.set_offline(True)
    await page.clock.run_for(60_000)
    await expect(number(page, "today")).to_have_text("1")
    assert relay.kinds == ["view"]
    await page.context.set_offline(False)
    assert await relay.passed(2) == ["view", "ping"]


async def test_without_the_service_the_last_numbers_stay_and_nothing_is_said(
    page: Page, address: str, relay: Relay
) -> None:
    """A citizen must not notice that a counter is down."""
    relay.down = True
    await page.goto(address)
    await let_pass(page, relay, 60)
    await expect(number(page, "today")).to_have_text("–")
    relay.down = False
    await let_pass(page, relay, 100)
    await expect(number(page, "today")).to_have_text("1")
    relay.down = True
    await page.reload()
    await expect(number(page, "today")).to_have_text("1")
    await let_pass(page, relay, 60)
    await expect(number(page, "today")).to_have_text("1")


async def test_a_page_that_may_not_count_still_reads(
    page: Page, portal: Portal, relay: Relay, site: str, counts: ReadCounts, warnings: list[str]
) -> None:
    """Footfall refuses a staging copy by its host: the copy shows the numbers, and says once why it does not count."""
    address = portal.put("*", html(BLOCK, script_line(relay.url, site))).replace("localhost", "copy.localhost")
    await page.goto(address)
    await let_pass(page, relay, 10)
    await expect(number(page, "today")).to_have_text("0")
    await let_pass(page, relay, 120)
    await page.evaluate("history.pushState(0, '', '/next')")
    await let_pass(page, relay, 10)
    assert relay.kinds == ["view"]
    assert (await counts(site))["views_today"] == 0
    origin = address.rstrip("/")
    assert warnings == [f"{origin} is not counted for {site} (403): add its host to hosts in the settings of the site."]
    warnings.clear()


async def test_an_unknown_site_shows_dashes_and_is_asked_for_less_and_less(
    page: Page, portal: Portal, relay: Relay, warnings: list[str]
) -> None:
    """A typing error in the script line must not cause many requests."""
    await page.goto(portal.put("*", html(BLOCK, script_line(relay.url, "no-such-site"))))
    await let_pass(page, relay, 600)
    await expect(number(page, "today")).to_have_text("–")
    assert relay.kinds == ["view"]
    assert relay.reads <= 14
    assert warnings == [f"{portal.url} is not counted for no-such-site (404): correct data-site."]
    warnings.clear()


async def test_a_page_with_the_strictest_policy_counts_and_shows(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """No inline code or style, no eval, Trusted Types: security teams of ministries ask for these."""
    policy = (
        f"default-src 'none'; script-src {relay.url}; connect-src {relay.url};"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    )
    block = "<visitor-counts></visitor-counts>"
    output = []
    page.on("console", lambda message: output.append(message.text))
    headers = {"Content-Security-Policy": policy}
    await page.goto(portal.put("/", html(BLOCK, block, script_line(relay.url, site)), headers))
    await expect(number(page, "today").last).to_have_text("1")
    await page.clock.run_for(60_000)
    assert await relay.passed(2) == ["view", "ping"]
    assert [text for text in output if "favicon" not in text] == []


async def test_where_connect_src_forbids_the_service_the_view_goes_as_an_image(
    page: Page, portal: Portal, relay: Relay, site: str, counts: ReadCounts, warnings: list[str]
) -> None:
    """The policy is older than the counter; most policies allow images."""
    headers = {"Content-Security-Policy": f"default-src 'self'; script-src {relay.url}; img-src *"}
    await page.goto(portal.put("*", html(BLOCK, script_line(relay.url, site)), headers))
    assert await relay.passed(1) == ["image"]
    await let_pass(page, relay, 600)
    assert relay.kinds == ["image"]
    await page.evaluate("history.pushState(0, '', '/next')")
    assert await relay.passed(2) == ["image", "image"]
    assert [beacon.body["page"] for beacon in relay.beacons] == ["/", "/next"]
    assert all(re.fullmatch("[0-9a-f]{16}", beacon.body["view"]) for beacon in relay.beacons)
    assert relay.beacons[0].headers["Referer"] == portal.url + "/"
    assert (await counts(site))["views_today"] == 2
    await expect(number(page, "today")).to_have_text("–")
    assert warnings == [
        f"no numbers, because the page's Content-Security-Policy forbids it: add {relay.url} to connect-src."
    ]
    warnings.clear()


async def test_where_everything_is_forbidden_nothing_happens(
    page: Page, portal: Portal, relay: Relay, site: str, warnings: list[str]
) -> None:
    """The page counts nothing, and the script causes no error."""
    headers = {"Content-Security-Policy": f"default-src 'none'; script-src {relay.url}"}
    await page.goto(portal.put("*", html(BLOCK, script_line(relay.url, site)), headers))
    await relay.until(lambda relay: relay.scripts == 1)
    await let_pass(page, relay, 300)
    assert relay.kinds == []
    await expect(number(page, "today")).to_have_text("–")
    assert len(warnings) == 1
    warnings.clear()


async def test_a_script_line_without_a_site_says_so_once(
    page: Page, portal: Portal, relay: Relay, site: str, warnings: list[str]
) -> None:
    """A page whose block keeps its dashes looks as if the counter were down."""
    line = f'<script src="{relay.url}/footfall.js"></script>'
    await page.goto(portal.put("*", html(BLOCK, line, line)))
    assert warnings == ["the script line has no data-site, so nothing is counted."]
    warnings.clear()


async def test_a_second_site_on_one_page_says_so_once(
    page: Page, portal: Portal, relay: Relay, new_site: NewSite, warnings: list[str]
) -> None:
    """Two teams paste their lines into one page: the first one counts, and the second one learns why it does not."""
    first, second = new_site("plain"), new_site("plain")
    lines = [script_line(relay.url, site).replace("async ", "") for site in (first, second, first, second)]
    await page.goto(portal.put("*", html(BLOCK, *lines)))
    await settle(page, relay)
    assert [beacon.body["site"] for beacon in relay.beacons] == [first]
    assert warnings == [f"{second} is not counted, because {first} is, on this page."]
    warnings.clear()


async def test_a_policy_that_only_reports_changes_nothing(
    page: Page, portal: Portal, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """The browser also reports violations of requests that succeeded."""
    headers = {"Content-Security-Policy-Report-Only": "connect-src 'none'"}
    await page.goto(portal.put("*", html(BLOCK, script_line(relay.url, site)), headers))
    await expect(number(page, "today")).to_have_text("1")
    await let_pass(page, relay, 60)
    assert relay.kinds == ["view", "ping"]
    assert (await counts(site))["views_today"] == 1


async def test_without_fetch_the_view_goes_as_an_image(
    page: Page, address: str, relay: Relay, site: str, counts: ReadCounts
) -> None:
    """Browsers of 2014 are still in use."""
    await page.add_init_script("delete window.fetch")
    await page.goto(address)
    assert await relay.passed(1) == ["image"]
    await let_pass(page, relay, 120)
    assert relay.kinds == ["image"]
    assert (await counts(site))["views_today"] == 1


OLD = """
for (const [owner, names] of [
  [window, ["AbortController", "AbortSignal", "PerformanceObserver", "ResizeObserver", "queueMicrotask",
            "structuredClone", "customElements", "navigation", "scheduler", "requestIdleCallback"]],
  [Intl, ["NumberFormat", "PluralRules", "RelativeTimeFormat", "Locale"]],
  [Document.prototype, ["prerendering", "wasDiscarded"]],
  [Navigator.prototype, ["globalPrivacyControl", "sendBeacon", "userAgentData", "connection", "webdriver"]],
  [Element.prototype, ["replaceChildren", "checkVisibility"]],
  [Array.prototype, ["flat", "flatMap", "at"]],
  [Object, ["fromEntries", "groupBy", "hasOwn"]],
  [String.prototype, ["replaceAll", "matchAll", "at"]],
  [Promise, ["allSettled", "any", "withResolvers"]],
  [Crypto.prototype, ["randomUUID"]],
]) for (const name of names) delete owner[name];
"""


async def test_an_old_browser_counts_and_shows(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """Chrome 70 of an old Android phone lacks every newer feature."""
    await page.add_init_script(OLD)
    line = script_line(relay.url, site, 'data-visitor="browser"')
    await page.goto(portal.put("*", html(BLOCK, "<visitor-counts></visitor-counts>", line)))
    await expect(number(page, "today").last).to_have_text("1")
    await let_pass(page, relay, 60)
    assert relay.kinds == ["view", "ping"]
