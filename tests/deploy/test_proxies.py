"""The other proxies of `deploy/proxies/`: what must hold of each, asked of Debian's Apache, HAProxy and Caddy."""

import asyncio
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.deploy.test_nginx import BEACON, NGINX, browser_of, host, statuses
from tests.support.footfall import ADDRESS
from tests.support.nginx import nginx_of
from tests.support.proxies import COMMANDS, FOLDER, proxy


@pytest.mark.parametrize("name", sorted(COMMANDS))
async def test_the_address_is_set_and_a_beacon_is_sent_once(name: str, own_folder: Path) -> None:
    """With an appended header a client chooses its address; a beacon that is repeated counts twice."""
    own_folder.mkdir()
    own_folder.chmod(0o711)
    heads: list[bytes] = []
    async with (
        host(heads, answers=True) as alive,
        proxy(name, own_folder, alive) as url,
        browser_of(url, own_folder) as browser,
    ):
        heads.clear()
        async with browser.post("/seen", data=BEACON, headers={"X-Forwarded-For": ADDRESS}) as response:
            assert response.status == 200
        [head] = [head for head in heads if head.startswith(b"POST /seen ")]
        assert re.findall(rb"(?im)^x-forwarded-for: *(.*?)\r$", head) == [b"127.0.0.1"]
        assert re.findall(rb"(?im)^origin: *(.*?)\r$", head) == [b"https://portal.example.vn"]


@pytest.mark.parametrize("name", sorted(COMMANDS))
@pytest.mark.parametrize(("method", "path"), [("POST", "/seen"), ("GET", "/seen.gif?site=portal")])
async def test_a_beacon_that_was_sent_is_never_sent_again(name: str, method: str, path: str, own_folder: Path) -> None:
    """A host that hangs up without an answer may have counted it."""
    own_folder.mkdir()
    own_folder.chmod(0o711)
    heads: list[bytes] = []
    async with (
        host(heads, answers=False) as one,
        proxy(name, own_folder, one) as url,
        browser_of(url, own_folder) as browser,
    ):
        # On a connection that was used before, proxies try again, or hang up so that the browser does.
        assert await statuses(browser, "GET", "/footfall.js", 1) == [200]
        assert (await statuses(browser, method, path, 1))[0] in (502, 503)
    assert sum(b" /seen" in head.partition(b"\r\n")[0] for head in heads) == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("name", sorted(COMMANDS))
async def test_nor_is_it_with_http_2(name: str, own_folder: Path) -> None:
    """There a proxy can refuse a stream, and the client sends it again by itself: curl does, as browsers do."""
    own_folder.mkdir()
    own_folder.chmod(0o711)
    heads: list[bytes] = []
    async with host(heads, answers=False) as one, proxy(name, own_folder, one) as url:
        paths = ("/footfall.js", "/seen.gif?site=portal", "/seen.gif?site=portal")
        words = [word for path in paths for word in ("--output", "/dev/null", f"{url}{path}")]
        options = ("--silent", "--http2", "--cacert", str(own_folder / "authority.pem"), "--write-out", "%{http_code} ")
        curl = await asyncio.create_subprocess_exec("curl", *options, *words, stdout=asyncio.subprocess.PIPE)
        answers = (await curl.communicate())[0].split()
    assert answers[0] == b"200"
    assert set(answers[1:]) <= {b"500", b"502", b"503"}
    assert sum(b" /seen" in head.partition(b"\r\n")[0] for head in heads) == 2


async def test_behind_a_cdn_the_client_is_the_one_that_the_cdn_names(own_folder: Path) -> None:
    """Without it all visitors of the CDN count as few; believed from others, each client could invent its address."""
    own_folder.mkdir()
    heads: list[bytes] = []
    cdn = (FOLDER / "cdn-nginx.conf").read_text("utf-8")
    for trusted, found in (("127.0.0.0/8", ADDRESS), ("192.0.2.0/24", "127.0.0.1")):
        heads.clear()
        folder = own_folder / found
        folder.mkdir()
        text = NGINX + cdn.replace("192.0.2.0/24", trusted)
        async with (
            host(heads, answers=True) as alive,
            nginx_of(text, folder, [alive]) as url,
            browser_of(url, folder) as browser,
            browser.post("/seen", data=BEACON, headers={"X-Forwarded-For": f"10.6.6.6, {ADDRESS}"}) as response,
        ):
            assert response.status == 200
        assert re.findall(rb"(?im)^x-forwarded-for: *(.*?)\r$", heads[0]) == [found.encode()]


def test_the_file_for_iis_is_well_formed() -> None:
    """No program of Debian's reads it; a file that is no XML would stop the whole site with 500.19."""
    file = ET.fromstring((FOLDER / "web.config").read_text("utf-8"))  # noqa: S314 (our own file)
    rewrite = file.find("system.webServer/rewrite/rules/rule")
    assert rewrite is not None
    header = rewrite.find("serverVariables/set")
    assert header is not None
    assert header.attrib == {"name": "HTTP_X_FORWARDED_FOR", "value": "{REMOTE_ADDR}"}
