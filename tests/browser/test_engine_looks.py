"""The styles of the block in Firefox ESR and WebKitGTK: grids, flex boxes and text are each engine's own code.

A page is shown in frames, which have the width of a phone or of a desktop whatever window an engine opens.
"""

from pathlib import Path

import pytest

from footfall.display.block import STYLES, Preset, snippet
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from tests.browser.engines import Engine
from tests.browser.portal import Portal, html
from tests.browser.relay import Relay

BIG = {"online": 41, "today": 1373, "week": 56_789, "total": 1_373_876}
FOOTERS = {"#fff": "rgb(34, 34, 34)", "#07365f": "rgb(228, 237, 246)", "#a8201a": "rgb(255, 255, 255)"}
"""Paper and text of a white, a navy and a red footer."""
WIDTHS = (320, 1000)
TEXT_SIZES = ("100%", "200%")
FRAMES = "[...document.querySelectorAll('iframe')]"
WRONG = Path(__file__).with_name("looks.js").read_text("utf-8")
FILLED = """(frame => {
  const inside = frame.contentDocument;
  const totals = [...inside.querySelectorAll("[data-count=total]")];
  const images = [...inside.images];
  return totals.every(total => total.textContent.replace(/\\D/g, "") === "1373876") && totals.length === 15
    && images.every(image => image.complete && image.naturalWidth) && images.length === 3;
})"""


def portal_page(relay: Relay, site: str, *, styled: bool) -> str:
    """Return a page with three footers, each with the lines of every style, with or without their style sheet."""
    of_site = Site(id=SiteId(site), name="Portal", hosts=("localhost",))
    lines = [snippet(of_site, relay.url, Preset(style)) for style in STYLES]
    blocks, script = "".join(line.partition("<noscript")[0] for line in lines), "<script" + lines[0].split("<script")[1]
    if not styled:
        blocks = "\n".join(line for line in blocks.splitlines() if "stylesheet" not in line)
    footers = [
        f'<footer style="background:{paper};color:{text};padding:1rem">{blocks}</footer>'
        for paper, text in FOOTERS.items()
    ]
    return html(*footers, script, head="<style>body{margin:0;font:100%/1.6 Arial,sans-serif}</style>")


@pytest.mark.parametrize("styled", [True, False], ids=["styled", "as a page without the style sheet has them"])
async def test_nothing_is_cut_overlaps_or_is_wider_than_a_phone(
    engine: Engine, portal: Portal, relay: Relay, site: str, styled: bool
) -> None:
    """Also for readers who need text of twice the size, and from the right to the left."""
    relay.change = BIG
    portal.put("/inside", portal_page(relay, site, styled=styled))
    frames = "".join(
        f'<iframe src="/inside" style="width:{width}px;height:3000px;border:0"></iframe>' for width in WIDTHS
    )
    await engine.open(portal.put("*", html(frames)))
    await engine.until(f"{FRAMES}.every({FILLED})")
    for direction in ("ltr", "rtl"):
        for size in TEXT_SIZES:
            look = f"frame.contentDocument.documentElement.style.fontSize = '{size}', "
            look += f"frame.contentDocument.documentElement.dir = '{direction}'"
            await engine.read(f"{FRAMES}.forEach(frame => ({look}))")
            assert (direction, size, await engine.read(f"{FRAMES}.map({WRONG})")) == (direction, size, [[], []])


async def test_a_block_takes_the_colours_of_its_footer(engine: Engine, portal: Portal, relay: Relay, site: str) -> None:
    """The edges are a mix with the colour of the text, in engines that can mix colours, and else grey."""
    await engine.open(portal.put("*", portal_page(relay, site, styled=True)))
    colours = "[...document.querySelectorAll('b')].map(b => getComputedStyle(b).color)"
    assert await engine.read(colours) == [text for text in FOOTERS.values() for _ in range(5 * 4)]
    edges = (
        "[...document.querySelectorAll('.footfall-cards > div > *')].map(card => getComputedStyle(card).borderTopColor)"
    )
    drawn = set(await engine.read(edges))
    assert len(drawn) in (1, 3)
    assert not drawn & {"rgba(0, 0, 0, 0)", "transparent"}
