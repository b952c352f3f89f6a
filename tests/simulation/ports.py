"""What a simulated worker has instead of stores: each call waits until the world decides what becomes of it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from footfall.errors import StoreUnavailable
from footfall.model.batch_log import Batch
from footfall.model.day_state import Closed, DayState
from footfall.model.periods import Period
from footfall.stores.postgres_store import PostgresStore, Saved
from footfall.stores.redis_store import Recorded, RedisStore, Snapshot
from footfall.stores.spool_store import Spool, SpooledLog
from tests.simulation.durable_models import DiskModel, PostgresModel
from tests.simulation.models import RedisModel

Result = TypeVar("Result")


class Network(Protocol):
    """Where the calls of a worker go."""

    alive: bool
    name: str
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
        return await self._port.ask("redis", what, self._worker.redis, act)

    async def record(
        self, site: str, period: Period, window_s: int, batch: Batch | None = None, *, hole: bool = False
    ) -> Recorded:
        own = self.installation
        return await self._ask("record", lambda redis: redis.record(own, site, period, window_s, batch, hole=hole))

    async def snapshot(self, site: str, weeks: Sequence[date], *, all_days: bool) -> Snapshot | None:
        own = self.installation
        return await self._ask("snapshot", lambda redis: redis.snapshot(own, site, weeks, all_days=all_days))

    async def join(
        self,
        site: str,
        days: Iterable[DayState],
        *,
        ready: bool = False,
        closed: Closed | None = None,
        salts: Mapping[date, bytes] = MappingProxyType({}),
        salts_end_s: Mapping[date, int] = MappingProxyType({}),
    ) -> bool:
        own, days = self.installation, list(days)
        return await self._ask(
            "join",
            lambda redis: redis.join(own, site, days, ready=ready, closed=closed, salts=salts, salts_end_s=salts_end_s),
        )

    async def confirm(
        self, site: str, changes: Mapping[date, str], closed: Closed, present: Mapping[date, int]
    ) -> None:
        own = self.installation
        await self._ask("confirm", lambda redis: redis.confirm(own, site, changes, closed, present))

    async def applied(self, site: str, logs: Sequence[tuple[date, str]]) -> list[int]:
        return await self._ask("applied", lambda redis: redis.applied(site, logs))

    async def share_salts(
        self, site: str, offered: Mapping[date, bytes], ends_s: Mapping[date, int]
    ) -> dict[date, bytes] | None:
        own = self.installation
        return await self._ask("share_salts", lambda redis: redis.share_salts(own, site, offered, ends_s))

    async def rewrite_log(self) -> None:
        await self._ask("rewrite_log", RedisModel.rewrite_log)


class PostgresPort(PostgresStore):
    """PostgresStore on the world's one Postgres."""

    def __init__(self, worker: Network) -> None:
        self._port = Port(worker)
        self._server = worker.postgres

    async def _ask(self, what: str, act: Callable[[PostgresModel], Result]) -> Result:
        return await self._port.ask("postgres", what, self._server, act)

    async def installation(self) -> str:
        return await self._ask("installation", PostgresModel.installation)

    async def incarnation(self) -> str:
        return await self._ask("incarnation", PostgresModel.incarnation)

    async def adjust(self, site: str, adjustment_id: str, amount: int, reason: str) -> bool:  # noqa: ARG002
        return await self._ask("adjust", lambda postgres: postgres.adjust(site, adjustment_id, amount))

    async def adjustment_counts(self) -> dict[str, int]:
        return await self._ask("adjustment_counts", PostgresModel.adjustment_counts)

    async def save(
        self,
        site: str,
        days: Sequence[DayState],
        salts: Mapping[date, bytes],
        *,
        present: Sequence[date],
        needed_from: date,
        closed_through: date,
        salts_from: date,
        sketches_from: date,
    ) -> Saved:
        ahead = await self._ask(
            "save",
            lambda postgres: postgres.save(
                site, days, present=present, needed_from=needed_from, sketches_from=sketches_from
            ),
        )
        closed = await self._ask("tidy", lambda postgres: postgres.tidy(site, salts, salts_from, closed_through))
        return Saved(ahead, closed)

    async def days(self, site: str, wanted: Sequence[date]) -> list[DayState]:
        return await self._ask("days", lambda postgres: postgres.days(site, wanted))

    async def open_days(self, site: str, since: date, closed_through: date) -> tuple[list[DayState], Closed]:
        return await self._ask("open_days", lambda postgres: postgres.open_days(site, since, closed_through))

    async def share_salts(self, site: str, offered: Mapping[date, bytes]) -> dict[date, bytes]:
        return await self._ask("share_salts", lambda postgres: postgres.share_salts(site, offered))

    async def salts(self, site: str, weeks: Sequence[date]) -> dict[date, bytes]:
        return await self._ask("salts", lambda postgres: postgres.salts(site, weeks))

    async def durable(self, logs: Sequence[tuple[str, date, str]]) -> list[int]:
        return await self._ask("durable", lambda postgres: postgres.durable(logs))


class SpoolPort(Spool):
    """Spool on the world's one disk."""

    def __init__(self, worker: Network) -> None:
        self._port = Port(worker)
        self._worker = worker
        self._damaged = 0
        self.used_bytes = 0

    async def _ask(self, what: str, act: Callable[[DiskModel], Result]) -> Result:
        return await self._port.ask("spool", what, self._worker.disk, act)

    async def write(self, batches: Iterable[Batch]) -> None:
        rows = list(batches)
        await self._ask("write", lambda disk: disk.write(self._worker.name, rows))

    async def read(self, log_id: str, after: int, limit: int) -> list[Batch]:
        return await self._ask("read", lambda disk: disk.read(self._worker.name, log_id, after, limit))

    async def delete(self, log_id: str, through: int) -> None:
        await self._ask("delete", lambda disk: disk.delete(self._worker.name, log_id, through))

    async def adopt(self) -> list[SpooledLog]:
        return await self._ask("adopt", lambda disk: disk.adopt(self._worker.name))

    async def close(self) -> None:
        await self._ask("close", lambda disk: disk.close(self._worker.name))
