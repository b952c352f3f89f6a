"""The block as text, and the files as they are served: seen by their values, without a server."""

import gzip
import re
from datetime import date, datetime
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import pytest

from footfall.display.block import (
    DEMO_PAGES,
    LABELS,
    STATIC,
    Theme,
    counts_html,
    counts_svg,
    format_number,
    labels_of,
    load_assets,
    load_demo,
    snippet,
)
from footfall.model.counts import Counts
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site

HOSTILE = "</title><script>alert('&\"')</script>\x00\x1b"
SVG = "{http://www.w3.org/2000/svg}"
PORTAL = Site(id=SiteId("portal"), name="Portal", hosts=("portal.example.vn",))
COUNTS = Counts(
    site="portal",
    online=4,
    today=1373,
    week=None,
    total=1_373_876,
    views_today=118,
    measure="visitors",
    day_of=date(2026, 11, 23),
    week_of=date(2026, 11, 23),
    revision="one",
    as_of=datetime(2026, 11, 23, 8, 31, 7, tzinfo=ZoneInfo("Asia/Ho_Chi_Minh")),
    stale=False,
    poll_after_s=15,
    ping_after_s=60,
    language="vi",
    visitor_id="network",
    labels={},
)


@pytest.mark.parametrize(
    ("number", "vi", "en"),
    [
        (0, "0", "0"),
        (999, "999", "999"),
        (1373, "1.373", "1,373"),
        (2**53 - 1, "9.007.199.254.740.991", "9,007,199,254,740,991"),
        (-500, "-500", "-500"),
        (None, "–", "–"),
    ],
)
def test_numbers_are_written_as_people_read_them(number: int | None, vi: str, en: str) -> None:
    """The same digits as the script writes; unknown is never 0."""
    assert (format_number(number, "vi"), format_number(number, "en")) == (vi, en)


def test_a_sites_own_words_are_used_in_its_own_language_only() -> None:
    """Settings hold one wording; an English page must not get the Vietnamese one."""
    site = Site(id=SiteId("a"), name="A", hosts=("a.vn",), labels={"today": "Khách hôm nay"})
    assert labels_of(site, "vi") == {**LABELS["vi"], "today": "Khách hôm nay"}
    assert labels_of(site, "en") == LABELS["en"]


def test_the_script_has_the_same_words() -> None:
    """The block is written here or there, and a reader must not see which."""
    script = (STATIC / "footfall.js").read_text(encoding="utf-8")
    for language, labels in LABELS.items():
        words = re.search(rf"\b{language}: {{(.*?)}}", script, re.DOTALL)
        assert words is not None
        assert dict(re.findall(r'(\w+): "([^"]+)"', words[1])) == labels


def test_the_snippet_is_what_a_webmaster_pastes() -> None:
    """Spelled out, because it lives on in pages that nobody touches again."""
    assert snippet(PORTAL, "https://portal.example.vn/thong-ke/") == (
        '<div class="footfall" lang="vi">\n'
        '  <h2 id="footfall-heading">Thống kê truy cập</h2>\n'
        '  <ul aria-labelledby="footfall-heading">\n'
        '    <li>Đang online: <b class="footfall-online" data-count="online">–</b></li>\n'
        '    <li>Hôm nay: <b class="footfall-today" data-count="today">–</b></li>\n'
        '    <li>Trong tuần: <b class="footfall-week" data-count="week">–</b></li>\n'
        '    <li>Tất cả: <b class="footfall-total" data-count="total">–</b></li>\n'
        "  </ul>\n"
        "</div>\n"
        '<noscript><img src="https://portal.example.vn/thong-ke/seen.gif?site=portal" alt="" width="1" height="1"'
        ' referrerpolicy="origin"></noscript>\n'
        '<script async src="https://portal.example.vn/thong-ke/footfall.js" data-site="portal"></script>\n'
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
        counts_svg(site, COUNTS, "vi", "auto"),
    ):
        assert "<script>" not in text
        assert "alert(&#x27;&amp;&quot;&#x27;)" in text


