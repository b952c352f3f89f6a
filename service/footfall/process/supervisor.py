"""The parent of the workers: starts them on listeners that it holds open, and replaces what dies.

Workers are started afresh (spawned, not forked) and inherit the listening sockets, so that old and new ones
accept from one queue and a restart refuses nobody. A worker ends when it is told to (SIGTERM), or when its
parent is gone. SIGHUP reads the settings again and replaces the workers one by one; bad settings change nothing.
"""

import asyncio
import logging
import multiprocessing
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NoReturn

from footfall._compat import start_resource_tracker
from footfall.errors import SettingsError, Stop
from footfall.metrics.multiprocess import free_slot
from footfall.process.worker import Task, run_worker
from footfall.settings.settings import Settings

logger = logging.getLogger(__name__)

READY_MAX_S = 60.0
STOP_MAX_S = 60.0
RESTART_AFTER_S = 1.0
FIXED = ("listen", "ops_listen", "data_dir")
"""Settings that stay as they were at the start of the parent, which opened what they name."""

SPAWN = multiprocessing.get_context("spawn")


@dataclass(eq=False)
class Worker:
    """One worker process, and what it says of itself."""

    process: SpawnProcess
    pipe: Connection
    """Open as long as the parent lives; the worker says there that it serves, or why it cannot."""
    slot: int
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """It serves, or never will."""
    failure: Stop | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Keeps a number of workers running on one pair of listeners."""

    def __init__(
        self, settings: Settings, workers: int, public: socket.socket, ops: socket.socket, metrics_folder: Path
    ) -> None:
        self._settings = settings
        self._count = workers
        self._public = public
        self._ops = ops
        self._metrics_folder = metrics_folder
        self._workers: list[Worker] = []

    async def run(self, load: Callable[[], Settings], reload: asyncio.Event, ready: Callable[[], None]) -> NoReturn:
        """Run until cancelled, then stop all workers; `reload` asks for new settings, which `load` reads.

        Calls `ready` when the first workers serve; raises Stop when one of them cannot.
        """
        start_resource_tracker()  # else it starts beside the first worker and unblocks its signals
        try:
            for worker in [self._spawn() for _ in range(self._count)]:
                await self._until_ready(worker)
            ready()
            while True:
                await self._until_something_happens(reload)
                if reload.is_set():
                    reload.clear()
                    await self._reload(load)
                await self._replace_ended()
        finally:
            await asyncio.gather(*map(self._stop, self._workers))

    async def _until_something_happens(self, reload: asyncio.Event) -> None:
        events = [asyncio.create_task(event.wait()) for event in (reload, *(w.ended for w in self._workers))]
        try:
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for event in events:
                event.cancel()

    async def _reload(self, load: Callable[[], Settings]) -> None:
        before = self._settings
        try:
            self._settings = load()
        except SettingsError as error:
            logger.error("The new settings cannot be used; the old ones stay. problems=%s", " ".join(error.problems))
            return
        if fixed := [name for name in FIXED if getattr(before, name) != getattr(self._settings, name)]:
            logger.warning("Some new settings wait for the next start of Footfall. settings=%s", ",".join(fixed))
        for old in list(self._workers):
            try:
                await self._until_ready(self._spawn())
            except Stop as error:
                self._settings = before
                logger.error("No worker starts with the new settings; the old ones stay. error=%s", error)
                return
            await self._stop(old)
            self._workers.remove(old)
        logger.info("The settings were read again and the workers replaced. workers=%d", self._count)

    async def _replace_ended(self) -> None:
        for worker in [worker for worker in self._workers if worker.ended.is_set()]:
            logger.error(
                "A worker ended and is replaced. pid=%s status=%s", worker.process.pid, worker.process.exitcode
            )
            await asyncio.sleep(RESTART_AFTER_S)
            try:
                await self._until_ready(self._spawn())
            except Stop as error:
                logger.error("The new worker does not start; it is tried again. error=%s", error)
            else:
                self._workers.remove(worker)

    def _spawn(self) -> Worker:
        """Start a worker, in a slot that no living one has."""
        taken = {worker.slot for worker in self._workers if not worker.ended.is_set()}
        slot = next(number for number in count() if number not in taken)
        ours, theirs = SPAWN.Pipe()
        task = Task(self._settings, self._public, self._ops, self._metrics_folder, slot)
        process = SPAWN.Process(target=run_worker, args=(task, theirs))
        with _signals_of_the_terminal_blocked():
            process.start()
        theirs.close()
        worker = Worker(process, ours, slot)
        self._workers.append(worker)
        loop = asyncio.get_running_loop()
        loop.add_reader(ours.fileno(), self._hear, worker)
        loop.add_reader(process.sentinel, self._has_ended, worker)
        return worker

    async def _until_ready(self, worker: Worker) -> None:
        """Wait until a new worker serves; one that does not is stopped and forgotten, and Stop says why."""
        try:
            async with asyncio.timeout(READY_MAX_S):
                await worker.heard.wait()
        except TimeoutError:
            worker.failure = Stop("A worker did not get ready in time; its log lines say why.", 1)
        if worker.failure is not None:
            await self._stop(worker)
            self._workers.remove(worker)
            raise worker.failure

    def _hear(self, worker: Worker) -> None:
        try:
            said = worker.pipe.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(worker.pipe.fileno())
            return
        if said is not None:
            worker.failure = Stop(*said)
        worker.heard.set()

    def _has_ended(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        self._hear(worker)  # its last words may still be in the pipe
        loop.remove_reader(worker.process.sentinel)
        loop.remove_reader(worker.pipe.fileno())
        worker.process.join()
        worker.pipe.close()
        free_slot(self._metrics_folder, worker.slot)
        if not worker.heard.is_set():
            worker.failure = Stop("A worker died while it started; its log lines say why.", 1)
            worker.heard.set()
        worker.ended.set()

    async def _stop(self, worker: Worker) -> None:
        if worker.ended.is_set():
            return
        worker.process.terminate()
        try:
            async with asyncio.timeout(STOP_MAX_S):
                await worker.ended.wait()
        except TimeoutError:
            logger.error("A worker does not end and is killed. pid=%s", worker.process.pid)
            worker.process.kill()
            await worker.ended.wait()


@contextmanager
def _signals_of_the_terminal_blocked() -> Iterator[None]:
    """A process that is started meanwhile never gets them, not even while it imports: the parent alone decides."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
