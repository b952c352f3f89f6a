"""Which page a view is of, and where the views of pages are shown."""

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.pages import let_pass, settle
from tests.browser.portal import Portal, html, script_line
from tests.browser.relay import Relay

OWN = '<p>Lượt xem: <b data-count="page_views">–</b></p>'


def views(page: Page, name: str) -> Locator:
    """Return the place of the views of a page in a list."""
    return page.locator(f'[data-page="{name}"]')


def news(*names: str) -> str:
    """Return a list of news, each with its views."""
    items = [f'<li><a href="{name}">{name}</a> <b data-count="page_views" data-page="{name}">–</b>' for name in names]
    return f"<ul>{''.join(items)}</ul>"


@pytest.mark.parametrize(
    ("address", "named", "sent"),
    [
        pytest.param("/tin/1", ("", ""), "/tin/1", id="the path"),
        pytest.param("/tin?utm_source=zalo&id=7&x=1#top", ("", ""), "/tin?id=7", id="keys of the site"),
        pytest.param("/tin?itemid=7&ID=2&idx=1", ("", ""), "/tin?itemid=7&ID=2", id="keys of the site in another case"),
        pytest.param("/tin?id=7", ('<link rel="canonical" href="/tin/7.html">', ""), "/tin/7.html", id="canonical"),
        pytest.param("/a", ('<link rel="canonical" href="?id=7&s=1">', ""), "/a?id=7", id="canonical with a query"),
        pytest.param("/a", ('<link rel="canonical" href="//www.localhost:PORT/b">', ""), "/b", id="canonical with www"),
        pytest.param("/a", ('<link rel="canonical" href="https://x.example/b">', ""), "/a", id="canonical elsewhere"),
        pytest.param("/a", ('<link rel="canonical" href="http://[">', ""), "/a", id="canonical that is no URL"),
        pytest.param("/a", ('<link rel="canonical">', ""), "/a", id="canonical without a URL"),
        pytest.param("/a", ('<link rel="canonical" href="/b">', 'data-page="tin-7"'), "tin-7", id="data-page"),
        pytest.param("/404", ("", 'data-page="off"'), "off", id="no page"),
        pytest.param("/t?id=" + "9" * 2100, ("", ""), "off", id="an address that is too long"),
    ],
)
async def test_a_page_is_called_by_its_webmaster_its_canonical_link_or_its_address(
    page: Page, portal: Portal, relay: Relay, address: str, named: tuple[str, str], sent: str
) -> None:
    """One article has many addresses, and a query may hold what does not concern a counter."""
    link, option = named
    link = link.replace("PORT", portal.url.rpartition(":")[2])
    portal.put("*", html(OWN, script_line(relay.url, "articles-0", option), head=link))
    await page.goto(portal.url + address)
    await relay.passed(1)
    await let_pass(page, relay, 70)
    assert [(beacon.kind, beacon.body["page"]) for beacon in relay.beacons] == [("view", sent), ("ping", sent)]


