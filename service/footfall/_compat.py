"""The one place, with `_compat_processes.py`, that uses parts of libraries which their documentation does not promise.

Each part has a name of ours, the version in which it was read, and the reason why there is no public way.
`tests/test_compat.py` has a canary for each; `pyproject.toml` has an upper bound for each library.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from operator import attrgetter, methodcaller
from typing import Any, Protocol

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.typedefs import Handler
from prometheus_client import Counter, Histogram, values
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from redis.asyncio.connection import AbstractConnection

RequestFactory = Callable[..., Any]

HttpConnection = web.RequestHandler
"""One connection of a server: `aiohttp.web.RequestHandler`, read in 3.14.5; exported, but not documented.

`http/server.py` overrides `connection_made`, `connection_lost`, `eof_received`, `pause_writing`, `resume_writing` and
`handle_error`. No public way limits connections before there is a request, ends those that do not read, or shapes the
answer to what is not HTTP.
"""

waits_for_request: Callable[[HttpConnection], asyncio.Future[None] | None] = attrgetter("_waiter")
"""What a connection without a request waits on, None while it has one: `RequestHandler._waiter`, read in 3.14.5.

The public `RequestHandler.close` drops the requests that were read and not answered yet.
"""

hold_reading: Callable[[HttpConnection], None] = methodcaller("_pause_reading_for_buffer")
release_reading: Callable[[HttpConnection], None] = methodcaller("_resume_reading_if_drained")
"""How aiohttp itself stops reading from a client while requests wait, and goes on: `RequestHandler`'s methods, read in
3.14.5. Its transport's own, which are public, would be undone, or would undo what aiohttp holds.
"""

HttpServer = web.Server
"""What makes the connections: `aiohttp.web.Server`, read in 3.14.5; the class is documented, these parts are not all.

`http/server.py` overrides `__call__`, which makes a connection, reads `connections`, the open ones, and closes them
with `pre_shutdown` and `shutdown`, as `web.AppRunner` closes the server that it makes itself.
"""

writer_of: Callable[[web.BaseRequest], AbstractStreamWriter] = attrgetter("writer")
"""What sends the answer to a request: `BaseRequest.writer`, read in 3.14.5; not documented.

The public way, `web.Response`, builds each answer's head anew, which costs as much as reading a request.
"""

handler_of: Callable[[web.Server | None], tuple[Handler, RequestFactory]] = attrgetter(
    "request_handler", "request_factory"
)
"""What answers the requests of an application, and what makes them: `Server.request_handler` and `.request_factory` of
the server of its `AppRunner`, read in 3.14.5; not documented.

The public way to put something around an application, a middleware, costs two coroutines more for every request.
"""


class MetricValue(Protocol):
    """What prometheus_client calls of one number of a metric."""

    def inc(self, amount: float) -> None: ...
    def set(self, value: float, timestamp: float | None = None) -> None: ...
    def get(self) -> float: ...


def keep_metric_values_in(make: Callable[..., MetricValue]) -> None:
    """Have every metric that is created from now on keep its numbers in what `make` returns.

    `prometheus_client.values.ValueClass`, read in 0.26.0. The public way, the environment's PROMETHEUS_MULTIPROC_DIR,
    names the files after processes, so that counters fall when a worker is replaced, and writes at every increment.
    """
    values.ValueClass = make


value_of: Callable[[Counter], MetricValue] = attrgetter("_value")
"""The number behind a counter: `Counter._value`, read in 0.26.0.

The public `inc` looks first whether the counter has labels and whether it falls, which takes thrice as long.
"""


class QuickHistogram(Histogram):
    """A histogram that finds the bucket by bisection: `Histogram._sum`, `._buckets`, `._upper_bounds`, read in 0.26.0.

    The public `observe` tries one bound after another, which costs a request more than all else that is measured.
    """

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Count `amount` in the first bucket whose bound it does not exceed; there are no exemplars here."""
        del exemplar
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)


MetricsFile = MmapedDict
"""A file of numbers that `MultiProcessCollector` reads: `prometheus_client.mmap_dict`, read in 0.26.0.

The collector is public, the format of its files is not: a writer of ours would have to copy it.
"""

metric_key = mmap_key
"""The key of a number in such a file: `prometheus_client.mmap_dict`, read in 0.26.0, for the same reason."""

stream_of: Callable[[AbstractConnection], asyncio.StreamReader | None] = attrgetter("_reader")
"""What a connection to Redis reads from, None while it is closed: `redis.asyncio.Connection._reader`, read in 8.1.0.

`stores/redis_pool.py` asks it whether the server has ended the connection. The public `can_read` notices no reset.
"""
