"""A report about many sites: the sum of each, of each group, and of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from footfall.model.counts import Reading
from footfall.model.periods import local_day
from footfall.model.report_period import By, Days
from footfall.model.site_id import SiteId
from footfall.model.sums import NOTHING
from footfall.settings.settings import Site
from footfall.stores.history import Figure, Sum
from footfall.stores.sites_history import SitesHistory

NO_NUMBERS = Sum(0, exact=True, visitors=0, views=0)


@dataclass(frozen=True, slots=True)
class SiteRow:
    """A site in the list."""

    site: Site
    since: date | None
    sum: Sum
    before: Sum | None
    """None where the site was not counted for all of the days before."""
    imported: bool = False
    """Whether days were not counted here, but imported or moved from another site."""


@dataclass(frozen=True, slots=True)
class Group:
    """What a group of sites comes to; the last group has the sites without one."""

    name: str
    sites: int
    sum: Sum


@dataclass(frozen=True, slots=True)
class SitesReport:
    """Everything that a report about many sites says; visitors are sums over sites and days."""

    days: Days
    by: By
    group: str
    made_at: datetime
    before: Days
    rows: Sequence[SiteRow]
    groups: Sequence[Group]
    sum: Sum
    sum_before: Sum | None
    """None where not every site was counted for all of the days before."""
    figures: Sequence[Figure]
    today: date
    is_demo: bool
    """Whether days of a site are made up."""


@dataclass(frozen=True, slots=True)
class AskedSites:
    """What a report about many sites is about; `live` has what is known of today, by site."""

    sites: Sequence[Site]
    days: Days
    by: By
    group: str
    made_at: datetime
    live: Mapping[SiteId, Reading | None]


async def read_sites_report(history: SitesHistory, asked: AskedSites) -> SitesReport:
    """Read the report. Raises StoreUnavailable.

    The days of the sites are their own: a site in another time zone has another today.
    """
    ids = [site.id for site in asked.sites]
    days, before = asked.days, asked.days.before()
    sums, figures = await history.sums_and_figures(ids, days, asked.by)
    since = await history.since(ids)
    of_before = await history.sums(ids, before)
    more = await _not_copied(history, asked)
    imported = await history.imported(ids, days)
    rows = [
        SiteRow(
            site=site,
            since=since.get(site.id, days.last if site.id in more else None),
            sum=_plus(sums.get(site.id, NO_NUMBERS), more.get(site.id)),
            before=of_before.get(site.id, NO_NUMBERS) if site.id in since and since[site.id] <= before.first else None,
            imported=site.id in imported,
        )
        for site in asked.sites
    ]
    return SitesReport(
        days=days,
        by=asked.by,
        group=asked.group,
        made_at=asked.made_at,
        before=before,
        rows=rows,
        groups=_groups(rows),
        sum=_total([row.sum for row in rows]),
        sum_before=_total([row.before for row in rows if row.before]) if all(row.before for row in rows) else None,
        figures=_with_today(figures, list(more.values()), asked),
        today=asked.made_at.date(),
        is_demo=any(imported.values()),
    )


async def _not_copied(history: SitesHistory, asked: AskedSites) -> dict[SiteId, Sum]:
    """Return by how much each site's today is ahead of its copy, where today is asked for."""
    last, at_s = asked.days.last, asked.made_at.timestamp()
    live = {
        site.id: reading
        for site in asked.sites
        if (reading := asked.live.get(site.id)) is not None and reading.day_of == last == local_day(at_s, site.zone)
    }
    if not live:
        return {}
    copied = await history.day(list(live), last)
    ahead = {}
    for site_id, reading in live.items():
        known = copied.get(site_id, NOTHING)
        visitors = max(0, reading.today_visitors - (known.visitors or 0))
        views = max(0, reading.today_views - known.views)
        ahead[site_id] = Sum(site_id not in copied, "today" in reading.exact, visitors, views)
    return ahead


def _with_today(figures: Sequence[Figure], more: Sequence[Sum], asked: AskedSites) -> list[Figure]:
    last, by = asked.days.last, asked.by
    ahead = _total(more)
    if not more or not (ahead.visitors or ahead.views):
        return list(figures)
    start = max(by.start(last), asked.days.first)
    so_far = figures[-1] if figures and figures[-1].days.first == start else None
    figure = so_far or Figure(Days(start, last), 0, 0, 0, exact=True)
    figure = figure._replace(
        visitors=figure.visitors + ahead.visitors,
        views=figure.views + ahead.views,
        counted=figure.counted + ahead.counted,
        exact=figure.exact and ahead.exact,
    )
    return [*figures[: -1 if so_far else None], figure]


def _groups(rows: Sequence[SiteRow]) -> list[Group]:
    """Return the groups by name, and last the sites without one; nothing where no site has a group."""
    names = sorted({row.site.group for row in rows} - {""})
    if not names:
        return []
    members = {name: [row.sum for row in rows if row.site.group == name] for name in [*names, ""]}
    return [Group(name, len(sums), _total(sums)) for name, sums in members.items() if sums]


def _plus(one: Sum, other: Sum | None) -> Sum:
    return one if other is None else _total([one, other])


def _total(sums: Sequence[Sum]) -> Sum:
    return Sum(
        counted=sum(one.counted for one in sums),
        exact=all(one.exact for one in sums),
        visitors=sum(one.visitors for one in sums),
        views=sum(one.views for one in sums),
    )
