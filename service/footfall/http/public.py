"""The public routes: pages send beacons and read the numbers."""

from functools import partial

from aiohttp import web

from footfall.display.block import counts_html
from footfall.display.svg import counts_svg, page_svg
from footfall.errors import Reason, Refused
from footfall.http.assets import add_assets
from footfall.http.body import read_body
from footfall.http.choices import chosen, language_in, look_in, numbers_in
from footfall.http.middleware import OUTERMOST, measure_and_shape
from footfall.http.pages import (
    field_of_page,
    pages_in,
    views_of_its_page,
    views_of_page,
    views_of_pages,
    with_pages,
    with_pages_etag,
)
from footfall.http.report_access import check_reader, post_login
from footfall.http.report_answers import REPORT_HEADERS, as_page
from footfall.http.reports import ACCESS, add_reports
from footfall.http.responses import PUBLIC_HEADERS, Reply, cacheable, lines
from footfall.http.sender import read_client, read_sender
from footfall.http.services import SERVICES, Services
from footfall.ingest.beacon import BODY_MAX_BYTES, Beacon, Kind, parse_beacon, parse_view
from footfall.ingest.counting import Counted, Ignored, Spooled
from footfall.ingest.pages import normalise_page
from footfall.settings.settings import Site

PIXEL = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
"""A transparent GIF of one pixel, 43 bytes."""

JSON_FRESH = lines({"Content-Type": "application/json", "Cache-Control": "no-store"})
PIXEL_FRESH = lines({"Content-Type": "image/gif", "Cache-Control": "no-store"})
COUNTS_JSON, COUNTS_SVG, COUNTS_HTML = (
    lines({"Content-Type": content_type, "Cache-Control": "public, max-age=5"})
    for content_type in ("application/json", "image/svg+xml; charset=utf-8", "text/html; charset=utf-8")
)
PREFLIGHT = lines(
    {
        "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
        "Access-Control-Allow-Headers": "Content-Type, If-None-Match",
        "Access-Control-Max-Age": "86400",
    }
)
SVG_FRESH = lines({"Content-Type": "image/svg+xml; charset=utf-8", "Cache-Control": "no-store"})


def create_public_app(services: Services) -> web.Application:
    """Build the application of the public listener."""
    app = web.Application(client_max_size=BODY_MAX_BYTES)
    app[SERVICES] = services
    app[OUTERMOST] = measure_and_shape(services.metrics, PUBLIC_HEADERS, {"/reports": REPORT_HEADERS})
    app[ACCESS] = check_reader
    # Bound here: to find the services in a request takes two properties, each time.
    app.router.add_post("/seen", partial(post_seen, services))
    app.router.add_get("/seen.gif", partial(get_pixel, services), allow_head=False)
    app.router.add_head("/seen.gif", head_pixel)
    app.router.add_get("/counts", partial(get_counts, services))
    app.router.add_get("/counts.svg", partial(get_counts_svg, services))
    app.router.add_get("/counts.html", partial(get_counts_html, services))
    add_assets(app, services.settings)
    for resource in list(app.router.resources()):
        app.router.add_route("OPTIONS", resource.canonical, answer_preflight)
    add_reports(app)  # after the loop: no page of another origin may ask for a report
    app.router.add_post("/reports/{site:[a-z0-9-]+}", as_page(post_login))
    return app


async def post_seen(services: Services, request: web.Request) -> Reply:
    """Count one beacon, and return the numbers that already include it."""
    content = request.content
    try:
        # The body nearly always comes with the head: then there is nothing to wait for, and no timer to start.
        is_here = content.is_eof() and content.exception() is None
        beacon = parse_beacon(content.read_nowait() if is_here else await read_body(request))
    except Refused as refused:
        services.counting.note_refusal(refused.reason)
        raise
    sender = read_sender(request.headers, read_client(request, services.resolver))
    outcome = await services.counting.count_beacon(beacon, sender)
    site, field = services.counting.sites[beacon.site], b""
    if beacon.page and (page := normalise_page(beacon.page, site)) is not None:
        # Its views nearly always came back with the commit: then there is nothing to wait for.
        views = services.page_views.whole(site.id, page)
        field = field_of_page(beacon.page, await views_of_its_page(services, site, page) if views is None else views)
    if isinstance(outcome, Counted):
        return Reply(200, JSON_FRESH, with_pages(services.counts_cache.shown(site).body, field))
    if isinstance(outcome, Spooled):
        return Reply(202, JSON_FRESH, with_pages(services.counts_cache.shown(site).stale.body, field))
    body = (await services.counts_cache.counts(site)).body
    return Reply(200, JSON_FRESH + _ignored(outcome), with_pages(body, field))


