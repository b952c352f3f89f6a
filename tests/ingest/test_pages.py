"""Many ways to write the address of a page, and one page."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from footfall.ingest.pages import (
    LONGER_REMEMBERED_MAX,
    MARKS_MAX,
    PAGE_MAX_BYTES,
    REMEMBERED_MAX,
    REMEMBERED_MAX_CHARS,
    SENT_MAX_CHARS,
    _remembered,
    normalise_page,
)
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site

PORTAL = Site(
    id=SiteId("portal"),
    name="Portal",
    hosts=("portal.example.vn", "*.portal.example.vn", "localhost:8000"),
    page_query=("id", "ItemID", "ctl00$p"),
)
LIBRARY = Site(id=SiteId("library"), name="Library", hosts=("library.example.vn", "file://"))
NFC = "/tin-t\u1ee9c/\u0111\u1ea7u-trang"
NFD = "/tin-tu\u031b\u0301c/\u0111a\u0302\u0300u-trang"


@pytest.mark.parametrize(
    ("page", "canonical"),
    [
        pytest.param("/", "/", id="the front page"),
        pytest.param("/tin/1", "/tin/1", id="a path"),
        pytest.param("/Tin/A.html", "/Tin/A.html", id="case matters to many servers"),
        pytest.param("tin/1", "/tin/1", id="data-page without its slash"),
        pytest.param("  /tin/1\n", "/tin/1", id="space around an attribute"),
        pytest.param("/offer", "/offer", id="not the word off"),
        # Slashes and dots.
        pytest.param("//tin///1", "/tin/1", id="slashes"),
        pytest.param("/tin/1/", "/tin/1", id="slash at the end"),
        pytest.param("/tin/1//", "/tin/1", id="slashes at the end"),
        pytest.param("/./tin/./1/.", "/tin/1", id="dots"),
        pytest.param("/tin/2/../1", "/tin/1", id="two dots"),
        pytest.param("/../../etc/passwd", "/etc/passwd", id="two dots above the root"),
        pytest.param("/tin/%2e%2E/%2e/1", "/1", id="encoded dots"),
        pytest.param("/tin/...", "/tin/...", id="three dots are a name"),
        pytest.param("\\tin\\1", "/tin/1", id="backslashes are slashes, as in a browser"),
        # Default documents.
        pytest.param("/index.html", "/", id="index.html"),
        pytest.param("/tin/index.htm", "/tin", id="index.htm"),
        pytest.param("/tin/index.php", "/tin", id="index.php"),
        pytest.param("/tin/Index.aspx", "/tin", id="Index.aspx"),
        pytest.param("/Default.aspx", "/", id="Default.aspx"),
        pytest.param("/index.html/index.html", "/", id="twice"),
        pytest.param("/index.php/tin/1", "/index.php/tin/1", id="index.php before a path"),
        pytest.param("/my-index.html", "/my-index.html", id="the end of another name"),
        pytest.param("/tin/ind%65x.html", "/tin", id="index.html encoded"),
        # Percent-encodings.
        pytest.param("/%74%69%6e/%7Ea%2Db%5F1", "/tin/~a-b_1", id="unreserved ones are decoded"),
        pytest.param("/a%2fb%3fc%23d", "/a%2Fb%3Fc%23d", id="a slash in a name is no slash"),
        pytest.param("/a,b%2Cc;d", "/a,b%2Cc;d", id="RFC 3986 keeps a comma and %2C apart"),
        pytest.param("/a%2541", "/a%2541", id="decoded once only"),
        pytest.param("/50%", "/50%25", id="a percent sign alone"),
        pytest.param("/%zz%4", "/%25zz%254", id="not hexadecimal"),
        pytest.param("/a b%20c", "/a%20b%20c", id="spaces"),
        pytest.param("/a+b", "/a+b", id="a plus in a path is a plus"),
        pytest.param('/<b>"`{|}^', "/%3Cb%3E%22%60%7B%7C%7D%5E", id="what HTML and tables could trip over"),
        pytest.param("/%00%1b%7f", "/%00%1B%7F", id="encoded controls stay encoded"),
        pytest.param("/%ff%fe/%c3", "/%FF%FE/%C3", id="not UTF-8"),
        pytest.param("/%c0%af", "/%C0%AF", id="overlong slash"),
        pytest.param("/%ed%a0%80", "/%ED%A0%80", id="an encoded surrogate"),
        # Unicode.
        pytest.param(NFC, NFC, id="Vietnamese NFC"),
        pytest.param(NFD, NFC, id="Vietnamese NFD"),
        pytest.param("/tin-t%E1%BB%A9c/%C4%91%E1%BA%A7u-trang", NFC, id="Vietnamese NFC encoded"),
        pytest.param("/tin-tu%CC%9B%cc%81c/%c4%91a%cc%82%cc%80u-trang", NFC, id="Vietnamese NFD encoded"),
        pytest.param("/tin-tu%CC%9B\u0301c/\u0111a\u0302%CC%80u-trang", NFC, id="Vietnamese half encoded"),
        pytest.param("/%F0%9F%98%80", "/😀", id="emoji"),
        pytest.param("/👨\u200d👩", "/👨%E2%80%8D👩", id="emoji joined by an invisible character"),
        pytest.param("/\u202egpj.exe\u200f", "/%E2%80%AEgpj.exe%E2%80%8F", id="marks that turn the direction"),
        pytest.param("/\u05d0\u0628", "/\u05d0\u0628", id="letters that are written from the right"),
        pytest.param("/a\u00a0b\u3000c\ufeff", "/a%C2%A0b%E3%80%80c%EF%BB%BF", id="spaces of other scripts"),
        pytest.param("/a%2C\u0327", "/a%2C%CC%A7", id="a combining mark after an encoding"),
        pytest.param("/<\u0338", "/\u226e", id="a combining mark after a character that would be encoded"),
        pytest.param("/\u212a\u037e\u1fef", "/K;%60", id="characters whose normal form is ASCII"),
        # The query and the fragment.
        pytest.param("/tin?id=7", "/tin?id=7", id="a key of the site"),
        pytest.param("/tin/?id=7", "/tin?id=7", id="slash before the query"),
        pytest.param("?id=7", "/?id=7", id="a query alone"),
        pytest.param("/index.php?id=7", "/?id=7", id="default document with a query"),
        pytest.param("/tin?utm_source=zalo&id=7&fbclid=x", "/tin?id=7", id="tracking"),
        pytest.param("/tin?fbclid=IwAR0", "/tin", id="tracking alone"),
        pytest.param("/tin?", "/tin", id="a question mark alone"),
        pytest.param("/tin?id=7&ItemID=2", "/tin?ItemID=2&id=7", id="two keys"),
        pytest.param("/tin?ItemID=2&id=7", "/tin?ItemID=2&id=7", id="two keys in another order"),
        pytest.param("/tin?id=2&id=1", "/tin?id=2&id=1", id="a key twice keeps its order"),
        pytest.param(
            "/tin?ID=7&itemid=2", "/tin?ItemID=2&id=7", id="a key in another case, as links of one site have it"
        ),
        pytest.param("/tin?CTL00%24P=Aa", "/tin?ctl00$p=Aa", id="the case of a value matters"),
        pytest.param("/tin?id", "/tin?id=", id="a key without a value"),
        pytest.param("/tin?i%64=%37", "/tin?id=7", id="an encoded key"),
        pytest.param("/tin?ctl00%24p=1", "/tin?ctl00$p=1", id="a key with a dollar sign"),
        pytest.param("/tin?id=a+b%20c", "/tin?id=a%20b%20c", id="a plus in a query is a space"),
        pytest.param("/tin?id=a%26b%3Dc=d", "/tin?id=a%26b%3Dc=d", id="separators in a value"),
        pytest.param("/tin?id=tu%CC%9B%cc%81c", "/tin?id=t\u1ee9c", id="Vietnamese in a value"),
        pytest.param("/tin?id=\u0338", "/tin?id=%CC%B8", id="a combining mark before all"),
        pytest.param("/tin?id=../7", "/tin?id=../7", id="dots in a value are a value"),
        pytest.param("/tin#id=7", "/tin", id="a fragment"),
        pytest.param("/tin?id=7#/tin?id=8", "/tin?id=7", id="a query in a fragment"),
        pytest.param("/tin;jsessionid=0A1B.node1?id=7", "/tin?id=7", id="a session in the path is a secret"),
        pytest.param("/web;JSESSIONID=0A1B/tin;v=1", "/web/tin;v=1", id="a session within the path"),
        # URLs of the site.
        pytest.param("https://portal.example.vn/tin/1", "/tin/1", id="a URL of the site"),
        pytest.param("HTTP://WWW.Portal.example.vn:80/tin/1", "/tin/1", id="the same host, written otherwise"),
        pytest.param("https://m.portal.example.vn?id=7", "/?id=7", id="a host below, no path"),
        pytest.param("https:\\\\portal.example.vn\\tin", "/tin", id="a URL with backslashes"),
        pytest.param("http://localhost:8000/", "/", id="a port"),
        pytest.param("/https://other.example/", "/https:/other.example", id="a path that looks like a URL"),
        pytest.param("//other.example/tin", "/other.example/tin", id="location.pathname may begin with two slashes"),
        # The bounds.
        pytest.param("/" + "a" * (PAGE_MAX_BYTES - 1), "/" + "a" * (PAGE_MAX_BYTES - 1), id="the longest"),
        pytest.param("/t?fbclid=" + "x" * (SENT_MAX_CHARS - 15) + "&id=7", "/t?id=7", id="a long query"),
    ],
)
def test_a_page_has_one_form(page: str, canonical: str) -> None:
    """Two forms would be two numbers for one page."""
    assert normalise_page(page, PORTAL) == canonical
    assert normalise_page(canonical, PORTAL) == canonical


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("", id="empty"),
        pytest.param(" \n", id="white space"),
        pytest.param("#top", id="a fragment alone"),
        pytest.param("off", id="off"),
        pytest.param(" OFF ", id="OFF"),
        pytest.param("javascript:alert(1)", id="javascript"),
        pytest.param("JaVaScRiPt:alert(1)", id="javascript in another case"),
        pytest.param("data:text/html,x", id="data"),
        pytest.param("mailto:a@example.vn", id="mailto"),
        pytest.param("blob:https://portal.example.vn/1", id="blob"),
        pytest.param("file:///C:/tin.html", id="a file"),
        pytest.param("https://other.example/tin/1", id="another host"),
        pytest.param("https://example.vn/tin/1", id="the host above"),
        pytest.param("https://portal.example.vn.other.example/", id="a host that begins like the site's"),
        pytest.param("https://portal.example.vn@other.example/", id="a host before @"),
        pytest.param("https://other.example\\@portal.example.vn/", id="a host after a backslash"),
        pytest.param("https://portal.example.vn:x/", id="not a port"),
        pytest.param("https:/tin/1", id="a scheme without a host"),
        pytest.param("https://", id="no host"),
        pytest.param("localhost:8000/tin", id="a host without a scheme"),
        pytest.param("/a\x00b", id="NUL"),
        pytest.param("/a\nb", id="a line end"),
        pytest.param("/a\x1b[31m", id="an escape"),
        pytest.param("/a\x85b", id="C1"),
        pytest.param("/a\ud800b", id="a surrogate alone"),
        pytest.param("/" + "a" * PAGE_MAX_BYTES, id="one byte too long"),
        pytest.param("/" + "đ" * (PAGE_MAX_BYTES // 2), id="too long in UTF-8"),
        pytest.param("/" + '"' * (PAGE_MAX_BYTES // 3 + 1), id="too long when encoded"),
        pytest.param("/t?" + "x" * SENT_MAX_CHARS, id="longer than a beacon may send"),
    ],
)
def test_what_is_no_page_of_the_site_has_no_form(page: str) -> None:
    """Its view counts for the site only: a cut page, or one of another site, would be a wrong number."""
    assert normalise_page(page, PORTAL) is None


def test_each_site_has_its_own_hosts_and_keys() -> None:
    """What is remembered of one site's pages is no answer for another site."""
    assert normalise_page("https://portal.example.vn/tin?id=7", PORTAL) == "/tin?id=7"
    assert normalise_page("https://portal.example.vn/tin?id=7", LIBRARY) is None
    assert normalise_page("/tin?id=7", PORTAL) == "/tin?id=7"
    assert normalise_page("/tin?id=7", LIBRARY) == "/tin"
    assert normalise_page("file:///C:/tin.html", LIBRARY) == "/C:/tin.html"


