"""Postgres and the spool without servers and files: what the SQL and the SQLite files do, in plain Python."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from footfall.errors import Stop, StoreBusy, StoreRefused, StoreUnavailable
from footfall.model.batch import Batch
from footfall.model.day_state import Closed, DayState
from footfall.model.imported import IMPORT_LOG, ImportedDay
from footfall.model.pages import PageDay, packed
from footfall.model.pages import unpacked as unpacked_pages
from footfall.model.peak import Peak, higher
from footfall.model.periods import week_of
from footfall.model.retention import DAY, WEEK, Retention
from footfall.model.salt import Salt
from footfall.model.site_id import SiteId
from footfall.model.sketch import covers as sketch_covers
from footfall.model.snapshot import SiteCopy, Snapshot
from footfall.model.sums import Sums, Tally
from footfall.stores.spool_orphans import SpooledLog
from tests.simulation.models import READ_AHEAD_US, unpacked
from tests.simulation.page_models import PagesModel


def covers(some: Mapping[str, tuple[int, int]], other: Mapping[str, tuple[int, int]]) -> bool:
    """Whether `some` has at least the number of every log in `other`."""
    return all(some.get(log, (0, 0))[0] >= number for log, (number, _) in other.items())


def is_imported(row: DayState) -> bool:
    """Whether a day was imported, and not counted live."""
    return set(row.logs) == {IMPORT_LOG}


def _lacks_visitors(copy: DayState, row: DayState) -> bool:
    """Whether the row's sketch has visitors that the copy's lacks, and counts more."""
    if row.visitors <= copy.visitors or not row.sketch or copy.sketch is None:
        return False
    if row.sketch.startswith(b"HYLL"):
        return not sketch_covers(copy.sketch, row.sketch)
    return not unpacked(row.sketch) <= unpacked(copy.sketch)


class PostgresModel:
    """One Postgres: the same methods as PostgresStore, each one transaction."""

    def __init__(self, now_us: Callable[[], int], installation: str) -> None:
        self._now_us = now_us
        self._installation = installation
        self.rows: dict[tuple[str, date], DayState] = {}
        self.pages = PagesModel(now_us)
        self.weeks: dict[tuple[str, date], int] = {}
        self.week_views: dict[tuple[str, date], int] = {}
        self.exact_weeks: set[tuple[str, date]] = set()
        self.week_of_days: dict[tuple[str, date], int] = {}
        """The visitors of each week."""
        self.kept_salts: dict[tuple[str, date], bytes] = {}
        self.journal: dict[tuple[SiteId, str], int] = {}
        self.day_journal: list[tuple[SiteId, date]] = []
        """The imports of days; the place in it, from 1, is the entry."""
        self.events: set[tuple[str, str, str]] = set()
        self.restarts = 0
        self.held: set[str] = set()
        """Sites whose rows a session holds that stands still: no other session gets a turn to write them."""
        self.refused: set[str] = set()
        """Sites of which a guard refuses every row."""

    def installation(self) -> str:
        """The id made by `migrate`."""
        return self._installation

    def incarnation(self) -> str:
        """Another one after each restart and restore."""
        return str(self.restarts)

    def adjust(self, site: SiteId, adjustment_id: str, amount: int) -> bool:
        """A correction; the same id counts once."""
        is_new = (site, adjustment_id) not in self.journal
        self.journal.setdefault((site, adjustment_id), amount)
        return is_new

    def record_event(self, site: str, kind: str, detail: str) -> None:
        """An event; the same one again changes nothing."""
        self.events.add((site, kind, detail))

    def adjustment_counts(self) -> dict[SiteId, int]:
        """How many corrections and imported days each site has."""
        return dict(Counter(site for site, _ in [*self.journal, *self.day_journal]))

    def first_counted_day(self, site: str) -> date | None:
        """The first day that is not imported."""
        days = (day for (of, day), row in self.rows.items() if of == site and not is_imported(row))
        return min(days, default=None)

    def imported(self, site: str, day: date) -> ImportedDay | None:
        """What it has of an imported day."""
        row = self.rows.get((site, day))
        if row is None or not is_imported(row):
            return None
        return ImportedDay(day, row.visitors, row.views, row.exact, self.pages.of_log(site, day, IMPORT_LOG))

    def import_days(self, site: SiteId, days: Sequence[ImportedDay]) -> None:
        """The transaction of an import: all of these days, or none."""
        for day in days:
            row = self.rows.get((site, day.day))
            if row is not None and not is_imported(row):
                raise Stop(f"{day.day} is a day that Footfall has counted meanwhile", 1)
        for day in sorted(days, key=lambda day: day.day):
            self.day_journal.append((site, day.day))
            logs = {IMPORT_LOG: (len(self.day_journal), day.views)}
            row = self.rows.get((site, day.day), DayState(day.day, 0, None, {}))
            self.rows[site, day.day] = replace(row, visitors=day.visitors, logs=logs, exact=day.exact)
            self.pages.forget_log(site, day.day, IMPORT_LOG)
            self.pages.save(site, [PageDay(day.day, page, {IMPORT_LOG: views}) for page, views in day.pages.items()])

    def save_all(self, copies: Sequence[SiteCopy], *, older: bool = False) -> dict[SiteId, list[DayState]]:
        """The transaction of a group: of several sites those are left out whose rows are held; a refusal stops all."""
        free = [copy for copy in copies if copy.site_id not in self.held]
        if len(copies) == 1 and not free:
            raise StoreBusy("postgres", "another session holds rows that this one needs")
        if any(copy.site_id in self.refused for copy in free):
            raise StoreRefused("postgres", "refuses a value")
        return {
            copy.site_id: self.save(copy.site_id, copy.snapshot, copy.retention, older=older, is_due=copy.is_due)
            for copy in free
        }

    def save(
        self, site: str, snapshot: Snapshot, retention: Retention, *, older: bool = False, is_due: bool = True
    ) -> list[DayState]:
        """One site's part of it; returns the rows that know more."""
        self.pages.save(site, snapshot.pages)
        given = {state.day for state in snapshot.days}
        for key, row in self.rows.items():
            if key[0] == site and row.day < retention.sketches_from and row.day not in given and is_due:
                self.rows[key] = replace(row, sketch=None)
        for key, row in self.rows.items():
            if key[0] == site and row.day < retention.salts_from and row.day not in given and is_due and not older:
                self.rows[key] = replace(row, ids=None)
        since = retention.needed_from
        late = {week_of(day) for day in snapshot.changes if day < since and not older}
        ahead = [
            row
            for (of, day), row in self.rows.items()
            if of == site and day not in snapshot.present
            if day >= since or (week_of(day) in late and row.sketch is not None)
            if not covers({}, row.logs) and not is_imported(row)
        ]
        for state in snapshot.days:
            row = self.rows.get((site, state.day), DayState(state.day, 0, b"", {}))
            if not covers(state.logs, row.logs) or _lacks_visitors(state, row):
                ahead.append(row)
                continue
            keeps_sketch = row.sketch is not None or state.day >= retention.sketches_from
            sketch = state.sketch if keeps_sketch else None
            peak = higher(row.peak, state.peak)
            saved = replace(state, visitors=max(row.visitors, state.visitors), sketch=sketch, peak=peak)
            self.rows[site, state.day] = self._exactness(row, saved, state, retention, older=older)
        for week, visitors in snapshot.weeks.items():
            is_whole = week not in {week_of(row.day) for row in ahead}
            self._save_week((site, week), visitors, exact=week in snapshot.exact_weeks and not older and is_whole)
        return ahead

    def _save_week(self, key: tuple[str, date], visitors: int, *, exact: bool) -> None:
        of, week = key
        rows = [row for (site, day), row in self.rows.items() if site == of and week <= day < week + WEEK]
        views, of_days = sum(row.views for row in rows), sum(row.visitors for row in rows)
        kept, kept_views, kept_exact = self.weeks.get(key, 0), self.week_views.get(key, 0), key in self.exact_weeks
        known_days = self.week_of_days.get(key)
        if kept_exact and not exact and known_days == of_days and all(row.exact for row in rows):
            return
        self.weeks[key], self.week_views[key] = max(kept, visitors), max(kept_views, views)
        self.week_of_days[key] = of_days
        if visitors > kept or views > kept_views or known_days != of_days or (exact and kept <= visitors):
            self.exact_weeks.discard(key)
            if exact and kept <= visitors:
                self.exact_weeks.add(key)

    @staticmethod
    def _exactness(row: DayState, saved: DayState, state: DayState, retention: Retention, *, older: bool) -> DayState:
        if older:  # the trigger guard_exact
            same = (row.visitors, row.logs) == (saved.visitors, saved.logs)
            return replace(saved, ids=row.ids if same else None, exact=row.exact and same)
        unchanged = row.logs == state.logs and row.sketch in (None, state.sketch)
        if row.exact and unchanged and (not state.exact or row.visitors > state.visitors):
            saved = replace(saved, visitors=row.visitors, ids=row.ids, exact=True)
        elif row.visitors > state.visitors:
            saved = replace(saved, ids=None, exact=False)
        return replace(saved, ids=None) if state.day < retention.salts_from else saved

    def fold_pages(self, site: str, before: date, at_most: int) -> int:
        """A part of what is due, a transaction."""
        if site in self.held:
            raise StoreBusy("postgres", "another session holds rows that this one needs")
        return self.pages.fold(site, before, at_most)

    def tidy_all(self, copies: Sequence[SiteCopy]) -> dict[SiteId, Closed]:
        """What follows the transaction of a group."""
        return {
            copy.site_id: self.tidy(copy.site_id, copy.snapshot, copy.retention, is_due=copy.is_due) for copy in copies
        }

    def tidy(self, site: str, snapshot: Snapshot, retention: Retention, *, is_due: bool = True) -> Closed:
        """One site's part of it."""
        for week, salt in snapshot.salts.items():
            self.kept_salts.setdefault((site, week), salt)
        oldest = retention.salts_from
        if is_due:
            self.kept_salts = {key: salt for key, salt in self.kept_salts.items() if key[0] != site or key[1] >= oldest}
        return self._closed(site, retention)

    def days(self, site: str, wanted: Sequence[date]) -> list[DayState]:
        """The rows of some days."""
        return [row for day in wanted if (row := self.rows.get((site, day)))]

    def open_days(self, site: str, retention: Retention) -> tuple[list[DayState], Closed]:
        """The rows that are needed, and the closed days."""
        since = retention.needed_from
        rows = [row for (of, day), row in self.rows.items() if of == site and day >= since and not is_imported(row)]
        return sorted(rows, key=_day), self._closed(site, retention)

    def share_salts(self, site: str, offers: Sequence[Salt]) -> dict[date, bytes]:
        """The first that were offered."""
        for salt in offers:
            self.kept_salts.setdefault((site, salt.week), salt.key)
        return self.salts(site, [salt.week for salt in offers])

    def salts(self, site: str, weeks: Sequence[date]) -> dict[date, bytes]:
        """Those that are known."""
        return {week: salt for week in weeks if (salt := self.kept_salts.get((site, week)))}

    def durable(self, logs: Sequence[tuple[str, date, str]]) -> list[int]:
        """How far each log is saved."""
        rows = [(self.rows.get((site, day)), log) for site, day, log in logs]
        return [row.logs.get(log, (0, 0))[0] if row else 0 for row, log in rows]

    def _closed(self, site: str, retention: Retention) -> Closed:
        through = retention.closed_through
        rows = [row for (of, day), row in self.rows.items() if of == site and day <= through]
        imports = sum(of == site for of, _ in self.day_journal)
        amounts = [amount for (of, _), amount in self.journal.items() if of == site]
        return Closed(
            read_at_us=self._now_us(),
            through=through,
            visitors=sum(row.visitors for row in rows),
            views=sum(row.views for row in rows),
            adjustments=sum(amounts),
            revision=f"{self._installation[:8]}{f'.{imports}' if imports else ''}-{len(amounts)}",
            exact=all(row.exact for row in rows),
            today=retention.today,
            sums=self._sums(site, rows, through),
            peak=self._peak(site, retention),
        )

    def _sums(self, site: str, rows: Sequence[DayState], through: date) -> Sums:
        def of(days: Callable[[date], bool]) -> Tally:
            some = [row for row in rows if days(row.day)]
            return Tally(sum(row.visitors for row in some), sum(row.views for row in some))

        def union(week: date) -> Tally:
            days = of(lambda day: week_of(day) == week)
            return days._replace(visitors=self.weeks.get((site, week), None if days.visitors else 0))

        month, week = through.replace(day=1), week_of(through)
        last_month = (month - DAY).replace(day=1)
        return Sums(
            through,
            day=of(lambda day: day == through),
            week=union(week),
            last_week=union(week - WEEK),
            month=of(lambda day: day >= month),
            last_month=of(lambda day: last_month <= day < month),
            year=of(lambda day: day.year == through.year),
        )

    def _peak(self, site: str, retention: Retention) -> Peak | None:
        highest = None
        for (of, day), row in self.rows.items():
            is_past = row.peak is not None and row.peak.at_ms * 1000 <= self._now_us() + READ_AHEAD_US
            if of == site and day <= retention.today and is_past:
                highest = higher(highest, row.peak)
        return highest


