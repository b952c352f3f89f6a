"""Random paths of one network take no portal's pages away, and neither its memory."""

from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any

from footfall.ingest.client_address import Client
from footfall.ingest.page_limits import SitePages
from footfall.ingest.rate_limits import NetworkLimits
from footfall.model.pages import OTHER
from footfall.settings.settings import Limits
from tests.support.storage import TODAY

REAL = [f"/tin/{number}" for number in range(500)]
NEW_PAGES = Limits().new_pages_per_10_min


def client(address: str) -> Client:
    """A visitor at an IPv4 address."""
    packed = IPv4Address(address).packed
    return Client(packed, packed, packed, is_proxy=False)


def site_pages(pages_max: int = 10_000, **limits: Any) -> SitePages:
    """The pages of one site in a worker."""
    return SitePages(pages_max, b"site", NetworkLimits(Limits(**limits)))


def test_50_000_random_paths_of_one_address_leave_the_pages_of_the_portal_counted() -> None:
    """They cost their own network its budget; a page that another network opens counts as before."""
    pages, attacker = site_pages(), client("203.0.113.66")
    for number, page in enumerate(REAL[:250]):
        assert pages.admit(page, TODAY, client(f"198.51.100.{number % 250}"), 0.0) == page
    admitted = {pages.admit(f"/random/{number}", TODAY, attacker, 1.0) for number in range(50_000)}
    assert len(admitted - {OTHER}) == NEW_PAGES
    for page in REAL[:250]:
        assert pages.admit(page, TODAY, attacker, 1.0) == page
    for number, page in enumerate(REAL[250:]):
        assert pages.admit(page, TODAY, client(f"198.51.100.{number % 250}"), 1.0) == page


def test_a_day_has_at_most_pages_max_pages_and_the_next_day_has_as_many_again() -> None:
    """Those of yesterday are known, and cost no budget."""
    pages, visitor = site_pages(100, enabled=False), client("198.51.100.1")
    assert [pages.admit(page, TODAY, visitor, 0.0) for page in REAL[:101]] == [*REAL[:100], OTHER]
    assert pages.admit(REAL[0], TODAY, visitor, 0.0) == REAL[0]
    tomorrow = TODAY + timedelta(days=1)
    assert [pages.admit(page, tomorrow, visitor, 0.0) for page in REAL[100:201]] == [*REAL[100:200], OTHER]


def test_pages_that_redis_knows_cost_a_restarted_worker_no_budget() -> None:
    """Many readers behind one address open more pages than its budget has, all of them real."""
    pages, office = site_pages(), client("198.51.100.1")
    pages.learn(REAL)
    assert [pages.admit(page, TODAY, office, 0.0) for page in REAL] == REAL
