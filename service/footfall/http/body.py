"""Reads the body of a request: small, and soon."""

import asyncio

from aiohttp import web

from footfall.errors import Reason, Refused
from footfall.ingest.beacon import BODY_MAX_BYTES

BODY_TIMEOUT_S = 5


async def read_body(request: web.Request) -> bytes:
    """Return a body of at most 4 KB that arrives within 5 s; raises Refused(TOO_LARGE | TIMEOUT | BAD_REQUEST)."""
    if (request.content_length or 0) > BODY_MAX_BYTES:
        raise Refused(Reason.TOO_LARGE)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        raise Refused(Reason.TIMEOUT) from None
    except web.HTTPRequestEntityTooLarge:
        raise Refused(Reason.TOO_LARGE) from None
    except (web.RequestPayloadError, ConnectionError):  # damaged chunks; a client that left halfway
        raise Refused(Reason.BAD_REQUEST) from None
