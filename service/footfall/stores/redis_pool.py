"""The connections to Redis that are kept open, each looked at before anything is written on it."""

from typing import Any
from weakref import WeakKeyDictionary

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection

from footfall._compat import stream_of


class RedisPool(ConnectionPool):
    """A pool that replaces a connection which has ended, or which is as old as a failure, before a call gets it.

    Nothing was written on such a connection, so nothing can be applied twice.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._failures = 0
        self._trusted: WeakKeyDictionary[AbstractConnection, int] = WeakKeyDictionary()
        """How many failures there had been when a connection was last found well."""

    def doubt(self) -> None:
        """Replace every connection of now before its next use: one has failed, and the server may be another one."""
        self._failures += 1

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Make a connection ready for a call, as a new one where it has ended or is in doubt."""
        if self._trusted.get(connection) != self._failures or has_ended(connection):
            await connection.disconnect(nowait=True)
        failures = self._failures
        await super().ensure_connection(connection)
        self._trusted[connection] = failures


def has_ended(connection: AbstractConnection) -> bool:
    """Return whether the other side has closed or reset a connection, as far as this process has heard of it."""
    stream = stream_of(connection)
    return stream is not None and (stream.at_eof() or stream.exception() is not None)
