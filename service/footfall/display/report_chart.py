"""The chart of a report: its periods as points, drawn for wide and for narrow screens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from markupsafe import Markup

from footfall.display.chart import BARS_MAX, NARROW, WIDE, Chart, Point
from footfall.display.labels import format_number
from footfall.display.report_words import WORDS, axis_name, day_name, period_name
from footfall.model.report_period import By, Days
from footfall.stores.history import Figure

Measure = Literal["visitors", "views"]
MEASURES: tuple[Measure, ...] = ("visitors", "views")


@dataclass(frozen=True, slots=True)
class Curve:
    """What the chart of a report shows."""

    title: str
    days: Days
    by: By
    show: Measure
    closed_through: date

    def is_line(self, figures: Sequence[Figure]) -> bool:
        """Return whether the periods are too many for a bar each."""
        return len(self._parts(figures)) > BARS_MAX

    def charts(self, figures: Sequence[Figure], language: str) -> list[Markup]:
        """Return the drawings, of which the page shows one; none where there are no numbers."""
        points = list(self._points(figures, language))
        known = [point for point in points if point.number is not None]
        if not known:
            return []
        highest = max(known, key=lambda point: point.number or 0)
        lowest = min(known, key=lambda point: point.number or 0)
        description = WORDS[language]["chart_description"].format(
            first=day_name(self.days.first, language),
            last=day_name(self.days.last, language),
            by=WORDS[language][f"by_{self.by}"],
            highest=format_number(highest.number, language),
            highest_at=highest.name.partition(":")[0],
            lowest=format_number(lowest.number, language),
            lowest_at=lowest.name.partition(":")[0],
        )
        chart = Chart(self.title, description, points, language)
        return [Markup(chart.svg(size)) for size in (WIDE, NARROW)]  # noqa: S704 - the chart escapes its texts

    def _parts(self, figures: Sequence[Figure]) -> list[Days]:
        """Return the periods since the first one that has numbers."""
        return list(Days(figures[0].days.first, self.days.last).parts(self.by)) if figures else []

    def _points(self, figures: Sequence[Figure], language: str) -> Iterator[Point]:
        """Yield a point for each period; one without numbers is a gap."""
        known = {self.by.start(figure.days.first): figure for figure in figures}
        for part in self._parts(figures):
            figure = known.get(self.by.start(part.first))
            number = figure and (figure.visitors if self.show == "visitors" else figure.views)
            is_open = figure is not None and part.last > self.closed_through
            opened = f" ({WORDS[language]['open']})" if is_open else ""
            name = f"{period_name(part, self.by, language)}: {format_number(number, language)}{opened}"
            yield Point(axis_name(part, self.by, language), name, number, is_open)
