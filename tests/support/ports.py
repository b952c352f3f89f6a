"""Ports for servers that cannot choose one themselves."""

import secrets
import socket

LOWEST, HIGHEST = 10_000, 32_000
"""Below those that the kernels of Linux and macOS give to connections: none takes a port while its server is away."""
_given: set[int] = set()


def free_port() -> int:
    """Return a port on loopback that is free now, and was not given before."""
    while True:
        port = LOWEST + secrets.randbelow(HIGHEST - LOWEST)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
