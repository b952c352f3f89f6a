"""A chart of one measure over time as SVG: no script, no style of its own, a name and a description for screen readers.

pygal was tried: its charts come with two scripts, one of them from another host, and have no name for a reader who
cannot see them; thirty bars are 31 KB. Those of leather have neither name nor tooltips.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count
from typing import NamedTuple

from footfall.display.labels import format_number

BARS_MAX = 190
"""More points than these are drawn as one line, for a bar would be thinner than what an eye can aim at."""
TICKS = 4
CHARACTER = 6.6
"""About the width of a digit of the axis, in the units of the drawing."""
TOP, BOTTOM, RIGHT = 14.0, 26.0, 6.0


class Point(NamedTuple):
    """A period on the axis of time: what stands below it and in its tooltip, and its number; None is a gap."""

    label: str
    name: str
    number: int | None
    is_open: bool = False
    """Whether the number still grows."""


class Size(NamedTuple):
    """The drawing's own units; a page scales it."""

    name: str
    width: int
    height: int
    labels_max: int


WIDE, NARROW = Size("wide", 720, 250, 10), Size("narrow", 340, 220, 4)


@dataclass(frozen=True, slots=True)
class Chart:
    """What a chart shows and says."""

    title: str
    description: str
    points: Sequence[Point]
    language: str

    def svg(self, size: Size) -> str:
        """Return the drawing; its colours are those of the classes of the page."""
        highest = max((point.number or 0 for point in self.points), default=0)
        scale = axis(highest)
        left = max(len(format_number(tick, self.language)) for tick in scale) * CHARACTER + 10
        plot = _Plot(size, left, scale[-1], len(self.points))
        name = f"chart-{size.name}"
        shape = f'viewBox="0 0 {size.width} {size.height}" aria-labelledby="{name}-title {name}-desc"'
        parts = [
            f'<svg class="chart {size.name}" xmlns="http://www.w3.org/2000/svg" role="img" {shape}>',
            f'<title id="{name}-title">{escape(self.title)}</title>',
            f'<desc id="{name}-desc">{escape(self.description)}</desc>',
            *plot.grid(scale, self.language),
            *(plot.bars(self.points) if len(self.points) <= BARS_MAX else plot.line(self.points)),
            *plot.times(self.points, size.labels_max),
            "</svg>",
        ]
        return "".join(parts)


class _Plot:
    """Where numbers and times lie in the drawing."""

    def __init__(self, size: Size, left: float, highest: int, points: int) -> None:
        self._left, self._right = left, size.width - RIGHT
        self._base = size.height - BOTTOM
        self._unit = (self._base - TOP) / highest
        self._step = (self._right - left) / max(1, points)

    def grid(self, scale: Sequence[int], language: str) -> Iterator[str]:
        for tick in scale:
            y = self._y(tick)
            kind = "grid" if tick else "axis"
            yield f'<path class="{kind}" d="M{self._left:.1f} {y:.1f}H{self._right:.1f}"/>'
            number = format_number(tick, language)
            yield f'<text class="tick" x="{self._left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{number}</text>'

    def bars(self, points: Sequence[Point]) -> Iterator[str]:
        width = min(self._step * 0.74, 46.0)
        for place, point in enumerate(points):
            if point.number is None:
                continue
            # A number above zero is never invisible beside one of millions.
            y = min(self._y(point.number), self._base - 1.5) if point.number else self._base
            x = self._middle(place) - width / 2
            kind = "bar open" if point.is_open else "bar"
            step, left = self._step, self._middle(place) - self._step / 2
            yield (
                f"<g><title>{escape(point.name)}</title>"
                f'<path class="area" d="M{left:.1f} {TOP}h{step:.1f}V{self._base:.1f}h-{step:.1f}z"/>'
                f'<path class="{kind}" d="M{x:.1f} {self._base:.1f}V{y:.1f}h{width:.1f}V{self._base:.1f}z"/></g>'
            )

    def line(self, points: Sequence[Point]) -> Iterator[str]:
        path: list[str] = []
        is_drawn = False
        for place, point in enumerate(points):
            if point.number is not None:
                path.append(f"{'L' if is_drawn else 'M'}{self._middle(place):.1f} {self._y(point.number):.1f}")
            is_drawn = point.number is not None
        yield f'<path class="line" d="{"".join(path)}"/>'

    def times(self, points: Sequence[Point], labels_max: int) -> Iterator[str]:
        every = -(-len(points) // labels_max)
        for place in range(0, len(points), max(1, every)):
            # The first and the last would reach beyond the drawing if they stood in the middle.
            anchor = "start" if place == 0 and len(points) > labels_max else "middle"
            x = self._left if anchor == "start" else min(self._middle(place), self._right - 20)
            label = escape(points[place].label)
            yield f'<text class="tick" x="{x:.1f}" y="{self._base + 18:.1f}" text-anchor="{anchor}">{label}</text>'

    def _middle(self, place: int) -> float:
        return self._left + self._step * (place + 0.5)

    def _y(self, number: int) -> float:
        return self._base - number * self._unit


def axis(highest: int) -> list[int]:
    """Return round numbers from 0 to one that is not below `highest`.

    >>> axis(3), axis(118), axis(30_123_456)
    ([0, 1, 2, 3], [0, 50, 100, 150], [0, 10000000, 20000000, 30000000, 40000000])
    """
    step = next(n * 10**zeros for zeros in count() for n in (1, 2, 5) if TICKS * n * 10**zeros >= highest)
    return [step * n for n in range(max(1, -(-highest // step)) + 1)]
