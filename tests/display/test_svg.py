"""The block as an image: seen by its values, without a server."""

from xml.etree import ElementTree as ET

import pytest

from footfall.display.svg import Layout, Look, Theme, counts_svg
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from tests.support.portal import COUNTS, PORTAL

SVG = "{http://www.w3.org/2000/svg}"


LAYOUTS: tuple[Layout, ...] = ("list", "line", "cards", "badge", "digits")


@pytest.mark.parametrize("theme", ["light", "dark", "auto", "none"])
def test_the_image_says_what_it_shows(theme: Theme) -> None:
    """The image is well-formed XML, and has a name for readers who cannot see it."""
    image = ET.fromstring(counts_svg(PORTAL, COUNTS, "vi", Look(theme)))  # noqa: S314
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


def test_the_image_does_not_follow_the_desktop_unless_it_is_asked_to() -> None:
    """A white portal stays white under a dark desktop, and a black card in it looks broken."""
    assert "prefers-color-scheme" not in counts_svg(PORTAL, COUNTS, "vi")
    assert "fill:#ffffff;stroke:#d3dae1" in counts_svg(PORTAL, COUNTS, "vi")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_one_image_with_all_its_numbers_in_its_title(layout: Layout) -> None:
    """Digits in boxes are a number for a screen reader, and a badge has room for one number."""
    image = ET.fromstring(counts_svg(PORTAL, COUNTS, "vi", Look(layout=layout)))  # noqa: S314
    title = image.findtext(f"{SVG}title") or ""
    drawn = "".join("".join(text.itertext()) for text in image.iter(f"{SVG}text"))
    numbers = ("1.373.876",) if layout == "badge" else ("4", "1.373", "1.373.876")
    for number in numbers:
        assert number in title
        assert (number.replace(".", "").rjust(7, "0") if layout == "digits" else number) in drawn
    assert ("Hôm nay" in title) == (layout != "badge")
    chosen = counts_svg(PORTAL, COUNTS, "vi", Look(layout=layout), ("views_today",))
    assert "Lượt xem hôm nay" in chosen
    assert "Tất cả" not in chosen


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_long_label_has_several_lines(layout: Layout) -> None:
    """A label of the settings may have 80 characters, and a footer on a phone is 320 pixels wide."""

    def size(label: str) -> tuple[int, int]:
        site = Site(id=SiteId("a"), name="A", hosts=("a.vn",), labels={"today": label})
        image = ET.fromstring(counts_svg(site, COUNTS, "vi", Look(layout=layout), ("today",)))  # noqa: S314
        return int(image.get("width", "")), int(image.get("height", ""))

    long, longer = size("Khách trong ngày " * 2), size("Khách trong ngày " * 4)
    if layout in ("line", "badge"):  # of one line by their nature
        assert longer > long > size("Hôm nay")
    else:
        assert longer[0] <= 500
        assert longer[1] > size("Hôm nay")[1]
        assert size("K" * 80)[0] <= 500


@pytest.mark.parametrize(
    ("look", "rules"),
    [
        pytest.param(Look("light", color="b3261e"), (".number{fill:#b3261e}", ".on{fill:#ffffff}"), id="numbers"),
        pytest.param(Look("light", color="ffd54a"), (".number{fill:#18222e}", ".on{fill:#10171f}"), id="too bright"),
        pytest.param(Look("dark", color="b3261e"), (".number{fill:#e9eef4}", ".box{fill:#b3261e}"), id="too dark"),
        pytest.param(Look("none", color="ffffff"), (".ink,.soft,.number{fill:#ffffff}", "fill:none"), id="no paper"),
    ],
)
def test_a_colour_is_of_the_numbers_where_they_can_be_read_in_it(look: Look, rules: tuple[str, ...]) -> None:
    """Yellow numbers on white are there and invisible."""
    image = counts_svg(PORTAL, COUNTS, "vi", look)
    assert [rule for rule in rules if rule not in image] == []


def test_the_image_survives_characters_that_xml_cannot_hold() -> None:
    """A single such character makes the whole image an error page."""
    site = Site(id=SiteId("a"), name="A", hosts=("a.vn",), labels={"today": "Hôm\x0bnay\x07"})
    title = ET.fromstring(counts_svg(site, COUNTS, "vi")).findtext(f"{SVG}title")  # noqa: S314
    assert title is not None
    assert "Hômnay" in title
