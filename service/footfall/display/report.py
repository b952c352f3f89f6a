"""A report about one site: the past from Postgres, and the day that is not over yet from what is live."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from footfall.model.counts import Counts, Reading
from footfall.model.event import Event
from footfall.model.peak import Peak, higher
from footfall.model.periods import local_day, start_of
from footfall.model.report_period import DAY, By, Days
from footfall.model.retention import Retention
from footfall.model.sums import NOTHING, Tally
from footfall.settings.settings import Site
from footfall.stores.history import Busiest, Figure, History, Import, PageChange, Sum, TopPages
from footfall.stores.postgres_store import Adjustment

PAGES_LISTED = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is about, and what is known of its site beside Postgres at that moment."""

    site: Site
    days: Days
    by: By
    at_s: float
    now: Counts
    live: Reading | None = None
    """None where Redis is not asked, or has not answered yet: then the last copy says how today is going."""

    @property
    def today(self) -> date:
        """The site's current day."""
        return local_day(self.at_s, self.site.zone)

    @property
    def closed_through(self) -> date:
        """The last day to which nothing comes any more but what waited on a disk."""
        return Retention.at(self.at_s, self.site.zone).closed_through

    @property
    def live_today(self) -> Reading | None:
        """What is live, if it is of the current day."""
        return self.live if self.live is not None and self.live.day_of == self.today else None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a report says; `sum` and `sum_before` add up days."""

    asked: Asked
    since: date | None
    figures: Sequence[Figure]
    sum: Sum
    before: Days
    sum_before: Sum | None
    """None where counting began later than the days before."""
    busiest: Busiest | None
    peak: Peak | None
    pages: TopPages | None
    """None where there are too many to add up."""
    corrections: Sequence[Adjustment]
    page_changes: Sequence[PageChange]
    imports: Sequence[Import]
    events: Sequence[Event]
    settings_before: str
    """The detail of the last event of settings before these days; empty for none."""
    gaps: Sequence[Days]

    @property
    def made_at(self) -> datetime:
        """The moment of the report, in the site's zone."""
        return datetime.fromtimestamp(self.asked.at_s, UTC).astimezone(self.asked.site.zone)

    @property
    def peak_at(self) -> datetime | None:
        """The moment of the most visitors online, in the site's zone."""
        return self.peak and datetime.fromtimestamp(self.peak.at_ms / 1000, UTC).astimezone(self.asked.site.zone)

    def is_finished(self, figure: Figure) -> bool:
        """Return whether the numbers of a period are final."""
        return figure.days.last <= self.asked.closed_through


async def read_report(history: History, asked: Asked) -> Report:
    """Read a report. Raises StoreUnavailable: there is no half of one."""
    site_id, days, today = asked.site.id, asked.days, asked.today
    copied = await history.day(site_id, today) if days.last == today else None
    since = await history.since(site_id) or (today if asked.live_today else None)
    figures = [figure async for figure in read_figures(history, asked)]
    total = await _sum(history, asked, copied)
    before, start = days.before(), _start(asked, days.first)
    counted = await history.counted_days(site_id, days)
    return Report(
        asked=asked,
        since=since,
        figures=figures,
        sum=total,
        before=before,
        sum_before=await history.sum(site_id, before) if since is not None and since <= before.first else None,
        busiest=_busiest(await history.busiest(site_id, days), asked),
        peak=_peak(await history.most_online(site_id, days), asked),
        pages=await history.top_pages(site_id, days, PAGES_LISTED),
        corrections=await history.corrections(site_id),
        page_changes=await history.page_changes(site_id),
        imports=await history.imports(site_id, days),
        events=await history.events(site_id, start, _start(asked, days.last + DAY)),
        settings_before=await history.settings_before(site_id, start),
        gaps=_gaps(counted, Days(days.first, min(days.last, today - DAY)), since),
    )


