"""Where the instructions of a request go: families of functions are left out in turn, and what that saves is theirs.

Callgrind sees the functions of CPython, not those of Python. So the counted server replaces a family by functions that
return at once, or raise, what the family did for the first request, and counts again: first without `record`, then
without `record` and `hash`, and so on. What is left at the end is of aiohttp and of the handler that joins the parts.
The parts add up to the whole, since each is the difference of two counts.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from itertools import count
from typing import Any
from unittest.mock import patch

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from footfall._compat import HttpConnection, writer_of
from footfall.delivery.pending import StoredIn
from footfall.delivery.recorder import Recorder
from footfall.display.counts_cache import CountsCache
from footfall.errors import Refused
from footfall.http import public, sender, server
from footfall.http.responses import WITHOUT_BODY, Reply
from footfall.http.services import Services
from footfall.ingest import beacon, counting
from footfall.ingest.admission import Admission
from footfall.ingest.counting import Counting
from footfall.ingest.refused_pages import RefusedPages
from footfall.ingest.visitor import VISITOR_ID_BYTES

FAMILIES = ("record", "hash", "admission", "address", "parse", "answer", "measure", "connection")
"""In the order in which they are left out: what a family needs of another one stays until then."""
FRAMEWORK = "framework"

Replaced = AbstractContextManager[Any]


class LeftOut:
    """The families that a counted server does without."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stack = ExitStack()
        self._next = iter(FAMILIES)

    def leave_out_next(self) -> None:
        """Leave out one family more; after the last one have all of them back."""
        family = next(self._next, None)
        if family is None:
            self._stack.close()
            self._next = iter(FAMILIES)
            return
        for replaced in _REPLACED[family](self._services):
            self._stack.enter_context(replaced)


def _as_at_first(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what does at once what the first call of `function` does: return the same, or refuse for that reason."""
    first: list[tuple[Any, Refused | None]] = []

    def replay(*arguments: Any, **named: Any) -> Any:
        if not first:
            try:
                first.append((function(*arguments, **named), None))
            except Refused as refused:
                first.append((None, refused))
        returned, refusal = first[0]
        if refusal is not None:
            raise refusal.with_traceback(None)
        return returned

    return replay


def _record(_: Services) -> Iterator[Replaced]:
    stored: asyncio.Future[StoredIn] = asyncio.get_running_loop().create_future()
    stored.set_result(StoredIn.REDIS)
    yield patch.object(Recorder, "record", lambda *_: stored)


def _hash(_: Services) -> Iterator[Replaced]:
    ids = (number.to_bytes(VISITOR_ID_BYTES) for number in count())
    yield patch.object(counting, "visitor_id", lambda *_: next(ids))


def _admission(_: Services) -> Iterator[Replaced]:
    for decides in ("check", "check_read", "may_add_visitor"):
        yield patch.object(Admission, decides, _as_at_first(getattr(Admission, decides)))
    yield patch.object(Counting, "_viewed", _as_at_first(Counting._viewed))  # noqa: SLF001
    yield patch.object(RefusedPages, "note", lambda *_: None)


def _address(_: Services) -> Iterator[Replaced]:
    yield patch.object(public, "read_client", _as_at_first(sender.read_client))


def _parse(_: Services) -> Iterator[Replaced]:
    yield patch.object(public, "parse_beacon", _as_at_first(beacon.parse_beacon))
    yield patch.object(public, "read_sender", _as_at_first(sender.read_sender))


def _answer(services: Services) -> Iterator[Replaced]:
    shown = services.counts_cache.shown(next(iter(services.settings.sites.values())))
    answers: dict[int, bytes] = {}

    async def prepare(reply: Reply, request: web.BaseRequest) -> AbstractStreamWriter:
        reply.keep_alive = reply.prepared = True  # as the method does that it stands for
        answer = answers.get(reply.status)
        if answer is None:
            answer = answers[reply.status] = _whole(reply.status, reply._content)  # noqa: SLF001
        writer = writer_of(request)
        await writer.write(answer)
        return writer

    async def counts(*_: Any) -> Any:
        return shown

    yield patch.object(CountsCache, "shown", lambda *_: shown)
    yield patch.object(CountsCache, "counts", counts)
    yield patch.object(public, "normalise_page", lambda *_: None)
    yield patch.object(Reply, "prepare", prepare)


def _whole(status: int, body: bytes) -> bytes:
    if status in WITHOUT_BODY:
        return b"HTTP/1.1 %d None\r\n\r\n" % status
    return b"HTTP/1.1 %d Any\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


def _measure(services: Services) -> Iterator[Replaced]:
    class Nothing:
        def observe(self, _: float) -> None:
            """Measure nothing."""

    nothing = Nothing()
    yield patch.object(services.metrics, "request", lambda *_: nothing)


def _connection(_: Services) -> Iterator[Replaced]:
    def make(connections: Any) -> HttpConnection:
        return HttpConnection(connections, loop=asyncio.get_running_loop(), **connections._options)  # noqa: SLF001

    yield patch.object(server._Connections, "__call__", make)  # noqa: SLF001


_REPLACED: dict[str, Callable[[Services], Iterator[Replaced]]] = {
    "record": _record,
    "hash": _hash,
    "admission": _admission,
    "address": _address,
    "parse": _parse,
    "answer": _answer,
    "measure": _measure,
    "connection": _connection,
}


def parts(whole: float, without: list[float]) -> dict[str, int]:
    """Return the instructions of each family, from those of a request and those without one family more each time.

    >>> parts(100.0, [60.0, 50.0, 45.0, 40.0, 35.0, 31.0, 30.0, 28.0])["record"]
    40
    >>> parts(100.0, [60.0, 50.0, 45.0, 40.0, 35.0, 31.0, 30.0, 28.0])["framework"]
    28
    """
    before = [whole, *without]
    saved = {family: round(before[at] - without[at]) for at, family in enumerate(FAMILIES)}
    return saved | {FRAMEWORK: round(without[-1])}
