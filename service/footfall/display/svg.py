"""The block as an image, for pages where nothing else is possible."""

import re
import unicodedata
from collections.abc import Sequence
from html import escape
from typing import Literal

from footfall.display.labels import format_number, labels_of, numbers_of
from footfall.model.counts import Counts
from footfall.settings.settings import Site

Theme = Literal["light", "dark", "auto"]

# Ink, paper, and the softer ink of the labels; each ink has a contrast above 7:1 to its paper.
LIGHT = ("#18222e", "#ffffff", "#3f4c5a")
DARK = ("#e9eef4", "#10171f", "#b0bdcb")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Arial, sans-serif"
PADDING = 16
HEADING_SIZE = 16
TEXT_SIZE = 15
ROW_HEIGHT = 26
GAP = 24


def counts_svg(site: Site, counts: Counts, language: str, theme: Theme, show: Sequence[str] = ()) -> str:
    """Return the block as an image, as wide as its words need; by default with the site's numbers.

    The theme "auto" follows the reader's light or dark setting.
    """
    labels = labels_of(site, language)
    rows = [
        (labels[name], format_number(number, language))
        for name, number in numbers_of(counts, show or site.show).items()
    ]
    return _image(labels["heading"], rows, language, theme)


def page_svg(site: Site, views: int | None, language: str, theme: Theme) -> str:
    """Return the views of a page as an image of one line."""
    label, number = labels_of(site, language)["page_views"], format_number(views, language)
    width = 2 * PADDING + _width(label, TEXT_SIZE) + GAP // 2 + _width(number, TEXT_SIZE)
    height = ROW_HEIGHT + PADDING // 2
    y = height // 2 + TEXT_SIZE // 3
    return (
        f"{_opening(f'{label}: {number}', (width, height), language, theme)}"
        f'<text class="soft" x="{PADDING}" y="{y}">{_xml(label)}</text>'
        f'<text class="ink" x="{width - PADDING}" y="{y}" text-anchor="end" font-weight="600">{number}</text>\n</svg>\n'
    )


def _image(heading: str, rows: Sequence[tuple[str, str]], language: str, theme: Theme) -> str:
    row_widths = [_width(label, TEXT_SIZE) + GAP + _width(number, TEXT_SIZE) for label, number in rows]
    width = 2 * PADDING + max(_width(heading, HEADING_SIZE), *row_widths)
    first_row = PADDING + HEADING_SIZE + ROW_HEIGHT
    height = first_row + (len(rows) - 1) * ROW_HEIGHT + PADDING
    right = width - PADDING
    lines = "".join(
        f'<text class="soft" x="{PADDING}" y="{y}">{_xml(label)}</text>'
        f'<text class="ink" x="{right}" y="{y}" text-anchor="end" font-weight="600">{number}</text>\n'
        for y, (label, number) in zip(range(first_row, height, ROW_HEIGHT), rows, strict=True)
    )
    spoken = ", ".join(f"{label}: {number}" for label, number in rows)
    return (
        f"{_opening(f'{heading}. {spoken}', (width, height), language, theme)}"
        f'<text class="ink" x="{PADDING}" y="{PADDING + HEADING_SIZE - 2}" font-size="{HEADING_SIZE}" '
        f'font-weight="700">{_xml(heading)}</text>\n{lines}</svg>\n'
    )


def _opening(title: str, size: tuple[int, int], language: str, theme: Theme) -> str:
    width, height = size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" lang="{language}" role="img" aria-labelledby="title" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="{FONT}" font-size="{TEXT_SIZE}">\n'
        f'<title id="title">{_xml(title)}</title>\n'
        f"<style>{_style(theme)}</style>\n"
        f'<rect class="paper" width="{width}" height="{height}" rx="8"/>\n'
    )


def _style(theme: Theme) -> str:
    def rules(ink: str, paper: str, soft: str) -> str:
        return f".ink{{fill:{ink}}}.paper{{fill:{paper}}}.soft{{fill:{soft}}}"

    if theme == "auto":
        return f"{rules(*LIGHT)}@media (prefers-color-scheme:dark){{{rules(*DARK)}}}"
    return rules(*(DARK if theme == "dark" else LIGHT))


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
