"""What the settings of a site make of its numbers, in words: the program notes them by their names and values."""

import re
from collections.abc import Mapping, Sequence

from footfall.display.labels import format_number
from footfall.display.report_words import WORDS
from footfall.model.event import Event

KIND = "settings"
VALUE = re.compile(r"(?:^|\s)([a-z_]+)=(.*?)(?=\s[a-z_]+=|$)")
QUOTED = re.compile(r"'([^']*)'")


def settings_sentence(detail: str, before: str, language: str) -> str:
    """Return what began with an event of settings; `before` is the detail of the one before it, empty for none.

    >>> settings_sentence("2054-11-27: time_zone=UTC measure=views", "2054-11-25: time_zone=UTC measure=visitors", "vi")
    'Từ đây các con số có nghĩa khác: chân trang đếm lượt xem (trước đó: chân trang đếm khách truy cập).'
    """
    now, was = _values(detail), _values(before)
    words = WORDS[language]
    changed = [
        f"{_said(name, value, words, language)}{_aside(name, was, words, language)}"
        for name, value in now.items()
        if was.get(name) != value
    ]
    return words["settings_changed" if before else "settings_first"].format(settings="; ".join(changed))


def details_before(events: Sequence[Event], before: str) -> dict[str, str]:
    """Return, for the detail of each event of settings, the one before; `events` have the newest first."""
    details = [event.detail for event in events if event.kind == KIND]
    return dict(zip(details, [*details[1:], before], strict=False))


def _values(detail: str) -> Mapping[str, str]:
    """Return the settings of a detail, such as `2054-11-27: time_zone=UTC hosts=('a.vn', 'b.vn')`."""
    return dict(VALUE.findall(detail.partition(": ")[2]))


def _said(name: str, value: str, words: Mapping[str, str], language: str) -> str:
    if value.startswith("("):
        quoted = QUOTED.findall(value)
        sentence = words.get(f"setting_{name}" if quoted else f"setting_{name}_none")
        value = ", ".join(quoted)
    else:
        sentence = words.get(f"setting_{name}_{value}") or words.get(f"setting_{name}")
        value = format_number(int(value), language) if value.isdecimal() else value
    return sentence.format(value=value) if sentence else f"{name}: {value}"


def _aside(name: str, was: Mapping[str, str], words: Mapping[str, str], language: str) -> str:
    if name not in was:
        return ""
    return f" ({words['before_that']}: {_said(name, was[name], words, language)})"
