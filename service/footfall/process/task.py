"""What a worker's parent hands to the worker's new process."""

import socket
from dataclasses import dataclass
from pathlib import Path

from footfall.settings.settings import Settings

LAST = "last"
"""What the parent sends before it stops all workers."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker needs to start; pickled for the new process, sockets included."""

    settings: Settings
    public: socket.socket
    ops: socket.socket
    metrics_folder: Path
    slot: int
    service_started_s: float
    workers: int
    """How many workers should serve, this one among them."""
