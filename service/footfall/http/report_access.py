"""Who may read reports on the public listener: everyone, no one, or who has the token, in a header or a cookie."""

from urllib.parse import urlsplit

from aiohttp import web

from footfall.errors import Reason, Refused, StoreUnavailable
from footfall.http.report_form import BY_COOKIE, ReportCookie, read_form, to_report
from footfall.http.responses import Reply
from footfall.http.sender import read_client
from footfall.http.services import SERVICES, Services
from footfall.settings.settings import Site

BEARER = "Bearer "
TOKEN_MAX_CHARS = 200


async def check_reader(request: web.Request, site: Site) -> None:
    """Raise Refused(UNKNOWN_SITE | RATE_LIMITED | UNAUTHORIZED | NOT_READY) unless the sender may read the report."""
    services = _open_site(request, site)
    if site.reports == "token" and not await _opens(services, site, _token(request, site)):
        raise Refused(Reason.UNAUTHORIZED)


async def post_login(request: web.Request) -> Reply:
    """Put the right token into a cookie, or end the cookie; lead to the report then.

    The cookie ends with the browser, and each report has its own. Where browsers reach Footfall by https, they send it
    over https only.
    """
    services = request.app[SERVICES]
    site = services.settings.sites.get(request.match_info["site"])
    if site is None:
        raise Refused(Reason.UNKNOWN_SITE)
    _open_site(request, site)
    form = await read_form(request)
    cookie = _cookie(site, site.public_url or services.settings.public_url)
    if form.leaves:
        return to_report(request, cookie.ended())
    if site.reports != "token":
        return to_report(request)
    if not await _opens(services, site, form.token):
        raise Refused(Reason.UNAUTHORIZED)
    # What the client sent stands in the head only once it is known to be a token of ours.
    return to_report(request, cookie.with_value(form.token))


def _open_site(request: web.Request, site: Site) -> Services:
    """Charge the sender; raises Refused where the site has no report for the public, as if there were no such site."""
    services = request.app[SERVICES]
    if site.reports == "off":
        raise Refused(Reason.UNKNOWN_SITE)
    services.admission.check_report(site, read_client(request, services.resolver))
    return services


def _token(request: web.Request, site: Site) -> str:
    header = request.headers.get("Authorization", "")
    if header.startswith(BEARER):
        return header.removeprefix(BEARER).strip()
    token = request.cookies.get(_cookie_name(site), "")
    request[BY_COOKIE] = bool(token)
    return token


async def _opens(services: Services, site: Site, token: str) -> bool:
    if not token or len(token) > TOKEN_MAX_CHARS:
        return False
    try:
        return await services.report_tokens.opens(site.id, token)
    except StoreUnavailable:
        raise Refused(Reason.NOT_READY, sentence="The token cannot be checked now; try again later.") from None


def _cookie(site: Site, public_url: str) -> ReportCookie:
    where = urlsplit(public_url)
    return ReportCookie(_cookie_name(site), f"{where.path.rstrip('/')}/reports", is_secure=where.scheme == "https")


def _cookie_name(site: Site) -> str:
    return f"footfall-report-{site.id}"
