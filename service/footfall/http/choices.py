"""What a reader chooses in the query of an address: language, numbers, look."""

import re
from collections.abc import Sequence
from typing import TypeVar

from aiohttp import web

from footfall.display.labels import languages_of
from footfall.display.svg import Layout, Look, Theme
from footfall.errors import Reason, Refused
from footfall.model.counts import NUMBERS
from footfall.settings.settings import Site

THEMES: tuple[Theme, ...] = ("light", "dark", "auto", "none")
LAYOUTS: tuple[Layout, ...] = ("list", "line", "cards", "badge", "digits")
COLOR = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")

Choice = TypeVar("Choice", bound=str)


def chosen(request: web.Request, name: str, allowed: tuple[Choice, ...]) -> Choice:
    """Return what the query chooses, by default the first choice; raises Refused(BAD_FIELD)."""
    asked = request.query.get(name, allowed[0])
    for choice in allowed:
        if choice == asked:
            return choice
    raise Refused(Reason.BAD_FIELD, sentence=f"{name} must be one of these: {', '.join(allowed)}.")


def color_in(request: web.Request) -> str:
    """Return the colour in the query as six small hexadecimal digits, or ""; raises Refused(BAD_FIELD)."""
    color = request.query.get("color", "")
    if not color:
        return ""
    found = COLOR.fullmatch(color)
    if not found:
        raise Refused(Reason.BAD_FIELD, sentence="color must be three or six hexadecimal digits, such as 00aa77.")
    digits = found[1].lower()
    return "".join(2 * digit for digit in digits) if len(digits) == len("abc") else digits


def look_in(request: web.Request) -> Look:
    """Return how the image is to look; raises Refused(BAD_FIELD)."""
    color = color_in(request)
    return Look(chosen(request, "theme", THEMES), chosen(request, "layout", LAYOUTS), color)


def numbers_in(request: web.Request) -> Sequence[str]:
    """Return the names of the numbers that the query asks for; raises Refused(BAD_FIELD)."""
    asked = request.query.getall("show", ())
    if not asked:
        return ()
    names = ",".join(asked).split(",")
    if len(names) > len(NUMBERS) or not set(names) <= set(NUMBERS):
        raise Refused(Reason.BAD_FIELD, sentence=f"show must name numbers, with commas between: {', '.join(NUMBERS)}.")
    return names


def language_in(request: web.Request, site: Site) -> str:
    """Return the language that the query asks for, by default the site's; raises Refused(BAD_FIELD)."""
    return chosen(request, "lang", languages_of(site))
