"""The block as HTML: the lines to paste in each of their styles, and the fragment for server-side includes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from footfall.display.labels import DIGITS_MIN, UNKNOWN, format_number, labels_of, numbers_of
from footfall.model.counts import Counts
from footfall.settings.settings import Site

Style = Literal["plain", "list", "line", "cards", "digits", "image"]
STYLES: tuple[Style, ...] = ("plain", "list", "line", "cards", "digits", "image")


@dataclass(frozen=True, slots=True)
class Preset:
    """How the lines to paste are to look.

    "plain" needs no style sheet, and "image" no script; the others bring `footfall.css`. By default language and
    numbers are the site's. `heading` is the level of the heading, 0 for bold text, so that a footer without headings
    stays so. `color` is the colour of the numbers in six hex digits; empty: that of the text around.
    """

    style: Style = "plain"
    language: str = ""
    show: Sequence[str] = ()
    heading: int = 0
    color: str = ""


PLAIN = Preset()


def snippet(site: Site, public_url: str, preset: Preset = PLAIN) -> str:
    """Return the lines that a webmaster pastes: the block, the image for pages without script, the script, and
    that of browsers which cannot read it; the others do not load what is `nomodule`.

    Every number has two marks, because some editors strip data attributes and others classes; for the same reason
    the script's address names the site too. `loading` keeps the image from counting beside the script where a
    program parses the page without running scripts: then noscript holds elements, but hides them. There
    is no id: a page may have two blocks.
    """
    base = escape(public_url.rstrip("/"))
    by_browser = ' data-visitor="browser"' if site.visitor_id == "browser" else ""
    if preset.style == "image":
        return _image(site, base, preset)
    image = _image(site, base, Preset(language=preset.language), ' loading="lazy"')
    return (
        block(site, preset, base)
        + f"<noscript>{image.rstrip()}</noscript>\n"
        + f'<script async src="{base}/footfall.js?site={site.id}" data-site="{site.id}"{by_browser}></script>\n'
        + f'<script nomodule src="{base}/footfall-old.js?site={site.id}"></script>\n'
    )


def block(site: Site, preset: Preset, base: str = "") -> str:
    """Return the part of these lines that shows the numbers, below the style sheet that it needs from `base`."""
    language = preset.language or site.language
    color = f"?color={preset.color}" if preset.color else ""
    sheet = "" if preset.style == "plain" else f'<link rel="stylesheet" href="{base}/footfall.css{color}">\n'
    return sheet + _block(site, language, dict.fromkeys(preset.show or site.show), preset)


def counts_html(site: Site, counts: Counts, language: str, show: Sequence[str] = ()) -> str:
    """Return the block with its numbers filled in, by default the site's, for a server-side include."""
    return _block(site, language, numbers_of(counts, show or site.show), PLAIN)


def _image(site: Site, base: str, preset: Preset, loading: str = "") -> str:
    """Return the image that counts a view and shows the numbers."""
    language = preset.language or site.language
    query = {
        "site": site.id,
        "count": "1",
        "lang": language if language != site.language else "",
        "show": ",".join(preset.show),
        "color": preset.color,
    }
    address = "&amp;".join(f"{name}={text}" for name, text in query.items() if text)
    alt = escape(labels_of(site, language)["heading"])
    return f'<img{loading} src="{base}/counts.svg?{address}" alt="{alt}" referrerpolicy="origin">\n'


def _block(site: Site, language: str, numbers: Mapping[str, int | None], preset: Preset) -> str:
    labels = {name: escape(label) for name, label in labels_of(site, language).items()}
    if preset.style == "line":
        return _line(labels, language, numbers, preset.heading)
    kind = "" if preset.style == "plain" else f" footfall-{preset.style}"
    colon = "" if preset.style == "cards" else ":"
    items = "".join(
        f'    <div role="listitem">{labels[name]}{colon} {_figure(name, number, language, preset.style)}</div>\n'
        for name, number in numbers.items()
    )
    return (
        f'<div class="footfall{kind}" lang="{language}">\n  {_heading(labels, preset.heading)}\n'
        f'  <div role="list" aria-label="{labels["heading"]}">\n{items}  </div>\n</div>\n'
    )


def _line(labels: Mapping[str, str], language: str, numbers: Mapping[str, int | None], heading: int) -> str:
    """Return one line of text that breaks between two numbers only; it has a heading only where one is asked for."""
    items = "&nbsp;·</span>\n    ".join(
        f"<span>{labels[name]}: {_figure(name, number, language, 'line')}" for name, number in numbers.items()
    )
    title = f"  {_heading(labels, heading)}\n" if heading else ""
    text = f"  <div>\n    {items}</span>\n  </div>\n"
    return f'<div class="footfall footfall-line" lang="{language}">\n{title}{text}</div>\n'


def _heading(labels: Mapping[str, str], level: int) -> str:
    heading = labels["heading"]
    return f"<h{level}>{heading}</h{level}>" if level else f"<p><strong>{heading}</strong></p>"


def _figure(name: str, number: int | None, language: str, style: Style) -> str:
    marks = f'class="footfall-{name}" data-count="{name}"'
    written = format_number(number, language)
    if style != "digits":
        return f"<b {marks}>{written}</b>"
    # The boxes are a picture of the number, which a screen reader speaks as one.
    digits = DIGITS_MIN * UNKNOWN if number is None else f"{number:0{DIGITS_MIN}}"
    boxes = "".join(f"<span>{digit}</span>" for digit in digits)
    return f'<b {marks} role="img" aria-label="{written}">{boxes}</b>'
