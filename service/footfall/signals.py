"""Signals of child processes: what this process ignores, a child in a session of its own need not ignore too."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

INHERITED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
"""What `nohup`, and a shell for its background jobs, ignore for a process and for all its children."""


@contextmanager
def default_signals() -> Iterator[None]:
    """Let the children that start within the block have the default of each signal that this process ignores.

    It is for children in a session of their own, which no terminal reaches. Here such a signal still does nothing.
    A program starts with the default of what its parent handles, and ignores what its parent ignores; so for a moment
    the parent handles these signals. Only the main thread can.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignored = [number for number in INHERITED if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, _do_nothing)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


def _do_nothing(_number: int, _frame: object) -> None:
    pass
