"""What a beacon says: the body of `POST /seen`, read strictly and without I/O."""

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
"""Most views are of few pages, and say the same of them."""
VISITOR = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
# Control characters and lone surrogates have no place in a path, and the latter cannot be encoded again.
PAGE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{0,2048}")


class Kind(StrEnum):
    """Why a page speaks: it was opened, or it is still open and visible."""

    VIEW = "view"
    PING = "ping"


class Beacon(NamedTuple):
    """One message from a page; every field has been checked.

    A tuple, as `Client` is: one is made per request, and a frozen dataclass takes almost three times as long to make.
    """

    site: str
    page: str
    kind: Kind
    visitor: str | None
    webdriver: bool


def parse_beacon(body: bytes) -> Beacon:
    """Read the JSON object that a page sent; raises Refused(BAD_JSON | BAD_FIELD | TOO_LARGE).

    Only `site` must be there: `page` is "/" and `kind` is "view" when absent, so the smallest beacon is
    a site. `null` is the same as absent. Unknown fields are ignored, whatever they hold, because a
    script cached for a year must still count when it meets a newer service, and the other way round.
    The same key twice is refused: two readers of it could disagree about what was said.

    >>> parse_beacon(b'{"site": "portal", "page": "/tin-tuc/1"}')
    Beacon(site='portal', page='/tin-tuc/1', kind=<Kind.VIEW: 'view'>, visitor=None, webdriver=False)
    """
    if len(body) > BODY_MAX_BYTES:
        raise Refused(Reason.TOO_LARGE)
    return _parse(body)


@lru_cache(BODIES_REMEMBERED_MAX)
def _parse(body: bytes) -> Beacon:
    try:
        text = body.strip(b" \t\r\n").decode()
        # raw_decode: decode looks for white space at both ends, which costs half as much again.
        fields, end = _DECODER.raw_decode(text)
    # Too deep is a RecursionError; bad UTF-8, bad JSON and a number of too many digits are ValueErrors.
    except (ValueError, RecursionError):
        raise Refused(Reason.BAD_JSON) from None
    if end != len(text) or not isinstance(fields, dict):
        raise Refused(Reason.BAD_JSON)
    return Beacon(
        site=_text(fields.get("site"), SITE_ID),
        page="/" if (page := fields.get("page")) is None else _text(page, PAGE),
        kind=Kind.VIEW if (kind := fields.get("kind")) is None else _kind(kind),
        visitor=None if (visitor := fields.get("visitor")) is None else _text(visitor, VISITOR),
        webdriver=_flag(fields.get("webdriver")),
    )


def _text(value: object, shape: re.Pattern[str]) -> str:
    if isinstance(value, str) and shape.fullmatch(value):
        return value
    raise Refused(Reason.BAD_FIELD)


def _kind(value: object) -> Kind:
    # Not Kind(value): an unhashable value would raise a TypeError there.
    if isinstance(value, str) and (kind := _KINDS.get(value)):
        return kind
    raise Refused(Reason.BAD_FIELD)


def _flag(value: object) -> bool:
    if value is None or value is False:
        return False
    if value is True:
        return True
    raise Refused(Reason.BAD_FIELD)


def _object(pairs: list[tuple[str, object]]) -> Mapping[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key appears twice")
    return fields


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_KINDS: Mapping[str, Kind] = {kind.value: kind for kind in Kind}
# Made once: json.loads with hooks builds a new decoder per call.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
