"""Redis without a server: what the scripts do, in plain Python. `durable_models.py` has Postgres and the spool.

A sketch is modelled as the set of its ids, so unions are exact and nothing is estimated; as bytes it is the sorted
ids one after the other. A `Program` that is older knows no sets of ids beside the sketches. `test_models.py` checks
each model against the real thing with the same random calls.
"""

import copy
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from footfall.errors import StoreDamaged, StoreUnavailable
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
from footfall.model.snapshot import Snapshot, Turn
from footfall.model.sums import spans_of
from footfall.stores.redis_store import EXACT_UP_TO, ORPHANS_WITHIN, Recorded

Logs = dict[str, tuple[int, int]]
Pages = dict[str, dict[str, int]]
ID_BYTES = 16
VIEW_BYTES, VIEWS_MS = 8, 120_000
TWO_DAYS_S = 2 * 86400
NINE_DAYS_S = 9 * 86400
READ_AHEAD_US = 60_000_000
SEEN_AHEAD_MS = 1000
ALWAYS = float("inf")
NO_DAY = date.min
NO_PEAK = Peak(0, 0)
DAY_FLOOR, WEEK_FLOOR, SUM = "d", "e", "f"
MARK = "0"
"""In front of the moment of a change: by a program that keeps the sums."""
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


def ids_of(day: date) -> tuple[str, date]:
    """The set of a day's ids, as a key that may be damaged."""
    return "ids", day


def packed(ids: Iterable[bytes]) -> bytes:
    """The sketch of some ids, as bytes."""
    return b"".join(sorted(ids))


def unpacked(ids: bytes, size: int = ID_BYTES) -> set[bytes]:
    """The ids that are packed one after the other."""
    return {ids[at : at + size] for at in range(0, len(ids), size)}


@dataclass
class DayModel:
    """A day's sketch, logs and pages; its keys expire together."""

    visitors: set[bytes] = field(default_factory=set)
    logs: Logs = field(default_factory=dict)
    pages: Pages = field(default_factory=dict)
    pages_dirty: dict[str, str] = field(default_factory=dict)
    marks: set[str] = field(default_factory=set)
    """Logs whose visitors are in the sets too."""
    ends_s: float = ALWAYS

    @property
    def in_sets(self) -> bool:
        """Whether those of all its logs are; the mark of the sum says it, where there is one."""
        said = self.logs.keys() & {SUM} or self.logs.keys()
        return said <= self.marks and not self.lacks_logs

    @property
    def lacks_logs(self) -> bool:
        """Whether its visitors were counted by logs that are lost."""
        return bool(self.visitors) and not self.logs

    def written(self, log_id: str, entry: tuple[int, int], *, marked: bool) -> Logs:
        """What one command writes: a log's entry and the sum. An entry without the mark stays so."""
        views_before = self.logs.get(log_id, (0, 0))[1]
        for name in (log_id, SUM):
            if marked and (name not in self.logs or name in self.marks):
                self.marks.add(name)
            else:
                marked = False
                self.marks.discard(name)
        return {log_id: entry, SUM: (self.logs.get(SUM, (0, 0))[0] - views_before + entry[1], 0)}

    def write_as_before(self, log_id: str, entry: tuple[int, int]) -> None:
        """As a program does that knows neither marks nor sums."""
        self.marks.discard(log_id)
        self.logs[log_id] = entry

    def recount(self) -> bool:
        """Make the sum of the logs; tell whether that changes anything."""
        entries = self.logs.keys() - {SUM}
        counted = (self.views, 0), entries <= self.marks
        if not entries or counted == (self.logs.get(SUM), SUM in self.marks):
            return False
        self.logs[SUM] = counted[0]
        self.marks = self.marks - {SUM} | ({SUM} if counted[1] else set())
        return True

    @property
    def views(self) -> int:
        """The sum over its logs."""
        return sum(views for _, views in self.logs.values())

    @property
    def summed(self) -> int:
        """The sum that is kept of them."""
        return self.logs.get(SUM, (0, 0))[0]

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
class SetModel:
    """The set of a day's or a week's ids; where it is empty there is none."""

    ids: set[bytes] = field(default_factory=set)
    ends_s: float = ALWAYS


