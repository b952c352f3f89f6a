"""The block as HTML: seen by its values, without a server."""

from footfall.display.block import counts_html, snippet
from footfall.display.svg import counts_svg
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from tests.support.portal import COUNTS, PORTAL

HOSTILE = "</title><script>alert('&\"')</script>\x00\x1b"


def test_the_snippet_is_what_a_webmaster_pastes() -> None:
    """Spelled out, because it stays in pages that are never edited again."""
    assert snippet(PORTAL, "https://portal.example.vn/thong-ke/") == (
        '<div class="footfall" lang="vi">\n'
        "  <h2>Thống kê truy cập</h2>\n"
        '  <ul aria-label="Thống kê truy cập">\n'
        '    <li>Đang online: <b class="footfall-online" data-count="online">–</b></li>\n'
        '    <li>Hôm nay: <b class="footfall-today" data-count="today">–</b></li>\n'
        '    <li>Trong tuần: <b class="footfall-week" data-count="week">–</b></li>\n'
        '    <li>Tất cả: <b class="footfall-total" data-count="total">–</b></li>\n'
        "  </ul>\n"
        "</div>\n"
        '<noscript><img loading="lazy" src="https://portal.example.vn/thong-ke/counts.svg?site=portal&amp;count=1"'
        ' alt="Thống kê truy cập" referrerpolicy="origin"></noscript>\n'
        '<script async src="https://portal.example.vn/thong-ke/footfall.js?site=portal" data-site="portal"></script>\n'
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
    assert '<li>All time: <b class="footfall-total" data-count="total">1,373,876</b></li>' in fragment
    assert '<li>This week: <b class="footfall-week" data-count="week">–</b></li>' in fragment


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
