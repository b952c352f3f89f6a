"""The chart of a report: seen by its values, without a browser."""

from datetime import date
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from footfall.display.chart import BARS_MAX, NARROW, WIDE, Chart, Point, Size, axis
from footfall.display.report_chart import Curve
from footfall.display.report_words import LANGUAGES, WORDS
from footfall.model.report_period import By, Days
from footfall.stores.history import Figure
from footfall.sync.event_book import KINDS

SVG = "{http://www.w3.org/2000/svg}"


def points(*numbers: int | None) -> list[Point]:
    return [Point(f"{n}/11", f"day {n}: {number}", number) for n, number in enumerate(numbers, 1)]


def drawn(numbers: list[Point], size: Size = WIDE, language: str = "vi") -> ET.Element:
    return ET.fromstring(Chart("Khách <b>", "Từ A đến B & C", numbers, language).svg(size))  # noqa: S314


def tops(image: ET.Element) -> list[float]:
    """Return where each bar ends, from the top of the drawing."""
    paths = [path.get("d", "") for path in image.iter(f"{SVG}path") if (path.get("class") or "").startswith("bar")]
    return [float(path.partition("V")[2].partition("h")[0]) for path in paths]


def test_a_chart_has_a_name_and_a_description_and_runs_nothing() -> None:
    """A screen reader reads both; a strict policy allows neither a script nor a style of its own."""
    image = drawn(points(3, 5))
    assert image.get("role") == "img"
    names = {part.get("id"): part.text for part in image if part.get("id")}
    assert [names[name] for name in (image.get("aria-labelledby") or "").split()] == ["Khách <b>", "Từ A đến B & C"]
    assert {part.tag.removeprefix(SVG) for part in image.iter()} <= {"svg", "title", "desc", "path", "text", "g"}
    assert not any(
        "style" in part.attrib or any(name.startswith("on") for name in part.attrib) for part in image.iter()
    )


def test_bars_are_as_high_as_their_numbers_and_say_them() -> None:
    """Twice the number is twice the height; what is under the pointer says its name."""
    image = drawn(points(10, 20, None, 40))
    base = 250 - 26
    heights = [base - top for top in tops(image)]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    assert heights[2] == pytest.approx(4 * heights[0], abs=0.2)
    titles = [group.findtext(f"{SVG}title") for group in image.iter(f"{SVG}g")]
    assert titles == ["day 1: 10", "day 2: 20", "day 4: 40"]


def test_a_small_number_beside_millions_is_seen_and_a_zero_is_not() -> None:
    """Three visitors are not nobody."""
    image = drawn(points(0, 3, 30_000_000))
    zero, small, large = (224 - top for top in tops(image))
    assert (zero, small) == (0, 1.5)
    assert large > 180
    labels = [text.text for text in image.iter(f"{SVG}text")]
    assert "30.000.000" in labels
    assert "30,000,000" in [text.text for text in drawn(points(0, 3, 30_000_000), language="en").iter(f"{SVG}text")]


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("number", [1, 2, 30, BARS_MAX, BARS_MAX + 1, 3653])
def test_everything_lies_within_the_drawing_and_labels_do_not_meet(size: Size, number: int) -> None:
    """A label that is cut off, or two on one another, would be in every printed report."""
    image = drawn([Point("30/11", "x", 29_999_999)] * number, size)
    lower = [text for text in image.iter(f"{SVG}text") if text.text == "30/11"]
    assert 1 <= len(lower) <= size.labels_max + 1
    places = [float(text.get("x", "")) for text in lower]
    assert all(0 < place <= size.width for place in places)
    assert all(later - earlier > 34 for earlier, later in pairwise(places[1:]))
    for text in image.iter(f"{SVG}text"):
        width = 6.6 * len(text.text or "")
        if text.get("text-anchor") == "end":
            assert float(text.get("x", "")) - width >= 0
        elif text.get("text-anchor") == "middle":
            assert float(text.get("x", "")) + width / 2 <= size.width


def test_ten_years_of_days_are_a_line_that_breaks_at_gaps() -> None:
    """A bar for each would be thinner than a hair; a line over a gap would show numbers that do not exist."""
    numbers = [Point("a", "b", None if 100 <= n < 110 else n) for n in range(3653)]
    image = drawn(numbers)
    assert not tops(image)
    (line,) = [path for path in image.iter(f"{SVG}path") if path.get("class") == "line"]
    assert (line.get("d") or "").count("M") == 2
    assert len(ET.tostring(image)) < 60_000


def test_the_axis_ends_at_a_round_number_that_is_not_below_the_highest() -> None:
    """Readers compare heights with the lines behind them."""
    for highest in [*range(300), 999, 10**6 - 1, 2**53 - 1]:
        scale = axis(highest)
        assert scale[-1] >= highest
        assert 2 <= len(scale) <= 5
        assert len({later - earlier for earlier, later in pairwise(scale)}) == 1


def test_what_goes_on_is_drawn_and_called_open_and_gaps_stay_empty() -> None:
    """The last bar is always lower until its period ends; without a mark it looks like a fall."""
    days = Days(date(2026, 11, 1), date(2026, 11, 4))
    figures = [Figure(Days(day, day), 5, 6, 1, exact=True) for day in (days.first, days.last)]
    curve = Curve("a", days, By.DAY, "visitors", date(2026, 11, 3))
    wide, narrow = (ET.fromstring(chart) for chart in curve.charts(figures, "vi"))  # noqa: S314
    for image in (wide, narrow):
        classes = [
            path.get("class") for path in image.iter(f"{SVG}path") if (path.get("class") or "").startswith("bar")
        ]
        assert classes == ["bar", "bar open"]
        titles = [group.findtext(f"{SVG}title") for group in image.iter(f"{SVG}g")]
        assert titles == ["01/11/2026: 5", "04/11/2026: 5 (chưa hết)"]
    assert (wide[0].get("id"), narrow[0].get("id")) == ("chart-wide-title", "chart-narrow-title")
    assert curve.charts([], "vi") == []


def test_both_languages_say_the_same_things() -> None:
    """A word that one language lacks would be an error in that page alone."""
    vietnamese, english = (WORDS[language] for language in LANGUAGES)
    assert list(vietnamese) == list(english)
    assert all(vietnamese.values())
    assert all(english.values())
    for name in vietnamese:
        assert sorted(part.partition("}")[0] for part in vietnamese[name].split("{")[1:]) == sorted(
            part.partition("}")[0] for part in english[name].split("{")[1:]
        ), name
    assert {f"event_{kind}" for kind in KINDS} <= set(vietnamese)
