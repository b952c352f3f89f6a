"""The static files: the script, the contract and the demo portal, read at start and served from memory."""

import gzip
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from string import Template
from types import MappingProxyType
from urllib.parse import quote

from aiohttp import web

from footfall.display.labels import LABELS, OF_THE_SCRIPT
from footfall.http.choices import color_in
from footfall.http.responses import Reply, cacheable, lines
from footfall.http.styles_page import StylesPage
from footfall.settings.settings import Settings

STATIC = Path(__file__).parent.parent / "static"
BUILT = STATIC / "built"
"""The files that `make script` writes."""
BESIDE = ("footfall-old.js", "busuanzi.js")
"""The script of browsers that cannot read the first one, and the script in place of busuanzi's."""
BUSUANZI_IN_A_FOLDER = "/busuanzi/{site}/busuanzi.pure.mini.js"
"""For themes that take a folder, in which they look for a file of this name."""
PAGE_QUERY = '["page_query"]'
"""The part of the script that the server fills in."""
PRIVACY_CONTROL = '{"gpc":true,"lastUpdate":"2026-11-30"}\n'
"""The statement of https://www.w3.org/TR/gpc/ that this service honours Global Privacy Control, since that day."""
SCRIPT_CACHE = "public, max-age=3600, stale-while-revalidate=86400"
DEMO_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PAGE_HEAD = re.compile(r'<title>(.+)</title><meta name="description" content="(.+)">')
DASH, WORD_JOINER = re.compile(r"(?<=\d)–(?=\d)"), "\N{WORD JOINER}"
"""A time such as 13:30–17:00 stays on one line."""
ACCEPTS_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?=[;,]|$)(?!;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)
DEMO_HEADERS = MappingProxyType({"Cache-Control": "no-cache", "Content-Security-Policy": DEMO_POLICY})

DEMO_PAGES = (
    ("home", "/", "/en/"),
    ("news", "/tin-tuc", "/en/news"),
    ("procedures", "/thu-tuc", "/en/procedures"),
    ("about", "/gioi-thieu", "/en/about"),
    ("contact", "/lien-he", "/en/contact"),
)
"""Pages of the demo portal: file, path in Vietnamese, path in English."""

DEMO_ARTICLES = (
    ("help-desk", "/tin-tuc/diem-ho-tro", "/en/news/help-desk"),
    ("water", "/tin-tuc/cap-nuoc", "/en/news/water"),
    ("trees", "/tin-tuc/trong-cay", "/en/news/trees"),
    ("road", "/tin-tuc/quy-hoach", "/en/news/road"),
)
"""Articles of its news, likewise."""

DEMO_STYLES = ("styles", "/kieu-hien-thi", "/en/styles")
"""Its page of styles, likewise, which is made for each request."""

