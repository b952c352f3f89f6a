"""The same pages in Firefox ESR and WebKitGTK: views, routes and the numbers of the block."""

import json
from pathlib import Path

import pytest

from footfall.display.block import snippet
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from tests.browser.conftest import ReadCounts
from tests.browser.engines import NOT_A_ROBOT, Engine
from tests.browser.portal import BLOCK, Portal, html, script_line
from tests.browser.relay import Relay

PATHS = ("/1", "/2", "/3", "/4")
LINKS = "".join(f'<a href="{path}">{path}</a> ' for path in PATHS)
LOADERS = {
    "turbo": ("@hotwired/turbo/dist/turbo.es2017-umd.js", ""),
    "htmx": ("htmx.org/dist/htmx.min.js", 'hx-boost="true"'),
}
PARSE = """(text => {
  const template = document.createElement("template");
  template.innerHTML = text;
  document.body.append(template.content);
  document.body.append(...new DOMParser().parseFromString(text, "text/html").body.childNodes);
})"""


@pytest.fixture
def pasted(relay: Relay, site: str) -> str:
    """Return what the webmaster pasted."""
    return snippet(Site(id=SiteId(site), name="Portal", hosts=("localhost",)), relay.url)


def page(*parts: str, head: str = "") -> str:
    """Return a page that hides its driver."""
    return html(*parts, head=NOT_A_ROBOT + head)


async def shows(engine: Engine, name: str, text: str) -> None:
    """Wait until a number of the block is this text."""
    await engine.until(f"document.querySelector('[data-count={name}]')?.textContent === '{text}'")


async def test_the_pasted_lines_count_one_view_and_show_it(
    engine: Engine, portal: Portal, relay: Relay, pasted: str
) -> None:
    """Neither the image in noscript nor the script of old browsers is loaded beside."""
    await engine.open(portal.put("*", page(pasted)))
    await shows(engine, "today", "1")
    assert relay.kinds == ["view"]
    assert relay.paths == {"/footfall.js", "/seen"}


@pytest.mark.parametrize("loader", LOADERS)
async def test_a_page_that_a_program_fetches_and_puts_in_place_is_one_view(  # noqa: PLR0913 (fixtures)
    engine: Engine,
    portal: Portal,
    relay: Relay,
    counts: ReadCounts,
    npm_packages: Path,
    pasted: str,
    site: str,
    loader: str,
) -> None:
    """A parser without script makes elements of what is in noscript; the way back is a view too."""
    file, attribute = LOADERS[loader]
    portal.put("/loader.js", (npm_packages / file).read_text())
    for path in PATHS:
        body = f"<div {attribute}>{LINKS}</div><h1>{path}</h1>"
        portal.put(path, page(body, pasted, head='<script src="/loader.js"></script>'))
    await engine.open(portal.url + PATHS[0])
    await relay.passed(1)
    for views, path in enumerate(PATHS[1:], start=2):
        await engine.read(f"document.querySelector('a[href=\"{path}\"]').click()")
        await engine.until(f"document.querySelector('h1')?.textContent === '{path}'")
        await relay.passed(views)
    await engine.read("history.back()")
    await relay.passed(len(PATHS) + 1)
    assert portal.asked.count("/loader.js") == 1, "no page was loaded by the browser"
    assert [(beacon.kind, beacon.body["page"]) for beacon in relay.beacons] == [
        ("view", path) for path in (*PATHS, PATHS[-2])
    ]
    assert (await counts(site))["views_today"] == len(PATHS) + 1


async def test_the_pasted_lines_in_markup_that_is_parsed_without_script_count_nothing(
    engine: Engine, portal: Portal, relay: Relay, pasted: str, site: str
) -> None:
    """Frameworks of many kinds do this; the image would be a view of its own."""
    await engine.open(portal.put("*", page("<p>Text</p>", script_line(relay.url, site))))
    await relay.passed(1)
    await engine.read(f"{PARSE}({json.dumps(pasted)})")
    await engine.read("history.pushState(0, '', '/next')")
    assert await relay.passed(2) == ["view", "view"]


async def test_routes_count_and_a_frozen_history_stops_nothing(
    engine: Engine, portal: Portal, relay: Relay, site: str
) -> None:
    """pushState is a view, replaceState none, the way back one; some pages freeze their history."""
    await engine.open(portal.put("*", page(BLOCK, script_line(relay.url, site))))
    await shows(engine, "today", "1")
    for views, path in enumerate(("/a", "/b"), start=2):
        await engine.read(f"history.pushState(0, '', '{path}')")
        await relay.passed(views)
    await engine.read("history.replaceState(0, '', '/tidy')")
    await engine.read("history.back()")
    await relay.passed(4)
    assert [beacon.body["page"] for beacon in relay.beacons] == ["/", "/a", "/b", "/a"]
    frozen = "<script>Object.freeze(history)</script>"
    await engine.open(portal.put("/frozen", page(BLOCK, script_line(relay.url, site), head=frozen)))
    await shows(engine, "views_today", "5")
