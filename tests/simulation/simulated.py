"""A world to break: real workers on models of the stores, where nothing moves until it is told to.

Every call of a worker to Redis, Postgres or its disk waits in `World.calls` until somebody delivers it, loses it on
the way or on the way back, or lets it arrive late. So snapshot, commit and confirmation of a rollup, a batch and its
answer, a restore and whatever happens meanwhile come in any order, and the same choices give the same run.
The world keeps a ledger of every beacon; `promises.py` compares it with what the stores hold.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context, ContextVar, copy_context
from copy import copy
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from footfall.delivery.pending import BeaconQueue, StoredIn, View
from footfall.delivery.reconciler import Reconciler
from footfall.delivery.recorder import Recorder
from footfall.delivery.redis_writer import Displays, RedisWriter
from footfall.delivery.sender import Outlets
from footfall.delivery.spool_writer import SpoolWriter
from footfall.display.counts_cache import CountsCache, PreparedCounts
from footfall.display.page_views import PageViews
from footfall.errors import Reason, Refused, StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.counts import Reading
from footfall.model.pages import PageReading
from footfall.model.periods import Periods, local_day
from footfall.model.site_id import SiteId
from footfall.settings.settings import Settings, Site
from footfall.stores.redis_store import EXACT_UP_TO
from footfall.stores.store_pair import StorePair
from footfall.sync.page_folding import PageFolding
from footfall.sync.repairs import Repairs
from footfall.sync.rollup import Rollup
from tests.simulation.day_imports import ImportLedger
from tests.simulation.durable_models import DiskModel, PostgresModel, SpoolFile
from tests.simulation.models import Program, RedisModel
from tests.simulation.ports import Call, PostgresPort, RedisPort, Server, SpoolPort
from tests.support.footfall import FakeClock

Result = TypeVar("Result")
PAGES = ("/", "/a", "/", "/b", "")
"""Pages of views, in turn: some come in every batch, some seldom."""
NAMES = (*sorted({page for page in PAGES if page}), "/new")
"""What pages are moved to and have starting numbers of; nobody views the last one."""
PAGES_KEPT_DAYS = 2
"""Fewer than an operator may choose: a short run must see days fold into months."""
ROLLUP_EVERY_S = 10.0
OWNER: ContextVar["Worker"] = ContextVar("owner")
"""The worker whose code runs: what it starts dies with it."""


class StepLoop(asyncio.SelectorEventLoop):
    """Runs what is ready and comes back; nothing here waits for time to pass."""

    def __init__(self) -> None:
        super().__init__()
        self._handed_in = 0
        self.set_task_factory(_owned_task)
        self.set_exception_handler(_bury_the_dead)

    def call_soon(self, callback: Any, *arguments: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """Count what is scheduled, to know when nothing is left."""
        self._handed_in += 1
        return super().call_soon(callback, *arguments, context=context)

    def time(self) -> float:
        """No deadline passes, however busy the machine is: the same choices give the same run."""
        return 0.0

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
        task.add_done_callback(owner.ended)
    return task


def _bury_the_dead(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A worker that is killed leaves its tasks as they are; everything else is said as usual."""
    if context["message"] != "Task was destroyed but it is pending!":
        loop.default_exception_handler(context)