def visitors_in(ids: SetModel, sketch: set[bytes], floor: int, *, in_sets: bool) -> tuple[int, bool]:
    """The number, and whether it is exact."""
    if ids.ids and in_sets:
        return len(ids.ids), True
    estimate = max(len(sketch), floor, len(ids.ids))
    return estimate, estimate == 0


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
    day_ids: defaultdict[date, SetModel] = field(default_factory=lambda: defaultdict(SetModel))
    week_ids: defaultdict[date, SetModel] = field(default_factory=lambda: defaultdict(SetModel))
    dirty: dict[date, str] = field(default_factory=dict)
    closed: Closed | None = None
    summed_at: int | None = None
    """Of the closed days, the reading that a program has taken over that keeps the sums; a field of `closed`."""
    writes_left: float = ALWAYS
    """After so many writes a script fails."""
    salts: dict[date, tuple[bytes, float]] = field(default_factory=dict)
    page_totals: dict[str, tuple[date, int]] = field(default_factory=dict)
    """What Postgres has of a page, and through which day."""
    corrected: str = ""
    generation: str = ""
    peak: Peak | None = None
    """The highest `online`; it and those of the days are fields of `closed`."""
    day_peaks: dict[date, Peak] = field(default_factory=dict)
    looked: tuple[Any, ...] = ()
    """The worker that looked last, and when (us); it and the next one are fields of `closed` too."""
    looked_at_all: tuple[Any, ...] = ()
    """The worker that had a look at all days committed, between which servers, and when (us)."""
    view_ids: defaultdict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """Of views, by the number of their two minutes."""
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
        for sets in (self.day_ids, self.week_ids):
            for day in [day for day, kept in sets.items() if kept.ends_s <= now_s]:
                del sets[day]
                self.damaged.discard(ids_of(day))
        self.days = {day: kept for day, kept in self.days.items() if kept.ends_s > now_s}
        self.weeks = {week: kept for week, kept in self.weeks.items() if kept.ends_s > now_s}
        self.salts = {week: kept for week, kept in self.salts.items() if kept[1] > now_s}
        if self.online_ends_ms <= now_s * 1000:
            self.online = {}

    def counted_views(self, view_ids: set[bytes], now_ms: int) -> set[bytes]:
        """Those whose views were counted in the last minutes."""
        number = now_ms // VIEWS_MS
        return view_ids & (self.view_ids[number] | self.view_ids[number - 1])

    def rebuild_week(self, week: date, *, older: bool = False) -> None:
        """Make a week's sketch from its days where it is missing, and its set."""
        listed = [day for day in self.listed if week_of(day) == week]
        if week in self.weeks:
            return
        held = [day for day in listed if day in self.days]
        if not older:
            is_whole = all(self.day_ids[day].ids or not self.days[day].visitors for day in held)
            self.week_ids[week] = SetModel(set().union(*(self.day_ids[day].ids for day in listed if is_whole)))
        if listed:
            self.weeks[week] = WeekModel(set().union(*(self.days[day].visitors for day in held)))

    def visitors_of(self, day: date) -> tuple[int, bool]:
        """A day's number, and whether it is exact."""
        kept = self.days.get(day) or DayModel()
        floor = kept.logs.get(DAY_FLOOR, (0, 0))[0]
        return visitors_in(self.day_ids[day], kept.visitors, floor, in_sets=kept.in_sets)

    def visitors_of_week(self, week: date) -> tuple[int, bool]:
        """A week's number, and whether it is exact."""
        days = [kept for day, kept in self.days.items() if day in self.listed and week_of(day) == week]
        floor = max((kept.logs.get(WEEK_FLOOR, (0, 0))[0] for kept in days), default=0)
        in_sets = all(kept.in_sets for kept in days)
        return visitors_in(self.week_ids[week], (self.weeks.get(week) or WeekModel()).visitors, floor, in_sets=in_sets)

    def forget_sets(self) -> None:
        """As an older version has everything."""
        self.day_ids.clear()
        self.week_ids.clear()
        self.summed_at = None
        for kept in self.days.values():
            kept.marks = set()
            kept.logs.pop(SUM, None)
        if self.closed:
            self.closed = replace(self.closed, exact=False)

    def forget_lost_sets(self, weeks: Iterable[date], now_s: float) -> None:
        """Drop the sets of lost days, and of weeks that have lost all their days: these end after nine days."""
        for week in weeks:
            days = [week + number * DAY for number in range(7)]
            for day in [day for day in days if day not in self.days]:
                self.day_ids.pop(day, None)
                self.damaged.discard(ids_of(day))
            if not self.days.keys() & set(days):
                self.week_ids.pop(week, None)
                if week in self.weeks and self.weeks[week].ends_s == ALWAYS:
                    self.weeks[week].ends_s = int(now_s) + NINE_DAYS_S

    def drop_sets(self, day: date) -> None:
        """Without a floor: the logs may be lost."""
        self.day_ids.pop(day, None)
        self.week_ids.pop(week_of(day), None)

    @property
    def has_unknown_sums(self) -> bool:
        """Whether a program that keeps none has taken over the closed days, or nothing says which program did."""
        return self.closed is None or self.closed.read_at_us != self.summed_at

    def is_summed(self, day: date) -> bool:
        """Whether nothing says that a program has changed a day that keeps no sums."""
        return not self.has_unknown_sums and DIRTY not in self.damaged and self.dirty.get(day, MARK).startswith(MARK)

    def accept_closed(self, closed: Closed, now_us: int, *, older: bool) -> None:
        """Take over a later reading, unless a day that it closes has changes that Postgres has not."""
        known, soon_us = self.closed, now_us + READ_AHEAD_US
        if known:
            gives_way = known.read_at_us > soon_us and closed.read_at_us <= soon_us
            if closed.read_at_us <= known.read_at_us and not gives_way:
                return
            may_reopen = closed.today != date.max and (gives_way or known.through >= closed.today)
            if closed.through < known.through and not may_reopen:
                return
        if known and any(known.through < day <= closed.through for day in self.dirty):
            return
        self.closed = replace(closed, exact=closed.exact and not older)
        self.summed_at = self.summed_at if older else closed.read_at_us
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


