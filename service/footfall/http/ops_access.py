"""Who may use the ops routes: requests for our own names, with the bearer token where one is set.

A browser cannot send a bearer token. It gets a form for reports, and a cookie that opens reports and nothing else.
"""

import hmac
import logging
from contextlib import suppress
from hashlib import sha256
from ipaddress import ip_address
from socket import gethostname

from aiohttp import web
from aiohttp.typedefs import Handler

from footfall.errors import Reason, Refused
from footfall.http.report_answers import message_page
from footfall.http.report_form import BY_COOKIE, ReportCookie, read_form, to_report
from footfall.http.responses import Reply
from footfall.http.sender import read_client
from footfall.http.services import SERVICES
from footfall.log_throttle import LogThrottle
from footfall.model.hosts import canonical_host, split_port
from footfall.settings.settings import Listen, Settings, parse_listen

logger = logging.getLogger(__name__)

NAMES: web.AppKey[frozenset[str] | None] = web.AppKey("names")
REFUSALS = web.AppKey("refusals", LogThrottle)
COOKIE = "footfall-reports"
PURPOSE = b"footfall: cookie of the reports of an installation"
TABLES = (".csv", ".json")


def own_names(settings: Settings) -> frozenset[str] | None:
    """Return the names to which the ops routes answer; None for a unix socket, which no browser reaches."""
    where = parse_listen(settings.ops_listen)
    if not isinstance(where, Listen):
        return None
    names = [canonical_host(name) for name in (where.host, gethostname())]
    return frozenset({"localhost", *settings.ops_hosts, *(name for name in names if name)})


@web.middleware
async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a request for a name that is not ours.

    A page of a stranger can point its own name to this machine (DNS rebinding). The visitor's browser then lets the
    page read what is served here, but it still names the page's host.
    """
    names, header = request.app[NAMES], request.headers.get("Host")
    # Every browser names the host; a health check in HTTP/1.0 may leave it out.
    if names is not None and header is not None and not _is_own(header, names):
        if times := request.app[REFUSALS].happened():
            logger.warning(
                "The ops routes refused requests for a host that is none of their names; if it is one, add it to"
                " ops_hosts. times=%d",
                times,
            )
        raise Refused(Reason.WRONG_HOST)
    return await handler(request)


def _is_own(header: str, names: frozenset[str]) -> bool:
    name, _ = split_port(header)
    if name is None:
        return False
    with suppress(ValueError):
        return bool(ip_address(name.removeprefix("[").removesuffix("]")))
    return canonical_host(name) in names


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a request without the bearer token, where one is set; every guess takes the same time to compare.

    Reports open to the cookie too, and their pages answer with the form that sets it.
    """
    token = _token(request)
    if token is None or _is_equal(request.headers.get("Authorization", ""), f"Bearer {token}"):
        return await handler(request)
    is_report = request.path == "/reports" or request.path.startswith(("/reports.", "/reports/"))
    if is_report and _is_equal(request.cookies.get(COOKIE, ""), _value(token)):
        request[BY_COOKIE] = True
        return await handler(request)
    refused = Refused(Reason.UNAUTHORIZED)
    if not is_report or request.path.endswith(TABLES):
        raise refused
    return await handler(request) if request.method == "POST" else message_page(request, refused)


async def post_login(request: web.Request) -> Reply:
    """Turn the right token into the cookie, or end the cookie; lead to the report then.

    Raises Refused(UNAUTHORIZED | RATE_LIMITED | WRONG_ORIGIN).
    """
    services, form = request.app[SERVICES], await read_form(request)
    # Only a proxy in front of this listener speaks TLS. Who forges the header loses the own cookie, and nobody else's.
    cookie = ReportCookie(COOKIE, "/reports", is_secure=request.headers.get("X-Forwarded-Proto") == "https")
    if form.leaves:
        return to_report(request, cookie.ended())
    if (token := _token(request)) is None:
        return to_report(request)
    services.admission.check_login(read_client(request, services.resolver))
    if not _is_equal(form.token, token.strip()):
        raise Refused(Reason.UNAUTHORIZED)
    return to_report(request, cookie.with_value(_value(token)))


def _token(request: web.Request) -> str | None:
    token = request.app[SERVICES].settings.ops_token
    return token.get_secret_value() if token else None


def _value(token: str) -> str:
    """Return what the cookie carries: nothing of the token, and another value as soon as the token is another one."""
    return hmac.new(token.encode(), PURPOSE, sha256).hexdigest()


def _is_equal(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), known.encode())
