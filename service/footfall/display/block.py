"""The block as HTML: the lines to paste, and the fragment for server-side includes."""

from collections.abc import Mapping, Sequence
from html import escape

from footfall.display.labels import format_number, labels_of, numbers_of
from footfall.model.counts import Counts
from footfall.settings.settings import Site


def snippet(site: Site, public_url: str) -> str:
    """Return the lines that a webmaster pastes: the block, the image for pages without script, the script.

    Every number has two marks, because some editors strip data attributes and others classes; for the same reason
    the script's address names the site too. `loading` keeps the image from counting beside the script where a
    program parses the page without running scripts: then noscript holds elements, but hides them. There
    is no id: a page may have two blocks.
    """
    base = escape(public_url.rstrip("/"))
    by_browser = ' data-visitor="browser"' if site.visitor_id == "browser" else ""
    image = f"{base}/counts.svg?site={site.id}&amp;count=1"
    heading = escape(labels_of(site, site.language)["heading"])
    counting_image = f'<img loading="lazy" src="{image}" alt="{heading}" referrerpolicy="origin">'
    return (
        _block(labels_of(site, site.language), site.language, dict.fromkeys(site.show))
        + f"<noscript>{counting_image}</noscript>\n"
        + f'<script async src="{base}/footfall.js?site={site.id}" data-site="{site.id}"{by_browser}></script>\n'
    )


def counts_html(site: Site, counts: Counts, language: str, show: Sequence[str] = ()) -> str:
    """Return the block with its numbers filled in, by default the site's, for a server-side include."""
    return _block(labels_of(site, language), language, numbers_of(counts, show or site.show))


def _block(labels: Mapping[str, str], language: str, numbers: Mapping[str, int | None]) -> str:
    items = "".join(
        f'    <li>{escape(labels[name])}: <b class="footfall-{name}" data-count="{name}">'
        f"{format_number(number, language)}</b></li>\n"
        for name, number in numbers.items()
    )
    heading = escape(labels["heading"])
    return (
        f'<div class="footfall" lang="{language}">\n'
        f"  <h2>{heading}</h2>\n"
        f'  <ul aria-label="{heading}">\n{items}  </ul>\n</div>\n'
    )