async def get_pixel(services: Services, request: web.Request) -> Reply:
    """Count a view of a page without script; the answer is always the same tiny image."""
    return _image_reply(await _count_pixel(services, request), PIXEL_FRESH, PIXEL)


async def _count_pixel(services: Services, request: web.Request) -> Counted | Spooled | Ignored:
    query = request.query
    site, page = query.get("site", ""), query.get("page")
    try:
        view, again = parse_view(query.get("view")), chosen(request, "again", ("0", "1")) == "1"
    except Refused as refused:
        services.counting.note_refusal(refused.reason)
        raise
    beacon = Beacon(site, page, Kind.VIEW, None, webdriver=False, view=view, again=again)
    sender = read_sender(request.headers, read_client(request, services.resolver), is_pixel=True)
    return await services.counting.count_beacon(beacon, sender)


def _image_reply(outcome: Counted | Spooled | Ignored, head: bytes, image: bytes) -> Reply:
    if isinstance(outcome, Ignored):
        return Reply(200, head + _ignored(outcome), image)
    return Reply(202 if isinstance(outcome, Spooled) else 200, head, image)


async def head_pixel(_: web.Request) -> Reply:
    """Return the headers of the image, and count nothing: a HEAD comes from a checker, not from a page."""
    return Reply(200, PIXEL_FRESH, PIXEL)


async def get_counts(services: Services, request: web.Request) -> Reply:
    """Return the numbers, from bytes that are prepared once for all readers, and the views of pages in the query."""
    site = _site_to_read(services, request)
    views = await views_of_pages(services, site, pages) if (pages := pages_in(request)) else b""
    shown = await services.counts_cache.counts(site)
    return _reply(request, with_pages_etag(shown.etag, views), COUNTS_JSON, with_pages(shown.body, views))


async def get_counts_svg(services: Services, request: web.Request) -> Reply:
    """Return the block, or the views of the page in the query, as an image, where nothing else is possible."""
    site = _site_to_read(services, request)
    look, language, show = look_in(request), language_in(request, site), numbers_in(request)
    counts_too = chosen(request, "count", ("0", "1")) == "1" and request.method == "GET"
    outcome = await _count_pixel(services, request) if counts_too else None
    if pages := pages_in(request):
        views = await views_of_page(services, site, pages[0])
        image = page_svg(site, views, language, look).encode()
        etag = with_pages_etag('W/"page"', image)
    else:
        includes_it = isinstance(outcome, Counted | Spooled)
        shown = services.counts_cache.shown(site) if includes_it else await services.counts_cache.counts(site)
        image = counts_svg(site, shown.counts, language, look, show).encode()
        etag = shown.etag
    return _reply(request, etag, COUNTS_SVG, image) if outcome is None else _image_reply(outcome, SVG_FRESH, image)


async def get_counts_html(services: Services, request: web.Request) -> Reply:
    """Return the block as an HTML fragment, for server-side includes."""
    site = _site_to_read(services, request)
    shown = await services.counts_cache.counts(site)
    fragment = counts_html(site, shown.counts, language_in(request, site), numbers_in(request))
    return _reply(request, shown.etag, COUNTS_HTML, fragment.encode())


async def answer_preflight(_: web.Request) -> Reply:
    """Allow a page to send JSON or a condition; the script itself needs no preflight."""
    return Reply(204, PREFLIGHT)


def _site_to_read(services: Services, request: web.Request) -> Site:
    site = services.counting.sites.get(request.query.get("site", ""))
    if site is None:
        raise Refused(Reason.UNKNOWN_SITE)
    services.admission.check_read(site, read_client(request, services.resolver))
    return site


def _ignored(ignored: Ignored) -> bytes:
    return b"Footfall-Ignored: %b\r\n" % ignored.reason.encode()


def _reply(request: web.Request, etag: str, head: bytes, body: bytes) -> Reply:
    return cacheable(request, etag, head + b"ETag: %b\r\n" % etag.encode(), body)
