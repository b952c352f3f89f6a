"""The block as HTML: seen by its values, without a server."""

from footfall.display.block import Preset, counts_html, snippet
from footfall.display.svg import counts_svg
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from tests.support.portal import COUNTS, PORTAL

HOSTILE = "</title><script>alert('&\"')</script>\x00\x1b"


def test_the_snippet_is_what_a_webmaster_pastes() -> None:
    """Spelled out, because it stays in pages that are never edited again."""
    assert snippet(PORTAL, "https://portal.example.vn/thong-ke/") == (
        '<div class="footfall" lang="vi">\n'
        "  <p><strong>Thống kê truy cập</strong></p>\n"
        '  <div role="list" aria-label="Thống kê truy cập">\n'
        '    <div role="listitem">Đang online: <b class="footfall-online" data-count="online">–</b></div>\n'
        '    <div role="listitem">Hôm nay: <b class="footfall-today" data-count="today">–</b></div>\n'
        '    <div role="listitem">Trong tuần: <b class="footfall-week" data-count="week">–</b></div>\n'
        '    <div role="listitem">Tất cả: <b class="footfall-total" data-count="total">–</b></div>\n'
        "  </div>\n"
        "</div>\n"
        '<noscript><img loading="lazy" src="https://portal.example.vn/thong-ke/counts.svg?site=portal&amp;count=1"'
        ' alt="Thống kê truy cập" referrerpolicy="origin"></noscript>\n'
        '<script async src="https://portal.example.vn/thong-ke/footfall.js?site=portal" data-site="portal"></script>\n'
        '<script nomodule src="https://portal.example.vn/thong-ke/footfall-old.js?site=portal"></script>\n'
    )


def test_a_style_brings_its_sheet_and_a_heading_only_where_one_is_asked_for() -> None:
    """A footer without headings gets none; what a page may not style inline comes with the sheet's address."""
    line = snippet(PORTAL, "https://a.vn", Preset("line", show=("today", "total"), color="b3261e"))
    assert line.startswith(
        '<link rel="stylesheet" href="https://a.vn/footfall.css?color=b3261e">\n'
        '<div class="footfall footfall-line" lang="vi">\n'
        "  <div>\n"
        '    <span>Hôm nay: <b class="footfall-today" data-count="today">–</b>&nbsp;·</span>\n'
        '    <span>Tất cả: <b class="footfall-total" data-count="total">–</b></span>\n'
        "  </div>\n"
        "</div>\n<noscript>"
    )
    for style in ("plain", "list", "cards", "digits", "line"):
        text = snippet(PORTAL, "https://a.vn", Preset(style, heading=3))
        assert "<h3>Thống kê truy cập</h3>" in text
        assert ("footfall.css" in text) == (style != "plain")
        assert "style=" not in text


def test_the_image_alone_counts_and_needs_no_script() -> None:
    """For pages whose editor takes every script out."""
    assert snippet(PORTAL, "https://a.vn", Preset("image", "en", ("today", "total"), color="b3261e")) == (
        '<img src="https://a.vn/counts.svg?site=portal&amp;count=1&amp;lang=en&amp;show=today,total&amp;color=b3261e"'
        ' alt="Visitor statistics" referrerpolicy="origin">\n'
    )


def test_the_snippet_asks_for_browser_ids_only_where_the_site_does() -> None:
    """An id in every visitor's storage is the operator's decision."""
    site = Site(id=SiteId("office"), name="Office", hosts=("a.vn",), visitor_id="browser", language="en")
    assert 'data-site="office" data-visitor="browser"></script>' in snippet(site, "https://a.vn")
    assert "data-visitor" not in snippet(PORTAL, "https://a.vn")


def test_the_fragment_has_the_numbers_and_the_marks() -> None:
    """Readable at once, and found by the script afterwards."""
    fragment = counts_html(PORTAL, COUNTS, "en")
    assert '<div class="footfall" lang="en">' in fragment
    assert '<div role="listitem">All time: <b class="footfall-total" data-count="total">1,373,876</b></div>' in fragment
    assert '<div role="listitem">This week: <b class="footfall-week" data-count="week">–</b></div>' in fragment


def test_words_from_the_settings_cannot_become_markup() -> None:
    """An ampersand in a label is likely, the rest is cheap to be sure of."""
    labels = {"today": HOSTILE.rstrip("\x00\x1b"), "heading": HOSTILE.rstrip("\x00\x1b")}
    site = Site(id=SiteId("a"), name="A", hosts=("a.vn",), labels=labels)  # type: ignore[arg-type]
    for text in (
        snippet(site, 'https://a.vn/"><script>'),
        counts_html(site, COUNTS, "vi"),
        counts_svg(site, COUNTS, "vi"),
    ):
        assert "<script>" not in text
        assert "alert(&#x27;&amp;&quot;&#x27;)" in text
