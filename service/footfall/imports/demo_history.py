"""A made year for the demo portal, so that its report has something to show. Never for a real one.

The same day always has the same numbers. They look like those of a commune's portal: offices are closed at the weekend,
Tết is quiet, the year grows a little, and a few announcements bring many people.
"""

import math
import random
from collections.abc import Iterator
from datetime import date

from footfall.model.imported import ImportedDay
from footfall.model.retention import DAY
from footfall.model.site_id import SiteId
from footfall.stores.day_imports import open_day_imports
from footfall.stores.postgres_store import open_postgres

SOURCE = "demo"
"""What the journal of imports calls these days."""
DEMO_HISTORY = "demo_history"
"""Kind of the event that says so in reports."""
DAYS = 365
DAYS_AT_ONCE = 31
PAGES = {
    "/": 34,
    "/thu-tuc": 21,
    "/tin-tuc": 12,
    "/lien-he": 8,
    "/gioi-thieu": 5,
    "/tin-tuc/cap-nuoc": 6,
    "/tin-tuc/diem-ho-tro": 5,
    "/tin-tuc/quy-hoach": 5,
    "/tin-tuc/trong-cay": 4,
}
"""Pages of the demo portal, and about how many of a hundred views each has."""
WEEKDAYS = (1.15, 1.1, 1.05, 1.0, 0.95, 0.45, 0.35)
TET = {(1, 28), (1, 29), (1, 30), (1, 31), (2, 1), (2, 2), (2, 3)}
ANNOUNCED = 0.03
"""Part of the days on which an announcement brings two or three times as many people."""


def demo_days(through: date, days: int = DAYS) -> Iterator[ImportedDay]:
    """Yield the days up to and including `through`, the earliest first."""
    for back in range(days - 1, -1, -1):
        yield demo_day(through - back * DAY, back)


def demo_day(day: date, days_ago: int) -> ImportedDay:
    """Return a made day; the same day is the same numbers but for the growth until now."""
    draw = random.Random(day.toordinal())
    season = 1 + 0.15 * math.sin(2 * math.pi * (day.timetuple().tm_yday - 80) / 365)
    usual = 210 * WEEKDAYS[day.weekday()] * season * 0.9994**days_ago
    if (day.month, day.day) in TET:
        usual *= 0.25
    if draw.random() < ANNOUNCED:
        usual *= 1.8 + draw.random()
    visitors = max(3, round(draw.gauss(usual, 0.08 * usual)))
    weights = {page: weight * draw.uniform(0.8, 1.2) for page, weight in PAGES.items()}
    views = round(visitors * draw.uniform(2.1, 2.6))
    pages = {page: int(views * weight / sum(weights.values())) for page, weight in weights.items()}
    pages["/"] += views - sum(pages.values())
    return ImportedDay(day, visitors, views, exact=True, pages=pages)


async def import_demo_history(url: str, site_id: SiteId, through: date) -> int:
    """Import the made year where the site has no day at all, and return how many days; 0 where it has some."""
    async with open_day_imports(url) as imports, open_postgres(url) as postgres:
        if not await imports.is_empty(site_id):
            return 0
        days = list(demo_days(through))
        for at in range(0, len(days), DAYS_AT_ONCE):
            await imports.write(site_id, SOURCE, days[at : at + DAYS_AT_ONCE])
        await postgres.record_event(site_id, DEMO_HISTORY, f"{days[0].day} to {days[-1].day}")
        return len(days)
