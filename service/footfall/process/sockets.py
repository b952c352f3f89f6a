"""The listening sockets: opened once, before anything else starts; the workers inherit them."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from footfall.errors import Stop
from footfall.settings.settings import Listen, parse_listen

TAKEN_WAIT_S = 3.0
"""A worker whose parent was killed needs a moment to close the address."""
RETRY_EVERY_S = 0.1
BACKLOG = 1024
"""Connections that the system accepts before a worker does."""


@asynccontextmanager
async def listening(setting: str, variable: str) -> AsyncIterator[socket.socket]:
    """Open a listening socket on `setting`, the value of `variable`; at the end close it and remove its file.

    Raises Stop where the address cannot be used, or is still in use after `TAKEN_WAIT_S`.
    """
    where = parse_listen(setting)
    try:
        listener = await _bind_patiently(where)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        advice = "stop what uses it or set" if taken else "set"
        raise Stop(
            f"Footfall cannot listen on {setting}: {error.strerror or error}; {advice} {variable} to another address."
        ) from error
    identity = where.stat().st_ino if isinstance(where, Path) else 0
    try:
        yield listener
    finally:
        listener.close()
        if isinstance(where, Path):
            with suppress(OSError):
                if where.stat().st_ino == identity:  # a later Footfall may have made its own
                    where.unlink()


def url_of(listener: socket.socket) -> str:
    """Return the address to type for a listener, with the port that the system chose."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    return f"http://{Listen(reachable_host(host), port)}"


def reachable_host(host: str) -> str:
    """Return the host that reaches a listener on `host` from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


async def _bind_patiently(where: Listen | Path) -> socket.socket:
    deadline = asyncio.get_running_loop().time() + TAKEN_WAIT_S
    while True:
        try:
            return _bind_path(where) if isinstance(where, Path) else _bind_port(where)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(RETRY_EVERY_S)


def _bind_port(where: Listen) -> socket.socket:
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((where.host, where.port))
        return _listen(listener)
    except OSError:
        listener.close()
        raise


def _bind_path(path: Path) -> socket.socket:
    _remove_leftover(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        # Each client's forwarding header is believed here, so only our group may connect: the web server belongs to it.
        path.chmod(0o660)
        return _listen(listener)
    except OSError:
        listener.close()
        raise


def _listen(listener: socket.socket) -> socket.socket:
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _remove_leftover(path: Path) -> None:
    """Remove the socket of a killed process; leave a file, and a socket on which a process answers."""
    if not path.exists():
        return
    if not path.is_socket():
        raise FileExistsError(errno.EEXIST, "something else than a socket is there")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except BlockingIOError:
            return  # its process lives, but is too busy to accept
