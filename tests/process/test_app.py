"""The demo as a newcomer runs it: one command, its own servers, a page that counts; and the parts of one worker."""

import asyncio
import os
import pty
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import psutil
import pytest

from footfall.delivery.pending import View
from footfall.delivery.reconciler import PROBES_AT_ONCE
from footfall.embedded.servers import Valkey, socket_folder
from footfall.errors import Stop
from footfall.http.services import Services
from footfall.model.site_id import SiteId
from footfall.process.app import OPENED_FIRST, open_services, open_sites, run_background
from footfall.signals import default_signals
from tests.support.footfall import HOST, VIETNAM, FakeClock, running, settings_for
from tests.support.patience import PATIENCE_S
from tests.support.process import HEADERS, all_ended, embedded, fresh_connections, ready, see, start, until
from tests.support.project import PROJECT

DEMO = ("serve", "--embedded", "--demo")
Demo = subprocess.Popen[bytes]


async def numbers(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """Return what the footer shows, without what changes every moment."""
    async with http.get(f"{url}/counts?site=portal") as response:
        shown = await response.json()
        assert response.status == 200, shown
    return {name: shown[name] for name in ("today", "week", "total", "views_today", "revision")}


async def visit(url: str) -> dict[str, Any]:
    """Open the portal as a browser does: the page, the script that it names, and the script's beacon."""
    async with fresh_connections() as http:
        async with http.get(f"{url}/") as response:
            page = await response.text()
            assert response.status == 200
        script = re.search(r'<script[^>]* src="([^"]+)"', page)
        assert script is not None
        async with http.get(urljoin(url, script[1])) as response:
            assert (response.status, response.content_type) == (200, "text/javascript")
        assert await see(http, url, host=url) == 200
        return await numbers(http, url)


async def test_the_demo_shows_the_same_numbers_after_a_stop_and_after_a_crash(own_folder: Path) -> None:
    """A newcomer opens the page, presses Ctrl-C and starts again; or pulls the plug."""
    async with start(*DEMO, environ=embedded(own_folder)) as process:
        url, _ = await ready(process)
        first = await visit(url)
        assert (first["today"], first["views_today"]) == (1, 1)
        below = process.children
        assert len(below) >= 3
        # A terminal sends Ctrl-C to the whole group; the servers and the workers must ignore it.
        os.killpg(process.process.pid, signal.SIGINT)
        assert await process.ends() == 0
        assert process.lines[-1] == "Footfall has stopped.\n"
        await all_ended(below)

    async with start(*DEMO, environ=embedded(own_folder)) as process:
        url, _ = await ready(process)
        async with fresh_connections() as http:
            assert await numbers(http, url) == first
        second = await visit(url)
        assert (second["today"], second["views_today"]) == (1, 2)
        below = process.children
        process.process.kill()
        await process.process.wait()

    async with start(*DEMO, environ=embedded(own_folder)) as process:
        url, _ = await ready(process)
        async with fresh_connections() as http:
            assert await numbers(http, url) == second
        await all_ended(below)
        assert await process.stop() == 0


async def test_a_stop_while_the_servers_start_leaves_nothing_behind(own_folder: Path) -> None:
    """The first start takes some seconds, and users press Ctrl-C meanwhile."""
    async with start(*DEMO, environ=embedded(own_folder)) as process:
        await process.says("is starting its Valkey")
        await until(lambda: bool(process.children))
        below = process.children
        assert await process.stop(signal.SIGINT) == 0
        await all_ended(below)
    async with start(*DEMO, environ=embedded(own_folder)) as process:
        url, _ = await ready(process)
        assert (await visit(url))["views_today"] == 1
        assert await process.stop() == 0


@contextmanager
def in_a_terminal(
    command: list[str], environ: dict[str, str], log: Path
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command in a terminal of its own, with its output in `log`; yield it and our end of the terminal."""
    ours, theirs = pty.openpty()
    with log.open("wb") as output, default_signals():
        process = subprocess.Popen(
            ["setsid", "--ctty", *command], cwd=PROJECT, env=environ, stdin=theirs, stdout=output, stderr=output
        )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait(PATIENCE_S)


async def ended(process: Demo, why: str) -> int:
    """Return the exit status; fail with a sentence where the process does not end."""
    try:
        return await asyncio.to_thread(process.wait, PATIENCE_S)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the demo did not end within {PATIENCE_S} s after {why}")


NEEDS_SETSID = pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid, for a terminal of its own")
FOOTFALL = [sys.executable, "-m", "footfall", *DEMO]


@NEEDS_SETSID
async def test_a_terminal_that_is_closed_stops_the_demo(own_folder: Path, hangups_ignored: None) -> None:
    """Closing the window is the third way to stop the demo; it must leave no process behind either."""
    log = own_folder.with_suffix(".log")
    with in_a_terminal(FOOTFALL, os.environ | embedded(own_folder), log) as (demo, terminal):
        await until(lambda: b"Metrics: " in log.read_bytes())
        below = psutil.Process(demo.pid).children(recursive=True)
        assert len(below) >= 3
        os.close(terminal)
        assert await ended(demo, "its terminal was closed") == 0
    await all_ended(below)


@NEEDS_SETSID
async def test_under_nohup_a_terminal_that_is_closed_stops_nothing(own_folder: Path) -> None:
    """Who types nohup wants it to stay; a hangup then only reads the settings again, as SIGHUP always does."""
    log = own_folder.with_suffix(".log")
    with in_a_terminal(["nohup", *FOOTFALL], os.environ | embedded(own_folder), log) as (demo, terminal):
        await until(lambda: b"Metrics: " in log.read_bytes())
        address = re.search(rb"Footfall is ready: (\S+)", log.read_bytes())
        assert address is not None
        os.close(terminal)
        await until(lambda: log.read_bytes().count(b"The settings were read again") == 1)
        assert (await visit(address[1].decode()))["views_today"] == 1
        demo.send_signal(signal.SIGHUP)
        await until(lambda: log.read_bytes().count(b"The settings were read again") == 2)
        assert (await visit(address[1].decode()))["views_today"] == 2
        below = psutil.Process(demo.pid).children(recursive=True)
        demo.terminate()
        assert await ended(demo, "SIGTERM") == 0
    await all_ended(below)


async def test_an_ordinary_account_can_run_the_demo(own_folder: Path) -> None:
    """Most people run Footfall under their own account; the account without rights stands for them."""
    if os.geteuid() != 0:
        pytest.skip("not run as root: every other test shows this")
    account = pwd.getpwnam("nobody")
    own_folder.mkdir()
    os.chown(own_folder, account.pw_uid, account.pw_gid)
    environ = embedded(own_folder / "data") | {"HOME": str(own_folder), "PYTHONDONTWRITEBYTECODE": "1"}
    async with start(*DEMO, environ=environ, user="nobody") as process:
        url, _ = await ready(process)
        assert (await visit(url))["views_today"] == 1
        assert {child.username() for child in process.children} == {"nobody"}
        assert await process.stop() == 0
    shutil.rmtree(socket_folder(own_folder / "data"), ignore_errors=True)


async def test_a_redis_that_throws_counts_away_is_refused(own_folder: Path, postgres_url: str) -> None:
    """An evicted key is a lost number; the sentence names the setting to change."""
    async with Valkey(own_folder, {"maxmemory": "50mb", "maxmemory-policy": "allkeys-lru"}) as valkey:
        with pytest.raises(Stop, match=r"maxmemory-policy is allkeys-lru.*noeviction"):
            async with open_services(settings_for(valkey.url, postgres_url, own_folder)):
                pytest.fail("it opened")


async def test_a_worker_starts_while_both_stores_are_away(own_folder: Path) -> None:
    """A rebooted host starts its services in any order; the counter must wait for its stores."""
    nowhere = settings_for("redis://127.0.0.1:1/0", "postgresql://nobody@127.0.0.1:1/none", own_folder)
    async with open_services(nowhere) as services, run_background(services):
        shown = services.counts_cache.shown(nowhere.sites["portal"]).counts
        assert (shown.today, shown.stale) == (None, True)


def with_counts(services: Services) -> set[SiteId]:
    """Return the sites of which the worker knows the numbers."""
    sites = services.settings.sites.values()
    return {site.id for site in sites if services.counts_cache.shown(site).counts.today is not None}


async def test_the_busiest_sites_open_first_and_the_worker_serves_while_the_others_do(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """Ten thousand sites take seconds to open; those whose visitors are waiting are not the last ones."""
    ids = [SiteId(f"site-{number}") for number in range(OPENED_FIRST + PROBES_AT_ONCE)]
    sites = {site_id: {"name": "Cổng thử", "hosts": [HOST]} for site_id in ids}
    settings = settings_for(redis_url, postgres_url, tmp_path, sites=sites)
    async with running(settings, clock=FakeClock()) as footfall:
        day = footfall.services.periods.now(VIETNAM)[1].day
        for site_id in (ids[-1], ids[3]):
            await footfall.services.recorder.record(settings.sites[site_id], day, b"0123456789abcdef", None, View())
    busiest_open = asyncio.Event()
    async with open_services(settings, FakeClock()) as services:
        opening = asyncio.create_task(open_sites(services, busiest_open))
        await busiest_open.wait()
        opened = with_counts(services)
        await opening
        assert opened == {ids[-1], *ids[: OPENED_FIRST - 1]}
        assert with_counts(services) == set(ids)


async def test_a_worker_says_how_it_is(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    """An operator looks at CPU time, memory and open files first."""
    settings = settings_for(redis_url, postgres_url, tmp_path)
    async with running(settings, clock=FakeClock()) as footfall, run_background(footfall.services):
        await until(lambda: footfall.metric("process_cpu_seconds_total") > 0)
        assert footfall.metric("process_resident_memory_bytes") > 20e6
        assert footfall.metric("process_open_fds") > 3
        assert footfall.metric("process_max_fds") >= footfall.metric("process_open_fds")
        started = footfall.metric("process_start_time_seconds")
        assert started == psutil.Process().create_time()


async def test_a_public_listener_names_no_server(own_folder: Path) -> None:
    """A banner would show an attacker which version to look up. The real listener answers here, not a test's."""
    async with start(*DEMO, environ=embedded(own_folder)) as process:
        url, ops = await ready(process)
        async with fresh_connections() as http:
            for address in (f"{url}/counts?site=portal", f"{ops}/healthz"):
                async with http.get(address, headers=HEADERS) as response:
                    assert response.status == 200
                    assert "Server" not in response.headers
        assert await process.stop() == 0
