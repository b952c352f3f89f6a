"""Redis without a server: what the scripts do, in plain Python. `durable_models.py` has Postgres and the spool.

A sketch is modelled as the set of its ids, so unions are exact and nothing is estimated; as bytes it is the sorted
ids one after the other. `test_models.py` checks each model against the real thing with the same random calls.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from footfall.errors import StoreDamaged
from footfall.model.batch import Answer, Batch
from footfall.model.clocks import Clock
from footfall.model.counts import Reading
from footfall.model.day_state import Closed, DayState
from footfall.model.pages import NO_PAGES, PageBase, PageDay, PageReading, names_in
from footfall.model.pages import unpacked as unpacked_pages
from footfall.model.peak import Peak
from footfall.model.periods import Period, week_of
from footfall.model.retention import DAY, WEEK
from footfall.model.salt import Salt
from footfall.model.snapshot import Snapshot
from footfall.model.sums import spans_of
from footfall.stores.redis_store import ORPHANS_WITHIN, Recorded

Logs = dict[str, tuple[int, int]]
Pages = dict[str, dict[str, int]]
ID_BYTES = 16
TWO_DAYS_S = 2 * 86400
READ_AHEAD_US = 60_000_000
SEEN_AHEAD_MS = 1000
ALWAYS = float("inf")
NO_DAY = date.min
NO_PEAK = Peak(0, 0)
READY, ONLINE, DAYS, DIRTY, CLOSED = ((name, NO_DAY) for name in ("ready", "online", "days", "dirty", "closed"))


def visitors_of(day: date) -> tuple[str, date]:
    """The sketch of a day, as a key that may be damaged."""
    return "visitors", day


def logs_of(day: date) -> tuple[str, date]:
    """The logs of a day, as a key that may be damaged."""
    return "logs", day


def pages_of(day: date) -> tuple[str, date]:
    """The pages of a day, as a key that may be damaged."""
    return "pages", day


def packed(ids: Iterable[bytes]) -> bytes:
    """The sketch of some ids, as bytes."""
    return b"".join(sorted(ids))


def unpacked(ids: bytes) -> set[bytes]:
    """The ids that are packed one after the other."""
    return {ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)}


@dataclass
class DayModel:
    """A day's sketch, logs and pages; its keys expire together."""

    visitors: set[bytes] = field(default_factory=set)
    logs: Logs = field(default_factory=dict)
    pages: Pages = field(default_factory=dict)
    pages_dirty: dict[str, str] = field(default_factory=dict)
    ends_s: float = ALWAYS

    @property
    def views(self) -> int:
        """The sum over its logs."""
        return sum(views for _, views in self.logs.values())

    def set_page(self, page: str, log_id: str, views: int, moment: str = "") -> None:
        """The views that a log has of a page so far; what is lower changes nothing. Without a moment it stays clean."""
        logs = self.pages.setdefault(page, {})
        if log_id not in logs or logs[log_id] < views:
            logs[log_id] = views
            if moment:
                self.pages_dirty[page] = moment


@dataclass
class WeekModel:
    """A week's sketch."""

    visitors: set[bytes] = field(default_factory=set)
    ends_s: float = ALWAYS


