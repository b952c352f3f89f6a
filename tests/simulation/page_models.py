"""The pages of Postgres without a server: days, months, starting numbers and moves, in plain Python.

No total is kept: what the triggers keep up by difference is added up anew for each question.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Self

from footfall.model.pages import PageBase, PageDay
from footfall.model.retention import DAY

Logs = dict[str, int]
YOUNG_DAYS = 31


@dataclass
class PagesModel:
    """What the tables and functions of pages hold and do."""

    now_us: Callable[[], int]
    young_days: int = YOUNG_DAYS
    """Younger days are never folded, by the server's own clock."""
    days: dict[tuple[str, str, date], Logs] = field(default_factory=dict)
    """Views by log, of each site, page and day."""
    months: dict[tuple[str, str, date], dict[date, Logs]] = field(default_factory=dict)
    """Of each site, page and month, the days that were folded into it."""
    imports: dict[tuple[str, str], Mapping[str, int]] = field(default_factory=dict)
    """Starting numbers, of each site and import."""
    aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    """Where the views of a page are shown, if not as its own."""

    def copied(self) -> Self:
        """A dump, or what is restored from it."""
        parts = {name: copy.deepcopy(getattr(self, name)) for name in ("days", "months", "imports", "aliases")}
        return type(self)(self.now_us, self.young_days, **parts)

    @property
    def today(self) -> date:
        """The server's date."""
        return datetime.fromtimestamp(self.now_us() / 1e6, UTC).date()

    def save(self, site: str, pages: Iterable[PageDay]) -> None:
        """Merge copies of days; that of a folded day goes into its month."""
        for copied in pages:
            key = site, copied.page, copied.day
            month = self.months.get((site, copied.page, copied.day.replace(day=1)))
            is_late = copied.day < self.today - (self.young_days - 1) * DAY
            if month is None or key in self.days or not is_late:
                _merge(self.days.setdefault(key, {}), copied.logs)
            else:
                _merge(month.setdefault(copied.day, {}), copied.logs)

    def of_log(self, site: str, day: date, log_id: str) -> dict[str, int]:
        """The views of each page that a log brought on a day."""
        of_day = [(page, logs) for of, page, when, logs in self.by_day() if (of, when) == (site, day)]
        return {page: logs[log_id] for page, logs in of_day if log_id in logs}

    def forget_log(self, site: str, day: date, log_id: str) -> None:
        """Take away what a log brought on a day."""
        for key in [key for key, logs in self.days.items() if key[::2] == (site, day) and log_id in logs]:
            del self.days[key]
        for (of, _, _), days in self.months.items():
            if of == site and log_id in days.get(day, {}):
                del days[day][log_id]

    def fold(self, site: str, before: date, at_most: int) -> int:
        """Fold the oldest days into months; returns how many months of pages, 0 when none are left."""
        until = min(before, self.today - self.young_days * DAY).replace(day=1)
        oldest = sorted((day, page) for of, page, day in self.days if of == site and day < until)[:at_most]
        folded = {(page, day.replace(day=1)) for day, page in oldest}
        for page, month in folded:
            kept = self.months.setdefault((site, page, month), {})
            for key in [key for key in self.days if key[:2] == (site, page) and key[2].replace(day=1) == month]:
                _merge(kept.setdefault(key[2], {}), self.days.pop(key))
        return len(folded)

    def import_views(self, site: str, import_id: str, views: Mapping[str, int]) -> None:
        """The starting numbers of an import, instead of those that it had."""
        self.imports[site, import_id] = dict(views)

    def move(self, site: str, old: str, new: str) -> int:
        """Show the views of a page as those of another one; returns those of the other one then."""
        shown_as = self.aliases.get((site, new), new)
        if shown_as == old:
            self.aliases.pop((site, new), None)
            shown_as = new
        if old == new:
            self.aliases.pop((site, old), None)
            shown_as = new
        else:
            for key, target in list(self.aliases.items()):
                if key[0] == site and target == old and key[1] != shown_as:
                    self.aliases[key] = shown_as
            self.aliases[site, old] = shown_as
        return self.total(site, shown_as)

    def total(self, site: str, page: str) -> int:
        """All views that are shown as those of a page."""
        views = [(name, sum(logs.values())) for of, name, _, logs in self.by_day() if of == site]
        views += [(name, more) for (of, _), pages in self.imports.items() if of == site for name, more in pages.items()]
        return sum(more for name, more in views if self.aliases.get((site, name), name) == page)

    def bases(self, site: str, through: date, pages: Sequence[str]) -> list[PageBase]:
        """What it has of pages up to a day, and of the days after it."""
        return [self._base(site, through, page) for page in pages]

    def of_day(self, site: str, page: str, day: date) -> Logs:
        """The views of a page's day by log, wherever they are."""
        views = dict(self.days.get((site, page, day), {}))
        _merge(views, self.months.get((site, page, day.replace(day=1)), {}).get(day, {}))
        return views

    def by_day(self) -> Iterator[tuple[str, str, date, Logs]]:
        """Every day of every page, also the folded ones."""
        yield from ((*key, logs) for key, logs in self.days.items())
        for (site, page, _), days in self.months.items():
            yield from ((site, page, day, logs) for day, logs in days.items())

    def _base(self, site: str, through: date, page: str) -> PageBase:
        later = {
            day: dict(logs)
            for (of, name, day), logs in self.days.items()
            if (of, name) == (site, page) and day > through
        }
        views = self.total(site, self.aliases.get((site, page), page)) - sum(map(_sum, later.values()))
        return PageBase(page, max(0, views), later)


def _sum(logs: Mapping[str, int]) -> int:
    return sum(logs.values())


def _merge(kept: Logs, brought: Mapping[str, int]) -> None:
    for log_id, views in brought.items():
        kept[log_id] = max(views, kept.get(log_id, 0))
