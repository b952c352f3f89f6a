"""The static files: as they are loaded, and as they are served."""

import gzip
import json
import re
import subprocess
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import pytest
from aiohttp import ClientSession

from footfall.display.block import Preset, snippet
from footfall.http.assets import DEMO_ARTICLES, DEMO_PAGES, STATIC, load_assets, load_demo
from footfall.settings.settings import Site
from tests.support.built import BUILT, DIGESTS, TARGETS, build, digests
from tests.support.footfall import Footfall, running, settings_for


@pytest.fixture
async def footfall(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Footfall]:
    """A worker with the site `portal`."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        yield footfall


def test_the_script_is_small() -> None:
    """4,096 bytes on the wire at most, that of old browsers included: it is loaded by every page, on old phones too."""
    assets = load_assets()
    script = assets["/footfall.js"]
    assert gzip.decompress(script.gzip) == script.body
    assert len(script.gzip) + len(assets["/footfall-old.js"].gzip) <= 4096
    assert script.content_type == "text/javascript; charset=utf-8"
    assert b"/*" not in script.body


def test_the_script_uses_no_syntax_that_chrome_61_cannot_read() -> None:
    """One newer sign, and an old phone runs nothing of it."""
    body = load_assets()["/footfall.js"].body.decode()
    newer = r"\?\.(?!\d)|\?\?|&&=|\|\|=|for await|catch\{|\bimport\b|\bstatic\{|#\w+\s*[=(;]|\d_\d|\d+n\b"
    without_text = re.sub(r'"[^"]*"|`[^`]*`', '""', body)
    assert re.findall(newer, without_text) == []


def test_the_script_sends_no_key_of_a_query_but_those_of_the_sites() -> None:
    """A key may hold a secret, such as a session; the addresses of pages hold others in percent-encodings."""
    no_case = (((), ""), (("$1", "2", "2"), '"$1","%241","2"'))
    for keys, written in (*no_case, (("p$X",), '"P$X","P$x","P%24X","P%24x","p$X","p$x","p%24X","p%24x"')):
        body = load_assets(keys)["/footfall.js"].body.decode()
        assert re.findall(r"=\[([^]]*)\],\w+=\"\?site=\"", body) == [written]


def test_the_served_files_are_built_from_their_sources() -> None:
    """A change of the source alone reaches no page: `make script` builds the files again."""
    assert json.loads(DIGESTS.read_text()) == digests()


@pytest.mark.parametrize("name", TARGETS)
def test_building_again_gives_the_same_files(name: str, npm_packages: Path) -> None:
    """What is served stands beside its source in the repository, so that an operator's machine needs no minifier."""
    assert (BUILT / name).read_text(encoding="utf-8") == build(name)


@pytest.mark.parametrize(("name", "version"), [("footfall.js", "8"), ("busuanzi.js", "8"), ("footfall-old.js", "5")])
def test_every_browser_that_loads_a_script_can_read_it(name: str, version: str, npm_packages: Path) -> None:
    """ES2017 for those with modules, ES5 for those without; a parser of just that language reads the served bytes."""
    acorn = npm_packages / "acorn" / "bin" / "acorn"
    read = subprocess.run(
        [acorn, f"--ecma{version}", "--silent", BUILT / name], check=False, capture_output=True, text=True
    )
    assert (read.returncode, read.stderr) == (0, "")
    newer = subprocess.run([acorn, f"--ecma{version}"], check=False, input="a ?? b", capture_output=True, text=True)
    assert newer.returncode != 0