class NotedCounts(CountsCache):
    """Notes each revision that it shows, also where it shows another one before anybody looks."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.revisions: defaultdict[SiteId, set[str | None]] = defaultdict(set)

    def accept(self, site: Site, reading: Reading) -> PreparedCounts:
        """Show a new reading."""
        shown = super().accept(site, reading)
        self.revisions[site.id].add(shown.counts.revision)
        return shown


class Worker:
    """One process: the service's own code on ports instead of stores."""

    def __init__(self, world: "World", name: str, redis: "Server", program: Program) -> None:
        self.world = world
        self.name = name
        self.program = program
        self.redis = redis
        self.postgres, self.disk = world.postgres, world.disk
        self.alive = True
        self.tasks: set[asyncio.Task[Any]] = set()
        self.errors: list[BaseException] = []
        self._context = copy_context()
        self._context.run(OWNER.set, self)
        settings, clock = world.settings, world.clock

        async def read_counts(site: Site) -> Reading:
            return await self.recorder.read(site)

        async def read_pages(site: Site, pages: Sequence[str]) -> PageReading:
            return await self.recorder.read_pages(site, pages)

        self.metrics = metrics = Metrics(CollectorRegistry())
        self.counts_cache = NotedCounts(settings, metrics, read_counts, clock, clock.monotonic)
        redis_port, postgres_port = RedisPort(self), PostgresPort(self)
        self.spool = spool_port = SpoolPort(self)
        stores, periods = StorePair(redis_port, postgres_port), Periods(clock)
        self.page_views = PageViews(stores, read_pages, clock.monotonic)
        repairs = Repairs.between(stores, metrics, clock)
        self.opener = repairs.opener
        self.rollup = Rollup(settings.sites.values(), stores, repairs, metrics, clock, ROLLUP_EVERY_S)
        self.page_folding = PageFolding(settings.sites.values(), stores, metrics, clock)
        spool_writer = SpoolWriter(spool_port, repairs.events, metrics, clock.monotonic)
        outlets = Outlets(
            redis=RedisWriter(
                redis_port,
                repairs.restore,
                Displays(self.counts_cache, self.page_views),
                periods,
                metrics,
                clock.monotonic,
            ),
            spool_writer=spool_writer,
            spool=spool_port,
            queue=BeaconQueue(settings.queue_max_beacons, metrics),
            events=repairs.events,
            metrics=metrics,
        )
        self.recorder = Recorder(settings.sites.values(), outlets, repairs, periods, clock.monotonic)
        self.reconciler = Reconciler(settings.keep_max_bytes, self.recorder, stores, spool_writer, repairs, metrics)
        self.steps: dict[str, asyncio.Task[Any]] = {}
        world.disk.model.files[name] = SpoolFile()

    def begin(self, call: Call) -> None:
        """Take note of a call that is on its way."""
        self.world.calls.append(call)

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Start something that ends with this worker."""
        return self._context.copy().run(self.world.loop.create_task, coroutine)

    def step(self, name: str, step: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Start a step of the background work, unless the one before is not done yet."""
        running = self.steps.get(name)
        if running is None or running.done():
            self.steps[name] = self.run(step())

    def start(self) -> None:
        """As `open_sites` does it."""
        for delivery in self.recorder.sites.values():
            self.run(delivery.probe())

    async def copy(self) -> None:
        """As `Services.copy` does it."""
        await self.rollup.step()
        await self.reconciler.step()
        if not self.program.older:
            await self.page_folding.step()

    async def close(self) -> None:
        """Stop gracefully, as `serve` does it: what is under way first."""
        await self.recorder.settle()
        await self.reconciler.put_on_disk()
        await asyncio.gather(*self.steps.values())
        await self.rollup.step(is_last=True)
        await self.reconciler.close()
        await self.opener.close()
        await self.spool.close()

    def end(self) -> None:
        """Stop at once, wherever it is: nothing of it runs any more, and its file is free."""
        self.alive = False
        for task in list(self.tasks):
            task.cancel()
        self.world.loop.settle()
        if self.name in self.disk.model.files:
            self.disk.model.files[self.name].held = False

    @property
    def forgot(self) -> bool:
        """Whether it dropped batches for room."""
        return bool(self.metrics.registry.get_sample_value("footfall_forgotten_batches_total"))

    def ended(self, task: asyncio.Task[Any]) -> None:
        """Keep what no part of a worker may end with."""
        self.tasks.discard(task)
        if not task.cancelled() and not isinstance(error := task.exception(), StoreUnavailable | None):
            self.errors.append(error)


