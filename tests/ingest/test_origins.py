"""Which pages may count: the ways in which one host is written, and the copies that are not the portal."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.ingest.origins import Origins
from footfall.model.hosts import canonical_host, parse_host_rule

PORTAL = Origins(["portal.example.vn"])


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param("https://portal.example.vn", id="as listed"),
        pytest.param("http://portal.example.vn", id="http"),
        pytest.param("https://www.portal.example.vn", id="www"),
        pytest.param("HTTPS://WWW.Portal.Example.VN", id="capitals"),
        pytest.param("https://portal.example.vn.", id="trailing dot"),
        pytest.param("https://portal.example.vn:443", id="default port"),
        pytest.param("https://portal.example.vn:8443", id="another port"),
    ],
)
def test_one_host_is_one_site_however_it_is_written(origin: str) -> None:
    """A portal that is reached in five ways must not lose four fifths of its visitors."""
    assert PORTAL.accepts(origin)
    assert Origins(["WWW.portal.example.vn."]).accepts(origin)


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param("", id="empty"),
        pytest.param("null", id="null"),
        pytest.param("file://", id="a file"),
        pytest.param("file:///C:/portal.example.vn/index.html", id="a file of that name"),
        pytest.param("http://localhost", id="localhost"),
        pytest.param("http://127.0.0.1:8080", id="loopback"),
        pytest.param("https://portal-example-vn.translate.goog", id="a translation"),
        pytest.param("https://web.archive.org", id="an archive"),
        pytest.param("https://webcache.googleusercontent.com", id="a cache"),
        pytest.param("https://example.vn", id="the parent"),
        pytest.param("https://news.portal.example.vn", id="a child"),
        pytest.param("https://evilportal.example.vn", id="the same ending"),
        pytest.param("https://portal.example.vn.evil.com", id="the same beginning"),
        pytest.param("https://portal.example.vn@evil.com", id="as a user"),
        pytest.param("https://evil.com@portal.example.vn", id="with a user"),
        pytest.param("https://portal.example.vn/", id="with a path"),
        pytest.param("https://portal.example.vn:0", id="port 0"),
        pytest.param("https://portal.example.vn:99999", id="port too high"),
        pytest.param("https://portal.example.vn:", id="port empty"),
        pytest.param("https://portal.example.vn:٨٠", id="port in other digits"),
        pytest.param("//portal.example.vn", id="no scheme"),
        pytest.param("portal.example.vn", id="only the host"),
        pytest.param("ftp://portal.example.vn", id="another scheme"),
        pytest.param("chrome-extension://portal.example.vn", id="an extension"),
        pytest.param("https://www.www.portal.example.vn", id="www twice"),
        pytest.param("https://portal.example.vn\x00", id="a NUL"),
        pytest.param("https:// portal.example.vn", id="a space"),
        pytest.param("https://" + "a." * 200 + "portal.example.vn", id="too long"),
    ],
)
def test_any_other_page_is_refused(origin: str) -> None:
    """Copies, tests and other hosts do not count for the portal unless its settings list them."""
    assert not PORTAL.accepts(origin)


@pytest.mark.parametrize(
    ("host", "accepted", "refused"),
    [
        pytest.param("*.example.vn", "https://a.example.vn", "https://example.vn", id="below, not itself"),
        pytest.param("*.example.vn", "https://c.b.a.example.vn", "https://aexample.vn", id="at any depth"),
        pytest.param("*.example.vn", "https://www.example.vn", "https://example.vn", id="www is below"),
        pytest.param("*.example.vn:8443", "https://a.example.vn:8443", "https://a.example.vn", id="with port"),
        pytest.param("localhost", "http://localhost:8080", "http://a.localhost", id="any port"),
        pytest.param("localhost:8080", "http://localhost:8080", "http://localhost", id="one port"),
        pytest.param("example.vn:443", "https://example.vn", "http://example.vn", id="https alone"),
        pytest.param("example.vn:80", "http://example.vn", "https://example.vn", id="http alone"),
        pytest.param("*.localhost", "http://a.localhost:1", "http://localhost", id="names of localhost"),
        pytest.param("127.0.0.1", "http://127.0.0.1:8080", "http://127.0.0.2", id="an address"),
        pytest.param("[::1]", "http://[::1]:8080", "http://[::2]", id="an IPv6 address"),
        pytest.param("[0:0::1]:80", "http://[::1]", "http://[::1]:81", id="an IPv6 address and port"),
        pytest.param("cổng.example.vn", "https://xn--cng-qmz.example.vn", "https://cong.example.vn", id="IDN"),
        pytest.param("xn--cng-qmz.example.vn", "https://XN--CNG-QMZ.example.vn", "https://cng.example.vn", id="xn--"),
        pytest.param("*.cổng.vn", "https://a.xn--cng-qmz.vn", "https://xn--cng-qmz.vn", id="IDN below"),
        pytest.param("file://", "null", "https://null", id="pages from disk"),
        pytest.param("file://", "file://", "http://file", id="pages from disk, older browsers"),
        pytest.param("a.translate.goog", "https://a.translate.goog", "https://b.translate.goog", id="a copy"),
    ],
)
def test_a_host_takes_what_its_form_says(host: str, accepted: str, refused: str) -> None:
    """Each form of the settings, with the nearest thing that it does not mean."""
    assert Origins([host]).accepts(accepted)
    assert not Origins([host]).accepts(refused)


@pytest.mark.parametrize(
    ("referer", "accepted"),
    [
        pytest.param("https://portal.example.vn/tin-tuc/1?x=https://evil.com/", True, id="a page"),
        pytest.param("https://portal.example.vn", True, id="no path"),
        pytest.param("https://www.portal.example.vn:8443/#top", True, id="www and port"),
        pytest.param("https://portal.example.vn?q", True, id="a query at once"),
        pytest.param("https://portal.example.vn/" + "a" * 9000, True, id="a long path"),
        pytest.param("https://evil.com/portal.example.vn", False, id="in the path"),
        pytest.param("https://evil.com/?https://portal.example.vn/", False, id="in the query"),
        pytest.param("https://evil.com\\.portal.example.vn/", False, id="behind a backslash"),
        pytest.param("https://portal.example.vn@evil.com/", False, id="as a user"),
        pytest.param("https://" + "a" * 400 + ".portal.example.vn/", False, id="a long host"),
        pytest.param("about:blank", False, id="about:blank"),
        pytest.param("null", False, id="null"),
        pytest.param("file:///C:/x.html", False, id="a file"),
    ],
)
def test_a_referer_is_judged_by_its_host(referer: str, accepted: bool) -> None:
    """Browsers without Origin, and pages without script, send the whole URL."""
    assert PORTAL.accepts_referer(referer) is accepted


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "*", "*.", "*.vn", "*.[::1]", "*.0.0.1", "a b.vn", "https://portal.example.vn",
        "portal.example.vn/", "portal.example.vn:0", "portal.example.vn:x", "portal.example.vn:65536",
        "a..vn", "-a.vn", "a.*.vn", "::1", "[::1", "[::1%lo]", "user@a.vn", "a" * 64 + ".vn", "ạ" * 300,
    ],
)  # fmt: skip
def test_a_host_that_cannot_be_meant_is_refused_at_start(text: str) -> None:
    """A typing error in the hosts would silently refuse every visitor, or accept other hosts."""
    with pytest.raises(ValueError, match=r"host|strangers") as refused:
        parse_host_rule(text)
    assert repr(text) in str(refused.value)


@given(st.text(max_size=80) | st.text(alphabet="htps:/.[]*@%www-vnạ0189 ", max_size=80))
def test_any_header_and_any_setting_are_judged_without_an_error(text: str) -> None:
    """Any client may send any header; a setting is refused with a sentence or not at all."""
    for value in (text, f"https://{text}", f"https://{text}.portal.example.vn"):
        PORTAL.accepts_referer(value)
        assert not PORTAL.accepts(value) or "portal.example.vn" in value
    with contextlib.suppress(ValueError):
        parse_host_rule(text)


@given(st.text(max_size=40))
def test_the_compared_form_is_its_own_compared_form(name: str) -> None:
    """Otherwise a host in the settings and the same host in a header could differ."""
    if (host := canonical_host(name)) is not None:
        assert canonical_host(host) == host


def test_remembered_origins_are_bounded() -> None:
    """A client can send any number of different origins."""
    origins = Origins(["portal.example.vn"])
    for number in range(3000):
        origins.accepts(f"https://{number}.example")
    assert origins._accepts_cached.cache_info().currsize == 1024  # noqa: SLF001


def test_an_origin_that_no_browser_sends_is_refused_before_it_is_read() -> None:
    """Reading the host of one cost 0.3 ms before any budget; browsers send the ASCII form of every host."""
    origins = Origins(["cổng.example.vn"])
    assert origins.accepts("https://xn--cng-qmz.example.vn")
    read = origins._accepts_cached.cache_info().misses  # noqa: SLF001
    for number in range(10):
        assert not origins.accepts(f"https://cổng.example.vn:{number}")
        assert not origins.accepts_referer(f"https://cổng.example.vn:{number}/trang")
    assert origins._accepts_cached.cache_info().misses == read  # noqa: SLF001
    assert origins.accepts_referer("https://xn--cng-qmz.example.vn/tin-tức")
