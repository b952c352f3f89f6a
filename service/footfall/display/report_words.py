"""What a report says, in both languages, and how it writes days, periods and parts."""

import tomllib
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from types import MappingProxyType

from footfall.model.report_period import By, Days
from footfall.settings.settings import Site

TEMPLATES = Path(__file__).parent / "templates"
LANGUAGES = ("vi", "en")
"""The languages of a report; a site in another one gets English."""
WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {language: tomllib.loads((TEMPLATES / f"{language}.toml").read_text(encoding="utf-8")) for language in LANGUAGES}
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def day_name(day: date, language: str) -> str:
    """Return a day as people write it.

    >>> day_name(date(2026, 11, 3), "vi"), day_name(date(2026, 11, 3), "en")
    ('03/11/2026', '3 Nov 2026')
    """
    return f"{day:%d/%m/%Y}" if language == "vi" else f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def days_name(days: Days, language: str) -> str:
    """Return days as people write them.

    >>> days_name(Days(date(2026, 11, 3), date(2026, 11, 9)), "vi")
    '03/11/2026 – 09/11/2026'
    """
    if days.first == days.last:
        return day_name(days.first, language)
    return f"{day_name(days.first, language)} – {day_name(days.last, language)}"


def period_name(days: Days, by: By, language: str) -> str:
    """Return the name of a period; one that is cut is called by its days.

    >>> week = Days(date(2026, 11, 23), date(2026, 11, 29))
    >>> [period_name(week, by, "vi") for by in (By.WEEK, By.MONTH)]
    ['Tuần 48, 23/11/2026 – 29/11/2026', '23/11/2026 – 29/11/2026']
    >>> period_name(Days(date(2026, 11, 1), date(2026, 11, 30)), By.MONTH, "en")
    'Nov 2026'
    """
    if by is By.DAY or not days.is_whole(by):
        return days_name(days, language)
    match by:
        case By.WEEK:
            return f"{WORDS[language]['week']} {days.first.isocalendar().week}, {days_name(days, language)}"
        case By.MONTH:
            return (
                f"Tháng {days.first:%m/%Y}" if language == "vi" else f"{MONTHS[days.first.month - 1]} {days.first:%Y}"
            )
        case _:
            return f"{days.first.year}"


def axis_name(days: Days, by: By, language: str) -> str:
    """Return the few characters that stand below the axis of time.

    >>> [axis_name(Days(date(2026, 11, 2), date(2026, 11, 2)), by, "vi") for by in By]
    ['02/11', '02/11', '11/26', '2026']
    """
    match by:
        case By.DAY | By.WEEK:
            return f"{days.first:%d/%m}" if language == "vi" else f"{days.first.day} {MONTHS[days.first.month - 1]}"
        case By.MONTH:
            return f"{days.first:%m/%y}" if language == "vi" else f"{MONTHS[days.first.month - 1]} {days.first:%y}"
        case By.YEAR:
            return f"{days.first.year}"


def moment_name(at: datetime, language: str) -> str:
    """Return a moment to the minute, in its own zone."""
    day = day_name(at.date(), language)
    return f"{at:%H:%M} {day}" if language == "vi" else f"{day}, {at:%H:%M}"


def percent(part: float, language: str, *, sign: bool = False) -> str:
    """Return a part of one as a percentage.

    >>> percent(0.1234, "vi"), percent(-0.5, "en", sign=True)
    ('12,3 %', '-50.0 %')
    """
    text = f"{100 * part:{'+' if sign else ''}.1f} %"
    return text.replace(".", ",") if language == "vi" else text


def languages_of_report(site: Site) -> tuple[str, ...]:
    """Return the languages of a report, the site's first; English for a site whose language no report speaks."""
    first = site.language if site.language in LANGUAGES else "en"
    return tuple(dict.fromkeys((first, *LANGUAGES)))