CONTENT_TYPES = MappingProxyType(
    {
        ".css": "text/css; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".svg": "image/svg+xml; charset=utf-8",
    }
)


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served. `etag` is quoted and strong: it identifies the exact bytes of `body`."""

    body: bytes
    content_type: str
    gzip: bytes
    etag: str


def load_assets(page_query: Iterable[str] = ()) -> Mapping[str, Asset]:
    """Return by path the scripts, the words of the short form, the contract and `gpc.json`.

    `page_query` are the keys of a page's query that the script sends; it sends no other.
    """
    spelled = [form for key in page_query for form in spellings(key)]
    keys = sorted({form for key in spelled for form in (key, quote(key, safe=""))})
    script = (
        (BUILT / "footfall.js")
        .read_text(encoding="utf-8")
        .replace(PAGE_QUERY, json.dumps(keys, separators=(",", ":")), 1)
    )
    words = {language: dict(LABELS[language]) for language in OF_THE_SCRIPT}
    contract = (STATIC / "openapi.json").read_text(encoding="utf-8")
    return MappingProxyType(
        {
            "/footfall.js": _asset(script, ".js"),
            **{f"/{name}": _asset((BUILT / name).read_text(encoding="utf-8"), ".js") for name in BESIDE},
            "/footfall-words.json": _asset(json.dumps(words, ensure_ascii=False, separators=(",", ":")), ".json"),
            "/openapi.json": _asset(contract, ".json"),
            "/.well-known/gpc.json": _asset(PRIVACY_CONTROL, ".json"),
        }
    )


def spellings(key: str) -> Iterable[str]:
    """Return how the links of one site write a key: the script compares letter by letter, and the service does not.

    >>> sorted(set(spellings("TabId")))
    ['TABID', 'TabId', 'Tabid', 'tabId', 'tabid']
    """
    return key, key.lower(), key.upper(), key[:1].lower() + key[1:], key.capitalize()


def load_demo() -> Mapping[str, Asset]:
    """Return the demo portal by path: pages in both languages, style sheet, images."""
    folder = STATIC / "demo"
    assets = {
        f"/demo/{file.name}": _asset(file.read_text(encoding="utf-8"), file.suffix)
        for file in sorted(folder.iterdir())
        if file.is_file()
    }
    articles = [(f"news/{name}", vi_path, en_path) for name, vi_path, en_path in DEMO_ARTICLES]
    for name, vi_path, en_path in [*DEMO_PAGES, *articles]:
        assets[vi_path] = _asset(_demo_page(folder / "vi", name, vi_path, other=en_path), ".html")
        assets[en_path] = _asset(_demo_page(folder / "en", name, en_path, other=vi_path), ".html")
    return MappingProxyType(assets)


def _demo_page(folder: Path, name: str, path: str, other: str) -> str:
    """Return a page in the layout of its language; the first line of its file has its title and its description."""
    layout = (folder / "layout.html").read_text(encoding="utf-8")
    head, _, content = (folder / f"{name}.html").read_text(encoding="utf-8").partition("\n")
    layout = layout.replace(f'<li><a href="{path}">', f'<li><a href="{path}" aria-current="page">', 1)
    section = path.rpartition("/")[0]
    if name.startswith("news/"):
        layout = layout.replace(f'<li><a href="{section}">', f'<li><a href="{section}" aria-current="true">', 1)
    title, description = PAGE_HEAD.findall(head)[0]
    page = Template(layout).substitute(title=title, description=description, content=content, other=other)
    return DASH.sub(f"{WORD_JOINER}–{WORD_JOINER}", page)


def _asset(text: str, suffix: str) -> Asset:
    body = text.encode()
    return Asset(
        body=body,
        content_type=CONTENT_TYPES[suffix],
        # mtime=0: otherwise the time would be in the bytes, and they would differ between workers.
        gzip=gzip.compress(body, 9, mtime=0),
        etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"',
    )


def add_assets(app: web.Application, settings: Settings) -> None:
    """Add a route for each file that every Footfall serves, and in demo mode for those of the demo portal."""
    page_query = chain.from_iterable(site.page_query for site in settings.sites.values())
    assets = load_assets(page_query)
    headers = {"Cache-Control": SCRIPT_CACHE}
    _add_routes(app, assets, headers)
    app.router.add_get(BUSUANZI_IN_A_FOLDER, _asset_handler(assets["/busuanzi.js"], headers))
    app.router.add_get("/footfall.css", get_sheet)
    if settings.demo:
        _add_routes(app, load_demo(), DEMO_HEADERS)
        name, vi_path, en_path = DEMO_STYLES
        for language, path, other in (("vi", vi_path, en_path), ("en", en_path, vi_path)):
            page = Template(_demo_page(STATIC / "demo" / language, name, path, other))
            app.router.add_get(path, StylesPage(settings, language, page.substitute, DEMO_HEADERS).handler())


async def get_sheet(request: web.Request) -> Reply:
    """Return the style sheet of the block, with the colour in the query."""
    return await _sheet(color_in(request))(request)


@lru_cache(maxsize=64)
def _sheet(color: str) -> Callable[[web.Request], Awaitable[Reply]]:
    chosen = f":root{{--footfall-color:#{color}}}" if color else ""
    sheet = chosen + (BUILT / "footfall.css").read_text(encoding="utf-8")
    return _asset_handler(_asset(sheet, ".css"), {"Cache-Control": SCRIPT_CACHE})


def _add_routes(app: web.Application, assets: Mapping[str, Asset], headers: Mapping[str, str]) -> None:
    for path, asset in assets.items():
        app.router.add_get(path, _asset_handler(asset, headers))


def _asset_handler(asset: Asset, headers: Mapping[str, str]) -> Callable[[web.Request], Awaitable[Reply]]:
    common = {"Content-Type": asset.content_type, "Vary": "Accept-Encoding", **headers}
    # A strong ETag stands for the exact bytes, so the gzipped form has an ETag of its own.
    packed_etag = f'{asset.etag[:-1]}-gzip"'
    plain = asset.etag, lines(common | {"ETag": asset.etag}), asset.body
    packed = packed_etag, lines(common | {"ETag": packed_etag, "Content-Encoding": "gzip"}), asset.gzip

    async def get_asset(request: web.Request) -> Reply:
        """Return a file that was read at start."""
        accepted = ACCEPTS_GZIP.search(request.headers.get("Accept-Encoding", ""))
        return cacheable(request, *(packed if accepted else plain))

    return get_asset
