"""The first that the new process of a worker does; the parent imports no more of a worker than this."""

from multiprocessing.connection import Connection

from footfall.ingest.robots import compile_list
from footfall.process.task import Task


def run_spawned(task: Task, parent: Connection) -> None:
    """Run a worker in this process; send `parent` None once it serves, or the reason (sentence, exit status)."""
    compile_list()  # the memory that this takes for a moment serves the modules that are imported after it
    from footfall.process.worker import run_worker  # noqa: PLC0415

    run_worker(task, parent)
