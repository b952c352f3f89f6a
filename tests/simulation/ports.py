"""What a simulated worker has instead of stores: each call waits until the world decides what becomes of it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol, TypeVar

from footfall.errors import StoreUnavailable
from footfall.model.batch import Answer, Batch
from footfall.model.day_state import Closed, DayState
from footfall.model.pages import PageBase, PageDay, PageReading
from footfall.model.periods import Period
from footfall.model.retention import Retention
from footfall.model.salt import Salt
from footfall.model.site_id import SiteId
from footfall.model.snapshot import SiteCopy, Snapshot, Turn
from footfall.stores.postgres_store import PostgresStore, Saved
from footfall.stores.redis_store import EXACT_UP_TO, Recorded, RedisStore
from footfall.stores.spool_orphans import SpooledLog
from footfall.stores.spool_store import Spool
from tests.simulation.durable_models import DiskModel, PostgresModel
from tests.simulation.models import Program, RedisModel

Result = TypeVar("Result")


class Network(Protocol):
    """Where the calls of a worker go."""

    alive: bool
    name: str
    program: Program
    redis: "Server"
    """To which it is connected now."""
    postgres: "Server"
    disk: "Server"

    def begin(self, call: "Call") -> None:
        """Take note of a call that is on its way."""


@dataclass(eq=False)
class Call:
    """A request that is on its way: `act` is what it does when it arrives."""

    worker: Network
    store: str
    what: str
    act: Callable[[], Any]
    answer: asyncio.Future[Any]

    def arrive(self) -> None:
        """Do it, and bring the answer back."""
        try:
            result = self.act()
        except StoreUnavailable as error:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(result)

    def arrive_unheard(self) -> None:
        """Do it, and lose the answer."""
        with suppress(StoreUnavailable, KeyError):
            self.act()

    def lose(self) -> None:
        """No answer comes in time."""
        self.answer.set_exception(StoreUnavailable(self.store, "no answer"))


@dataclass(eq=False)
class Server:
    """A Redis or a Postgres, and whether it can be reached."""

    model: Any
    up: bool = True


class Port:
    """Sends a worker's calls into the world."""

    def __init__(self, worker: Network) -> None:
        self._worker = worker

    async def ask(self, store: str, what: str, server: Server | None, act: Callable[[Any], Result]) -> Result:
        """Wait until the world has decided what becomes of a call."""
        if not self._worker.alive:
            raise asyncio.CancelledError

        def arrives() -> Result:
            if server is not None and not server.up:
                raise StoreUnavailable(store, "connection refused")
            return act(server.model if server else None)

        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._worker.begin(Call(self._worker, store, what, arrives, answer))
        return await answer


class RedisPort(RedisStore):
    """RedisStore on whichever server its worker is connected to when it calls."""

    def __init__(self, worker: Network) -> None:
        self._port = Port(worker)
        self._worker = worker
        self.installation = ""

    async def _ask(self, what: str, act: Callable[[RedisModel], Result]) -> Result:
        program = self._worker.program
        return await self._port.ask("redis", what, self._worker.redis, lambda redis: act(redis.called_by(program)))

    def server_of(self, site_id: SiteId) -> str:  # noqa: ARG002 - there is one
        return "redis"

    async def record(
        self,
        site_id: SiteId,
        period: Period,
        window_s: int,
        batch: Batch | None = None,
        *,
        exact_up_to: int = EXACT_UP_TO,
        skip_gap: bool = False,
    ) -> Recorded:
        own, older = self.installation, self._worker.program.older

        def count(redis: RedisModel) -> Recorded:
            recorded = redis.record(own, site_id, period, window_s, batch, skip_gap=skip_gap)
            if batch is not None and recorded.answer is Answer.OK and not older:
                redis.check_sets_are_small(site_id, batch.day, exact_up_to)
            return recorded

        return await self._ask("record", count)

    async def identity(self) -> str:
        return await self._ask("identity", lambda redis: redis.identity)

    async def snapshot(
        self, site_id: SiteId, weeks: Sequence[date], *, all_days: bool, turn: Turn | None = None
    ) -> Snapshot | None:
        own = self.installation
        return await self._ask(
            "snapshot", lambda redis: redis.snapshot(own, site_id, weeks, all_days=all_days, turn=turn)
        )

    async def merge(self, site_id: SiteId, days: Iterable[DayState]) -> bool:
        own, days = self.installation, list(days)
        return await self._ask("merge", lambda redis: redis.merge(own, site_id, days))

    async def open(self, site_id: SiteId, days: Iterable[DayState], closed: Closed, salts: Sequence[Salt] = ()) -> bool:
        own, days = self.installation, list(days)
        return await self._ask("open", lambda redis: redis.open(own, site_id, days, closed, salts))

    async def confirm(
        self,
        site_id: SiteId,
        changes: Mapping[date, str],
        closed: Closed,
        week_ends: Mapping[date, int],
        looked_at_all: str = "",
    ) -> None:
        own = self.installation
        await self._ask("confirm", lambda redis: redis.confirm(own, site_id, changes, closed, week_ends, looked_at_all))

    async def read_pages(self, site_id: SiteId, period: Period, window_s: int, pages: Sequence[str]) -> Recorded:
        own = self.installation
        return await self._ask("read_pages", lambda redis: redis.read_pages(own, site_id, period, window_s, pages))

    async def remember_pages(self, site_id: SiteId, asked: PageReading, bases: Iterable[PageBase]) -> PageReading:
        own, bases = self.installation, list(bases)
        return await self._ask("remember_pages", lambda redis: redis.remember_pages(own, site_id, asked, bases))

    async def confirm_pages(self, site_id: SiteId, pages: Iterable[PageDay]) -> None:
        own, pages = self.installation, [page for page in pages if page.changed]
        if pages:
            await self._ask("confirm_pages", lambda redis: redis.confirm_pages(own, site_id, pages))

    async def acked(self, site_id: SiteId, logs: Sequence[tuple[date, str]]) -> list[int]:
        return await self._ask("acked", lambda redis: redis.acked(site_id, logs))

    async def share_salts(self, site_id: SiteId, offers: Sequence[Salt]) -> dict[date, bytes] | None:
        own = self.installation
        return await self._ask("share_salts", lambda redis: redis.share_salts(own, site_id, offers))

    async def mend(self, site_id: SiteId, today: date) -> list[str]:
        own = self.installation
        return await self._ask("mend", lambda redis: redis.mend(own, site_id, today))