@dataclass
class Sent:
    """A beacon in the ledger; its id is the visitor's, who sends no other."""

    id: bytes
    day: date
    view: bool
    worker: Worker
    page: str = ""
    """Of a view; empty for a page that is not of the site."""
    outcome: str = "waiting"
    """waiting, ok (200 or 202), refused (certainly not counted), or unknown."""
    risked: bool = False
    """Redis has lost data since."""
    logs_lost: bool = False
    """Redis has lost the logs of its day since; the day's sketch may know the visitor all the same."""
    saved: bool = False
    """Postgres has had the visitor."""
    ended: bool = False
    """Redis has let it go since, with its page."""
    view_lost: bool = False
    """Postgres went back, and no Redis had the visitor any more; a worker may bring back a batch without the view."""
    page_lost: bool = False
    """Postgres went back after its page was in no Redis any more; its day may have been there again."""
    excused: bool = False
    """Lost in a way that is not promised against."""
    sent_s: float = 0.0
    attempts: list[Worker] = field(default_factory=list)
    """Whom its page sent it to: the first time, and again where the page heard no answer."""
    waiting: list[Worker] = field(default_factory=list)
    """Those that have not answered."""
    uncertain: bool = False
    """An attempt ended without saying whether it counts."""
    disturbances: int = 0
    """How many the world had seen when it was sent."""
    doubtful: bool = False
    """Something else failed, besides the page's connection, before all attempts were answered."""
    sides: set[Server] = field(default_factory=set)
    """Where its workers count: while Redis is split, each side knows only the views that it has counted itself."""

    @property
    def views_at_most(self) -> int:
        """As often as it may count; after two failures at once a repeat is not always recognised."""
        return int(self.view) * (len(self.attempts) if self.doubtful else max(1, len(self.sides)))

    def end(self, worker: Worker, *, stored: bool, certain: bool = True) -> None:
        """Note how an attempt ended."""
        self.waiting.remove(worker)
        self.uncertain |= not certain
        if stored:
            self.outcome = "ok"
        elif not self.waiting and self.outcome != "ok":
            self.outcome = "unknown" if self.uncertain else "refused"