def test_keys_that_differ_in_their_case_are_two_where_a_site_lists_both() -> None:
    """ASP.NET takes TabId and tabid for one key, PHP for two."""
    portal = Site(id=SiteId("portal"), name="Portal", hosts=("portal.example.vn",), page_query=("id", "ID"))
    pages = ["/tin?ID=7", "/tin?id=7", "/tin?Id=7"]
    assert [normalise_page(page, portal) for page in pages] == ["/tin?ID=7", "/tin?id=7", "/tin?id=7"]


def test_only_short_pages_are_remembered() -> None:
    """A flood of long addresses costs time, which is bounded, and no memory."""
    _remembered.cache_clear()
    normalise_page("/" + "a" * REMEMBERED_MAX_CHARS, PORTAL)
    assert _remembered.cache_info().currsize == 0
    for number in range(REMEMBERED_MAX + 5):
        normalise_page(f"/{number}", PORTAL)
    assert _remembered.cache_info().currsize == REMEMBERED_MAX


# Pieces that meet in surprising ways: encodings whose ends join, marks that compose, dots and names that vanish.
PIECES = st.sampled_from(
    [
        *("/", "//", ".", "..", "%2e", "%", "%2", "25", "%25", "%41", "%C3", "%A9", "%E1%BB", "%AF", "%CC%9B", "%2F"),
        *("?", "&", "=", "#", "+", ";", "id", "id=", "ItemID=", "i%64", "index.html", ";jsessionid=", "off", "%3F"),
        *("\u0327", "\u0338", "\u031b", "C", "<", "\u200d", "\u202e", "\u212a", "\u037e", "\u1fef", "\u00a0"),
        *("\\", "https://portal.example.vn", "javascript:", "đ", "😀", "ẹ", "e\u0323", " ", "\ufffd", "\U000e0001"),
    ]
)