class PostgresPort(PostgresStore):
    """PostgresStore on the world's one Postgres."""

    def __init__(self, worker: Network) -> None:
        self._port = Port(worker)
        self._older = worker.program.older
        self._server = worker.postgres

    async def _ask(self, what: str, act: Callable[[PostgresModel], Result]) -> Result:
        return await self._port.ask("postgres", what, self._server, act)

    async def installation(self) -> str:
        return await self._ask("installation", PostgresModel.installation)

    async def incarnation(self) -> str:
        return await self._ask("incarnation", PostgresModel.incarnation)

    async def adjust(self, site_id: SiteId, adjustment_id: str, amount: int, reason: str) -> bool:  # noqa: ARG002
        return await self._ask("adjust", lambda postgres: postgres.adjust(site_id, adjustment_id, amount))

    async def record_event(self, site_id: SiteId, kind: str, detail: str) -> None:
        await self._ask("record_event", lambda postgres: postgres.record_event(site_id, kind, detail))

    async def record_lasting_event(self, site_id: SiteId, kind: str, began: datetime, ended: datetime) -> None:  # noqa: ARG002
        # When it was is told apart in tests/sync/test_event_book.py; here it must not stop what waits behind it.
        await self._ask("record_event", lambda postgres: postgres.record_event(site_id, kind, ""))

    async def record_running_event(self, site_id: SiteId, kind: str, began: datetime, now: datetime) -> None:  # noqa: ARG002
        await self._ask("record_event", lambda postgres: postgres.record_event(site_id, kind, ""))

    async def adjustment_counts(self) -> dict[SiteId, int]:
        return await self._ask("adjustment_counts", PostgresModel.adjustment_counts)

    async def save(self, copies: Sequence[SiteCopy]) -> dict[SiteId, Saved]:
        older, group = self._older, list(copies)
        ahead = await self._ask("save", lambda postgres: postgres.save_all(group, older=older))
        closed = await self._ask("tidy", lambda postgres: postgres.tidy_all([c for c in group if c.site_id in ahead]))
        return {site_id: Saved(rows, closed[site_id]) for site_id, rows in ahead.items()}

    async def page_bases(self, site_id: SiteId, through: date, pages: Sequence[str]) -> list[PageBase]:
        return await self._ask("page_bases", lambda postgres: postgres.pages.bases(site_id, through, pages))

    async def fold_pages(self, site_id: SiteId, before: date, at_most: int) -> int | None:
        return await self._ask("fold_pages", lambda postgres: postgres.fold_pages(site_id, before, at_most))

    async def days(self, site_id: SiteId, wanted: Sequence[date]) -> list[DayState]:
        return await self._ask("days", lambda postgres: postgres.days(site_id, wanted))

    async def open_days(self, site_id: SiteId, retention: Retention) -> tuple[list[DayState], Closed]:
        return await self._ask("open_days", lambda postgres: postgres.open_days(site_id, retention))

    async def share_salts(self, site_id: SiteId, offers: Sequence[Salt]) -> dict[date, bytes]:
        return await self._ask("share_salts", lambda postgres: postgres.share_salts(site_id, offers))

    async def salts(self, site_id: SiteId, weeks: Sequence[date]) -> dict[date, bytes]:
        return await self._ask("salts", lambda postgres: postgres.salts(site_id, weeks))

    async def durable(self, logs: Sequence[tuple[SiteId, date, str]]) -> list[int]:
        return await self._ask("durable", lambda postgres: postgres.durable(logs))


class SpoolPort(Spool):
    """Spool on the world's one disk."""

    def __init__(self, worker: Network) -> None:
        self._port = Port(worker)
        self._worker = worker
        self._damaged = self._lost_page_views = 0
        self._damaged_files = []
        self._max_pages = 16
        self.used_bytes = self.folder_bytes = 0
        self.refused_open = False
        self.troubles = ()

    async def _ask(self, what: str, act: Callable[[DiskModel], Result]) -> Result:
        return await self._port.ask("spool", what, self._worker.disk, act)

    async def write(self, batches: Iterable[Batch]) -> None:
        rows = list(batches)
        await self._ask("write", lambda disk: disk.write(self._worker.name, rows))

    async def read(self, log_id: str, after: int, limit: int) -> list[Batch]:
        return await self._ask("read", lambda disk: disk.read(self._worker.name, log_id, after, limit))

    async def delete(self, log_id: str, last_seq: int) -> None:
        await self._ask("delete", lambda disk: disk.delete(self._worker.name, log_id, last_seq))

    async def check(self) -> None:
        await self._ask("check", lambda _: None)

    async def adopt(self) -> list[SpooledLog]:
        return await self._ask("adopt", lambda disk: disk.adopt(self._worker.name))

    async def close(self) -> None:
        await self._ask("close", lambda disk: disk.close(self._worker.name))
