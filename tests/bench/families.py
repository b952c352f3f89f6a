"""Where the instructions of a beacon go: families of functions are left out in turn, and what that saves is theirs.

Callgrind sees the functions of CPython, not those of Python. So the counted server replaces a family by functions that
return at once what the family returned before, and counts again: first without `record`, then without `record` and
`hash`, and so on. What is left at the end is of aiohttp, of our listener, and of the handler that joins the parts. The
parts add up to the whole, since each is the difference of two counts.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from itertools import count
from typing import Any
from unittest.mock import patch

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from footfall._compat import writer_of
from footfall.delivery.pending import StoredIn
from footfall.delivery.recorder import Recorder
from footfall.display.counts_cache import CountsCache
from footfall.http import public
from footfall.http.responses import Reply
from footfall.http.services import Services
from footfall.ingest import counting
from footfall.ingest.admission import Admission
from footfall.ingest.beacon import parse_beacon
from footfall.ingest.client_address import Client
from footfall.ingest.sender import Sender
from footfall.ingest.visitor import VISITOR_ID_BYTES
from footfall.settings.settings import Site

FAMILIES = ("record", "hash", "admission", "address", "parse", "answer", "measure")
"""In the order in which they are left out: what a family needs of another one stays until then."""
FRAMEWORK = "framework"
CASE = "seen"
"""Of the cases that `instructions.py` counts."""
ADDRESS = bytes([10, 0, 0, 1])

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


def _record(_: Services) -> Iterator[Replaced]:
    stored: asyncio.Future[StoredIn] = asyncio.get_running_loop().create_future()
    stored.set_result(StoredIn.REDIS)
    yield patch.object(Recorder, "record", lambda *_: stored)


def _hash(_: Services) -> Iterator[Replaced]:
    ids = (number.to_bytes(VISITOR_ID_BYTES) for number in count())
    yield patch.object(counting, "visitor_id", lambda *_: next(ids))


def _admission(_: Services) -> Iterator[Replaced]:
    yield patch.object(Admission, "check", lambda *_: None)
    yield patch.object(Admission, "may_add_visitor", lambda *_: True)


def _address(_: Services) -> Iterator[Replaced]:
    yield patch.object(public, "read_client", lambda *_: CLIENT)


def _parse(services: Services) -> Iterator[Replaced]:
    beacon = parse_beacon(b'{"site":"%b"}' % _site(services).id.encode())
    sender = Sender(CLIENT)
    yield patch.object(public, "parse_beacon", lambda _: beacon)
    yield patch.object(public, "read_sender", lambda *_: sender)


def _answer(services: Services) -> Iterator[Replaced]:
    shown = services.counts_cache.shown(_site(services))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(shown.body)
    answer = head + shown.body

    async def prepare(reply: Reply, request: web.BaseRequest) -> AbstractStreamWriter:
        reply._stays = reply._is_sent = True  # noqa: SLF001 - as the method does that it stands for
        writer = writer_of(request)
        await writer.write(answer)
        return writer

    yield patch.object(CountsCache, "shown", lambda *_: shown)
    yield patch.object(Reply, "prepare", prepare)


def _measure(services: Services) -> Iterator[Replaced]:
    class Nothing:
        def observe(self, _: float) -> None:
            """Measure nothing."""

    nothing = Nothing()
    yield patch.object(services.metrics, "request", lambda *_: nothing)


def _site(services: Services) -> Site:
    return next(iter(services.settings.sites.values()))


CLIENT = Client(ADDRESS, ADDRESS, ADDRESS, is_proxy=False)
_REPLACED: dict[str, Callable[[Services], Iterator[Replaced]]] = {
    "record": _record,
    "hash": _hash,
    "admission": _admission,
    "address": _address,
    "parse": _parse,
    "answer": _answer,
    "measure": _measure,
}


def parts(whole: float, without: list[float]) -> dict[str, int]:
    """Return the instructions of each family, from those of a beacon and those without one family more each time.

    >>> parts(100.0, [60.0, 50.0, 45.0, 40.0, 35.0, 31.0, 30.0])
    {'record': 40, 'hash': 10, 'admission': 5, 'address': 5, 'parse': 5, 'answer': 4, 'measure': 1, 'framework': 30}
    """
    before = [whole, *without]
    saved = {family: round(before[at] - without[at]) for at, family in enumerate(FAMILIES)}
    return saved | {FRAMEWORK: round(without[-1])}
