"""The same as `_compat.py`, of multiprocessing: the parent of the workers needs this, and no library of a worker."""

import warnings
from multiprocessing import resource_tracker


def start_resource_tracker() -> None:
    """Start the process that multiprocessing starts beside its first spawned child.

    `multiprocessing.resource_tracker.ensure_running`, read in Python 3.11.7; not documented. Beside the first worker,
    its start would unblock SIGINT while the parent has SIGINT blocked. A public way, such as making a lock that is
    not needed, starts the tracker only as a side effect.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a tracker that was killed: it tracks nothing here, and begins anew
        resource_tracker.ensure_running()


def stop_resource_tracker() -> None:
    """End that process, and wait for its end.

    `ResourceTracker._stop`, read in Python 3.11.7; not documented. Otherwise the tracker would outlive its parent for a
    moment, in which systemd kills it, with a line in the journal.
    """
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]  # noqa: SLF001
