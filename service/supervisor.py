"""The parent of the workers: opens the listeners once, starts workers on them, replaces what dies.

Workers are started afresh (spawned, not forked) and inherit the listening sockets, so that old and new ones
accept from one queue and a restart refuses nobody. A worker ends when it is told to (SIGTERM), or when its
parent is gone. SIGHUP reads the settings again and replaces the workers one by one; bad settings change nothing.
"""

import asyncio
import contextlib
import errno
import logging
import multiprocessing
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from service.app import serve
from service.config import Listen, Settings, parse_listen
from service.errors import SettingsError, Stop

log = logging.getLogger(__name__)

READY_MAX_S = 60
STOP_MAX_S = 60
RESTART_AFTER_S = 1
TAKEN_WAIT_S = 3
"""A worker whose parent was killed needs a moment to let go of the port."""

SPAWN = multiprocessing.get_context("spawn")


@dataclass(eq=False)
class Worker:
    """One worker process, and what it says of itself."""

    process: SpawnProcess
    pipe: Connection
    """Open as long as the parent lives; the worker says there when it is ready, or why it cannot be."""
    ready: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Keeps `count` workers running on one pair of listeners."""

    def __init__(self, settings: Settings, count: int, public: socket.socket, ops: socket.socket) -> None:
        self._settings = settings
        self._count = count
        self._listeners = (public, ops)
        self._workers: list[Worker] = []
        self._stopping = asyncio.Event()

    async def run(self, reload: Callable[[], Settings], ready: Callable[[], None]) -> None:
        """Run until SIGTERM or SIGINT; raises Stop when the first workers cannot start."""
        loop = asyncio.get_running_loop()
        reloading = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, reloading.set)
        try:
            await asyncio.gather(*[self._start() for _ in range(self._count)])
            if not self._stopping.is_set():
                ready()
            while not self._stopping.is_set():
                await self._wait_for_event(reloading)
                if reloading.is_set():
                    reloading.clear()
                    await self._reload(reload)
                await self._replace_dead()
        finally:
            await asyncio.gather(*map(self._stop, self._workers))

    async def _wait_for_event(self, reloading: asyncio.Event) -> None:
        events = [self._stopping, reloading, *(worker.ended for worker in self._workers)]
        tasks = [asyncio.create_task(event.wait()) for event in events]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

    async def _reload(self, load: Callable[[], Settings]) -> None:
        try:
            self._settings = load()
        except SettingsError as error:
            log.error(
                "The new settings cannot be used; the old ones stay. problems=%s", "; ".join(error.problems)
            )
            return
        old = list(self._workers)
        for worker in old:
            try:
                await self._start()
            except Stop as error:
                log.error("A worker with the new settings does not start; the old one stays. error=%s", error)
                return
            await self._stop(worker)
        log.info("The settings were read again and all workers replaced. workers=%d", len(old))

    async def _replace_dead(self) -> None:
        for worker in [worker for worker in self._workers if worker.ended.is_set()]:
            self._workers.remove(worker)
            if self._stopping.is_set():
                continue
            log.error(
                "A worker died and is replaced. pid=%s status=%s", worker.process.pid, worker.process.exitcode
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), RESTART_AFTER_S)
            try:
                await self._start()
            except Stop as error:
                log.error("The new worker does not start; it is tried again. error=%s", error)

    async def _start(self) -> None:
        """Start one worker and wait until it serves."""
        loop = asyncio.get_running_loop()
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=run_worker, args=(self._settings, *self._listeners, theirs))
        process.start()
        theirs.close()
        worker = Worker(process, ours)
        self._workers.append(worker)
        loop.add_reader(ours.fileno(), self._hear, worker)
        loop.add_reader(process.sentinel, self._has_ended, worker)
        done, _ = await asyncio.wait([worker.ready], timeout=READY_MAX_S)
        if not done:
            raise Stop("A worker did not get ready in time; its log lines above say why.", 1)
        worker.ready.result()

    def _hear(self, worker: Worker) -> None:
        try:
            said = worker.pipe.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(worker.pipe.fileno())
            return
        if worker.ready.done():
            return
        if said is None:
            worker.ready.set_result(None)
        else:
            worker.ready.set_exception(Stop(*said))

    def _has_ended(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        self._hear(worker)  # its last words may be still in the pipe
        loop.remove_reader(worker.process.sentinel)
        loop.remove_reader(worker.pipe.fileno())
        worker.process.join()
        if not worker.ready.done():
            if self._stopping.is_set():
                worker.ready.set_result(None)
            else:
                worker.ready.set_exception(
                    Stop("A worker died while starting; its log lines above say why.", 1)
                )
        worker.ended.set()

    async def _stop(self, worker: Worker) -> None:
        if not worker.ended.is_set():
            worker.process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(worker.ended.wait(), STOP_MAX_S)
        if not worker.ended.is_set():
            log.error("A worker does not end and is killed. pid=%s", worker.process.pid)
            worker.process.kill()
            await worker.ended.wait()
        worker.pipe.close()


def run_worker(settings: Settings, public: socket.socket, ops: socket.socket, parent: Connection) -> None:
    """Serve in this process until SIGTERM, or until the parent is gone."""
    # A terminal sends Ctrl-C to every process of the group; the parent alone decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start_logging()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_work(settings, public, ops, parent))
    except Stop as stop:
        parent.send((str(stop), stop.status))


async def _work(settings: Settings, public: socket.socket, ops: socket.socket, parent: Connection) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_reader(parent.fileno(), stopping.set)  # nothing is ever sent: readable means closed
    await serve(settings, public, ops, lambda: parent.send(None), stopping.wait())
    loop.remove_reader(parent.fileno())


def start_logging() -> None:
    """One line per event on standard error: time, level, where, what."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )


async def listen(setting: str) -> socket.socket:
    """Open a listening socket; raises Stop with a sentence where the address cannot be used."""
    where = parse_listen(setting)
    for attempt in range(TAKEN_WAIT_S * 10):
        try:
            return _bind(where)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or attempt == TAKEN_WAIT_S * 10 - 1:
                raise Stop(
                    f"Footfall cannot listen on {setting}: {error.strerror}."
                    " Stop what uses it, or set FOOTFALL_LISTEN and FOOTFALL_OPS_LISTEN to other addresses."
                ) from error
        await asyncio.sleep(0.1)
    raise AssertionError


def _bind(where: Listen | Path) -> socket.socket:
    if isinstance(where, Path):
        where.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(where))
    else:
        family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((where.host, where.port))
    sock.listen(1024)
    sock.setblocking(False)
    return sock


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
