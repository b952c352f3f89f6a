"""A worker as its parent sees it: a process that reports that it serves, and ends."""

import asyncio
import logging
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from footfall.errors import Stop
from footfall.metrics.slots import free_slot
from footfall.process.spawned import run_spawned
from footfall.process.task import LAST, Task

logger = logging.getLogger(__name__)

READY_MAX_S = 60.0
STOP_MAX_S = 60.0

SPAWN = multiprocessing.get_context("spawn")


class WorkerProcess:
    """One worker process, started when this object is made."""

    def __init__(self, task: Task) -> None:
        self.ended = asyncio.Event()
        """Set once the process has ended and its slot is free."""
        self._task = task
        self._failure: Stop | None = None
        self._reported = asyncio.Event()
        """Set once the worker serves, or cannot serve any more; then `_failure` says why."""
        # The worker ends when its side of the pipe closes, which happens when this process dies.
        self._pipe, worker_side = SPAWN.Pipe()
        self._process = SPAWN.Process(target=run_spawned, args=(task, worker_side))
        with _terminal_signals_blocked():
            self._process.start()
        worker_side.close()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pipe.fileno(), self._read_report)
        loop.add_reader(self._process.sentinel, self._note_end)

    @property
    def slot(self) -> int:
        """Return the slot of its metrics."""
        return self._task.slot

    @property
    def pid(self) -> int | None:
        """Return the process id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Return the exit status: minus the signal's number after a signal, None while the process runs."""
        return self._process.exitcode

    async def until_ready(self) -> None:
        """Wait until the worker serves; where it does not, stop it and raise Stop with the reason."""
        try:
            async with asyncio.timeout(READY_MAX_S):
                await self._reported.wait()
        except TimeoutError:
            self._failure = Stop("A worker did not get ready in time; its log lines say why.", 1)
        if self._failure is not None:
            await self.stop()
            raise self._failure

    async def stop(self, *, is_last: bool = False) -> None:
        """End the process: by SIGTERM, and by SIGKILL after `STOP_MAX_S`; `is_last` where no other one follows."""
        if self.ended.is_set():
            return
        if is_last:
            with suppress(OSError):  # it may end just now
                self._pipe.send(LAST)
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_MAX_S):
                await self.ended.wait()
        except TimeoutError:
            logger.error("A worker does not end and is killed. pid=%s", self.pid)
            self._process.kill()
            await self.ended.wait()

    def _read_report(self) -> None:
        try:
            failure = self._pipe.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            return
        if failure is not None:
            self._failure = Stop(*failure)
        self._reported.set()

    def _note_end(self) -> None:
        loop = asyncio.get_running_loop()
        self._read_report()  # the pipe may still hold the reason
        loop.remove_reader(self._process.sentinel)
        loop.remove_reader(self._pipe.fileno())
        self._process.join()
        self._pipe.close()
        free_slot(self._task.metrics_folder, self.slot)
        if not self._reported.is_set():
            self._failure = Stop("A worker died while it started; its log lines say why.", 1)
            self._reported.set()
        self.ended.set()


@contextmanager
def _terminal_signals_blocked() -> Iterator[None]:
    """Block SIGINT and SIGHUP; a process inherits the block, so that the parent alone decides, even during imports."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
