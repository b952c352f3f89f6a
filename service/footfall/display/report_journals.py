"""What a report says beside its numbers, in words: who corrected, imported and moved what, and what happened."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from footfall.display import settings_words
from footfall.display.labels import format_number
from footfall.display.report import Report
from footfall.display.report_words import WORDS, days_name, moment_name
from footfall.model.event import Event
from footfall.model.report_period import Days
from footfall.stores.history import Import, PageChange

ROUTINE_EVENTS = ("started", "stopped")
"""Of these a report says how often they happened, and when the last time."""
MINUS = "\u2212"


def signed(number: int, language: str) -> str:
    """Return a number with its sign.

    >>> signed(1000, "vi"), signed(-2, "vi")
    ('+1.000', '−2')
    """
    return f"{MINUS if number < 0 else '+'}{format_number(abs(number), language)}"


def corrections(report: Report, language: str) -> list[dict[str, str]]:
    """Return the corrections of the all-time total: when, by how much, why and by whom."""
    return [
        {
            "at": moment_name(entry.made_at.astimezone(report.asked.site.zone), language),
            "amount": signed(entry.amount, language),
            "reason": entry.reason,
            "who": entry.made_by,
        }
        for entry in report.corrections
    ]


def imports(report: Report, language: str) -> list[dict[str, str]]:
    """Return what was imported, moved or forgotten: when, from where, which days, with how many views, by whom."""
    return [_import(one, report.asked.site.zone, WORDS[language], language) for one in report.imports]


def _import(one: Import, zone: ZoneInfo, words: Mapping[str, str], language: str) -> dict[str, str]:
    days = words["imported_days"].format(
        days=format_number(one.days, language), period=days_name(Days(one.first, one.last), language)
    )
    return {
        "at": moment_name(one.made_at.astimezone(zone), language),
        "what": words.get(f"import_{one.what}") or one.what,
        "days": days,
        "views": format_number(one.views, language),
        "who": one.made_by,
    }


def page_changes(report: Report, language: str) -> list[dict[str, str]]:
    """Return the imports and moves of pages: when, what was done, and who did it."""
    return [_page_change(one, report.asked.site.zone, WORDS[language], language) for one in report.page_changes]


def _page_change(one: PageChange, zone: ZoneInfo, words: Mapping[str, str], language: str) -> dict[str, str]:
    if one.id is not None:
        pages, views = format_number(one.pages, language), signed(one.views, language)
        what = words["page_import"].format(pages=pages, views=views, id=one.id)
    else:
        sentence = words["page_move_back" if one.page == one.target else "page_move"]
        what = sentence.format(page=one.page, target=one.target)
    return {"at": moment_name(one.made_at.astimezone(zone), language), "what": what, "who": one.made_by}


def happened(report: Report, language: str) -> Iterator[dict[str, str]]:
    """Yield what happened to the counting, and when: days without numbers, then what is routine, then the rest."""
    words, zone = WORDS[language], report.asked.site.zone
    was = settings_words.details_before(report.events, report.settings_before)
    for gap in report.gaps:
        yield {"at": days_name(gap, language), "what": words["gap"]}
    for kind in ROUTINE_EVENTS:
        times = [event.at for event in report.events if event.kind == kind]
        if times:
            what = words[f"event_{kind}"].format(times=format_number(len(times), language))
            yield {"at": moment_name(max(times).astimezone(zone), language), "what": what}
    for event in report.events:
        if event.kind not in ROUTINE_EVENTS:
            what = _what(event, was.get(event.detail, ""), language)
            yield {"at": _when(event, report.made_at, language), "what": what}


def _when(event: Event, now: datetime, language: str) -> str:
    def name(moment: datetime) -> str:
        return moment_name(moment.astimezone(now.tzinfo), language)

    if event.began is None or event.ended is None:
        return name(event.at)
    if event.goes_on(now):
        return WORDS[language]["goes_on"].format(since=name(event.began))
    return f"{name(event.began)} – {name(event.ended)}"


def _what(event: Event, before: str, language: str) -> str:
    if event.kind == settings_words.KIND:
        return settings_words.settings_sentence(event.detail, before, language)
    said = WORDS[language].get(f"event_{event.kind}") or event.kind.replace("_", " ")
    return f"{said}: {event.detail}" if event.detail and not event.ended else said
