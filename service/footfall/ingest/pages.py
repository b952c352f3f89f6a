"""Which page a view is of: one canonical form for the many ways in which a page's address is written.

The canonical form is what is stored, compared and shown. It is a path, and of the query only what the site names:

    https://www.portal.example.vn//tin/./%C4%91%E1%BA%A7u/index.html?utm_source=zalo&id=7#top    becomes
    /tin/đầu?id=7

It holds no control character, no space and no mark that turns the direction of writing: those stay percent-encoded.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote_plus

from footfall.ingest.origins import Origins
from footfall.settings.settings import Site

SENT_MAX_CHARS = 2048
"""The longest page of a beacon."""
PAGE_MAX_BYTES = 2000
"""UTF-8 bytes of a canonical page: with its site and day it must fit an entry of a PostgreSQL index (2,704 bytes)."""
REMEMBERED_MAX = 4096
REMEMBERED_MAX_CHARS = 300
LONGER_REMEMBERED_MAX = 64
"""Of longer pages: 4,096 would fill the memory of a worker. A beacon needs its own twice, to count and to answer."""

DEFAULT_DOCUMENTS = frozenset(
    {
        *(f"index.{ending}" for ending in ("asp", "aspx", "htm", "html", "jsp", "php", "shtml")),
        *(f"default.{ending}" for ending in ("asp", "aspx", "htm", "html")),
    }
)
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?\\]*")
# Java's session, in the path of a browser without cookies: a secret of one visitor.
SESSION = re.compile(r";jsessionid=.*", re.IGNORECASE)

MARKS_MAX = 30
"""Combining marks of one letter: no language has as many (UAX 15, Stream-Safe Text Format)."""
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
OCTETS = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
# RFC 3986, 6.2.2.2: only the encodings of these mean the characters themselves.
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# An octet that stays encoded is a lone surrogate until the end, so that no step takes it for a character. Octets that
# are not UTF-8 become the same ones, by Python's surrogateescape.
KEPT = 0xDC00
AS_SURROGATES = {octet: KEPT + octet for octet in range(0x80) if octet not in UNRESERVED}
# Not str.isprintable, whose answer changes with the version of Unicode, and stored pages do not.
UNPRINTABLE = (
    '[\x00-\x20"<>\\\\^`{|}\x7f-\xa0\xad\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f'
    "\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)
PLAIN = re.compile(r"[A-Za-z0-9/._~!$&'()*+,;=:@-]*")
# A combining mark would compose with the last digit of an encoding, or with the = before a value.
ENCODED = re.compile(f"(?:^|{UNPRINTABLE})[\u0300-\u036f]+|{UNPRINTABLE}")


def normalise_page(page: str, site: Site) -> str | None:
    """Return the canonical form of a page of `site`; None if there is none, and then a view counts for the site only.

    `page` is a path or a URL, such as a page's address or its `data-page`. None is the answer for "off", an empty
    text, a URL of another host or scheme, control characters, and a page beyond the bounds: a cut page would be
    another page. The canonical form of a canonical form is itself.

    >>> portal = Site(id="portal", name="Portal", hosts=["portal.example.vn"], page_query=["id"])
    >>> normalise_page("/tin//%c4%91%e1%ba%a7u/?utm_source=zalo&id=7#top", portal)
    '/tin/đầu?id=7'
    >>> normalise_page("javascript:alert(1)", portal) is None
    True
    """
    if len(page) > SENT_MAX_CHARS:
        return None
    normalise = _remembered if len(page) <= REMEMBERED_MAX_CHARS else _longer_remembered
    return normalise(page, site.hosts, site.page_query)


def _normalise(page: str, hosts: tuple[str, ...], query_keys: tuple[str, ...]) -> str | None:
    text = page.strip(" \t\r\n").partition("#")[0]
    if not text or text.lower() == "off" or CONTROLS.search(text):
        return None
    if SCHEME.match(text):
        origin = ORIGIN.match(text.replace("\\", "/"))
        if origin is None or not _origins(hosts).accepts(origin[0]):
            return None
        text = text[origin.end() :]
    path, _, query = text.partition("?")
    canonical = _path(path) + _query(query, query_keys)
    return canonical if len(canonical.encode()) <= PAGE_MAX_BYTES else None


def _path(path: str) -> str:
    segments: list[str] = []
    for written in _decoded(path.replace("\\", "/")).split("/"):
        segment = SESSION.sub("", written)
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    while segments and segments[-1].lower() in DEFAULT_DOCUMENTS:
        segments.pop()
    return _encoded("/" + "/".join(segments))


def _query(query: str, keys: tuple[str, ...]) -> str:
    if not keys or not query:
        return ""
    pairs: list[tuple[str, str]] = []
    listed = _by_spelling(keys)
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        name = unquote_plus(name)
        if key := listed.get(name) or listed.get(name.lower()):
            pairs.append((key, _encoded(_decoded(value.replace("+", "%20")))))
    pairs.sort(key=lambda pair: pair[0])  # stable: a key that appears twice keeps the order of its values
    return "?" + "&".join(f"{key}={value}" for key, value in pairs) if pairs else ""


@lru_cache(64)
def _by_spelling(keys: tuple[str, ...]) -> Mapping[str, str]:
    """Return the keys by their names as they are listed, and in lower case where the first one counts.

    Links within one site write TabId and tabid, which ASP.NET takes for one key.
    """
    return {key.lower(): key for key in reversed(keys)} | {key: key for key in keys}


def _decoded(text: str) -> str:
    """Return the characters of a text in NFC; an octet that must stay encoded is a lone surrogate."""
    characters = OCTETS.sub(_characters, text).replace("%", "\udc25")
    return unicodedata.normalize("NFC", characters) if _has_few_marks(characters) else characters


def _has_few_marks(text: str) -> bool:
    """Return whether NFC is cheap: it sorts the marks of one letter, and 2,000 of them take a hundred times as long."""
    if text.isascii():
        return True
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > MARKS_MAX:
            return False
    return True


def _characters(octets: re.Match[str]) -> str:
    return bytes.fromhex(octets[0].replace("%", "")).decode("utf-8", "surrogateescape").translate(AS_SURROGATES)


def _encoded(text: str) -> str:
    """Return a decoded text with what must not be seen as it is in percent-encodings."""
    return text if PLAIN.fullmatch(text) else ENCODED.sub(_octets, text)


def _octets(characters: re.Match[str]) -> str:
    octets = b"".join(
        bytes([code - KEPT]) if KEPT <= (code := ord(character)) < KEPT + 0x100 else character.encode()
        for character in characters[0]
    )
    return "".join(f"%{octet:02X}" for octet in octets)


_remembered = lru_cache(REMEMBERED_MAX)(_normalise)
_longer_remembered = lru_cache(LONGER_REMEMBERED_MAX)(_normalise)
_origins = lru_cache(64)(Origins)