@dataclass
class SiteModel:
    """Everything that Redis holds of one site."""

    ready: str = ""
    online: dict[bytes, int] = field(default_factory=dict)
    online_ends_ms: int = 0
    listed: set[date] = field(default_factory=set)
    """Members of the set `days`; a day that expired stays in it until the next rollup."""
    days: dict[date, DayModel] = field(default_factory=dict)
    weeks: dict[date, WeekModel] = field(default_factory=dict)
    dirty: dict[date, str] = field(default_factory=dict)
    closed: Closed | None = None
    salts: dict[date, tuple[bytes, float]] = field(default_factory=dict)
    page_totals: dict[str, tuple[date, int]] = field(default_factory=dict)
    """What Postgres has of a page, and through which day."""
    generation: str = ""
    peak: Peak | None = None
    """The highest `online`; it and those of the days are fields of `closed`."""
    day_peaks: dict[date, Peak] = field(default_factory=dict)
    damaged: set[tuple[str, date]] = field(default_factory=set)
    """Keys that Redis cannot read any more: the part's name and its day or week, `NO_DAY` where it has none."""

    def touch(self, *parts: tuple[str, date]) -> None:
        """Fail where a script reads a damaged key; what it wrote before that may happen twice without harm."""
        if any(part in self.damaged for part in parts):
            raise StoreDamaged("redis", "WRONGTYPE")

    @property
    def through(self) -> date:
        """The last closed day that this copy was told of."""
        return self.closed.through if self.closed else date.min

    def expire(self, now_s: float) -> None:
        """Drop the keys whose time is over."""
        for day in [day for day, kept in self.days.items() if kept.ends_s <= now_s]:
            self.damaged -= {("visitors", day), ("logs", day), ("pages", day)}
        self.days = {day: kept for day, kept in self.days.items() if kept.ends_s > now_s}
        self.weeks = {week: kept for week, kept in self.weeks.items() if kept.ends_s > now_s}
        self.salts = {week: kept for week, kept in self.salts.items() if kept[1] > now_s}
        if self.online_ends_ms <= now_s * 1000:
            self.online = {}

    def rebuild_week(self, week: date) -> None:
        """Make a week's sketch from its days where it is missing."""
        listed = [day for day in self.listed if week_of(day) == week]
        if week not in self.weeks and listed:
            ids = set[bytes]().union(*(self.days[day].visitors for day in listed if day in self.days))
            self.weeks[week] = WeekModel(ids)

    def accept_closed(self, closed: Closed, now_us: int) -> None:
        """Take over a later reading, unless a day that it closes has changes that Postgres has not."""
        known, soon_us = self.closed, now_us + READ_AHEAD_US
        if known:
            gives_way = known.read_at_us > soon_us and closed.read_at_us <= soon_us
            if closed.read_at_us <= known.read_at_us and not gives_way:
                return
            if closed.through < known.through < closed.today:
                return
        if known and any(known.through < day <= closed.through for day in self.dirty):
            return
        self.closed = closed
        highest = self.peak or NO_PEAK
        if (closed.peak or NO_PEAK).online > highest.online or highest.at_ms * 1000 > soon_us:
            self.peak = closed.peak

    def raise_peak(self, today: date, online: int, now_ms: int) -> bool:
        """Keep a highest `online`; tell whether it is the highest of the day."""
        highest = self.peak or NO_PEAK
        if online > highest.online or highest.at_ms > now_ms + SEEN_AHEAD_MS:
            self.peak = Peak(online, now_ms)
        of_day = online > self.day_peaks.get(today, NO_PEAK).online
        if of_day:
            self.day_peaks[today] = Peak(online, now_ms)
        return of_day