def _day(state: DayState) -> date:
    return state.day


@dataclass
class SpoolFile:
    """One file: its batches, and whether a worker holds its lock."""

    rows: dict[tuple[str, int], Batch] = field(default_factory=dict)
    """Without their pages, which stand apart."""
    pages: dict[str, dict[str, int]] = field(default_factory=dict)
    """By log, the views of each page so far."""
    held: bool = True

    def add_pages(self, log_id: str, pages: Mapping[str, int]) -> None:
        """Views of pages so far; what is lower changes nothing."""
        kept = self.pages.setdefault(log_id, {})
        for page, views in pages.items():
            kept[page] = max(views, kept.get(page, 0))


class DiskModel:
    """The spool folder of a host: the methods of Spool for every file in it."""

    def __init__(self, rows_max: int) -> None:
        self.files: dict[str, SpoolFile] = {}
        self.rows_max = rows_max

    def write(self, name: str, batches: Iterable[Batch]) -> None:
        """All of them or, where the spool is full, none."""
        rows = self.files[name].rows
        batches = list(batches)
        added = {
            (batch.log_id, batch.seq): batch._replace(pages=b"", view_ids=b"", repeated_ids=b"")
            for batch in batches
            if (batch.log_id, batch.seq) not in rows
        }
        if len(rows) + len(added) > self.rows_max:
            raise StoreUnavailable("spool", "database or disk is full")
        rows |= added
        for batch in batches:
            self.files[name].add_pages(batch.log_id, unpacked_pages(batch.pages))

    def read(self, name: str, log_id: str, after: int, limit: int) -> list[Batch]:
        """A page of a log, in order; its first and its last batch carry what the disk has of the log's pages."""
        found = [batch for (log, seq), batch in self.files[name].rows.items() if log == log_id and seq > after]
        page = sorted(found, key=lambda batch: batch.seq)[:limit]
        pages = packed(dict(sorted(self.files[name].pages.get(log_id, {}).items())))
        return [batch._replace(pages=pages) if batch in (page[0], page[-1]) else batch for batch in page]

    def delete(self, name: str, log_id: str, last_seq: int) -> None:
        """Drop what Postgres has."""
        rows = self.files[name].rows
        for key in [key for key in rows if key[0] == log_id and key[1] <= last_seq]:
            del rows[key]
        if log_id not in {log for log, _ in rows}:
            self.files[name].pages.pop(log_id, None)

    def adopt(self, name: str) -> list[SpooledLog]:
        """Take over the files that nobody holds."""
        adopted: list[SpooledLog] = []
        for path in sorted(path for path, file in self.files.items() if not file.held):
            rows = self.files[path].rows
            try:
                self.write(name, rows.values())
            except StoreUnavailable:
                continue
            for log_id, pages in self.files[path].pages.items():
                self.files[name].add_pages(log_id, pages)
            del self.files[path]
            for log_id in sorted({log_id for log_id, _ in rows}):
                last = max((batch for batch in rows.values() if batch.log_id == log_id), key=lambda batch: batch.seq)
                adopted.append(SpooledLog(last.site_id, last.day, log_id, last.seq, last.views))
        return adopted

    def close(self, name: str) -> None:
        """Give a file up; an empty one is removed."""
        self.files[name].held = False
        if not self.files[name].rows:
            del self.files[name]
