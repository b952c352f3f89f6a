"""Views of pages: how a batch carries them, and what a store holds of a page's day. Pure.

A batch carries, for every page that it touches, the views that its log has of that page so far. Such a number may be
stored twice without harm, and two copies of a day meet by the maximum per page and log.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

OTHER = "(other)"
"""Counts the views of all pages beyond the bounds; no page of a site can be called so, as each begins with a slash."""


class PageDay(NamedTuple):
    """What a store holds of one page and day: the views that each log brought."""

    day: date
    page: str
    logs: Mapping[str, int]
    changed: str = ""
    """Value of the page's `dirty` field, to be confirmed by value; empty where Postgres has the page as it is."""

    @property
    def views(self) -> int:
        """The page's views of the day: the sum over its logs."""
        return sum(self.logs.values())


class PageBase(NamedTuple):
    """What Postgres has of a page: its views up to a closed day, and of each later day the views by log."""

    page: str
    views: int
    later: Mapping[date, Mapping[str, int]]


class PageReading(NamedTuple):
    """Views of pages, all days together; None where Redis does not remember what Postgres has of a page."""

    generation: str
    """Changes when what was remembered is forgotten: an answer of Postgres to an earlier question comes too late."""
    corrected: str
    """Changes when page counts were corrected, and then they may fall; empty for never."""
    through: str
    """The last closed day."""
    views: Sequence[int | None]


NO_PAGES = PageReading("", "", "", ())


def packed(pages: Mapping[str, int]) -> bytes:
    r"""Return pages with their views as a batch carries them.

    >>> packed({"/": 12, "/tin/1": 3})
    b'12 /\n3 /tin/1'
    """
    return "\n".join([f"{views} {page}" for page, views in pages.items()]).encode()


def names_in(pages: bytes) -> list[str]:
    r"""Return the names of packed pages, in their order.

    >>> names_in(b"12 /\n3 /tin/1")
    ['/', '/tin/1']
    """
    return [line.partition(" ")[2] for line in pages.decode().split("\n")] if pages else []


def unpacked(pages: bytes) -> dict[str, int]:
    r"""Return packed pages with their views.

    >>> unpacked(b"12 /\n3 /tin/1")
    {'/': 12, '/tin/1': 3}
    """
    lines = [line.partition(" ") for line in pages.decode().split("\n")] if pages else []
    return {page: int(views) for views, _, page in lines}


def as_text(logs: Mapping[str, int]) -> str:
    """Return the views of a page by log as Redis holds them.

    >>> as_text({"a1": 5, "b2": 3})
    'a1=5 b2=3'
    """
    return " ".join([f"{log_id}={views}" for log_id, views in logs.items()])


def from_text(text: str) -> dict[str, int]:
    """Return the views of a page by log; raises ValueError for a text that no script of ours wrote.

    >>> from_text("a1=5 b2=3")
    {'a1': 5, 'b2': 3}
    """
    logs: dict[str, int] = {}
    for entry in text.split(" "):
        log_id, _, views = entry.partition("=")
        if not log_id.isalnum() or not views.isdecimal():
            raise ValueError("views of a page")
        logs[log_id] = int(views)
    return logs


def merge_into(known: dict[str, dict[str, int]], pages: Iterable[PageDay]) -> None:
    """Merge pages of one day into `known`, which maps a page to its views by log: the higher number of each log."""
    for page in pages:
        logs = known.setdefault(page.page, {})
        for log_id, views in page.logs.items():
            logs[log_id] = max(logs.get(log_id, 0), views)