class RedisModel:
    """One Redis: the same methods as RedisStore, each one script call. `now_us` never tells a moment twice."""

    def __init__(self, clock: Clock, now_us: Callable[[], int]) -> None:
        self._clock = clock
        self._now_us = now_us
        self.sites: dict[str, SiteModel] = {}

    def copied(self) -> "RedisModel":
        """A copy of all that it holds now: for a replica, or for going back to it."""
        model = RedisModel(self._clock, self._now_us)
        model.sites = copy.deepcopy(self.sites)
        return model

    def record(
        self,
        installation: str,
        site: str,
        period: Period,
        window_s: int,
        batch: Batch | None = None,
        *,
        skip_gap: bool = False,
    ) -> Recorded:
        """`record.lua`."""
        held = self._held(site)
        if self._refuses(held, installation):
            return Recorded(Answer.NOTREADY, installation=held.ready)
        counted = {period.day, *held.listed} | ({batch.day} if batch else set())
        held.touch(DAYS, CLOSED, *(part(day) for part in (visitors_of, logs_of) for day in counted))
        if batch is not None:
            held.touch(DIRTY, ONLINE, *([pages_of(batch.day)] if batch.pages else []))
        answer, applied = Answer.OK, 0
        if batch is not None:
            week = week_of(batch.day)
            lacks_union = week not in {period.week, *held.weeks} and week <= held.through
            if (batch.day not in held.days and batch.day <= held.through) or lacks_union:
                return Recorded(Answer.OLD)
            day = held.days.get(batch.day) or DayModel()
            applied = day.logs.get(batch.log_id, (0, 0))[0]
            if batch.seq <= applied:
                answer = Answer.DUP
            elif batch.seq > applied + 1 and not skip_gap:
                return Recorded(Answer.GAP, applied)
            else:
                self._apply(held, day, batch, window_s)
                applied = batch.seq
        pages = self._page_reading(held, names_in(batch.pages)) if batch and batch.pages else NO_PAGES
        has_counted = batch is not None and answer is Answer.OK
        reading = self._reading(held, period, window_s, has_counted=has_counted)
        return Recorded(answer, applied, reading, pages=pages)

    def read_pages(self, installation: str, site: str, period: Period, window_s: int, pages: Sequence[str]) -> Recorded:
        """`record.lua` without a batch, asked for pages."""
        recorded = self.record(installation, site, period, window_s)
        held = self._held(site)
        if recorded.reading is None:
            return recorded
        held.touch(*map(pages_of, held.listed))
        return recorded._replace(pages=self._page_reading(held, pages))

    def remember_pages(
        self, installation: str, site: str, asked: PageReading, bases: Iterable[PageBase]
    ) -> PageReading:
        """`remember_pages.lua`."""
        held = self._held(site)
        if self._refuses(held, installation):
            return NO_PAGES
        bases = list(bases)
        later = {day for base in bases for day, logs in base.later.items() if logs}
        unviewed = set[str]()
        is_current = (held.generation, held.through.isoformat()) == (asked.generation, asked.through)
        held.touch(CLOSED, DAYS, *map(pages_of, held.listed | (later & held.days.keys())))
        if is_current and later <= held.days.keys():
            for base in bases:
                for day, logs in base.later.items():
                    for log_id, views in logs.items():
                        held.days[day].set_page(base.page, log_id, views)
                is_open = [held.days[day] for day in held.listed if day in held.days and day > held.through]
                if base.views or any(base.page in kept.pages for kept in is_open):
                    held.page_totals[base.page] = held.through, base.views
                else:
                    unviewed.add(base.page)
        reading = self._page_reading(held, [base.page for base in bases])
        return reading._replace(
            views=[0 if base.page in unviewed else views for base, views in zip(bases, reading.views, strict=True)]
        )

    def confirm_pages(self, installation: str, site: str, pages: Iterable[PageDay]) -> None:
        """`confirm_pages.lua`."""
        held = self._held(site)
        pages = [page for page in pages if page.changed]
        if not pages or self._refuses(held, installation):
            return
        held.touch(CLOSED, *(pages_of(page.day) for page in pages if page.day in held.days))
        for page in pages:
            dirty = held.days[page.day].pages_dirty if page.day in held.days else {}
            if dirty.get(page.page) == page.changed:
                del dirty[page.page]
            if page.day <= held.through:
                held.page_totals.pop(page.page, None)
                held.generation = str(self._now_us())

    def snapshot(self, installation: str, site: str, weeks: Sequence[date], *, all_days: bool) -> Snapshot | None:
        """`snapshot.lua`."""
        held = self._held(site)
        if self._refuses(held, installation):
            return None
        held.touch(DAYS, DIRTY, *map(visitors_of, held.listed))
        wanted = [
            day
            for day in held.listed
            if day in held.days and (all_days or day in held.dirty or held.days[day].pages_dirty)
        ]
        held.touch(*map(logs_of, wanted), *map(pages_of, wanted))
        held.listed &= held.days.keys()
        held.dirty = {day: changed for day, changed in held.dirty.items() if day in held.days}
        states = [
            DayState(
                day,
                len(held.days[day].visitors),
                packed(held.days[day].visitors),
                dict(held.days[day].logs),
                peak=held.day_peaks.get(day),
            )
            for day in wanted
        ]
        changes = {day: held.dirty[day] for day in wanted if day in held.dirty}
        salts = {week: held.salts[week][0] for week in weeks if week in held.salts}
        pages = [
            PageDay(day, page, dict(logs), held.days[day].pages_dirty.get(page, ""))
            for day in wanted
            for page, logs in held.days[day].pages.items()
            if all_days or page in held.days[day].pages_dirty
        ]
        unions = {week: len(held.weeks[week].visitors) for week in weeks if week in held.weeks}
        weeks_counted = {week: visitors for week, visitors in unions.items() if visitors}
        return Snapshot(states, changes, sorted(held.listed), salts, pages, weeks_counted)

    def merge(self, installation: str, site: str, days: Iterable[DayState]) -> bool:
        """`merge.lua`."""
        held = self._held(site)
        held.touch(READY)
        if not held.ready or held.ready != installation:
            return False
        days = list(days)
        held.touch(DAYS, DIRTY, *(part(state.day) for part in (visitors_of, logs_of) for state in days))
        self._merge(held, days)
        return True

    def open(
        self, installation: str, site: str, days: Iterable[DayState], closed: Closed, salts: Sequence[Salt] = ()
    ) -> bool:
        """`open.lua`."""
        held = self._held(site)
        held.touch(READY)
        if held.ready and held.ready != installation:
            return False
        days = list(days)
        held.touch(DAYS, DIRTY, CLOSED, *(part(state.day) for part in (visitors_of, logs_of) for state in days))
        self._offer(held, salts)
        self._merge(held, days)
        held.accept_closed(closed, int(self._clock() * 1e6))
        held.ready = installation
        return True

    def confirm(
        self, installation: str, site: str, changes: Mapping[date, str], closed: Closed, present: Mapping[date, int]
    ) -> None:
        """`confirm.lua`."""
        held = self._held(site)
        if self._refuses(held, installation):
            return
        held.touch(DIRTY, CLOSED, DAYS)
        for day, changed in changes.items():
            if held.dirty.get(day) == changed:
                del held.dirty[day]
        held.accept_closed(closed, int(self._clock() * 1e6))
        for day, week_ends_s in present.items():
            kept = held.days.get(day)
            if kept is None:
                held.listed.discard(day)
            elif day > held.through:
                kept.ends_s = ALWAYS
            elif day not in held.dirty and not kept.pages_dirty:
                held.day_peaks.pop(day, None)
                week = held.weeks.get(week_of(day))
                for key in (kept, week):
                    if key is not None and key.ends_s == ALWAYS:
                        key.ends_s = max(int(self._clock()) + TWO_DAYS_S, week_ends_s)

    def acked(self, site: str, logs: Sequence[tuple[date, str]]) -> list[int]:
        """How far each log is applied."""
        self._held(site).touch(*(logs_of(day) for day, _ in logs))
        days = self._held(site).days
        return [days[day].logs.get(log, (0, 0))[0] if day in days else 0 for day, log in logs]

    def share_salts(self, installation: str, site: str, offers: Sequence[Salt]) -> dict[date, bytes] | None:
        """`salts.lua`."""
        held = self._held(site)
        if self._refuses(held, installation):
            return None
        self._offer(held, offers)
        return {salt.week: held.salts[salt.week][0] for salt in offers}

    def damage(self, site: str, name: str, day: date = NO_DAY) -> None:
        """Another program writes over a key, or a bad byte makes it unreadable: what was in it is lost."""
        held = self._held(site)
        if name in ("visitors", "logs", "pages"):
            if day not in held.days:
                return
            if name == "visitors":
                held.days[day].visitors = set()
            elif name == "logs":
                held.days[day].logs = {}
            else:
                held.days[day].pages = {}
        elif name == "online":
            held.online = {}
        elif name == "ready":
            held.ready = ""
        elif name == "closed":
            held.closed, held.peak, held.day_peaks = None, None, {}
        elif name == "days":
            held.listed = set()
        else:
            held.dirty = {}
        held.damaged.add((name, day))

    def mend(self, installation: str, site: str, today: date) -> list[str]:
        """`mend.lua`."""
        held = self._held(site)
        if held.ready and held.ready != installation:
            return []
        damaged, held.damaged = held.damaged, set()
        if CLOSED in damaged:
            held.ready = ""
        for name, day in damaged:
            if name == "visitors":
                held.days.pop(day, None)
                held.listed.discard(day)
                held.dirty.pop(day, None)
                held.ready = ""
            elif name in ("logs", "pages") and ("visitors", day) not in damaged and day in held.days:
                if name == "pages":
                    held.days[day].logs, held.days[day].pages, held.days[day].pages_dirty = {}, {}, {}
                self._mark_dirty(held, day)
                held.ready = ""
        held.dirty = {day: changed for day, changed in held.dirty.items() if day in held.days}
        near = [day for day in held.days if abs(day - today) <= ORPHANS_WITHIN or day in held.dirty]
        held.listed |= set(near)
        if DIRTY in damaged:
            for day in near:
                self._mark_dirty(held, day)
        return [f"{name} {day}" for name, day in damaged]

    def _offer(self, held: SiteModel, salts: Sequence[Salt]) -> None:
        for salt in salts:
            held.salts.setdefault(salt.week, (salt.key, salt.ends_s))

    def _merge(self, held: SiteModel, days: Iterable[DayState]) -> None:
        held.page_totals, held.generation = {}, str(self._now_us())
        for state in days:
            held.listed.add(state.day)
            day = held.days.setdefault(state.day, DayModel())
            held.rebuild_week(week_of(state.day))
            ids = unpacked(state.sketch or b"")
            day.visitors |= ids
            held.weeks[week_of(state.day)].visitors |= ids
            day.ends_s = held.weeks[week_of(state.day)].ends_s = ALWAYS
            self._mark_dirty(held, state.day)
            for log_id, entry in state.logs.items():
                day.logs[log_id] = max(day.logs.get(log_id, (0, 0)), entry)

    def _held(self, site: str) -> SiteModel:
        held = self.sites.setdefault(site, SiteModel())
        held.expire(self._clock())
        return held

    @staticmethod
    def _refuses(held: SiteModel, installation: str) -> bool:
        held.touch(READY)
        return not held.ready or bool(installation and installation != held.ready)

    def _mark_dirty(self, held: SiteModel, day: date) -> None:
        held.dirty[day] = str(self._now_us())

    def _apply(self, held: SiteModel, day: DayModel, batch: Batch, window_s: int) -> None:
        week = week_of(batch.day)
        held.listed.add(batch.day)
        held.days[batch.day] = day
        self._mark_dirty(held, batch.day)
        held.rebuild_week(week)
        ids = unpacked(batch.visitor_ids)
        day.visitors |= ids
        held.weeks[week].visitors |= ids
        now_ms = int(self._clock() * 1000)
        seen_ms = min(batch.seen_ms, now_ms)
        if seen_ms > now_ms - window_s * 1000:
            for visitor in ids:
                held.online[visitor] = max(held.online.get(visitor, 0), seen_ms)
            for visitor in unpacked(batch.previous_week_ids):
                held.online.pop(visitor, None)
            held.online_ends_ms = now_ms + window_s * 1000
        held.online = {visitor: seen for visitor, seen in held.online.items() if seen <= now_ms + SEEN_AHEAD_MS}
        for page, views in unpacked_pages(batch.pages).items():
            day.set_page(page, batch.log_id, views, str(self._now_us()))
        day.ends_s = held.weeks[week].ends_s = ALWAYS
        day.logs[batch.log_id] = (batch.seq, batch.views)

    def _page_reading(self, held: SiteModel, pages: Sequence[str]) -> PageReading:
        through = held.through.isoformat() if held.closed else ""
        return PageReading(held.generation, "", through, [self._views_of(held, page) for page in pages])

    def _views_of(self, held: SiteModel, page: str) -> int | None:
        if page not in held.page_totals:
            return None
        through, views = held.page_totals[page]
        later = [held.days[day] for day in held.listed if day in held.days and day > through]
        return views + sum(sum(day.pages.get(page, {}).values()) for day in later)

    def _reading(self, held: SiteModel, period: Period, window_s: int, *, has_counted: bool) -> Reading:
        held.rebuild_week(period.week)
        now_ms = int(self._clock() * 1000)
        today = held.days.get(period.day) or DayModel()
        week = held.weeks.get(period.week) or WeekModel()
        closed = held.closed or Closed(0, date.min, 0, 0, 0, "")
        in_week = [kept for day, kept in held.days.items() if week_of(day) == period.week]
        still_open = [kept for day, kept in held.days.items() if day > closed.through]
        others = [
            (day, len(kept.visitors), kept.views)
            for day, kept in held.days.items()
            if day > closed.through and day != period.day
        ]
        last_week = WeekModel()
        if closed.through < period.week - DAY:
            held.rebuild_week(period.week - WEEK)
            last_week = held.weeks.get(period.week - WEEK) or last_week
        online = sum(now_ms - window_s * 1000 < seen_ms <= now_ms + SEEN_AHEAD_MS for seen_ms in held.online.values())
        if has_counted and held.raise_peak(period.day, online, now_ms) and period.day in held.days:
            self._mark_dirty(held, period.day)
        sums = closed.sums if closed.sums and closed.sums.through == closed.through else None
        return Reading(
            day_of=period.day,
            week_of=period.week,
            online=online,
            today_visitors=len(today.visitors),
            today_views=today.views,
            week_visitors=len(week.visitors),
            week_views=sum(day.views for day in in_week),
            total_visitors=closed.visitors + sum(len(day.visitors) for day in still_open),
            total_views=closed.views + sum(day.views for day in still_open),
            adjustments=closed.adjustments,
            revision=closed.revision,
            at_ms=now_ms,
            spans=spans_of(period.day, sums, others, len(last_week.visitors)) if sums else None,
            peak=held.peak if held.peak and held.peak.at_ms <= now_ms + SEEN_AHEAD_MS else None,
        )