@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=14).map("".join)))
@example("/" + "\u0300\u0323" * 50)
@example("/%E1%BB\u200e")
@example("/\u200e\u0327%2C\u0327")
@example("/;jsessionid=/..;jsessionid=x/index.html")
def test_the_canonical_form_is_safe_and_its_own_form(page: str) -> None:
    """The server reads canonical forms again: from the reader of a number, from a file of numbers, from its stores."""
    canonical = normalise_page(page, PORTAL)
    if canonical is None:
        return
    assert normalise_page(canonical, PORTAL) == canonical
    assert canonical.startswith("/")
    assert len(canonical.encode()) <= PAGE_MAX_BYTES
    path, _, query = canonical.partition("?")
    assert path == "/" or not ("//" in path or path.endswith("/"))
    assert not {".", ".."} & set(path.split("/"))
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp") for c in canonical)
    assert not re.search(r'[\s"<>\\`]|%(?![0-9A-F]{2})', canonical)
    assert unicodedata.is_normalized("NFC", canonical) or page.count("\u0323") > MARKS_MAX
    assert all(pair.partition("=")[0] in PORTAL.page_query for pair in query.split("&") if pair)


@given(st.text(max_size=40).filter(lambda text: not re.search("[?#\\\\\x00-\x20\x7f-\x9f\ud800-\udfff]", text)))
def test_an_address_that_a_browser_encodes_is_the_page_that_a_person_writes(path: str) -> None:
    """location.pathname is encoded; data-page, and the reader of a number, often are not."""
    encoded = "".join(c if c in "/%" or c.isascii() else "".join(f"%{o:02x}" for o in c.encode()) for c in path)
    assert normalise_page("/" + encoded, PORTAL) == normalise_page("/" + path, PORTAL)


def test_a_long_page_is_read_once_for_its_beacon_and_not_remembered_for_long() -> None:
    """Its count and its answer need it at once; thousands of them would fill the memory of a worker."""
    pages = [f"/{'%C4%91' * 60}/{number}" for number in range(LONGER_REMEMBERED_MAX + 1)]
    first = normalise_page(pages[0], PORTAL)
    assert normalise_page(pages[0], PORTAL) is first
    for page in pages[1:]:
        normalise_page(page, PORTAL)
    again = normalise_page(pages[0], PORTAL)
    assert again == first
    assert again is not first
