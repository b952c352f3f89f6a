"""`footfall status`: one screen, of a real service."""

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from footfall.cli.status import screen
from tests.cli.conftest import Type
from tests.support.patience import PATIENCE_S
from tests.support.process import fresh_connections, ready, run, see, start, until

NOTHING = ("--json", "--watch")


def shown(status: dict[str, object], width: int = 120) -> str:
    """Return the screen as text."""
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(screen(status))
    return captured.get()


def status_of(**changes: object) -> dict[str, object]:
    """Return an answer of a service that is well, but for these."""
    site = {"id": "portal", "name": "Cổng thử", "online": 4, "today": 1373, "week": None, "total": 1_373_876}
    good: dict[str, object] = {
        "status": "ok",
        "version": "1.0",
        "now": "2026-11-23T08:31:07+00:00",
        "copied": "2026-11-23T08:31:00+00:00",
        "sites": [site | {"stale": False}],
        "stores": {"redis": True, "postgres": True},
        "spool_bytes": 3 << 19,
        "spool_max_bytes": 256 << 20,
        "workers": [{}],
        "problems": [],
        "refused": [],
    }
    return good | changes


def test_the_screen_has_what_a_night_begins_with() -> None:
    """Whether it is well, both stores, the disk, the copies, and each site."""
    lines = shown(status_of()).splitlines()
    assert lines[0].startswith("Footfall 1.0  ok  1 worker  ")
    assert lines[1] == "redis up  postgres up  1.5 of 256 MiB in the spool  copied to PostgreSQL 7 s ago"
    assert lines[2] == "Problems: none"
    assert lines[4].split() == ["site", "name", "online", "today", "week", "total"]
    assert lines[5].split() == ["portal", "Cổng", "thử", "4", "1,373", "-", "1,373,876"]
    assert len(lines) == 6


def test_workers_that_do_not_serve_are_missing_on_the_screen() -> None:
    """The others answer, so that nothing else on the screen says it."""
    assert "  1 of 2 workers  " in shown(status_of(workers_configured=2)).splitlines()[0]
    assert "  1 worker  " in shown(status_of(workers_configured=1)).splitlines()[0]


def test_what_is_wrong_is_said_and_a_long_list_ends() -> None:
    """A hundred refused pages must not push the sites off the screen."""
    page = {"site": "portal", "origin": "https://a.vn", "times": 3, "advice": 'add "a.vn"'}
    problems = [{"what": "redis takes no beacons", "since": "2026-11-23T08:00:00+00:00"}]
    text = shown(status_of(refused=[page] * 100, problems=problems, stores={"redis": False}, copied=None, workers=[]))
    assert "redis away" in text
    assert "nothing copied to PostgreSQL yet" in text
    assert "redis takes no beacons" in text
    assert text.count('https://a.vn as site portal, 3 times: add "a.vn"') == 10
    assert "and 90 more" in text


def test_nothing_of_a_stranger_steers_the_terminal() -> None:
    """An origin, a name, a problem of a store: others wrote them, and they may hold markup or escapes."""
    evil = "\x1b[2J[bold]\nx"
    page = {"site": evil, "origin": evil, "times": 1, "advice": evil}
    site = {"id": evil, "name": evil, "online": 1, "stale": True}
    text = shown(status_of(refused=[page], sites=[site], status=evil, version=evil), width=300)
    assert "\x1b" not in text
    assert text.count("[bold]") == 7


async def test_the_command_shows_a_running_service_and_json_is_its_answer(environ: dict[str, str]) -> None:
    """It needs no store of its own, only the ops listener."""
    async with start("serve", "--workers", "2", environ=environ) as process:
        url, ops = await ready(process)
        here = {"FOOTFALL_CONFIG": environ["FOOTFALL_CONFIG"], "FOOTFALL_OPS_LISTEN": ops.removeprefix("http://")}
        async with fresh_connections() as http:
            assert await see(http, url) == 200
        seen: list[str] = []

        async def is_well() -> bool:  # a worker that has just started may still be opening the site
            seen.append((await run("status", environ=here))[1])
            return "ok  2 workers" in seen[-1]

        await until(is_well)
        assert "portal" in seen[-1]
        status, output = await run("status", "--json", environ=here)
        answer = json.loads(output)
        assert (status, [site["id"] for site in answer["sites"]]) == (0, ["portal"])
        assert {worker["pid"] for worker in answer["workers"]} == {worker.pid for worker in process.workers}
        assert await process.stop() == 0


async def test_watching_follows_the_service_until_ctrl_c(environ: dict[str, str]) -> None:
    """In a terminal of its own, as a person does; while the service is away the screen says so, and goes on."""
    here = {"FOOTFALL_CONFIG": environ["FOOTFALL_CONFIG"], "FOOTFALL_OPS_LISTEN": "127.0.0.1:1", "TERM": "xterm"}
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 150, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FOOTFALL_")}
    command = (sys.executable, "-m", "footfall", "status", "--watch")
    child = await asyncio.create_subprocess_exec(
        *command,
        env=inherited | here,
        stdout=slave,
        stderr=slave,
        # A shell's job in the background, as these tests may be one, has its SIGINT ignored, and so have its children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    os.close(slave)
    text = ""
    with os.fdopen(master, "rb", buffering=0) as screen_of_child:
        async with asyncio.timeout(PATIENCE_S):
            while "no Footfall answers at 127.0.0.1:1" not in text:
                text += (await asyncio.to_thread(screen_of_child.read, 4096)).decode(errors="replace")
            child.send_signal(signal.SIGINT)
            assert await child.wait() == 0
    assert "Traceback" not in text


def test_where_no_service_answers_there_is_a_sentence(environ: dict[str, str], typed: Type) -> None:
    """The likeliest reasons: it does not run, or this shell has not its environment."""
    status, output = typed("status", environ=environ | {"FOOTFALL_OPS_LISTEN": "127.0.0.1:1"})
    assert status == 1
    assert output.startswith("footfall: no Footfall answers at 127.0.0.1:1: does it run")
    assert typed("status", *NOTHING, environ=environ)[0] == 2


def test_beside_a_trial_it_needs_no_settings_file(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make run` has none, and the first question of a newcomer is whether it works."""
    monkeypatch.chdir(tmp_path)
    status, output = typed("status", environ={"FOOTFALL_OPS_LISTEN": "127.0.0.1:1"})
    assert (status, output.startswith("footfall: no Footfall answers at 127.0.0.1:1")) == (1, True)


async def test_a_service_that_asks_for_a_token_is_a_sentence(environ: dict[str, str]) -> None:
    """The command reads the same settings, so a token is sent where it is known."""
    token = {"FOOTFALL_OPS_TOKEN": "hunter2"}
    async with start("serve", environ=environ | token) as process:
        _, ops = await ready(process)
        here = environ | {"FOOTFALL_OPS_LISTEN": ops.removeprefix("http://")}
        status, output = await run("status", environ=here)
        assert (status, "refuses: unauthorized" in output) == (1, True)
        assert (await run("status", environ=here | token))[0] == 0
        assert await process.stop() == 0
