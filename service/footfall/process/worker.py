"""One worker process: it serves on inherited listeners until SIGTERM, or until its parent dies."""

import asyncio
import resource
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import Connection

from footfall.background import StepFailures, repeat
from footfall.errors import Stop, StoreUnavailable
from footfall.http.server import FILES_MAX
from footfall.log_lines import start_logging
from footfall.metrics.multiprocess import FLUSH_EVERY_S, Slot
from footfall.process.app import Life, serve
from footfall.process.task import LAST, Task

FILES_OF_MACOS = 10_240
"""Some versions of macOS refuse a higher limit, although they report that they allow one."""


def run_worker(task: Task, parent: Connection) -> None:
    """Serve in this process; send `parent` None once the worker serves, or the reason (sentence, exit status)."""
    start_logging(task.settings.log_format, task.settings.log_level)
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
    loop.add_reader(parent.fileno(), stopping.set)  # the parent died, or stops all workers and says so
    slot = Slot(task.metrics_folder, task.slot)
    slot.metrics.workers_configured.set(task.workers)
    ended = asyncio.Event()
    failures = StepFailures(slot.metrics.note_step)
    flushing = asyncio.create_task(repeat("flush_metrics", slot.flush, FLUSH_EVERY_S, ended, failures))

    def ready() -> None:
        with suppress(OSError):  # the reader above notices that the parent died
            parent.send(None)

    life = Life(ready, stopping, partial(_is_told_the_end, parent), task.service_started_s)
    try:
        await serve(task.settings, slot.metrics, failures, (task.public, task.ops), life)
    finally:
        loop.remove_reader(parent.fileno())
        ended.set()
        await flushing
        slot.close()
        # A killed parent could not remove its folder.
        if (process := parent_process()) and not process.is_alive():
            shutil.rmtree(task.metrics_folder, ignore_errors=True)


def _is_told_the_end(parent: Connection) -> bool:
    """Return whether the parent said that Footfall as a whole stops; a parent that died could not say it."""
    try:
        return parent.poll() and parent.recv() == LAST
    except (EOFError, OSError):
        return False


def allow_more_files() -> None:
    """Raise the limit of open files from a login shell's, often 1,024 or 256, as far as the system allows."""
    files, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (FILES_MAX, FILES_OF_MACOS):
        raised = wanted if allowed == resource.RLIM_INFINITY else min(wanted, allowed)
        if files == resource.RLIM_INFINITY or files >= raised:
            return
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, allowed))
            return


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 (not every system has it)
    except ImportError:
        return None
    return uvloop.new_event_loop