@dataclass
class PageJournal:
    """What operators did to pages, in the ledger's words."""

    starting: dict[str, Mapping[str, int]] = field(default_factory=dict)
    """The starting numbers of each import."""
    shown: dict[str, str] = field(default_factory=dict)
    """Where the views of a page are shown."""

    def shown_as(self, page: str) -> str:
        """Return the page as which the views of a page are shown."""
        return self.shown.get(page, page)

    def move(self, old: str, new: str) -> None:
        """Show `old` where `new` is shown; to itself, or where `new` was shown as `old`, a page is one again."""
        if old == new or self.shown_as(new) == old:
            self.shown.pop(new, None)
        if old != new:
            target = self.shown_as(new)
            shown_here = [page for page, shown_as in self.shown.items() if shown_as == old]
            self.shown |= dict.fromkeys([old, *shown_here], target)

    @property
    def starting_views(self) -> Counter[str]:
        """The starting numbers of each page, all imports together."""
        views = Counter[str]()
        for pages in self.starting.values():
            views.update(pages)
        return views


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
    imports: ImportLedger = field(default_factory=ImportLedger)
    journal: PageJournal = field(default_factory=PageJournal)
    neighbours_ledger: list[tuple[Site, Sent]] = field(default_factory=list)
    """Views of the other sites."""
    disturbances: int = 0

    def __post_init__(self) -> None:
        self._same_us: Counter[int] = Counter()
        self.redis = [Server(RedisModel(self.clock, self.now_us))]
        self.postgres = Server(PostgresModel(self.now_us, "a1b2c3d4e5f6"))
        self.postgres.model.pages.young_days = PAGES_KEPT_DAYS
        self.disk = Server(DiskModel(rows_max=1000))
        self._born = 0

    def now_us(self) -> int:
        """The servers' clocks, in microseconds: two things never happen in the same one."""
        now_us = int(self.clock() * 1e6)
        self._same_us[now_us] += 1
        return now_us + self._same_us[now_us] - 1

    @property
    def site(self) -> Site:
        """The site that all promises are about."""
        return next(iter(self.settings.sites.values()))

    @property
    def neighbours(self) -> list[Site]:
        """The sites that are rolled up with it."""
        return list(self.settings.sites.values())[1:]

    def send_to_neighbours(self, worker: Worker) -> None:
        """A view of each of them, from a visitor of its own."""
        for site in self.neighbours:
            number = 1 << 64 | len(self.neighbours_ledger)
            sent = Sent(number.to_bytes(16, "big"), local_day(self.clock(), site.zone), True, worker)
            self.neighbours_ledger.append((site, sent))
            self._attempt(worker, sent, site)

    def start_worker(self, redis: Server | None = None, *, older: bool = False) -> Worker:
        """Begin a process."""
        self._born += 1
        program = Program(older=older, exact_up_to=self.site.exact_up_to)
        worker = Worker(self, f"w{self._born:03}", redis or self.redis[0], program)
        self.workers.append(worker)
        worker.start()
        return worker

    def end_worker(self, worker: Worker) -> None:
        """Take a process away; what it had sent may arrive still."""
        self.workers.remove(worker)
        worker.end()
        self.late += [call for call in self.calls if call.worker is worker and call.store != "spool"]
        self.calls = [call for call in self.calls if call.worker is not worker]
        for sent in [*self.ledger, *(sent for _, sent in self.neighbours_ledger)]:
            while worker in sent.waiting:
                sent.end(worker, stored=False, certain=False)

    def send(self, worker: Worker, *, view: bool) -> None:
        """A page sends a beacon, from a visitor of its own."""
        day = local_day(self.clock(), self.site.zone)
        number = len(self.ledger)
        sent = Sent(number.to_bytes(16, "big"), day, view, worker, PAGES[number % len(PAGES)] if view else "")
        self.ledger.append(sent)
        sent.sent_s, sent.disturbances = self.clock(), self.disturbances
        self._attempt(worker, sent, self.site)

    def send_again(self, worker: Worker, sent: Sent) -> None:
        """A page that heard no answer sends its view once more."""
        if sent.outcome != "ok":
            sent.outcome = "waiting"
        sent.doubtful |= sent.disturbances != self.disturbances or worker.program.older or sent.worker.program.older
        self._attempt(worker, sent, self.site)

    def disturb(self) -> None:
        """Something has failed besides the connection of a page."""
        self.disturbances += 1
        ended = {call.worker for call in self.late}  # what these had sent may outlast the ids of its views
        for sent in self.ledger:
            sent.doubtful |= bool(sent.waiting) or not ended.isdisjoint(sent.attempts)

    def _attempt(self, worker: Worker, sent: Sent, site: Site) -> None:
        is_repeat = bool(sent.attempts)
        sent.attempts.append(worker)
        sent.waiting.append(worker)
        sent.sides.add(worker.redis)
        view = View(sent.page, sent.id[-8:], is_repeat) if sent.view else None
        worker.run(self._await(worker, sent, site, view))

    async def _await(self, worker: Worker, sent: Sent, site: Site, view: View | None) -> None:
        try:
            stored_in = await worker.recorder.record(site, sent.day, sent.id, None, view)
        except Refused as refused:
            sent.end(worker, stored=False, certain=refused.reason in (Reason.BUSY, Reason.NOT_READY))
        else:
            sent.doubtful |= stored_in is StoredIn.DISK  # Redis was away, and the disk keeps no ids
            sent.end(worker, stored=True)

    def deliver(self, count: int) -> None:
        """Let the oldest calls arrive, and what follows from them."""
        for _ in range(count):
            if not self.calls:
                return
            self.calls.pop(0).arrive()
            self.loop.settle()

    def deliver_until(self, worker: Worker, what: str) -> None:
        """Let the oldest calls arrive until one of this kind has, of this worker; at most some dozens."""
        for _ in range(30):
            if not self.calls:
                return
            last = self.calls.pop(0)
            last.arrive()
            self.loop.settle()
            if (last.worker, last.what) == (worker, what):
                return

    def close(self) -> None:
        """End everything."""
        for worker in list(self.workers):
            self.end_worker(worker)
        self.loop.close()


def settings_of(folder: Path, keep_max_bytes: int, exact_up_to: int = EXACT_UP_TO, neighbours: int = 0) -> Settings:
    """One site, and some that are rolled up with it.

    The bounds are smaller than an operator may choose, so that a short run meets them.
    """
    settings = Settings.model_validate(
        {
            "sites": {
                name: {"name": name, "hosts": [f"{name}.example.vn"], "exact_up_to": exact_up_to}
                for name in ("portal", *(f"neighbour-{number}" for number in range(neighbours)))
            },
            "data_dir": folder,
        }
    )
    sites = {name: _forgets_pages_early(site) for name, site in settings.sites.items()}
    return settings.model_copy(update={"sites": sites, "keep_max_bytes": keep_max_bytes, "queue_max_beacons": 400})


def _forgets_pages_early(site: Site) -> Site:
    """Return the site with fewer days than its settings allow, so that a run sees days of pages folded."""
    early = copy(site)
    object.__setattr__(early, "pages_kept_days", PAGES_KEPT_DAYS)
    return early
