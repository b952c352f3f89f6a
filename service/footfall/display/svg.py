"""The block as an image, for pages where nothing else is possible."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal, NamedTuple

from footfall.display.labels import DIGITS_MIN, UNKNOWN, format_number, labels_of, numbers_of
from footfall.model.counts import Counts
from footfall.settings.settings import Site

Theme = Literal["light", "dark", "auto", "none"]
Layout = Literal["list", "line", "cards", "badge", "digits"]


@dataclass(frozen=True, slots=True)
class Look:
    """How an image looks.

    The theme "auto" follows the reader's system, and "none" has no paper. `color` is the colour of the numbers (of
    everything, on no paper) and boxes in six hex digits; empty: the theme's.
    """

    theme: Theme = "light"
    layout: Layout = "list"
    color: str = ""


class Palette(NamedTuple):
    """Colours of a theme; ink, the softer ink and the digits on boxes have a contrast above 7:1 to what is behind."""

    ink: str
    soft: str
    paper: str
    edge: str


LIGHT = Palette("#18222e", "#3f4c5a", "#ffffff", "#d3dae1")
DARK = Palette("#e9eef4", "#b0bdcb", "#10171f", "#394654")
DEFAULT_LOOK = Look()
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Arial, sans-serif"
PADDING = 16
HEADING_SIZE = 16
TEXT_SIZE = 15
SMALL_SIZE = 13
FIGURE_SIZE = 26
ROW_HEIGHT = 26
LINE_HEIGHT = 19
GAP = 24
LABEL_WIDTH = 240
LINE_WIDTH = 640
CARD_LABEL_WIDTH = 120
CARDS_IN_A_ROW = 4
CARD_GAP = 8
BADGE_HEIGHT = 24
BOX_WIDTH, BOX_HEIGHT, BOX_STEP = 20, 28, 23


class Row(NamedTuple):
    """A number of the image: its label, what it is, and how people read it."""

    label: str
    number: int | None
    written: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """Marks of SVG on a paper of this size; without an edge the marks have their own paper."""

    width: int
    height: int
    marks: str
    has_paper: bool = True


def counts_svg(site: Site, counts: Counts, language: str, look: Look = DEFAULT_LOOK, show: Sequence[str] = ()) -> str:
    """Return the block as an image, as wide as its words need, of the numbers in `show`.

    By default these are the site's, and on a badge, which has room for one, its total.
    """
    labels = labels_of(site, language)
    names = show or (("total",) if look.layout == "badge" else site.show)
    rows = [
        Row(labels[name], number, format_number(number, language)) for name, number in numbers_of(counts, names).items()
    ]
    heading = labels["heading"]
    spoken = ", ".join(f"{row.label}: {row.written}" for row in rows)
    return _image(f"{heading}. {spoken}", _draw(look.layout, heading, rows), language, look)


def page_svg(site: Site, views: int | None, language: str, look: Look = DEFAULT_LOOK) -> str:
    """Return the views of a page as an image of one line."""
    row = Row(labels_of(site, language)["page_views"], views, format_number(views, language))
    return _image(f"{row.label}: {row.written}", _line([row]), language, look)


def _draw(layout: Layout, heading: str, rows: Sequence[Row]) -> Drawing:
    match layout:
        case "line":
            return _line(rows)
        case "cards":
            return _cards(rows)
        case "badge":
            return _badge(rows[0])
        case "digits":
            return _digits(rows)
        case _:
            return _list(heading, rows)


def _list(heading: str, rows: Sequence[Row]) -> Drawing:
    """Draw the heading, and below it a line for each number; long labels have several."""
    labels = [list(_wrap(row.label, LABEL_WIDTH, TEXT_SIZE)) for row in rows]
    widths = [
        max(_width(line, TEXT_SIZE) for line in label) + GAP + _width(row.written, TEXT_SIZE)
        for label, row in zip(labels, rows, strict=True)
    ]
    title = list(_wrap(heading, max(LABEL_WIDTH, *widths), HEADING_SIZE))
    width = 2 * PADDING + max(*(_width(line, HEADING_SIZE) for line in title), *widths)
    marks, y = [], PADDING + HEADING_SIZE - 2
    for line in title:
        marks.append(_text((PADDING, y), "ink", line, f'font-size="{HEADING_SIZE}" font-weight="700"'))
        y += LINE_HEIGHT + 2
    y += ROW_HEIGHT - LINE_HEIGHT
    for label, row in zip(labels, rows, strict=True):
        number = _text((width - PADDING, y), "number", row.written, 'text-anchor="end"')
        marks.append(_lines(label, (PADDING, y), "soft", "") + number)
        y += ROW_HEIGHT + LINE_HEIGHT * (len(label) - 1)
    return Drawing(width, y - ROW_HEIGHT + PADDING, "\n".join(marks))


def _line(rows: Sequence[Row]) -> Drawing:
    """Draw all numbers beside each other, in as many lines as they need."""
    marks, right, x, y = [], 0, PADDING, ROW_HEIGHT - 4
    for row in rows:
        width = _width(f"{row.label}: {row.written}", TEXT_SIZE)
        if x > PADDING and x + width > LINE_WIDTH:
            x, y = PADDING, y + ROW_HEIGHT
        spans = f'<tspan class="soft">{_xml(row.label)}: </tspan><tspan class="number">{row.written}</tspan>'
        marks.append(f'<text x="{x}" y="{y}">{spans}</text>')
        right = max(right, x + width)
        x += width + GAP // 2
    return Drawing(right + PADDING, y + 12, "\n".join(marks))


def _cards(rows: Sequence[Row]) -> Drawing:
    """Draw a card for each number, its label below it."""
    labels = [list(_wrap(row.label, CARD_LABEL_WIDTH, SMALL_SIZE)) for row in rows]
    width = PADDING + max(
        *(_width(line, SMALL_SIZE) for label in labels for line in label),
        *(_width(row.written, FIGURE_SIZE) for row in rows),
    )
    height = 60 + 16 * max(map(len, labels))
    marks = []
    for place, (row, label) in enumerate(zip(rows, labels, strict=True)):
        x = (width + CARD_GAP) * (place % CARDS_IN_A_ROW)
        y = (height + CARD_GAP) * (place // CARDS_IN_A_ROW)
        middle = x + width // 2
        figure = f'text-anchor="middle" font-size="{FIGURE_SIZE}"'
        marks.append(
            _paper((x, y), (width, height))
            + _text((middle, y + 38), "number", row.written, figure)
            + _lines(label, (middle, y + 62), "soft", f'text-anchor="middle" font-size="{SMALL_SIZE}"', 16)
        )
    columns, lines = min(len(rows), CARDS_IN_A_ROW), -(-len(rows) // CARDS_IN_A_ROW)
    total = ((width + CARD_GAP) * columns - CARD_GAP, (height + CARD_GAP) * lines - CARD_GAP)
    return Drawing(*total, "\n".join(marks), has_paper=False)


def _badge(row: Row) -> Drawing:
    """Draw one number as small as a line of text, its label on a dark part."""
    left = _width(row.label, SMALL_SIZE) + PADDING
    width = left + _width(row.written, SMALL_SIZE) + PADDING
    size = f'text-anchor="middle" font-size="{SMALL_SIZE}"'
    marks = (
        f'<path class="box" d="M5.5 .5H{left}V{BADGE_HEIGHT - 0.5}H5.5a5 5 0 0 1-5-5V5.5a5 5 0 0 1 5-5z"/>'
        + _text((left // 2, 16), "on", row.label, size)
        + _text((left + (width - left) // 2, 16), "number", row.written, size)
    )
    return Drawing(width, BADGE_HEIGHT, _paper((0, 0), (width, BADGE_HEIGHT), 5) + marks, has_paper=False)


def _digits(rows: Sequence[Row]) -> Drawing:
    """Draw each digit in a box of its own, with zeros in front, as counters did from the start."""
    texts = [UNKNOWN if row.number is None else str(row.number) for row in rows]
    places = max(DIGITS_MIN, *map(len, texts))
    labels = [list(_wrap(row.label, LABEL_WIDTH, TEXT_SIZE)) for row in rows]
    start = PADDING + max(_width(line, TEXT_SIZE) for label in labels for line in label) + GAP // 2
    marks, y = [], PADDING
    for text, label in zip(texts, labels, strict=True):
        padded = text.rjust(places, UNKNOWN if text == UNKNOWN else "0")
        marks.append(_lines(label, (PADDING, y + 19), "soft", ""))
        for place, digit in enumerate(padded):
            x = start + BOX_STEP * place
            marks.append(
                f'<rect class="box" x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="3"/>'
                + _text((x + BOX_WIDTH // 2, y + 20), "on", digit, 'text-anchor="middle" font-size="17"')
            )
        y += BOX_HEIGHT + 8 + LINE_HEIGHT * (len(label) - 1)
    return Drawing(start + BOX_STEP * places - 3 + PADDING, y - 8 + PADDING, "\n".join(marks))


def _image(title: str, drawing: Drawing, language: str, look: Look) -> str:
    width, height = drawing.width, drawing.height
    paper = _paper((0, 0), (width, height)) + "\n" if drawing.has_paper else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" lang="{language}" role="img" aria-labelledby="title" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="{FONT}" font-size="{TEXT_SIZE}">\n'
        f'<title id="title">{_xml(title)}</title>\n'
        f"<style>{_style(look)}</style>\n"
        f"{paper}{drawing.marks}\n</svg>\n"
    )


def _style(look: Look) -> str:
    common = ".number,.on{font-weight:600;font-variant-numeric:tabular-nums}"
    if look.theme == "auto":
        return f"{common}{_rules(LIGHT, look)}@media (prefers-color-scheme:dark){{{_rules(DARK, look)}}}"
    return common + _rules(DARK if look.theme == "dark" else LIGHT, look)


def _rules(palette: Palette, look: Look) -> str:
    """Return the colours; where the chosen one cannot be read on the paper, only boxes have it."""
    ink, soft, paper, edge = palette
    chosen = f"#{look.color}" if look.color else ink
    if look.theme == "none":
        shapes = f".box,.paper{{fill:none;stroke:{chosen}}}.paper{{stroke-opacity:.4}}.on{{fill:{chosen}}}"
        return f".ink,.soft,.number{{fill:{chosen}}}{shapes}"
    bright = _is_bright(chosen[1:])
    number = chosen if bright == (palette is DARK) else ink
    on = DARK.paper if bright else LIGHT.paper
    shapes = f".paper{{fill:{paper};stroke:{edge}}}.box{{fill:{chosen}}}.on{{fill:{on}}}"
    return f".ink{{fill:{ink}}}.soft{{fill:{soft}}}.number{{fill:{number}}}{shapes}"


def _is_bright(color: str) -> bool:
    """Return whether dark digits can be read better on this colour (weights of ITU-R BT.601)."""
    red, green, blue = bytes.fromhex(color)
    return 299 * red + 587 * green + 114 * blue > 140_000


def _paper(corner: tuple[int, int], size: tuple[int, int], radius: int = 8) -> str:
    """Draw a paper whose edge is a hairline: it lies on half pixels, or it would be two pixels wide."""
    (x, y), (width, height) = corner, size
    return f'<rect class="paper" x="{x}.5" y="{y}.5" width="{width - 1}" height="{height - 1}" rx="{radius}"/>'


def _text(corner: tuple[int, int], kind: str, text: str, form: str) -> str:
    return f'<text class="{kind}" x="{corner[0]}" y="{corner[1]}"{form and " " + form}>{_xml(text)}</text>'


def _lines(lines: Sequence[str], corner: tuple[int, int], kind: str, form: str, height: int = LINE_HEIGHT) -> str:
    return "".join(_text((corner[0], corner[1] + height * i), kind, line, form) for i, line in enumerate(lines))


def _wrap(text: str, width: int, size: int) -> Iterator[str]:
    """Yield the lines of `text`, each at most `width` wide; a word that is wider is cut."""
    line = ""
    for word in re.findall(r"\S+", text):
        if line and _width(f"{line} {word}", size) > width:
            yield line
            line = ""
        line = f"{line} {word}".lstrip()
        while _width(line, size) > width:
            end = next(n for n in range(len(line), 0, -1) if n == 1 or _width(line[:n], size) <= width)
            yield line[:end]
            line = line[end:]
    yield line


def _xml(text: str) -> str:
    """Escape for XML, without the control characters that XML cannot hold even escaped."""
    return escape("".join(character for character in text if character.isprintable()))


NARROW = re.compile(r"[fijlrtI .,:;'!|()-]")


def _width(text: str, size: int) -> int:
    """Return the most pixels that `text` takes in the bold sans-serif font of any system."""
    ems = 0.0
    for character in unicodedata.normalize("NFD", text):
        if unicodedata.combining(character):
            continue
        if unicodedata.east_asian_width(character) in "WF":
            ems += 1.1
        elif NARROW.match(character):
            ems += 0.48
        else:
            ems += 1.05 if character in "mwMW@%" else 0.84 if character.isupper() else 0.72
    return round(ems * size)
