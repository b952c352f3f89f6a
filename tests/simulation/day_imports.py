"""Imports of days: the program's own writer, on the model of Postgres, and what an operator may rely on then."""

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Any, cast

from footfall.cli.day_imports import DayWriter
from footfall.errors import StoreUnavailable
from footfall.model.imported import IMPORT_LOG, ImportedDay
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from footfall.stores.day_imports import DayImports
from tests.simulation.durable_models import PostgresModel, is_imported

Logs = Mapping[str, tuple[int, int]]


class Heard(Enum):
    """What becomes of the call that writes."""

    ALL = "it arrives and is answered"
    NO_ANSWER = "it arrives, and its answer is lost"
    NOTHING = "it does not arrive"


@dataclass
class ImportLedger:
    """What operators imported, in the ledger's words."""

    days: dict[date, ImportedDay] = field(default_factory=dict)
    """What the last import of each day said; of a dump, what it said then."""
    views: dict[date, set[int]] = field(default_factory=dict)
    """What any import of a day said: an older copy may still have it."""

    def run(
        self, model: PostgresModel, site: Site, days: Sequence[ImportedDay], closed_through: date, heard: Heard
    ) -> None:
        """Import days as the command does; `days` are those that Footfall has not counted, and others."""
        port = _Port(model, heard)
        writer = DayWriter(cast("DayImports", port), site, "days", _no_progress, is_dry_run=False)
        counted_since = model.first_counted_day(site.id) or date.max
        try:
            _finished(writer.write(days, closed_through))
        except StoreUnavailable:
            assert heard is not Heard.ALL
        if heard is not Heard.NOTHING:
            for day in days:
                if day.day < counted_since:
                    self.days[day.day] = day
                    self.views.setdefault(day.day, set()).add(day.views)

    def check(self, model: PostgresModel, site_id: SiteId) -> None:
        """An import is in Postgres as it was, however often it was repeated; what was counted live is not imported."""
        for day, said in self.days.items():
            assert model.imported(site_id, day) == said, f"{day} is not what was imported last"
        imported = {day for (of, day), row in model.rows.items() if of == site_id and is_imported(row)}
        assert imported == self.days.keys(), "another day is imported than was asked for"

    def counted(self, day: date, logs: Logs) -> Logs:
        """Return the logs of a copy that workers made; the other one must be of an import of this day."""
        if IMPORT_LOG in logs:
            views = logs[IMPORT_LOG][1]
            assert views in self.views.get(day, ()), f"nobody imported {views} views of {day}"
        return {log_id: entry for log_id, entry in logs.items() if log_id != IMPORT_LOG}


class _Port:
    """The methods of DayImports that a writer calls."""

    def __init__(self, model: PostgresModel, heard: Heard) -> None:
        self._model = model
        self._heard = heard

    async def first_counted_day(self, site_id: SiteId) -> date | None:
        return self._model.first_counted_day(site_id)

    async def changed(self, site_id: SiteId, days: Iterable[ImportedDay]) -> list[ImportedDay]:
        return [day for day in days if self._model.imported(site_id, day.day) != day]

    async def write(self, site_id: SiteId, _source: str, days: Sequence[ImportedDay]) -> None:
        if self._heard is not Heard.NOTHING:
            self._model.import_days(site_id, days)
        if self._heard is not Heard.ALL:
            raise StoreUnavailable("postgres", "does not answer")


def _no_progress(_: int) -> None:
    pass


def _finished(work: Coroutine[Any, Any, object]) -> None:
    """Run what waits for nothing."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("the port makes nobody wait")
