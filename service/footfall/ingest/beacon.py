"""What a page says of itself: the body of `POST /seen`, read strictly and without I/O."""

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, NoReturn

from footfall.errors import Reason, Refused
from footfall.model.site_id import SITE_ID

BODY_MAX_BYTES = 4096
BODIES_REMEMBERED_MAX = 2048
"""Most views are of few pages, and their bodies are equal."""
VISITOR = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
# A path holds no control characters; a lone surrogate could not be encoded again.
PAGE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{0,2048}")

FRAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{0,300}")
FRAMES_MAX = 10
VIEW = re.compile(r"[0-9a-f]{16}", re.ASCII)
VIEW_AT_THE_END = re.compile(rb',"view":"([0-9a-f]{16})"}')
VIEW_END_BYTES = 27
ANY_VIEW = b',"view":"%b"}' % (b"0" * 16)


class Kind(StrEnum):
    """Why a page sends a beacon: it was opened (view), or it is still open and visible (ping)."""

    VIEW = "view"
    PING = "ping"


A_VIEW = Kind.VIEW
"""The member by a name of its own: until Python 3.12 `Kind.VIEW` calls a function in Python."""


class Beacon(NamedTuple):
    """One message from a page, with every field checked.

    A tuple, because one is made per request and a frozen dataclass takes almost three times as long.
    """

    site: str
    page: str | None
    kind: Kind
    visitor: str | None
    webdriver: bool
    frames: tuple[str, ...] = ()
    """Origins of the pages in whose frames the page is, nearest first; "" for one that the browser hides."""
    view: bytes = b""
    """8 random bytes by which a view is known when its page sends it again; empty where the page gives none."""
    again: bool = False
    """The page has sent this view before, and got no answer."""


def parse_beacon(body: bytes) -> Beacon:
    """Return the beacon in a JSON object; raises Refused(BAD_JSON | BAD_FIELD | TOO_LARGE).

    Only `site` is required: without `page` a view is of no page, without `kind` it is "view", and `null` means absent.
    Unknown fields are ignored, so that a script and a service of different years understand each other. A key that
    appears twice is refused, because two readers could take different values.

    >>> parse_beacon(b'{"site": "portal", "page": "/tin-tuc/1"}')[:5]
    ('portal', '/tin-tuc/1', <Kind.VIEW: 'view'>, None, False)
    """
    if len(body) > BODY_MAX_BYTES:
        raise Refused(Reason.TOO_LARGE)
    if (end := VIEW_AT_THE_END.fullmatch(body[-VIEW_END_BYTES:])) is not None:
        # With another id a body stays the same JSON, or none: with the same id all bodies of a page are equal.
        site, page, kind, visitor, webdriver, frames, _, again = _parse(body[:-VIEW_END_BYTES] + ANY_VIEW)
        values = (site, page, kind, visitor, webdriver, frames, bytes.fromhex(end[1].decode()), again)
        return tuple.__new__(Beacon, values)  # `_replace` takes ten times as long
    # Elsewhere the id makes its body one of a kind, which would only drive others out.
    # Not `in`, which asks first whether the bytes are a number, and makes an exception of that.
    return _parse.__wrapped__(body) if body.find(b'"view":') >= 0 else _parse(body)


def parse_view(text: str | None) -> bytes:
    """Return the id of a view, b"" for none; raises Refused(BAD_FIELD)."""
    return b"" if text is None else bytes.fromhex(_text(text, VIEW))


@lru_cache(BODIES_REMEMBERED_MAX)
def _parse(body: bytes) -> Beacon:
    try:
        text = body.strip(b" \t\r\n").decode()
        # Not `decode`, which looks for white space at both ends and takes half as long again.
        fields, end = _DECODER.raw_decode(text)
    # RecursionError: too deep. ValueError: bad UTF-8, bad JSON, or a number of too many digits.
    except (ValueError, RecursionError):
        raise Refused(Reason.BAD_JSON) from None
    if end != len(text) or not isinstance(fields, dict):
        raise Refused(Reason.BAD_JSON)
    return Beacon(
        site=_text(fields.get("site"), SITE_ID),
        page=None if (page := fields.get("page")) is None else _text(page, PAGE),
        kind=Kind.VIEW if (kind := fields.get("kind")) is None else _kind(kind),
        visitor=None if (visitor := fields.get("visitor")) is None else _text(visitor, VISITOR),
        webdriver=_flag(fields.get("webdriver")),
        frames=() if (frames := fields.get("frames")) is None else _frames(frames),
        view=b"" if (view := fields.get("view")) is None else bytes.fromhex(_text(view, VIEW)),
        again=_flag(fields.get("again")),
    )


def _text(value: object, shape: re.Pattern[str]) -> str:
    if isinstance(value, str) and shape.fullmatch(value):
        return value
    raise Refused(Reason.BAD_FIELD)


def _kind(value: object) -> Kind:
    # Not Kind(value), which raises a TypeError for an unhashable value.
    if isinstance(value, str) and (kind := _KINDS.get(value)):
        return kind
    raise Refused(Reason.BAD_FIELD)


def _flag(value: object) -> bool:
    if value is None or value is False:
        return False
    if value is True:
        return True
    raise Refused(Reason.BAD_FIELD)


def _frames(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and len(value) <= FRAMES_MAX:
        return tuple(_text(origin, FRAME) for origin in value)
    raise Refused(Reason.BAD_FIELD)


def _object(pairs: list[tuple[str, object]]) -> Mapping[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key appears twice")
    return fields


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_KINDS: Mapping[str, Kind] = {kind.value: kind for kind in Kind}
# Made once, because json.loads with hooks builds a new decoder for each call.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
