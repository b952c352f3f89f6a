"""The parent of the workers: starts them on listeners that it holds open, and replaces those that end.

Workers are spawned, not forked, and inherit the listening sockets: old and new workers accept from one queue,
so a restart refuses no visitor. SIGHUP reads the settings again and replaces the workers one by one; settings
with a mistake change nothing.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NoReturn

from footfall._compat_processes import start_resource_tracker, stop_resource_tracker
from footfall.errors import SettingsError, Stop
from footfall.log_throttle import LogThrottle
from footfall.process.systemd import READY, notify, reloading
from footfall.process.task import Task
from footfall.process.worker_process import WorkerProcess
from footfall.settings.settings import Settings

logger = logging.getLogger(__name__)

RESTART_AFTER_S = 1.0
FIXED = ("listen", "ops_listen", "data_dir", "workers")
"""Settings that only a new start of Footfall changes: the parent has opened what they name."""


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
        self._started_s = time.time()
        self._workers: list[WorkerProcess] = []
        self._missing: set[WorkerProcess] = set()
        """Those of them that ended, and of whose end the log has a line."""
        self._failed_starts = LogThrottle()

    async def run(self, load: Callable[[], Settings], reload: asyncio.Event, ready: Callable[[], None]) -> NoReturn:
        """Run until cancelled, then stop all workers; `reload` asks for new settings, which `load` reads.

        Calls `ready` when the first workers serve; raises Stop when one of them cannot.
        """
        try:
            for worker in [self._spawn() for _ in range(self._count)]:
                await worker.until_ready()
            ready()
            while True:
                await self._until_something_happens(reload)
                if reload.is_set():
                    reload.clear()
                    await self._reload(load)
                await self._replace_ended()
        finally:
            # The workers have their own copies; left open here, connections would be accepted that no process answers.
            for listener in (self._public, self._ops):
                listener.close()
            await asyncio.gather(*(worker.stop(is_last=True) for worker in self._workers))
            stop_resource_tracker()

    async def _until_something_happens(self, reload: asyncio.Event) -> None:
        events = [asyncio.create_task(event.wait()) for event in (reload, *(w.ended for w in self._workers))]
        try:
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for event in events:
                event.cancel()

    async def _reload(self, load: Callable[[], Settings]) -> None:
        notify(reloading())
        try:
            await self._replace_all(load)
        finally:
            notify(READY)

    async def _replace_all(self, load: Callable[[], Settings]) -> None:
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
                await self._add_worker()
            except Stop as error:
                self._settings = before
                logger.error("No worker starts with the new settings; the old ones stay. error=%s", error)
                return
            await old.stop()
            self._workers.remove(old)
        logger.info("The settings were read again and the workers replaced. workers=%d", self._count)

    async def _replace_ended(self) -> None:
        for worker in [worker for worker in self._workers if worker.ended.is_set()]:
            if worker not in self._missing:
                self._missing.add(worker)
                logger.error("A worker ended and is replaced. pid=%s status=%s", worker.pid, worker.exit_status)
            await asyncio.sleep(RESTART_AFTER_S)
            try:
                await self._add_worker()
            except Stop as error:
                if times := self._failed_starts.happened():
                    logger.error("The new worker does not start; Footfall tries again. times=%d error=%s", times, error)
            else:
                self._workers.remove(worker)
        self._missing.intersection_update(self._workers)

    async def _add_worker(self) -> None:
        """Start one more worker and wait until it serves; raises Stop where it does not."""
        worker = self._spawn()
        try:
            await worker.until_ready()
        except Stop:
            self._workers.remove(worker)
            raise

    def _spawn(self) -> WorkerProcess:
        """Start a worker in a slot that no living worker has."""
        # Otherwise the worker's start starts the tracker, which unblocks SIGINT for that worker.
        start_resource_tracker()
        taken = {worker.slot for worker in self._workers if not worker.ended.is_set()}
        slot = next(number for number in count() if number not in taken)
        worker = WorkerProcess(
            Task(self._settings, self._public, self._ops, self._metrics_folder, slot, self._started_s, self._count)
        )
        self._workers.append(worker)
        return worker
