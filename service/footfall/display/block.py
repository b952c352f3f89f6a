"""The block as text: the lines to paste, a fragment for server-side includes, an image; and the static files.

Pure: nothing here knows of requests, so whatever a page can be given is seen in a test by its value.
"""

import gzip
import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Literal

import rjsmin

from footfall.model.counts import Counts
from footfall.settings.settings import Site

Theme = Literal["light", "dark", "auto"]

STATIC = Path(__file__).parent.parent / "static"
UNKNOWN = "–"
SHOWN = ("online", "today", "week", "total")
SEPARATOR = MappingProxyType({"vi": ".", "en": ","})
LABELS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "vi": {
            "heading": "Thống kê truy cập",
            "online": "Đang online",
            "today": "Hôm nay",
            "week": "Trong tuần",
            "total": "Tất cả",
            "views_today": "Lượt xem hôm nay",
        },
        "en": {
            "heading": "Visitor statistics",
            "online": "Online",
            "today": "Today",
            "week": "This week",
            "total": "All time",
            "views_today": "Views today",
        },
    }
)
"""Built in, and the same in `static/footfall.js`."""

DEMO_PAGES = (
    ("home", "/", "/en/"),
    ("news", "/tin-tuc", "/en/news"),
    ("procedures", "/thu-tuc", "/en/procedures"),
    ("about", "/gioi-thieu", "/en/about"),
    ("contact", "/lien-he", "/en/contact"),
)
"""Pages of the demo portal: file, path in Vietnamese, path in English."""

CONTENT_TYPES = MappingProxyType(
    {
        ".css": "text/css; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".svg": "image/svg+xml; charset=utf-8",
    }
)


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served; `etag` is strong and quoted, and stands for `body`."""

    body: bytes
    content_type: str
    gzip: bytes
    etag: str


def load_assets() -> Mapping[str, Asset]:
    """Read what every Footfall serves, by path: the script, without its comments and white space, and the contract."""
    script = (STATIC / "footfall.js").read_text(encoding="utf-8")
    contract = (STATIC / "openapi.json").read_text(encoding="utf-8")
    return MappingProxyType(
        {"/footfall.js": _asset(rjsmin.jsmin(script), ".js"), "/openapi.json": _asset(contract, ".json")}
    )


def load_demo() -> Mapping[str, Asset]:
    """Read the demo portal, by path: its pages in both languages, its style sheet and its images."""
    folder = STATIC / "demo"
    assets = {
        f"/demo/{file.name}": _asset(file.read_text(encoding="utf-8"), file.suffix)
        for file in sorted(folder.iterdir())
        if file.is_file()
    }
    for name, vi_path, en_path in DEMO_PAGES:
        assets[vi_path] = _asset(_demo_page(folder / "vi", name, vi_path, other=en_path), ".html")
        assets[en_path] = _asset(_demo_page(folder / "en", name, en_path, other=vi_path), ".html")
    return MappingProxyType(assets)


def _demo_page(folder: Path, name: str, path: str, other: str) -> str:
    """Put a page, whose first line is its title, into its language's layout."""
    layout = (folder / "layout.html").read_text(encoding="utf-8")
    title, _, content = (folder / f"{name}.html").read_text(encoding="utf-8").partition("\n")
    link = f'<li><a href="{path}">'
    layout = layout.replace(link, f'<li><a href="{path}" aria-current="page">', 1)
    title = title.removeprefix("<title>").removesuffix("</title>")
    return Template(layout).substitute(title=title, content=content, other=other)


def _asset(text: str, suffix: str) -> Asset:
    body = text.encode()
    return Asset(
        body=body,
        content_type=CONTENT_TYPES[suffix],
        # Without the time of day in it, all workers on all hosts serve the same bytes.
        gzip=gzip.compress(body, 9, mtime=0),
        etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"',
    )


def format_number(number: int | None, language: str) -> str:
    """Write `number` as people read it in `language`; a dash where it is unknown.

    >>> format_number(1373876, "vi"), format_number(1373876, "en"), format_number(None, "vi")
    ('1.373.876', '1,373,876', '–')
    """
    return UNKNOWN if number is None else f"{number:,}".replace(",", SEPARATOR[language])


