"""Views of pages in answers: the pages that a query asks for, and the field `pages` at the end of the numbers."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

from aiohttp import web

from footfall.errors import Reason, Refused
from footfall.http.services import Services
from footfall.ingest.pages import normalise_page
from footfall.settings.settings import Site

PAGES_MAX = 50
"""Pages of one query."""
HEADS_REMEMBERED_MAX = 4096


def pages_in(request: web.Request) -> list[str]:
    """Return the pages that a query asks for, each once, in an order that is always the same.

    Raises Refused(BAD_FIELD) for more than 50.
    """
    asked = request.query.getall("page", None)
    if not asked:
        return []
    if len(asked) > PAGES_MAX:
        raise Refused(Reason.BAD_FIELD)
    return sorted(set(asked))


async def views_of_pages(services: Services, site: Site, asked: Sequence[str]) -> bytes:
    """Return the field `pages`, named as they were asked for: 0 for no page of the site, null for not known now."""
    canonical = {name: normalise_page(name, site) for name in asked}
    pages = list(dict.fromkeys(page for page in canonical.values() if page is not None))
    views = await services.page_views.views(site, pages) if pages else {}
    return _field({name: 0 if page is None else views[page] for name, page in canonical.items()})


async def views_of_page(services: Services, site: Site, asked: str) -> int | None:
    """Return the views of one page: 0 for what is no page of the site, None where they are not known now."""
    page = normalise_page(asked, site)
    return 0 if page is None else (await services.page_views.views(site, [page]))[page]


async def views_of_its_page(services: Services, site: Site, page: str) -> int | None:
    """Return the views of a page that a beacon is of, where `page_views.whole` knows none.

    A page that only counts among others is not looked up: names that are made up must not become load on the stores.
    """
    if services.admission.counts_page(site, page):
        return (await services.page_views.views(site, [page]))[page]
    return services.page_views.shown(site.id, page)


def field_of_page(sent: str, views: int | None) -> bytes:
    """Return the field `pages` for one page, named as it was sent."""
    return b"%bnull}}" % _head(sent) if views is None else b"%b%d}}" % (_head(sent), views)


def with_pages(body: bytes, field: bytes) -> bytes:
    """Return the numbers with the field `pages`, where there is one."""
    return b"".join((body[:-1], b",", field, b"}")) if field else body


def with_pages_etag(etag: str, field: bytes) -> str:
    """Return the weak ETag of an answer with the field `pages`."""
    return f'W/"{hashlib.blake2b(etag.encode() + field, digest_size=9).hexdigest()}"' if field else etag


def _field(views: Mapping[str, int | None]) -> bytes:
    pages = {name: {"views": number} for name, number in views.items()}
    return b'"pages":' + json.dumps(pages, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


@lru_cache(HEADS_REMEMBERED_MAX)
def _head(page: str) -> bytes:
    return b'"pages":{%b:{"views":' % json.dumps(page, ensure_ascii=False).encode()