@pytest.mark.parametrize("theme", ["light", "dark", "auto"])
def test_the_image_says_what_it_shows(theme: Theme) -> None:
    """Well-formed, with a name for those who cannot see it."""
    image = ET.fromstring(counts_svg(PORTAL, COUNTS, "vi", theme))  # noqa: S314
    assert image.get("role") == "img"
    assert image.findtext(f"{SVG}title") == (
        "Thống kê truy cập. Đang online: 4, Hôm nay: 1.373, Trong tuần: –, Tất cả: 1.373.876"
    )
    texts = [text.text for text in image.iter(f"{SVG}text")]
    assert texts == [
        "Thống kê truy cập",
        *("Đang online", "4"),
        *("Hôm nay", "1.373"),
        *("Trong tuần", "–"),
        *("Tất cả", "1.373.876"),
    ]
    assert ("prefers-color-scheme" in (image.findtext(f"{SVG}style") or "")) == (theme == "auto")


def test_the_image_is_as_wide_as_its_words() -> None:
    """A label of the settings may be three times as long as ours."""

    def width(today: str) -> int:
        site = Site(id=SiteId("a"), name="A", hosts=("a.vn",), labels={"today": today})
        return int(ET.fromstring(counts_svg(site, COUNTS, "vi", "auto")).get("width", ""))  # noqa: S314

    assert width("Hôm nay") < width("Số lượt khách trong ngày") < width("Số lượt khách truy cập trong ngày hôm nay")


def test_the_image_survives_characters_that_xml_cannot_hold() -> None:
    """One of them makes the whole image an error page."""
    site = Site(id=SiteId("a"), name="A", hosts=("a.vn",), labels={"today": "Hôm\x0bnay\x07"})
    title = ET.fromstring(counts_svg(site, COUNTS, "vi", "auto")).findtext(f"{SVG}title")  # noqa: S314
    assert title is not None
    assert "Hômnay" in title


def test_the_script_is_small() -> None:
    """4,096 bytes on the wire at most: it is loaded by every page, on old phones too."""
    script = load_assets()["/footfall.js"]
    assert gzip.decompress(script.gzip) == script.body
    assert len(script.gzip) <= 4096
    assert script.content_type == "text/javascript; charset=utf-8"
    assert b"/*" not in script.body


def test_the_script_uses_no_syntax_that_chrome_70_cannot_read() -> None:
    """One newer sign, and an old phone runs nothing of it; there is no compiler between source and phone."""
    body = load_assets()["/footfall.js"].body.decode()
    newer = r"\?\.(?!\d)|\?\?|&&=|\|\|=|for await|catch\{|\bimport\b|\bstatic\{|#\w+\s*[=(;]|\d_\d|\d+n\b"
    without_text = re.sub(r'"[^"]*"|`[^`]*`', '""', body)
    assert re.findall(newer, without_text) == []


def test_two_workers_serve_the_same_bytes_under_the_same_tag() -> None:
    """Otherwise a balancer would make every cached copy a stranger."""
    assert load_assets() == load_assets()
    assert load_demo() == load_demo()
    tags = [asset.etag for asset in {**load_assets(), **load_demo()}.values()]
    assert all(re.fullmatch(r'"[0-9a-f]{32}"', tag) for tag in tags)
    assert len(set(tags)) == len(tags)


def test_the_demo_pastes_what_the_snippet_prints() -> None:
    """It uses the public embed and nothing special; only the page's own language needs no saying."""
    for name, language in (("vi/layout.html", "vi"), ("en/layout.html", "en")):
        layout = (STATIC / "demo" / name).read_text(encoding="utf-8")
        site = Site(id=SiteId("portal"), name="Demo", hosts=("localhost",), language=language)  # type: ignore[arg-type]
        pasted = snippet(site, "").replace(f' lang="{language}"', "").replace("</div>\n", "")
        lines = [line.strip() for line in layout.splitlines()]
        assert [line for line in map(str.strip, pasted.splitlines()) if line not in lines] == []


@pytest.mark.parametrize(("language", "column"), [("vi", 1), ("en", 2)])
def test_demo_pages_are_whole(language: str, column: int) -> None:
    """Each in its language, linked to its other one, with itself marked in the menu."""
    demo = load_demo()
    for page in DEMO_PAGES:
        text = demo[page[column]].body.decode()
        assert f'<html lang="{language}">' in text
        assert text.count('aria-current="page"') == 1
        assert text.count(f'href="{page[3 - column]}"') >= 2
        assert re.search(r"<title>[^<$]+ – [^<$]+</title>", text)
        assert "$" not in text


def test_demo_pages_need_nothing_inline_and_nothing_from_elsewhere() -> None:
    """They are served under a strict policy, and shown where there is no internet."""
    for path, asset in load_demo().items():
        if not asset.content_type.startswith("text/html"):
            continue
        text = asset.body.decode()
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script>", text), path
        assert not re.search(r'(?:src|href)="(?:https?:)?//', text), path
