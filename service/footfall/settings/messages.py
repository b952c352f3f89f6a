"""Sentences about a wrong setting, for its author: plain words, and never the value of a secret."""

import difflib
from collections.abc import Iterable

from pydantic_core import ErrorDetails

WANTED = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text, in quotes",
    "tuple": 'a list, such as ["a", "b"]',
    "path": "a path, in quotes",
    "dict": "a table",
    "model": "a table",
}
"""By first word of a pydantic error type: what the value should have been."""

SENTENCES = {
    "missing": "is required and missing",
    "greater_than": "{given} is too small: give more than {gt:.15g}",
    "greater_than_equal": "{given} is too small: give at least {ge:.15g}",
    "less_than_equal": "{given} is too large: give at most {le:.15g}",
    "literal_error": "{given} is not one of the choices: give {expected}",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_too_long": "is too long: give at most {max_length} characters",
}
"""By pydantic error type, filled in from its context."""

SHOWN_MAX_CHARS = 60


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that offers the nearest known word; an empty one when none is near.

    >>> did_you_mean("time_zome", ["time_zone", "name"])
    '; did you mean time_zone?'
    """
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def full_stop(text: str) -> str:
    """Return the text as a finished sentence."""
    return text if text.endswith(("?", ".")) else f"{text}."


def explain(error: ErrorDetails, *, is_secret: bool = False) -> str:
    """Return in words what pydantic found; the `ValueError` of a validator of ours holds its words already."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    given = "this value" if is_secret else _shown(error["input"])
    wanted = WANTED.get(kind.partition("_")[0], "written as in the example file")
    return SENTENCES.get(kind, f"must be {wanted}, not {{given}}").format(given=given, **context)


def _shown(value: object) -> str:
    """Return the value as its author wrote it; a table or a list is only named, because it may hold a secret."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        text = repr(value)
        return text if len(text) <= SHOWN_MAX_CHARS else f"{text[:SHOWN_MAX_CHARS]}…"
    if isinstance(value, list):
        return "a list"
    return "a table" if isinstance(value, dict) else "this value"
