"""A world to break: real workers on models of the stores, where nothing moves until it is told to.

Every call of a worker to Redis, Postgres or its disk waits in `World.calls` until somebody delivers it, loses it on
the way or on the way back, or lets it arrive late. So snapshot, commit and confirmation of a rollup, a batch and its
answer, a restore and whatever happens meanwhile come in any order, and the same choices give the same run.

The world keeps a ledger of every beacon, by which `Ledger` judges what the stores hold.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from service.board import Board
from service.config import Settings, Site
from service.counts import Reading
from service.day_state import Closed, DayState
from service.errors import StoreUnavailable
from service.logs import Batch
from service.metrics import Metrics
from service.periods import Clock, Period, local_day
from service.postgres_store import PostgresStore, Saved
from service.reconciler import Reconciler
from service.recorder import Recorder
from service.redis_store import Recorded, RedisStore, Snapshot
from service.rollup import Rollup
from service.salts import Salts
from service.spool import Spool, SpooledLog
from tests.footfall import FakeClock
from tests.models import DiskModel, PostgresModel, RedisModel, SpoolFile

Result = TypeVar("Result")
OWNER: ContextVar["Worker"] = ContextVar("owner")
"""The worker whose code runs: what it starts dies with it."""


class StepLoop(asyncio.SelectorEventLoop):
    """Runs what is ready and comes back; nothing here waits for time to pass."""

    def __init__(self) -> None:
        super().__init__()
        self._handed_in = 0
        self.set_task_factory(_owned_task)

    def call_soon(self, callback: Any, *arguments: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """Count what is scheduled, to know when nothing is left."""
        self._handed_in += 1
        return super().call_soon(callback, *arguments, context=context)

    def settle(self) -> None:
        """Run until all that can go on without a store has gone on."""
        while True:
            before = self._handed_in
            super().call_soon(self.stop)
            self.run_forever()
            if self._handed_in == before:
                return


def _owned_task(loop: Any, coroutine: Any, context: Context | None = None) -> asyncio.Task[Any]:
    task = asyncio.Task(coroutine, loop=loop, context=context)
    if owner := OWNER.get(None):
        owner.tasks.add(task)
    return task


@dataclass(eq=False)
class Call:
    """A request that is on its way: `act` is what it does when it arrives."""

    worker: "Worker"
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


class Worker:
    """One process: the service's own code on ports instead of stores."""

    def __init__(self, world: "World", name: str, redis: "Server") -> None:
        self.world = world
        self.name = name
        self.redis = redis
        self.alive = True
        self.tasks: set[asyncio.Task[Any]] = set()
        self.errors: list[BaseException] = []
        self._context = copy_context()
        self._context.run(OWNER.set, self)
        settings, clock = world.settings, world.clock
        self.metrics = Metrics(CollectorRegistry())
        self.board = Board(settings, self.metrics, self._read, clock, clock.monotonic)
        redis_port, postgres_port = RedisPort(self), PostgresPort(self)
        self.spool = spool_port = SpoolPort(self)
        self.rollup = Rollup(settings, redis_port, postgres_port, Salts(self.metrics), self.metrics, clock)
        self.recorder = Recorder(settings, redis_port, spool_port, self.rollup, self.board, self.metrics, clock)
        self.reconciler = Reconciler(
            settings, redis_port, postgres_port, spool_port, self.recorder, self.rollup, self.metrics, clock
        )
        self.steps: dict[str, asyncio.Task[Any]] = {}
        world.disk.files[name] = SpoolFile()

    async def _read(self, site: Site) -> Reading:
        return await self.recorder.read(site)

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Start something that ends with this worker."""
        task = self._context.copy().run(self.world.loop.create_task, coroutine)
        task.add_done_callback(self._ended)
        return task

    def step(self, name: str, step: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Start a step of the background work, unless the one before is not done yet."""
        running = self.steps.get(name)
        if running is None or running.done():
            self.steps[name] = self.run(step())

    def start(self) -> None:
        """As `open_sites` does it."""
        for writers in self.recorder.sites.values():
            self.run(self.recorder.probe(writers))

    async def close(self) -> None:
        """Stop gracefully, as `serve` does it: what is under way first."""
        await asyncio.gather(*self.steps.values())
        await self.reconciler.close()
        await self.rollup.close()
        await self.spool.close()

    def end(self) -> None:
        """Stop at once, wherever it is: nothing of it runs any more, and its file is free."""
        self.alive = False
        for task in list(self.tasks):
            task.cancel()
        self.world.loop.settle()
        if self.name in self.world.disk.files:
            self.world.disk.files[self.name].held = False

    def held_ids(self) -> bytes:
        """The visitor ids in its memory."""
        parts: list[bytes] = []
        for writers in self.recorder.sites.values():
            for writer in writers:
                parts += [batch.visitors for batch in writer.log.kept]
        return b"".join(parts)

    def forgot(self) -> bool:
        """Whether it dropped batches for room."""
        return bool(self.metrics.forgotten._value.get())  # noqa: SLF001 (its public form builds all samples)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append(error)


@dataclass(eq=False)
class Server:
    """A Redis or a Postgres, and whether it can be reached."""

    model: Any
    up: bool = True


