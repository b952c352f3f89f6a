"""Reads the sender of a beacon from a request."""

from collections.abc import Mapping

from aiohttp import web
from multidict import istr

from footfall.ingest.client_address import AddressResolver, Client
from footfall.ingest.sender import Sender

# Made once: for a plain string, multidict computes the lower case and its hash again for every request.
ORIGIN, REFERER, USER_AGENT = istr("Origin"), istr("Referer"), istr("User-Agent")
SEC_FETCH_SITE, SEC_GPC, SEC_PURPOSE, PURPOSE = map(istr, ("Sec-Fetch-Site", "Sec-GPC", "Sec-Purpose", "Purpose"))
SIGNATURE_AGENT, SEC_SPECULATION_TAGS = istr("Signature-Agent"), istr("Sec-Speculation-Tags")
EARLY_PURPOSES = ("prefetch", "prerender", "preview")


def read_client(request: web.Request, resolver: AddressResolver) -> Client:
    """Return the client of a request, from its socket and the forwarding header."""
    # aiohttp remembers the peer from when the request came. Asked now, a lost connection has none, and would pass for
    # a unix socket, whose forwarding header is believed. A unix socket's peer is the empty string.
    peer = request.remote
    return resolver.resolve(None if peer == "" else peer or "", request.headers.getall(resolver.header, ()))


def read_sender(headers: Mapping[str, str], client: Client, *, is_pixel: bool = False) -> Sender:
    """Return the sender of a beacon.

    `is_pixel`: browsers fetch the image without Origin, and without Referer where the page's policy says so. Then
    Sec-Fetch-Site, which no page can forge, still says whether the page is of the counter's own site or a sibling.
    """
    get = headers.get
    origin = get(ORIGIN)
    referer = None if origin else get(REFERER)
    purpose = get(SEC_PURPOSE) or get(PURPOSE)
    values = (
        client,
        origin,
        referer,
        get(USER_AGENT, ""),
        is_pixel and not origin and not referer and get(SEC_FETCH_SITE) in ("same-origin", "same-site"),
        get(SEC_GPC) == "1",
        SEC_SPECULATION_TAGS in headers or (purpose is not None and _is_early(purpose)),
        SIGNATURE_AGENT in headers,
    )
    return tuple.__new__(Sender, values)  # `Sender(...)` is one more call in Python, for every request


def _is_early(purpose: str) -> bool:
    return any(word in purpose.lower() for word in EARLY_PURPOSES)
