"""Answers as bytes.

aiohttp builds the head of each response anew, from a dict and through hooks, which costs about as much as reading the
request. Here the lines of a head are encoded once, and an answer is one write.
"""

import json
import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import cache, lru_cache
from http import HTTPStatus
from types import MappingProxyType

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from footfall._compat import writer_of
from footfall.errors import Reason, Refused

HEADERS = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "strict-origin-when-cross-origin",
    }
)
PUBLIC_HEADERS = MappingProxyType(
    {
        **HEADERS,
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Expose-Headers": "Retry-After, Footfall-Ignored",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
)
"""Any page may read any public answer; Origin decides which pages may count."""
OPS_HEADERS = MappingProxyType({**HEADERS, "Cache-Control": "no-store"})
"""Ops answers are for operators only, and true for this moment only."""

WITHOUT_BODY = frozenset({204, 304})
Fields = tuple[tuple[str, str], ...]
"""Lines of a head, each its name and its value, as a value that can be the key of what was made of it."""
PUBLIC_FIELDS: Fields = tuple(PUBLIC_HEADERS.items())


class Reply(web.StreamResponse):
    """A whole answer: its status, the lines of its head (`lines`), and its body.

    `prepare` adds what depends on the request or the moment: Date, Content-Length, Connection. Nothing names the
    server.
    """

    # Plain fields, where aiohttp has properties; its headers, cookies and reason are not made, as none is sent.
    status = 200
    prepared = False
    """Whether the answer is on its way."""
    keep_alive: bool | None = None
    """Whether the connection stays open after this answer; None until it is known."""

    def __init__(self, status: int, head: bytes, body: bytes = b"") -> None:
        self.status = status
        self._lines = head
        self._content = body

    def force_close(self) -> None:
        """Close the connection after this answer."""
        self.keep_alive = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the whole answer in one write; the body is left out where HTTP wants none.

        Return once the system has taken the answer, so that a client which does not read has one answer in memory,
        and its next requests wait.
        """
        if self.prepared:
            return None
        self.prepared = True
        if self.keep_alive is None:
            self.keep_alive = request.keep_alive
        status, body = self.status, self._content
        bare = status in WITHOUT_BODY
        writer = writer_of(request)
        await writer.write(
            b"".join(
                (
                    _status_line(status),
                    self._lines,
                    _date(int(time.time())),
                    b"" if bare else b"Content-Length: %d\r\n" % len(body),
                    _connection(request, stays=self.keep_alive),
                    b"" if bare or request.method == "HEAD" else body,
                )
            )
        )
        await writer.drain()
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: `prepare` has sent all there is."""


def lines(headers: Mapping[str, str], common: Mapping[str, str] = PUBLIC_HEADERS) -> bytes:
    r"""Encode the lines of a head: `headers`, then `common`, which all answers of a listener have.

    >>> lines({"Cache-Control": "no-store"}, common={})
    b'Cache-Control: no-store\r\n'
    """
    return "".join(f"{name}: {value}\r\n" for name, value in {**headers, **common}.items()).encode()


def cacheable(request: web.Request, etag: str, head: bytes, body: bytes) -> Reply:
    """Return 304 where the client names `etag` as a version that it holds (weak comparison), else 200 with `body`."""
    return Reply(304 if _holds(request.headers.get("If-None-Match"), etag) else 200, head, body)


def refusal(refused: Refused, common: Fields = PUBLIC_FIELDS, own: Fields = ()) -> Reply:
    """Return the answer to a refused request: its reason, a sentence if any, when to retry, how to authenticate."""
    return Reply(refused.status, *_refusal(refused.reason, refused.sentence, refused.retry_after_s, own, common))


@lru_cache(maxsize=256)
def _refusal(
    reason: Reason, sentence: str, retry_after_s: int | None, own: Fields, common: Fields
) -> tuple[bytes, bytes]:
    """Return the lines of the head, and the body; kept, so that a flood of refused requests stays cheap."""
    fields = {"Content-Type": "application/json", "Cache-Control": "no-store", **dict(own)}
    if retry_after_s is not None:
        fields["Retry-After"] = str(retry_after_s)
    if reason is Reason.UNAUTHORIZED:
        fields["WWW-Authenticate"] = "Bearer"
    said = {"error": reason.value} | ({"message": sentence} if sentence else {})
    return lines(fields, dict(common)), json.dumps(said, separators=(",", ":")).encode()


def _holds(versions: str | None, etag: str) -> bool:
    if versions is None:
        return False
    opaque = etag.removeprefix("W/")
    return versions.strip() == "*" or opaque in (part.strip().removeprefix("W/") for part in versions.split(","))


@cache
def _status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()


@lru_cache(maxsize=1)
def _date(at_s: int) -> bytes:
    return f"Date: {formatdate(at_s, usegmt=True)}\r\n".encode()


def _connection(request: web.BaseRequest, *, stays: bool) -> bytes:
    """Return the end of a head, with a Connection line where HTTP's default differs: HTTP/1.1 keeps connections."""
    if not stays:
        return b"Connection: close\r\n\r\n"
    return b"\r\n" if request.version >= HttpVersion11 else b"Connection: keep-alive\r\n\r\n"
