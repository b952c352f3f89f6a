"""The form of every answer about reports: which pages may have it, packed where it is long, a refusal as a page."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import wraps
from types import MappingProxyType

from aiohttp import web
from aiohttp.typedefs import Handler

from footfall.display.report_page import STYLE_HASH, render
from footfall.display.report_words import LANGUAGES, WORDS
from footfall.errors import Reason, Refused
from footfall.http.assets import ACCEPTS_GZIP
from footfall.http.report_query import address_of_report
from footfall.http.responses import HEADERS, Reply, lines

REPORT_HEADERS = MappingProxyType(
    {
        **HEADERS,
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
        "X-Robots-Tag": "noindex, nofollow",
        "X-Frame-Options": "DENY",
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; img-src data:; form-action 'self'; base-uri 'none';"
            " frame-ancestors 'none'"
        ),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
)
"""No cache keeps a report, no search engine lists it, and no page of a stranger frames or reads it."""
LISTENER: web.AppKey[str] = web.AppKey("listener")
"""Whose token the form asks for: that of a report on the public listener, without this key, or that of `ops`."""
HTML_TYPE = "text/html; charset=utf-8"
PACK_FROM_BYTES = 4096
NOTHING: Mapping[str, str] = MappingProxyType({})


async def reply(
    request: web.Request, content_type: str, pieces: Iterable[str], headers: Mapping[str, str] = NOTHING
) -> Reply:
    """Return an answer that is whole, packed where it is long and the client takes that."""
    body = "".join(pieces).encode(errors="replace")
    fields = {"Content-Type": content_type, "Vary": "Accept-Encoding, Cookie, Authorization", **headers}
    if len(body) > PACK_FROM_BYTES and ACCEPTS_GZIP.search(request.headers.get("Accept-Encoding", "")):
        body = await asyncio.to_thread(gzip.compress, body, 6, mtime=0)
        fields["Content-Encoding"] = "gzip"
    return Reply(200, lines(fields, REPORT_HEADERS), body)


def as_page(handler: Callable[[web.Request], Awaitable[Reply]]) -> Handler:
    """Answer a refusal with a page that people can read, which asks for the token where one is needed."""

    @wraps(handler)
    async def handle(request: web.Request) -> Reply:
        try:
            return await handler(request)
        except Refused as refused:
            return message_page(request, refused)

    return handle


def message_page(request: web.Request, refused: Refused) -> Reply:
    """Return why there is no report, as a page; of a token that is needed or wrong, the form to enter one."""
    language = request.query.get("lang", "")
    language = language if language in LANGUAGES else LANGUAGES[0]
    words = WORDS[language]
    sentence = words.get(f"refused_{refused.reason}", "") or refused.sentence
    if refused.reason is Reason.BAD_FIELD:
        sentence = refused.sentence
    page = render(
        "message.html",
        language,
        asks_for_token=refused.reason is Reason.UNAUTHORIZED,
        is_wrong=request.method == "POST",
        listener=request.app.get(LISTENER, "public"),
        account=request.match_info.get("site") or "footfall",
        action=address_of_report(request, language),
        sentence=sentence or refused.reason.value,
    )
    fields = {"Content-Type": HTML_TYPE}
    if refused.retry_after_s is not None:
        fields["Retry-After"] = str(refused.retry_after_s)
    if refused.reason is Reason.UNAUTHORIZED:
        fields["WWW-Authenticate"] = "Bearer"
    return Reply(refused.status, lines(fields, REPORT_HEADERS), page.encode())
