"""The pages that were refused: what an operator is told, and what a stranger can do to it."""

import logging
import tracemalloc

import pytest

from footfall.errors import Reason
from footfall.ingest.client_address import Client
from footfall.ingest.refused_pages import (
    LISTED_MAX,
    PAGES_PER_SITE_MAX,
    REMEMBERED_S,
    Page,
    RefusedPages,
    advice,
    merged,
)
from footfall.ingest.sender import Sender
from tests.support.footfall import FakeClock

SITES = {"portal": None, "library": None}
NEW = "https://new.example.vn"
LOG = "footfall.ingest.refused_pages"


@pytest.fixture
def clock() -> FakeClock:
    """Return the clock of `pages`."""
    return FakeClock()


@pytest.fixture
def pages(clock: FakeClock) -> RefusedPages:
    """Return a worker's refused pages, none yet."""
    return RefusedPages(SITES, clock)


def sender(origin: str | None = None, referer: str | None = None) -> Sender:
    """Return a sender on a page."""
    return Sender(Client(b"", b"", b"", is_proxy=False), origin=origin, referer=referer)


def listed(pages: RefusedPages) -> dict[Page, int]:
    """Return how often each page was refused."""
    return {each.page: each.times for each in pages.last_hour()}


def test_a_page_is_known_by_its_origin_and_never_by_its_path(pages: RefusedPages) -> None:
    """A path says what a visitor read; the operator needs the host alone."""
    pages.note(Reason.WRONG_ORIGIN, "portal", sender(NEW))
    pages.note(Reason.WRONG_ORIGIN, "portal", sender(referer=f"{NEW}/secret?name=x"))
    pages.note(Reason.NO_ORIGIN, "portal", sender())
    pages.note(Reason.RATE_LIMITED, "portal", sender(NEW))
    assert listed(pages) == {Page("portal", NEW, "wrong_origin"): 2, Page("portal", "", "no_origin"): 1}


def test_an_hour_later_a_page_is_forgotten(pages: RefusedPages, clock: FakeClock) -> None:
    """A mistake that was mended must not be listed for ever."""
    pages.note(Reason.UNKNOWN_SITE, "portl", sender(NEW))
    clock.advance(REMEMBERED_S)
    assert listed(pages) == {Page("portl", NEW, "unknown_site"): 1}
    clock.advance(1)
    assert listed(pages) == {}


@pytest.mark.parametrize("site", ["portal", "no-such-site"])
def test_random_origins_drive_out_no_page_of_many_visitors_and_fill_no_memory(pages: RefusedPages, site: str) -> None:
    """A stranger chooses Origin and site; what the operator looks for stays, and a site has few places."""
    reason = Reason.WRONG_ORIGIN if site in SITES else Reason.UNKNOWN_SITE
    for _ in range(2):
        pages.note(reason, site, sender(NEW))
        pages.note(Reason.WRONG_ORIGIN, "library", sender(NEW))
    tracemalloc.start()
    try:
        for number in range(10_000):
            pages.note(reason, site, sender(f"https://{number}.example" + "x" * 5000))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    found = listed(pages)
    assert found[Page(site, NEW, reason.value)] == 2
    assert found[Page("library", NEW, "wrong_origin")] == 2
    assert len(found) == PAGES_PER_SITE_MAX + 1
    assert max(len(origin) for _, origin, _ in found) <= 300
    assert size < 100_000


def test_a_page_of_yesterday_makes_room_for_one_of_today(pages: RefusedPages, clock: FakeClock) -> None:
    """Else the most frequent pages of a year would hold all places."""
    for number in range(PAGES_PER_SITE_MAX):
        for _ in range(9):
            pages.note(Reason.WRONG_ORIGIN, "portal", sender(f"https://{number}.example"))
    clock.advance(2 * REMEMBERED_S)
    for number in range(PAGES_PER_SITE_MAX):
        pages.note(Reason.WRONG_ORIGIN, "portal", sender(f"https://new-{number}.example"))
    assert len(listed(pages)) == PAGES_PER_SITE_MAX


def test_the_log_has_one_line_a_minute_with_origin_and_count(
    pages: RefusedPages, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten thousand refused beacons are one mistake; and no stranger writes a line or a field of his own."""
    with caplog.at_level(logging.WARNING, LOG):
        pages.note(Reason.WRONG_ORIGIN, "portal", sender(f"{NEW}\x1b[2J\nforged times=9"))
        for _ in range(10_000):
            pages.note(Reason.WRONG_ORIGIN, "portal", sender("https://other.example.vn"))
    (line,) = caplog.messages
    assert line.endswith("times=1 pages=https://new.example.vn?[2J?forged?times=9(site=portal,times=1)")
    assert "add its host to hosts" in line


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (Page("portal", "https://WWW.new.example.vn:8443", "wrong_origin"), 'add "new.example.vn" to hosts of'),
        (Page("portal", "null", "wrong_origin"), 'add "file://" to hosts of [sites.portal]'),
        (Page("portal", "chrome-extension://abc", "wrong_origin"), "the origin of no web page"),
        (Page("portal", 'https://a"b', "wrong_origin"), "the origin of no web page"),
        (Page("portal", "", "no_origin"), 'referrerpolicy="origin"'),
        (Page("portl", NEW, "unknown_site"), "did you mean portal?"),
        (Page("zzz", NEW, "unknown_site"), "no site is called zzz; correct data-site in the page, or add the site"),
        (Page("", NEW, "unknown_site"), "correct data-site in the page"),
    ],
)
def test_the_advice_is_what_to_write_into_the_settings(page: Page, words: str) -> None:
    """The reader may never have heard of origins."""
    assert words in advice(page, SITES)


def test_several_workers_are_one_list(clock: FakeClock) -> None:
    """The reader asks one worker, and a page reaches all of them."""
    workers = [RefusedPages(SITES, clock) for _ in range(2)]
    began = clock()
    for worker in workers:
        for number in range(LISTED_MAX):
            worker.note(Reason.UNKNOWN_SITE, f"s{number % 7}", sender(NEW))
        clock.advance(60)
    together = merged(worker.last_hour() for worker in workers)
    assert sum(each.times for each in together) == 2 * LISTED_MAX
    assert {(each.since_s, each.last_s) for each in together} == {(began, began + 60)}
    assert len(together) == 7
