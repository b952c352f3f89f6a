"""One worker process: serves on listeners that it inherited, until it is told to stop or its parent is gone."""

import asyncio
import logging
import resource
import shutil
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path

from footfall.background import repeat
from footfall.errors import Stop, StoreUnavailable
from footfall.http.server import FILES_MAX
from footfall.metrics.multiprocess import FLUSH_EVERY_S, Slot
from footfall.process.app import serve
from footfall.settings.settings import Settings

FILES_OF_MACOS = 10_240
"""More than this some of its versions refuse, whatever they say is allowed."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is started with. It is sent to the new process, sockets included."""

    settings: Settings
    public: socket.socket
    ops: socket.socket
    metrics_folder: Path
    slot: int


def run_worker(task: Task, parent: Connection) -> None:
    """Serve in this process; tell `parent` once it serves (None), or why it cannot (sentence, exit status)."""
    start_logging()
    allow_more_files()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_work(task, parent))
    except (Stop, StoreUnavailable) as error:
        with suppress(OSError):
            parent.send((str(error), error.status if isinstance(error, Stop) else 1))


async def _work(task: Task, parent: Connection) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_reader(parent.fileno(), stopping.set)  # nothing is ever sent: readable means closed
    slot = Slot(task.metrics_folder, task.slot)
    ended = asyncio.Event()
    flushing = asyncio.create_task(repeat(slot.flush, FLUSH_EVERY_S, ended))

    def ready() -> None:
        with suppress(OSError):  # a parent that is gone is noticed above
            parent.send(None)

    try:
        await serve(task.settings, slot.metrics, task.public, task.ops, ready, stopping.wait())
    finally:
        loop.remove_reader(parent.fileno())
        ended.set()
        await flushing
        slot.close()
        # A parent that was killed could not do it.
        if (process := parent_process()) and not process.is_alive():
            shutil.rmtree(task.metrics_folder, ignore_errors=True)


def allow_more_files() -> None:
    """Raise the number of connections from what a login shell gets, often 1,024 or 256, to what is allowed."""
    files, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (FILES_MAX, FILES_OF_MACOS):
        raised = wanted if allowed == resource.RLIM_INFINITY else min(wanted, allowed)
        if files == resource.RLIM_INFINITY or files >= raised:
            return
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, allowed))
            return


def start_logging() -> None:
    """One line per event on standard error: time, level, where, what."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - it does not exist for every system
    except ImportError:
        return None
    return uvloop.new_event_loop