@dataclass(frozen=True)
class Program:
    """What a worker runs: a version that knows the sets of ids or an older one, and the site's setting."""

    older: bool = False
    exact_up_to: int = EXACT_UP_TO


class RedisModel:
    """One Redis: the same methods as RedisStore, each one script call. `now_us` never tells a moment twice."""

    def __init__(self, clock: Clock, now_us: Callable[[], int], program: Program | None = None) -> None:
        self._clock = clock
        self._now_us = now_us
        program = program or Program()
        self._older, self._exact_up_to = program.older, program.exact_up_to
        self.sites: dict[str, SiteModel] = {}
        self.identity = secrets.token_hex(8)
        """Another one in each copy, and once it was emptied."""

    def empty(self) -> None:
        """Lose everything."""
        self.sites.clear()
        self.identity = secrets.token_hex(8)

    def called_by(self, program: Program) -> "RedisModel":
        """The same Redis, as the scripts of a program treat it."""
        model = RedisModel(self._clock, self._now_us, program)
        model.sites, model.identity = self.sites, self.identity
        return model

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
        if not self._older:
            held.touch(*map(ids_of, counted))
        self._check_sums(held)
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
            elif seen := self._counted_views(held, batch):
                return Recorded(Answer.SEEN, seen_ids=b"".join(sorted(seen)))
            else:
                self._apply(held, day, batch, window_s)
                applied = batch.seq
        pages = self._page_reading(held, names_in(batch.pages)) if batch and batch.pages else NO_PAGES
        has_counted = batch is not None and answer is Answer.OK
        reading = self._reading(held, period, window_s, has_counted=has_counted)
        return Recorded(answer, applied, reading, pages=pages)

    def check_sets_are_small(self, site: str, day: date, most: int) -> None:
        """After a batch of that day: memory has a bound, and a list of visitors ends where their number is large."""
        held, week = self.sites[site], week_of(day)
        assert len(held.day_ids[day].ids) <= most, f"{day} keeps ids beyond its limit"
        assert len(held.week_ids[week].ids) <= 2 * most, f"the week of {week} keeps ids beyond its limit"

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

    def forget_pages(self, installation: str, site: str) -> None:
        """`forget_pages.lua`."""
        held = self._held(site)
        if not self._refuses(held, installation):
            held.corrected = held.generation = str(self._now_us())
            held.page_totals = {}

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

    def snapshot(
        self, installation: str, site: str, weeks: Sequence[date], *, all_days: bool, turn: Turn | None = None
    ) -> Snapshot | None:
        """`snapshot.lua`."""
        held = self._held(site)
        if self._refuses(held, installation):
            return None
        moment_us = int(self._clock() * 1e6)
        if not self._older:
            held.touch(CLOSED)
            if turn and self._is_recent(held.looked, turn.worker, turn.recent_s):
                return Snapshot([], {}, [], {}, is_recent=True)
            if turn and held.looked_at_all[1:2] == (turn.servers,):
                all_days = all_days and not self._is_recent(held.looked_at_all, turn.worker, turn.all_recent_s)
        snapshot = self._look(held, weeks, all_days=all_days)
        if self._older:
            return snapshot
        if turn and (snapshot.days or all_days):
            held.looked = turn.worker, moment_us
        closed = (held.closed.through.isoformat(), held.closed.revision) if held.closed else ("", "")
        return replace(snapshot, moment_us=moment_us, all_days=all_days, closed=closed)

    def _is_recent(self, looked: tuple[Any, ...], worker: str, within_s: float) -> bool:
        """Whether another worker has looked within this time, by the clock of now."""
        if not looked or looked[0] == worker:
            return False
        age_us = int(self._clock() * 1e6) - int(looked[-1])
        return 0 <= age_us < int(within_s * 1e6)

    def _look(self, held: SiteModel, weeks: Sequence[date], *, all_days: bool) -> Snapshot:
        held.touch(DAYS, DIRTY, *map(visitors_of, held.listed))
        self._check_sums(held)
        wanted = [
            day
            for day in held.listed
            if day in held.days and (all_days or day in held.dirty or held.days[day].pages_dirty)
        ]
        held.touch(*map(logs_of, wanted), *map(pages_of, wanted))
        if not self._older:
            held.touch(*map(ids_of, wanted))
        held.listed &= held.days.keys()
        held.dirty = {day: changed for day, changed in held.dirty.items() if day in held.days}
        if all_days and not self._older:
            held.forget_lost_sets(weeks, self._clock())
        states = []
        for day in wanted:
            self._recount(held, day)
            kept, (visitors, exact) = held.days[day], held.visitors_of(day)
            peak = held.day_peaks.get(day)
            state = DayState(day, len(kept.visitors), packed(kept.visitors), dict(kept.logs), peak=peak)
            if not self._older:
                ids = packed(held.day_ids[day].ids) if exact else None
                state = replace(state, visitors=visitors, ids=ids, exact=exact)
            states.append(state)
        changes = {day: held.dirty[day] for day in wanted if day in held.dirty}
        salts = {week: held.salts[week][0] for week in weeks if week in held.salts}
        pages = [
            PageDay(day, page, dict(logs), held.days[day].pages_dirty.get(page, ""))
            for day in wanted
            for page, logs in held.days[day].pages.items()
            if all_days or page in held.days[day].pages_dirty
        ]
        unions = {week: held.visitors_of_week(week) for week in weeks if week in held.weeks or not self._older}
        if self._older:
            unions = {week: (len(held.weeks[week].visitors), False) for week in unions}
        counted = {week: visitors for week, (visitors, _) in unions.items() if visitors}
        exact_weeks = {week for week, (_, exact) in unions.items() if exact}
        return Snapshot(states, changes, sorted(held.listed), salts, pages, counted, exact_weeks)

    def merge(self, installation: str, site: str, days: Iterable[DayState]) -> bool:
        """`merge.lua`."""
        held = self._held(site)
        held.touch(READY)
        if not held.ready or held.ready != installation:
            return False
        days = list(days)
        held.touch(DAYS, DIRTY, *self._parts(days))
        self._check_sums(held)
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
        held.touch(DAYS, DIRTY, CLOSED, *self._parts(days))
        self._offer(held, salts)
        self._check_sums(held)
        self._merge(held, days)
        self._may_stop(held)
        held.accept_closed(closed, int(self._clock() * 1e6), older=self._older)
        self._may_stop(held)
        held.ready = installation
        return True

    def confirm(
        self,
        installation: str,
        site: str,
        changes: Mapping[date, str],
        closed: Closed,
        present: Mapping[date, int],
        looked_at_all: str = "",
    ) -> None:
        """`confirm.lua`."""
        held = self._held(site)
        if self._refuses(held, installation):
            return
        held.touch(DIRTY, CLOSED, DAYS)
        self._check_sums(held)
        for day, changed in changes.items():
            self._may_stop(held)
            if held.dirty.get(day) == changed:
                del held.dirty[day]
        self._may_stop(held)
        held.accept_closed(closed, int(self._clock() * 1e6), older=self._older)
        self._may_stop(held)
        if looked_at_all and not self._older:
            held.looked_at_all = tuple(looked_at_all.split(":"))
        needed = set[date]() if self._older else self._keep_weeks(held, present)
        for day, week_ends_s in present.items():
            if day not in held.days:
                held.listed.discard(day)
            elif day > held.through:
                held.days[day].ends_s = ALWAYS
                if not self._older:
                    held.day_ids[day].ends_s = ALWAYS
            elif self._may_end(held, day):
                held.day_peaks.pop(day, None)
                self._end(held, day, week_ends_s, with_week=week_of(day) not in needed)

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
        if name == "ids" and not held.day_ids[day].ids:
            return
        if name in ("visitors", "logs", "pages"):
            if day not in held.days:
                return
            nothing: Any = set() if name == "visitors" else {}
            setattr(held.days[day], name, nothing)
        elif name == "ids":
            held.day_ids.pop(day)
        elif name == "online":
            held.online = {}
        elif name == "ready":
            held.ready = ""
        elif name == "closed":
            held.closed, held.summed_at, held.peak, held.day_peaks = None, None, None, {}
            held.looked = held.looked_at_all = ()
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
        unknown = {part for part in held.damaged if self._older and part[0] == "ids"}
        damaged, held.damaged = held.damaged - unknown, unknown
        if CLOSED in damaged:
            held.ready = ""
        for name, day in damaged:
            if name in ("visitors", "logs", "pages") and not self._older:
                held.drop_sets(day)
            if name == "visitors":
                held.days.pop(day, None)
                held.listed.discard(day)
                held.dirty.pop(day, None)
                held.ready = ""
            elif name in ("logs", "pages") and ("visitors", day) not in damaged and day in held.days:
                if name == "pages":
                    held.days[day].logs, held.days[day].pages, held.days[day].pages_dirty = {}, {}, {}
                self._mark_changed(held, day)
                held.ready = ""
        held.dirty = {day: changed for day, changed in held.dirty.items() if day in held.days}
        near = [day for day in held.days if abs(day - today) <= ORPHANS_WITHIN or day in held.dirty]
        held.listed |= set(near)
        if DIRTY in damaged:
            for day in near:
                self._mark_changed(held, day)
        return [f"{name} {day}" for name, day in damaged]

    def _keep_weeks(self, held: SiteModel, present: Iterable[date]) -> set[date]:
        """The weeks of the days that may not end yet, which have no end either."""
        needed = {week_of(day) for day in present if day in held.days and not self._may_end(held, day)}
        for week in needed & held.weeks.keys():
            held.weeks[week].ends_s = ALWAYS
        return needed

    @staticmethod
    def _may_end(held: SiteModel, day: date) -> bool:
        return day <= held.through and day not in held.dirty and not held.days[day].pages_dirty

    def _end(self, held: SiteModel, day: date, week_ends_s: int, *, with_week: bool) -> None:
        for key in (held.days[day], held.weeks.get(week_of(day)) if with_week else None):
            if key is not None and key.ends_s == ALWAYS:
                key.ends_s = max(int(self._clock()) + TWO_DAYS_S, week_ends_s)
        if not self._older:
            held.day_ids[day].ends_s = held.week_ids[week_of(day)].ends_s = week_ends_s

    def _parts(self, days: Iterable[DayState]) -> list[tuple[str, date]]:
        parts = (visitors_of, logs_of) if self._older else (visitors_of, logs_of, ids_of)
        return [part(state.day) for part in parts for state in days]

    def _offer(self, held: SiteModel, salts: Sequence[Salt]) -> None:
        for salt in salts:
            held.salts.setdefault(salt.week, (salt.key, salt.ends_s))

    def _merge(self, held: SiteModel, days: Iterable[DayState]) -> None:
        held.page_totals, held.generation = {}, str(self._now_us())
        for state in days:
            week = week_of(state.day)
            held.listed.add(state.day)
            day = held.days.setdefault(state.day, DayModel())
            marked = not self._older and state.ids is not None and not day.lacks_logs
            held.rebuild_week(week, older=self._older)
            if not self._older:
                self._merge_sets(held, day, state)
            day.visitors |= unpacked(state.sketch or b"")
            held.weeks[week].visitors |= unpacked(state.sketch or b"")
            day.ends_s = held.weeks[week].ends_s = ALWAYS
            self._may_stop(held)
            self._mark_dirty(held, state.day)
            for log_id, entry in state.logs.items():
                if day.logs.get(log_id, (-1, 0))[0] >= entry[0]:
                    continue
                if self._older:
                    day.write_as_before(log_id, entry)
                elif log_id != SUM:
                    self._write(held, day, log_id, entry, marked=marked)

    def _merge_sets(self, held: SiteModel, day: DayModel, state: DayState) -> None:
        week = week_of(state.day)
        sets = held.day_ids[state.day], held.week_ids[week]
        sets[0].ends_s = sets[1].ends_s = ALWAYS
        if state.ids is not None:
            self._feed((day.visitors, held.weeks[week].visitors), sets, unpacked(state.ids))
            return
        for kept, floor in zip(sets, (DAY_FLOOR, WEEK_FLOOR), strict=True):
            self._drop(held, day, kept, floor if held.ready else "")
        if state.visitors and not state.sketch:
            self._raise_floor(held, day, DAY_FLOOR, state.visitors, marked=False)

    @staticmethod
    def _feed(sketches: Iterable[set[bytes]], sets: Iterable[SetModel], ids: set[bytes]) -> None:
        """Into the sketches, and into the sets that there are, or that begin beside an empty sketch."""
        for sketch, kept in zip(sketches, sets, strict=True):
            if kept.ids or not sketch:
                kept.ids |= ids
            sketch.update(ids)

    def _drop(self, held: SiteModel, day: DayModel, kept: SetModel, floor: str) -> None:
        if kept.ids and floor:
            self._raise_floor(held, day, floor, len(kept.ids), marked=True)
        self._may_stop(held)
        kept.ids = set()

    def _write(self, held: SiteModel, day: DayModel, log_id: str, entry: tuple[int, int], *, marked: bool) -> None:
        """Write a log's entry and the sum at once."""
        if SUM not in day.logs:
            day.recount()
        self._may_stop(held)
        written = day.written(log_id, entry, marked=marked)
        day.logs |= written

    def _raise_floor(self, held: SiteModel, day: DayModel, floor: str, visitors: int, *, marked: bool) -> None:
        """Keep what a number is never shown below."""
        self._write(held, day, floor, (max(visitors, day.logs.get(floor, (0, 0))[0]), 0), marked=marked)

    def _check_sums(self, held: SiteModel) -> None:
        """Count again what an older program has left without its sum."""
        if self._older:
            return
        held.touch(DIRTY)
        if held.has_unknown_sums:
            held.touch(*map(logs_of, held.listed))
            for day in held.listed & held.days.keys():
                self._recount(held, day)
            held.summed_at = held.closed.read_at_us if held.closed else None
        for day in [day for day in held.dirty if not held.is_summed(day)]:
            held.touch(logs_of(day))
            self._recount(held, day)
            self._mark_dirty(held, day)

    def _recount(self, held: SiteModel, day: date) -> None:
        if not self._older and day in held.days and held.days[day].recount():
            self._mark_dirty(held, day)

    @staticmethod
    def _may_stop(held: SiteModel) -> None:
        """Redis takes back nothing of a script that fails."""
        held.writes_left -= 1
        if held.writes_left < 0:
            raise StoreUnavailable("redis", "an error within a script")

    def _held(self, site: str) -> SiteModel:
        held = self.sites.setdefault(site, SiteModel())
        held.expire(self._clock())
        return held

    @staticmethod
    def _refuses(held: SiteModel, installation: str) -> bool:
        held.touch(READY)
        return not held.ready or bool(installation and installation != held.ready)

    def _mark_dirty(self, held: SiteModel, day: date) -> None:
        held.dirty[day] = f"{'' if self._older else MARK}{self._now_us()}"

    def _mark_changed(self, held: SiteModel, day: date) -> None:
        if not self._older:
            held.days[day].logs.pop(SUM, None)
        self._mark_dirty(held, day)

    def _counted_views(self, held: SiteModel, batch: Batch) -> set[bytes]:
        if self._older or batch.may_be_applied:
            return set()
        return held.counted_views(unpacked(batch.view_ids, VIEW_BYTES), int(self._clock() * 1000))

    def _apply(self, held: SiteModel, day: DayModel, batch: Batch, window_s: int) -> None:
        week = week_of(batch.day)
        held.listed.add(batch.day)
        self._may_stop(held)
        held.days[batch.day] = day
        self._mark_dirty(held, batch.day)
        self._may_stop(held)
        for page, views in unpacked_pages(batch.pages).items():
            day.set_page(page, batch.log_id, views, str(self._now_us()))
        self._may_stop(held)
        held.rebuild_week(week, older=self._older)
        ids = unpacked(batch.visitor_ids)
        sets = held.day_ids[batch.day], held.week_ids[week]
        marked = not self._older and not day.lacks_logs
        if not self._older:
            self._feed((day.visitors, held.weeks[week].visitors), sets, ids)
            if len(sets[0].ids) > self._exact_up_to:
                self._drop(held, day, sets[0], DAY_FLOOR)
            if len(sets[1].ids) > 2 * self._exact_up_to:
                self._drop(held, day, sets[1], WEEK_FLOOR)
            for kept, sketch_ends_s in zip(sets, (day.ends_s, held.weeks[week].ends_s), strict=True):
                kept.ends_s = kept.ends_s if sketch_ends_s == ALWAYS else ALWAYS
        day.visitors |= ids
        self._may_stop(held)
        held.weeks[week].visitors |= ids
        self._may_stop(held)
        now_ms = int(self._clock() * 1000)
        seen_ms = min(batch.seen_ms, now_ms)
        if seen_ms > now_ms - window_s * 1000:
            for visitor in ids:
                held.online[visitor] = max(held.online.get(visitor, 0), seen_ms)
            for visitor in unpacked(batch.previous_week_ids):
                held.online.pop(visitor, None)
            held.online_ends_ms = now_ms + window_s * 1000
        held.online = {visitor: seen for visitor, seen in held.online.items() if seen <= now_ms + SEEN_AHEAD_MS}
        day.ends_s = held.weeks[week].ends_s = ALWAYS
        if self._older:
            day.write_as_before(batch.log_id, (batch.seq, batch.views))
        else:
            held.view_ids[now_ms // VIEWS_MS] |= unpacked(batch.view_ids, VIEW_BYTES)
            self._write(held, day, batch.log_id, (batch.seq, batch.views), marked=marked)

    def _views(self, day: DayModel) -> int:
        return day.views if self._older else day.summed

    def _page_reading(self, held: SiteModel, pages: Sequence[str]) -> PageReading:
        through = held.through.isoformat() if held.closed else ""
        return PageReading(held.generation, held.corrected, through, [self._views_of(held, page) for page in pages])

    def _views_of(self, held: SiteModel, page: str) -> int | None:
        if page not in held.page_totals:
            return None
        through, views = held.page_totals[page]
        later = [held.days[day] for day in held.listed if day in held.days and day > through]
        return views + sum(sum(day.pages.get(page, {}).values()) for day in later)

    def _reading(self, held: SiteModel, period: Period, window_s: int, *, has_counted: bool) -> Reading:
        held.rebuild_week(period.week, older=self._older)
        for day in held.days:
            if SUM not in held.days[day].logs:
                self._recount(held, day)
        now_ms = int(self._clock() * 1000)
        today = held.days.get(period.day) or DayModel()
        week = held.weeks.get(period.week) or WeekModel()
        numbers = {
            "today": (len(today.visitors), False) if self._older else held.visitors_of(period.day),
            "week": (len(week.visitors), False) if self._older else held.visitors_of_week(period.week),
        }
        closed = held.closed or Closed(0, date.min, 0, 0, 0, "")
        in_week = [kept for day, kept in held.days.items() if week_of(day) == period.week]
        still_open = [kept for day, kept in held.days.items() if day > closed.through]
        opens = [
            (len(kept.visitors), False) if self._older else held.visitors_of(day)
            for day, kept in held.days.items()
            if day > closed.through
        ]
        numbers["total"] = (
            closed.visitors + sum(visitors for visitors, _ in opens),
            closed.exact and all(exact for _, exact in opens),
        )
        others = [
            (day, len(kept.visitors) if self._older else held.visitors_of(day)[0], self._views(kept))
            for day, kept in held.days.items()
            if day > closed.through and day != period.day
        ]
        last_week = 0
        if closed.through < period.week - DAY:
            held.rebuild_week(period.week - WEEK, older=self._older)
            last_week, _ = held.visitors_of_week(period.week - WEEK)
        online = sum(now_ms - window_s * 1000 < seen_ms <= now_ms + SEEN_AHEAD_MS for seen_ms in held.online.values())
        if has_counted and held.raise_peak(period.day, online, now_ms) and period.day in held.days:
            self._mark_dirty(held, period.day)
        sums = closed.sums if closed.sums and closed.sums.through == closed.through else None
        return Reading(
            day_of=period.day,
            week_of=period.week,
            online=online,
            today_visitors=numbers["today"][0],
            today_views=self._views(today),
            week_visitors=max(numbers["week"][0], numbers["today"][0]),
            week_views=sum(map(self._views, in_week)),
            total_visitors=numbers["total"][0],
            total_views=closed.views + sum(map(self._views, still_open)),
            adjustments=closed.adjustments,
            revision=closed.revision,
            at_ms=now_ms,
            spans=spans_of(period.day, sums, others, last_week) if sums else None,
            peak=held.peak if held.peak and held.peak.at_ms <= now_ms + SEEN_AHEAD_MS else None,
            exact=tuple(name for name, (_, is_exact) in numbers.items() if is_exact and not self._older),
        )