class Port:
    """Sends a worker's calls into the world."""

    def __init__(self, worker: Worker) -> None:
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
        self._worker.world.calls.append(Call(self._worker, store, what, arrives, answer))
        return await answer


class RedisPort(RedisStore):
    """RedisStore on whichever server its worker is connected to when it calls."""

    def __init__(self, worker: Worker) -> None:
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


class PostgresPort(PostgresStore):
    """PostgresStore on the world's one Postgres."""

    def __init__(self, worker: Worker) -> None:
        self._port = Port(worker)
        self._server = worker.world.postgres

    async def _ask(self, what: str, act: Callable[[PostgresModel], Result]) -> Result:
        return await self._port.ask("postgres", what, self._server, act)

    async def installation(self) -> str:
        return await self._ask("installation", PostgresModel.installation)

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
        return await self._ask(
            "save",
            lambda postgres: postgres.save(
                site,
                days,
                salts,
                present=present,
                needed_from=needed_from,
                closed_through=closed_through,
                salts_from=salts_from,
                sketches_from=sketches_from,
            ),
        )

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

    def __init__(self, worker: Worker) -> None:
        self._port = Port(worker)
        self._worker = worker
        self.used_bytes = 0

    async def _ask(self, what: str, act: Callable[[DiskModel], Result]) -> Result:
        return await self._port.ask("spool", what, self._worker.world.disk_server, act)

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


@dataclass
class Sent:
    """A beacon in the ledger; its id is the visitor's, who sends no other."""

    id: bytes
    day: date
    view: bool
    worker: Worker
    outcome: str = "waiting"
    """waiting, ok (200 or 202), refused (certainly not counted), or unknown."""
    excused: bool = False
    """Lost in a way that is not promised against."""


@dataclass
class World:
    """The stores, the workers, and the calls between them."""

    settings: Settings
    clock: FakeClock
    loop: StepLoop = field(default_factory=StepLoop)
    calls: list[Call] = field(default_factory=list)
    late: list[Call] = field(default_factory=list)
    """Requests that nobody waits for any more; they may arrive still."""
    workers: list[Worker] = field(default_factory=list)
    ledger: list[Sent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._last_us = 0
        self.redis = [Server(RedisModel(self.clock, self.now_us))]
        self.postgres = Server(PostgresModel(self.now_us, "a1b2c3d4e5f6"))
        self.disk = DiskModel(rows_max=1000)
        self.disk_server = Server(self.disk)
        self._born = 0
        self.postgres_was_restored = False

    def now_us(self) -> int:
        """The servers' clocks, in microseconds: two things never happen in the same one."""
        self._last_us = max(self._last_us + 1, int(self.clock() * 1e6))
        return self._last_us

    @property
    def site(self) -> Site:
        """The one site."""
        return next(iter(self.settings.sites.values()))

    def start_worker(self, redis: Server | None = None) -> Worker:
        """Begin a process."""
        self._born += 1
        worker = Worker(self, f"w{self._born:03}", redis or self.redis[0])
        self.workers.append(worker)
        worker.start()
        return worker

    def end_worker(self, worker: Worker) -> None:
        """Take a process away; what it had sent may arrive still."""
        self.workers.remove(worker)
        worker.end()
        self.late += [call for call in self.calls if call.worker is worker and call.store != "spool"]
        self.calls = [call for call in self.calls if call.worker is not worker]
        for sent in self.ledger:
            if sent.worker is worker and sent.outcome == "waiting":
                sent.outcome = "unknown"

    def send(self, worker: Worker, *, view: bool) -> None:
        """A page sends a beacon, from a visitor of its own."""
        day = local_day(self.clock(), self.site.zone)
        sent = Sent(len(self.ledger).to_bytes(16, "big"), day, view, worker)
        self.ledger.append(sent)
        worker.run(self._await(worker, sent))

    async def _await(self, worker: Worker, sent: Sent) -> None:
        from service.errors import Reason, Refused

        try:
            await worker.recorder.record(self.site, sent.day, sent.id, None, view=sent.view)
        except Refused as refused:
            sent.outcome = "refused" if refused.reason is Reason.BUSY else "unknown"
        else:
            sent.outcome = "ok"

    def clock_at(self, *, hours: int, minutes: int) -> datetime:
        """A time of the clock's current day."""
        return datetime.combine(local_day(self.clock(), self.site.zone), time(hours, minutes), self.site.zone)

    def deliver(self, count: int) -> None:
        """Let the oldest calls arrive, and what follows from them."""
        for _ in range(count):
            if not self.calls:
                return
            self.calls.pop(0).arrive()
            self.loop.settle()

    def close(self) -> None:
        """End everything."""
        for worker in list(self.workers):
            self.end_worker(worker)
        self.loop.close()


def settings_of(folder: Path, keep_max_bytes: int) -> Settings:
    """One site; the bounds are smaller than an operator may choose, so that a short run meets them."""
    settings = Settings.model_validate(
        {"sites": {"portal": {"name": "Portal", "hosts": ["portal.example.vn"]}}, "data_dir": folder}
    )
    return settings.model_copy(update={"keep_max_bytes": keep_max_bytes, "queue_max_beacons": 400})
