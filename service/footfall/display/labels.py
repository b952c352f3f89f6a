"""What the block says: its words in both languages, and its numbers as people read them."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from footfall.model.counts import Counts
from footfall.settings.settings import Site

UNKNOWN = "–"
DIGITS_MIN = 6
"""Boxes of a number in the style digits, also in `static/footfall.js`."""
SEPARATOR = MappingProxyType({"vi": ".", "en": ","})
LABELS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "vi": {
            "heading": "Thống kê truy cập",
            "online": "Đang online",
            "today": "Hôm nay",
            "week": "Trong tuần",
            "total": "Tất cả",
            "views_today": "Lượt xem hôm nay",
            "page_views": "Lượt xem",
            "yesterday": "Hôm qua",
            "last_week": "Tuần trước",
            "month": "Tháng này",
            "last_month": "Tháng trước",
            "year": "Năm nay",
            "views_month": "Lượt xem tháng này",
            "views_total": "Tổng lượt xem",
            "peak_online": "Đông nhất",
        },
        "en": {
            "heading": "Visitor statistics",
            "online": "Online",
            "today": "Today",
            "week": "This week",
            "total": "All time",
            "views_today": "Views today",
            "page_views": "Views",
            "yesterday": "Yesterday",
            "last_week": "Last week",
            "month": "This month",
            "last_month": "Last month",
            "year": "This year",
            "views_month": "Views this month",
            "views_total": "All views",
            "peak_online": "Most online",
        },
    }
)
"""The built-in words; `static/footfall.js` has the same."""


def format_number(number: int | None, language: str) -> str:
    """Return `number` as people read it in `language`; a dash where it is unknown.

    >>> format_number(1373876, "vi"), format_number(1373876, "en"), format_number(None, "vi")
    ('1.373.876', '1,373,876', '–')
    """
    return UNKNOWN if number is None else f"{number:,}".replace(",", SEPARATOR[language])


def labels_of(site: Site, language: str) -> Mapping[str, str]:
    """Return the words of the block: the site's own where they are in `language`, else the built-in ones."""
    own = site.labels.items() if language == site.language else ()
    return {**LABELS[language], **dict(own)}


def numbers_of(counts: Counts, names: Iterable[str]) -> dict[str, int | None]:
    """Return the numbers of these names, in their order, by the name of their label."""
    return {name: getattr(counts, name) for name in names}