def labels_of(site: Site, language: str) -> Mapping[str, str]:
    """The words of the block: the site's own where they are in `language`, else the built-in ones."""
    own = site.labels.items() if language == site.language else ()
    return {**LABELS[language], **dict(own)}


def snippet(site: Site, public_url: str) -> str:
    """The lines that a webmaster pastes: the block, the pixel for pages without script, the script.

    Every number is marked twice, because some editors strip data attributes and others classes.
    """
    base = escape(public_url.rstrip("/"))
    by_browser = ' data-visitor="browser"' if site.visitor_id == "browser" else ""
    pixel = f'<img src="{base}/seen.gif?site={site.id}" alt="" width="1" height="1" referrerpolicy="origin">'
    return (
        _block(labels_of(site, site.language), site.language, dict.fromkeys(SHOWN))
        + f"<noscript>{pixel}</noscript>\n"
        + f'<script async src="{base}/footfall.js" data-site="{site.id}"{by_browser}></script>\n'
    )


def counts_html(site: Site, counts: Counts, language: str) -> str:
    """The block with its numbers filled in, for a server-side include."""
    return _block(labels_of(site, language), language, _numbers(counts))


def _numbers(counts: Counts) -> dict[str, int | None]:
    return {"online": counts.online, "today": counts.today, "week": counts.week, "total": counts.total}


def _block(labels: Mapping[str, str], language: str, numbers: Mapping[str, int | None]) -> str:
    items = "".join(
        f'    <li>{escape(labels[name])}: <b class="footfall-{name}" data-count="{name}">'
        f"{format_number(number, language)}</b></li>\n"
        for name, number in numbers.items()
    )
    return (
        f'<div class="footfall" lang="{language}">\n'
        f'  <h2 id="footfall-heading">{escape(labels["heading"])}</h2>\n'
        f'  <ul aria-labelledby="footfall-heading">\n{items}  </ul>\n</div>\n'
    )


# Ink on paper, and the softer ink of the labels; all pairs have a contrast above 7:1.
LIGHT = ("#18222e", "#ffffff", "#3f4c5a")
DARK = ("#e9eef4", "#10171f", "#b0bdcb")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Arial, sans-serif"
PADDING = 16
HEADING_SIZE = 16
TEXT_SIZE = 15
ROW_HEIGHT = 26
GAP = 24


def counts_svg(site: Site, counts: Counts, language: str, theme: Theme) -> str:
    """The block as an image, as wide as its words need; "auto" follows the reader's light or dark setting."""
    labels = labels_of(site, language)
    rows = [(labels[name], format_number(number, language)) for name, number in _numbers(counts).items()]
    heading = labels["heading"]
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
        f'<svg xmlns="http://www.w3.org/2000/svg" lang="{language}" role="img" aria-labelledby="title" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="{FONT}" font-size="{TEXT_SIZE}">\n'
        f'<title id="title">{_xml(heading)}. {_xml(spoken)}</title>\n'
        f"<style>{_style(theme)}</style>\n"
        f'<rect class="paper" width="{width}" height="{height}" rx="8"/>\n'
        f'<text class="ink" x="{PADDING}" y="{PADDING + HEADING_SIZE - 2}" font-size="{HEADING_SIZE}" '
        f'font-weight="700">{_xml(heading)}</text>\n{lines}</svg>\n'
    )


def _style(theme: Theme) -> str:
    def rules(ink: str, paper: str, soft: str) -> str:
        return f".ink{{fill:{ink}}}.paper{{fill:{paper}}}.soft{{fill:{soft}}}"

    if theme == "auto":
        return f"{rules(*LIGHT)}@media (prefers-color-scheme:dark){{{rules(*DARK)}}}"
    return rules(*(DARK if theme == "dark" else LIGHT))


def _xml(text: str) -> str:
    """Escape for XML, which cannot hold most control characters even escaped."""
    return escape("".join(character for character in text if character.isprintable()))


NARROW = re.compile(r"[fijlrtI .,:;'!|()-]")


def _width(text: str, size: int) -> int:
    """Pixels that `text` takes at most in a bold sans-serif font, whichever the reader's system has."""
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
