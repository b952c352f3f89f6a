"""What the block says: its words in each language, and its numbers as people read them."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from footfall.model.counts import Counts
from footfall.settings.settings import Site

UNKNOWN = "–"
DIGITS_MIN = 6
"""Boxes of a number in the style digits, also in `static/footfall.js`."""
SEPARATOR = MappingProxyType({"vi": ".", "en": ",", "zh": ",", "lo": ".", "km": ","})
"""Between thousands; other languages have a narrow space, which is the rule of ISO 80000 and of French."""
NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"
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
        "zh": {
            "heading": "访问统计",
            "online": "当前在线",
            "today": "今日",
            "week": "本周",
            "total": "总计",
            "views_today": "今日浏览量",
            "page_views": "浏览量",
            "yesterday": "昨日",
            "last_week": "上周",
            "month": "本月",
            "last_month": "上月",
            "year": "今年",
            "views_month": "本月浏览量",
            "views_total": "总浏览量",
            "peak_online": "最高在线",
        },
        "fr": {
            "heading": "Statistiques de visite",
            "online": "En ligne",
            "today": "Aujourd’hui",
            "week": "Cette semaine",
            "total": "Depuis le début",
            "views_today": "Vues aujourd’hui",
            "page_views": "Vues",
            "yesterday": "Hier",
            "last_week": "Semaine dernière",
            "month": "Ce mois-ci",
            "last_month": "Mois dernier",
            "year": "Cette année",
            "views_month": "Vues ce mois-ci",
            "views_total": "Vues au total",
            "peak_online": "Record en ligne",
        },
        "lo": {
            "heading": "ສະຖິຕິການເຂົ້າຊົມ",
            "online": "ກຳລັງອອນລາຍ",
            "today": "ມື້ນີ້",
            "week": "ອາທິດນີ້",
            "total": "ທັງໝົດ",
            "views_today": "ຍອດເບິ່ງມື້ນີ້",
            "page_views": "ຍອດເບິ່ງ",
            "yesterday": "ມື້ວານນີ້",
            "last_week": "ອາທິດກ່ອນ",
            "month": "ເດືອນນີ້",
            "last_month": "ເດືອນກ່ອນ",
            "year": "ປີນີ້",
            "views_month": "ຍອດເບິ່ງເດືອນນີ້",
            "views_total": "ຍອດເບິ່ງທັງໝົດ",
            "peak_online": "ອອນລາຍສູງສຸດ",
        },
        "km": {
            "heading": "ស្ថិតិអ្នកចូលមើល",
            "online": "កំពុងអនឡាញ",
            "today": "ថ្ងៃនេះ",
            "week": "សប្ដាហ៍នេះ",
            "total": "សរុប",
            "views_today": "ចំនួនមើលថ្ងៃនេះ",
            "page_views": "ចំនួនមើល",
            "yesterday": "ម្សិលមិញ",
            "last_week": "សប្ដាហ៍មុន",
            "month": "ខែនេះ",
            "last_month": "ខែមុន",
            "year": "ឆ្នាំនេះ",
            "views_month": "ចំនួនមើលខែនេះ",
            "views_total": "ចំនួនមើលសរុប",
            "peak_online": "អនឡាញច្រើនបំផុត",
        },
    }
)
"""The built-in words. The script reads those in the languages of `OF_THE_SCRIPT` where a page has the short form."""
OF_THE_SCRIPT = ("vi", "en")


def format_number(number: int | None, language: str) -> str:
    """Return `number` as people read it in `language`; a dash where it is unknown.

    >>> format_number(1373876, "vi"), format_number(1373876, "en"), format_number(None, "vi")
    ('1.373.876', '1,373,876', '–')
    """
    return UNKNOWN if number is None else f"{number:,}".replace(",", SEPARATOR.get(language, NARROW_SPACE))


def labels_of(site: Site, language: str) -> Mapping[str, str]:
    """Return the words of the block: the site's own in `language`, else the built-in ones, else English ones."""
    own = site.labels.items() if language == site.language else ()
    of_language = site.labels_in.get(language, {}).items()
    return {**LABELS.get(language, LABELS["en"]), **dict(of_language), **dict(own)}


def languages_of(site: Site) -> tuple[str, ...]:
    """Return the languages in which the site's block can speak, its own first."""
    return tuple(dict.fromkeys((site.language, *LABELS, *site.labels_in)))


def labels_for_script(site: Site) -> dict[str, str]:
    """Return the words in the site's language that the script lacks."""
    if site.language not in OF_THE_SCRIPT:
        return dict(labels_of(site, site.language))
    return {str(name): words for name, words in site.labels.items()}


def words_for_script(site: Site) -> dict[str, Mapping[str, str]]:
    """Return by language the words that the site has for pages in other languages than its own."""
    return {language: labels_of(site, language) for language in site.labels_in}


def numbers_of(counts: Counts, names: Iterable[str]) -> dict[str, int | None]:
    """Return the numbers of these names, in their order, by the name of their label."""
    return {name: getattr(counts, name) for name in names}
