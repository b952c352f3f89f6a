"""How Footfall speaks with systemd: it says when it is ready, and takes over a socket that systemd holds open.

Both are a few bytes (sd_notify(3), sd_listen_fds(3)); without systemd they do nothing.
"""

import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path

from footfall.errors import Stop
from footfall.settings.sources import PREFIX

FIRST_FD = 3
READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(*lines: str) -> None:
    """Send what changed to the manager that started this process, if it asked for it."""
    if not (path := os.environ.get("NOTIFY_SOCKET", "")):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto("\n".join(lines).encode(), address)


def reloading() -> str:
    """Return the line that says that the settings are read again; `READY` ends it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def inherited_socket(environ: MutableMapping[str, str]) -> socket.socket | None:
    """Return the listening socket that systemd passes to this process, and forget that it did; None without one.

    Raises Stop where it is not one stream socket that listens.
    """
    count, pid = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if not count.isdecimal() or not int(count) or pid != str(os.getpid()):
        return None
    if int(count) > 1:
        raise Stop("systemd passes more than one socket: give footfall.socket one ListenStream=, for FOOTFALL_LISTEN.")
    try:
        inherited = socket.socket(fileno=FIRST_FD)
        listens = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise Stop(f"What systemd passes as a socket is none: {error.strerror}.") from error
    if not listens or inherited.type != socket.SOCK_STREAM:
        raise Stop("The socket that systemd passes does not listen: footfall.socket needs ListenStream= and Accept=no.")
    inherited.set_inheritable(False)
    inherited.setblocking(False)
    return inherited


def changed_variables(pid: int, environ: Mapping[str, str]) -> list[str]:
    """Return the names of our variables that process `pid` started with otherwise; none where it cannot be looked at.

    systemd reads footfall.env again for each command that it runs, and a running process keeps what it started with.
    """
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
    theirs = dict(entry.decode(errors="surrogateescape").partition("=")[::2] for entry in entries)
    ours = {name for name in (*theirs, *environ) if name.startswith(PREFIX)}
    return sorted(name for name in ours if theirs.get(name) != environ.get(name))