async def test_the_style_sheet_is_small_and_takes_a_colour(footfall: Footfall) -> None:
    """2,048 bytes at most, before compression; a colour in the address keeps inline style out of the page."""
    plain = await footfall.public.get("/footfall.css")
    assert (plain.status, plain.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    text = await plain.text()
    assert len(text.encode()) <= 2048
    colored = await footfall.public.get("/footfall.css?color=B3261E")
    assert await colored.text() == ":root{--footfall-color:#b3261e}" + text
    assert colored.headers["ETag"] != plain.headers["ETag"]
    assert (await footfall.public.get("/footfall.css?color=red;}")).status == 400


async def test_the_counter_says_that_it_honours_global_privacy_control(footfall: Footfall) -> None:
    """Its specification asks for this file; auditors look for it."""
    response = await footfall.public.get("/.well-known/gpc.json")
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    said = await response.json()
    assert said["gpc"] is True
    assert date.fromisoformat(said["lastUpdate"]).year >= 2026


def test_two_workers_serve_the_same_bytes_under_the_same_tag() -> None:
    """Otherwise a balancer would make every cached copy useless."""
    assert load_assets() == load_assets()
    assert load_demo() == load_demo()
    tags = [asset.etag for asset in {**load_assets(), **load_demo()}.values()]
    assert all(re.fullmatch(r'"[0-9a-f]{32}"', tag) for tag in tags)
    assert len(set(tags)) == len(tags)


def test_the_demo_pastes_what_the_snippet_prints() -> None:
    """It uses the public embed and nothing special; only the page's own language needs no saying."""
    for name, language in (("vi/layout.html", "vi"), ("en/layout.html", "en")):
        layout = (STATIC / "demo" / name).read_text(encoding="utf-8")
        site = Site(id="portal", name="Demo", hosts=("localhost",), language=language)  # type: ignore[arg-type]
        pasted = snippet(site, "", Preset("list", heading=2)).replace(f' lang="{language}"', "")
        lines = [line.strip() for line in layout.splitlines()]
        assert [line for line in map(str.strip, pasted.splitlines()) if line not in lines] == []


@pytest.mark.parametrize(("language", "column"), [("vi", 1), ("en", 2)])
def test_demo_pages_are_whole(language: str, column: int) -> None:
    """Each page is in its language, links to its other language, and is marked in the menu."""
    demo = load_demo()
    for page in [*DEMO_PAGES, *DEMO_ARTICLES]:
        text = demo[page[column]].body.decode()
        assert f'<html lang="{language}">' in text
        assert text.count('aria-current="page"') + text.count('aria-current="true"') == 2  # menu, language
        assert text.count(f'href="{page[3 - column]}"') >= 2
        assert re.search(r"<title>[^<$]+ – [^<$]+</title>", text)
        assert re.search(r'<meta name="description" content="[^"$]{30,160}">', text)
        assert not re.search(r"\d–\d", text), "a time may break at its dash"
        assert "$" not in text


def test_demo_pages_need_nothing_inline_and_nothing_from_elsewhere() -> None:
    """They are served under a strict policy, and shown where there is no internet."""
    for path, asset in load_demo().items():
        if not asset.content_type.startswith("text/html"):
            continue
        text = asset.body.decode()
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script>", text), path
        assert not re.search(r'(?:src|href)="(?:https?:)?//', text), path


async def test_the_script_is_packed_for_those_who_accept_it(footfall: Footfall) -> None:
    """A strong ETag stands for the very bytes, so each form has its own; caches keep them apart by Vary."""
    async with ClientSession(footfall.public.make_url("/"), auto_decompress=False) as browser:
        for accepted, packed in (
            ("gzip", True),
            ("br;q=1.0, GZIP;q=0.5", True),
            ("deflate,gzip , br", True),
            ("gzip;q=0", False),
            ("gzip; q=0.00, br", False),
            ("xgzip, gzipped", False),
            ("identity", False),
        ):
            response = await browser.get("/footfall.js", headers={"Accept-Encoding": accepted})
            body = await response.read()
            etag = response.headers["ETag"]
            assert (response.headers.get("Content-Encoding") == "gzip", body[:2] == b"\x1f\x8b") == (packed, packed)
            assert (etag.startswith('"'), etag.endswith('-gzip"')) == (True, packed)
            assert response.headers["Vary"] == "Accept-Encoding"
            assert response.headers["Cache-Control"] == "public, max-age=3600, stale-while-revalidate=86400"
            assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
            known = {"Accept-Encoding": accepted, "If-None-Match": etag}
            again = await browser.get("/footfall.js", headers=known)
            assert (again.status, again.headers["ETag"], await again.read()) == (304, etag, b"")


async def test_the_demo_portal_is_there_in_demo_mode_alone_and_under_a_strict_policy(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """The page shows that the embed needs no inline script, no inline style and no foreign host."""
    async with running(settings_for(redis_url, postgres_url, tmp_path, demo=True)) as footfall:
        response = await footfall.public.get("/")
        assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["Cache-Control"] == "no-cache"
        assert (await footfall.public.get("/demo/")).status == 404
        assert (await footfall.public.get("/demo/..%2f..%2fconfig.py")).status == 404