async def read_figures(history: History, asked: Asked) -> AsyncIterator[Figure]:
    """Yield the periods that have numbers, oldest first; the last one holds what is live today."""
    site_id, (first, last), by, today = asked.site.id, asked.days, asked.by, asked.today
    if last < today:
        async for figure in history.figures(site_id, asked.days, by):
            yield figure
        return
    of_today = await _today(history, asked)
    until: Figure | None = None
    async for figure in history.figures(site_id, Days(first, today - DAY), by):
        if of_today is not None and figure.days.last == today - DAY and by.start(today) <= figure.days.first:
            until = figure
        else:
            yield figure
    if of_today is None:
        return
    current = Days(max(first, by.start(today)), today)
    if until is None:
        figure = of_today._replace(days=current)
    else:
        figure = Figure(
            days=current,
            visitors=until.visitors + of_today.visitors,
            views=until.views + of_today.views,
            counted=until.counted + of_today.counted,
            exact=until.exact and of_today.exact,
            imported=until.imported,
        )
    is_union = by is By.WEEK and current.first == by.start(today) and not figure.imported
    yield await _with_union(history, asked, figure) if is_union else figure


async def _today(history: History, asked: Asked) -> Figure | None:
    days = Days(asked.today, asked.today)
    copied = [figure async for figure in history.figures(asked.site.id, days, By.DAY)]
    live = asked.live_today
    if live is None:
        return copied[0] if copied else None
    figure = Figure(days, live.today_visitors, live.today_views, 1, "today" in live.exact)
    if not copied:
        return figure
    exact = figure.exact and copied[0].visitors <= figure.visitors
    return figure._replace(
        visitors=max(figure.visitors, copied[0].visitors), views=max(figure.views, copied[0].views), exact=exact
    )


async def _with_union(history: History, asked: Asked, figure: Figure) -> Figure:
    """Return the current week with the number of its different visitors, where that is known."""
    live = asked.live_today
    union = await history.union(asked.site.id, figure.days.first)
    known = [number for number in (union, live and live.week_visitors) if number is not None]
    if not known:
        return figure
    exact = live is not None and "week" in live.exact and max(known) == live.week_visitors
    return figure._replace(visitors=max(known), exact=exact, is_union=True)


async def _sum(history: History, asked: Asked, copied: Tally | None) -> Sum:
    total = await history.sum(asked.site.id, asked.days)
    if (live := asked.live_today) is None or asked.days.last < asked.today:
        return total
    known = copied or NOTHING
    return Sum(
        counted=total.counted + (copied is None),
        exact=total.exact and "today" in live.exact,
        visitors=total.visitors + max(0, live.today_visitors - (known.visitors or 0)),
        views=total.views + max(0, live.today_views - known.views),
    )


def _busiest(copied: Busiest | None, asked: Asked) -> Busiest | None:
    live = asked.live_today
    if live is None or asked.days.last < asked.today or live.today_visitors == 0:
        return copied
    today = Busiest(asked.today, live.today_visitors, live.today_views)
    if copied is None or copied.day == today.day:
        return today
    return max(copied, today, key=lambda day: day.visitors)


def _peak(copied: Peak | None, asked: Asked) -> Peak | None:
    """Return the highest of the days; what is live may be of any day."""
    live = asked.live.peak if asked.live else None
    if live is None or not asked.days.first <= local_day(live.at_ms / 1000, asked.site.zone) <= asked.days.last:
        return copied
    return higher(copied, live)


def _gaps(counted: Sequence[date], days: Days, since: date | None) -> list[Days]:
    """Return the days without numbers, after the first day that has some; `days` are over."""
    if since is None:
        return []
    gaps: list[Days] = []
    expected = max(days.first, since)
    for day in [*(day for day in counted if day <= days.last), days.last + DAY]:
        if day > expected:
            gaps.append(Days(expected, day - DAY))
        expected = day + timedelta(days=1)
    return gaps


def _start(asked: Asked, day: date) -> datetime:
    return datetime.fromtimestamp(start_of(day, asked.site.zone), UTC)
