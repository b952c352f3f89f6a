"""A portal's web server: serves the pages that a test writes, from another origin than Footfall's."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.browser.serving import serve
from tests.support.patience import PATIENCE_S

BLOCK = """
<h2 id="heading">Thống kê truy cập</h2>
<ul aria-labelledby="heading">
  <li>Đang online: <b data-count="online">–</b></li>
  <li>Hôm nay: <b data-count="today">–</b></li>
  <li>Trong tuần: <b data-count="week">–</b></li>
  <li>Tất cả: <b data-count="total">–</b></li>
  <li>Lượt xem hôm nay: <b data-count="views_today">–</b></li>
</ul>
"""


def script_line(service: str, site: str, options: str = "") -> str:
    """Return the line that a webmaster pastes."""
    return f'<script async src="{service}/footfall.js" data-site="{site}" {options}></script>'


def html(*parts: str, lang: str = "vi", head: str = "") -> str:
    """Return a small page around `parts`."""
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="{lang}"><head><meta charset="utf-8"><title>Portal</title>{head}</head>'
        f"<body>{body}</body></html>"
    )


@dataclass
class Portal:
    """Answers every path with its page, else with the page of `*`, and records the requests."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    pages: dict[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def put(self, path: str, text: str, headers: Mapping[str, str] | None = None) -> str:
        """Serve `text` at `path`; return its URL."""
        self.pages[path] = (text, headers or {})
        return self.url + path.replace("*", "/")

    async def until_asked(self, path: str) -> None:
        """Wait until a browser has asked for `path`."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: path in self.asked)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request of a browser."""
        async with self._news:
            self.asked.append(request.path)
            self._news.notify_all()
        page = self.pages.get(request.path) or self.pages.get("*")
        if page is None or request.path == "/favicon.ico":
            return web.Response(status=204)
        text, headers = page
        kind = "text/javascript" if request.path.endswith(".js") else "text/html"
        return web.Response(text=text, content_type=kind, headers=headers)


@asynccontextmanager
async def running_portal() -> AsyncIterator[Portal]:
    """Run a portal at http://localhost; Footfall is at http://127.0.0.1, another site to a browser."""
    portal = Portal()
    async with serve(portal.answer, "localhost") as portal.url:
        yield portal
