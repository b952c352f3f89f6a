"""Many ways to write the address of a page, and one page."""

import pytest

from footfall.ingest.pages import normalise_page
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site

PORTAL = Site(
    id=SiteId("portal"),
    name="Portal",
    hosts=("portal.example.vn", "*.portal.example.vn"),
    page_query=("id", "ItemID"),
)


@pytest.mark.parametrize(
    ("page", "canonical"),
    [
        pytest.param("/tin/1", "/tin/1", id="a path"),
        pytest.param("//tin/./2/../1/", "/tin/1", id="slashes and dots"),
        pytest.param("/tin/1?utm_source=zalo&id=7#top", "/tin/1?id=7", id="tracking and fragment"),
        pytest.param("/tin/%c4%91%e1%ba%a7u", "/tin/đầu", id="Vietnamese"),
    ],
)
def test_a_page_has_one_form(page: str, canonical: str) -> None:
    """Two forms would be two numbers for one page."""
    assert normalise_page(page, PORTAL) == canonical


@pytest.mark.parametrize("page", ["off", "", "javascript:alert(1)", "https://other.example/tin/1", "/a\x00b"])
def test_what_is_no_page_of_the_site_has_no_form(page: str) -> None:
    """Its view counts for the site only."""
    assert normalise_page(page, PORTAL) is None
