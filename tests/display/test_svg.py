"""The block as an image: seen by its values, without a server."""

from xml.etree import ElementTree as ET

import pytest

from footfall.display.svg import Theme, counts_svg
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from tests.support.portal import COUNTS, PORTAL

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("theme", ["light", "dark", "auto"])
def test_the_image_says_what_it_shows(theme: Theme) -> None:
    """The image is well-formed XML, and has a name for readers who cannot see it."""
    image = ET.fromstring(counts_svg(PORTAL, COUNTS, "vi", theme))  # noqa: S314
    assert image.get("role") == "img"
    assert image.findtext(f"{SVG}title") == (
        "Thống kê truy cập. Đang online: 4, Hôm nay: 1.373, Trong tuần: –, Tất cả: 1.373.876"
    )
    texts = [text.text for text in image.iter(f"{SVG}text")]
    assert texts == [
        "Thống kê truy cập",
        *("Đang online", "4"),
        *("Hôm nay", "1.373"),
        *("Trong tuần", "–"),
        *("Tất cả", "1.373.876"),
    ]
    assert ("prefers-color-scheme" in (image.findtext(f"{SVG}style") or "")) == (theme == "auto")


def test_the_image_is_as_wide_as_its_words() -> None:
    """A label of the settings may be three times as long as ours."""

    def width(today: str) -> int:
        site = Site(id=SiteId("a"), name="A", hosts=("a.vn",), labels={"today": today})
        return int(ET.fromstring(counts_svg(site, COUNTS, "vi", "auto")).get("width", ""))  # noqa: S314

    assert width("Hôm nay") < width("Số lượt khách trong ngày") < width("Số lượt khách truy cập trong ngày hôm nay")


def test_the_image_survives_characters_that_xml_cannot_hold() -> None:
    """A single such character makes the whole image an error page."""
    site = Site(id=SiteId("a"), name="A", hosts=("a.vn",), labels={"today": "Hôm\x0bnay\x07"})
    title = ET.fromstring(counts_svg(site, COUNTS, "vi", "auto")).findtext(f"{SVG}title")  # noqa: S314
    assert title is not None
    assert "Hômnay" in title