async def test_a_canonical_link_below_the_script_is_found(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """A script from the browser's cache can run before the rest of the head is there."""
    link = '<link rel="canonical" href="/tin/7">'
    await page.goto(portal.put("/", html(head=script_line(relay.url, site))))
    await relay.passed(1)
    line = script_line(relay.url, site).replace("async ", "")
    await page.goto(portal.put("/a", html(head=line + link)))
    await relay.passed(2)
    assert relay.beacons[1].body["page"] == "/tin/7"


async def test_each_route_is_the_page_of_its_address(page: Page, portal: Portal, relay: Relay) -> None:
    """A router changes the canonical link late, if at all; a link that is a page behind would count for another one."""
    link = '<link rel="canonical" href="/tin/1">'
    start = portal.put("*", html(OWN, script_line(relay.url, "articles-1"), head=link))
    await page.goto(start + "tin-1.html")
    await relay.passed(1)
    await page.evaluate("history.pushState(0, '', '/tin?id=2')")
    await relay.passed(2)
    await page.evaluate("document.querySelector('[rel=canonical]').href = '/tin/2'")
    await page.evaluate("history.pushState(0, '', '/tin?id=2&tab=1')")
    await settle(page, relay)
    await page.evaluate("history.pushState(0, '', '/tin?id=3')")
    await relay.passed(3)
    await page.evaluate("history.go(-3)")
    await relay.passed(4)
    assert [beacon.body["page"] for beacon in relay.beacons] == ["/tin/1", "/tin?id=2", "/tin?id=3", "/tin/1"]


async def test_a_page_shows_its_views_and_those_of_its_short_form(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """The answer to the page's own beacon has its number: no further request."""
    relay.change = {"pages": {"/tin/1": {"views": 1234}, "/tin/2": {"views": 7}}}
    short = '<visitor-counts data-show="today page_views"></visitor-counts>'
    marked = '<p>Lượt xem: <span class="footfall-page_views"></span></p>'
    await page.goto(portal.put("/tin/1", html(OWN, marked, short, script_line(relay.url, site))))
    await expect(page.locator("p").first).to_have_text("Lượt xem: 1.234")
    await expect(page.locator("p").last).to_have_text("Lượt xem: 1.234")
    await expect(page.locator("visitor-counts li").last).to_have_text("Lượt xem: 1.234")
    await settle(page, relay)
    assert (relay.kinds, relay.reads) == (["view"], 0)


async def test_a_list_of_50_news_items_costs_one_request(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """Front pages list what is new and what is read most."""
    names = [f"/tin/{number}" for number in range(1, 50)] + ["/tin?a=1&b=đ"]
    relay.change = {"pages": {name: {"views": 1000 + number} for number, name in enumerate(names)}}
    await page.goto(portal.put("/", html(news(*names), news("/tin/1"), OWN, script_line(relay.url, site))))
    await expect(views(page, "/tin/1").first).to_have_text("1.000")
    await expect(views(page, "/tin/1").last).to_have_text("1.000")
    await expect(views(page, names[-1])).to_have_text("1.049")
    await settle(page, relay)
    assert (relay.kinds, relay.pages_read, relay.reads) == (["view"], [names], 1)


async def test_a_list_is_read_again_with_each_poll_and_no_number_falls(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """The numbers of a screen in a hall stay fresh; an answer from a worker that is behind changes nothing."""
    relay.change = {"pages": {"/tin/1": {"views": 5}}}
    await page.goto(portal.put("/", html(news("/tin/1"), script_line(relay.url, site, 'data-beacon="off"'))))
    await expect(views(page, "/tin/1")).to_have_text("5")
    for number, shown in ((9, "9"), (8, "9"), (None, "9")):
        relay.change = {"pages": {"/tin/1": number and {"views": number}}}
        await let_pass(page, relay, 20)
        await expect(views(page, "/tin/1")).to_have_text(shown)
    assert relay.pages_read == [["/tin/1"]] * 4


async def test_a_long_list_is_read_in_parts(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """A request names at most 50 pages, and servers refuse an address of more than 8 KB."""
    names = [f"/{number}" for number in range(101)]
    long = [f"/{number}/" + "đ" * 300 for number in range(5)]
    await page.goto(portal.put("/", html(news(*names, *long), script_line(relay.url, site))))
    await relay.until(lambda relay: sum(map(len, relay.pages_read)) == 106)
    assert sorted(map(len, relay.pages_read)) == [2, 4, 50, 50]


async def test_items_that_come_later_are_read_alone(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """Lists grow while a visitor scrolls; what is known is not read again for that."""
    relay.change = {"pages": {"/tin/1": {"views": 5}, "/tin/2": {"views": 6}}}
    await page.goto(portal.put("/", html(news("/tin/1"), script_line(relay.url, site))))
    await expect(views(page, "/tin/1")).to_have_text("5")
    await page.evaluate("item => document.body.insertAdjacentHTML('beforeend', item)", news("/tin/1", "/tin/2"))
    await page.clock.run_for(200)
    await relay.until(lambda relay: len(relay.pages_read) == 2)
    await expect(views(page, "/tin/2")).to_have_text("6")
    await expect(views(page, "/tin/1").last).to_have_text("5")
    assert relay.pages_read == [["/tin/1"], ["/tin/2"]]


async def test_an_unknown_number_stays_a_dash(page: Page, portal: Portal, relay: Relay, site: str) -> None:
    """0 would be a lie while the stores are away."""
    relay.change = {"pages": {"/": None, "/tin/1": {"views": None}, "/tin/2": {"views": 0}}}
    await page.goto(portal.put("/", html(OWN, news("/tin/1", "/tin/2"), script_line(relay.url, site))))
    await expect(views(page, "/tin/2")).to_have_text("0")
    await expect(views(page, "/tin/1")).to_have_text("–")
    await expect(page.locator("p")).to_have_text("Lượt xem: –")


async def test_an_article_and_the_lists_show_what_was_counted(
    page: Page, portal: Portal, relay: Relay, site: str
) -> None:
    """The same page, in the article under any of its addresses and in the list under the one that links to it."""
    portal.put("*", html(OWN, news("/tin/1", "/tin/2/"), script_line(relay.url, site)))
    for address, shown in (("/tin/1", 1), ("/tin//1/", 2), ("/tin/1/index.html?fbclid=x", 3), ("/tin/2", 1)):
        await page.goto(portal.url + address)
        await expect(page.locator("p")).to_have_text(f"Lượt xem: {shown}")
        await settle(page, relay)
    await page.goto(portal.url + "/")
    await expect(views(page, "/tin/1")).to_have_text("3")
    await expect(views(page, "/tin/2/")).to_have_text("1")
    assert relay.pages_read[-1] == ["/tin/1", "/tin/2/"]
