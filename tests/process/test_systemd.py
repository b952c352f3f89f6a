"""What systemd hears of Footfall, and the socket that it holds open: real sockets, real processes."""

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

import pytest

from footfall.process.systemd import changed_variables, inherited_socket
from tests.process.test_supervisor import load, more, views
from tests.support.process import Process, fresh_connections, production, ready, run, see, start, until


@pytest.fixture
async def environ(own_folder: Path, redis_url: str, postgres_url: str) -> dict[str, str]:
    """Return the environment of a Footfall on the session's stores."""
    return await production(own_folder, redis_url, postgres_url)


class Manager:
    """A manager's end of sd_notify(3): a datagram socket, and what came."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    async def hears(self) -> dict[str, str]:
        """Return the next message by its names."""
        async with asyncio.timeout(40):
            message = await asyncio.get_running_loop().sock_recv(self.socket, 4096)
        return dict(line.partition("=")[::2] for line in message.decode().splitlines())


@asynccontextmanager
async def activated(listener: socket.socket, environ: dict[str, str]) -> AsyncIterator[Process]:
    """Start Footfall with a socket that stays open here, as systemd passes it: number 3, and the process's own id."""
    listener.set_inheritable(True)
    shell = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" -m footfall serve 3<&{listener.fileno()}'
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FOOTFALL_")}
    child = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        shell,
        sys.executable,
        env=inherited | {"PYTHONUNBUFFERED": "1"} | environ,
        pass_fds=(listener.fileno(),),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    process = Process(child)
    try:
        yield process
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def test_systemd_hears_when_it_serves_reloads_and_stops(environ: dict[str, str], own_folder: Path) -> None:
    """`systemctl start` must fail where Footfall cannot serve, and what starts after Footfall finds it serving."""
    with Manager(own_folder / "notify") as manager:
        async with start("serve", environ=environ | {"NOTIFY_SOCKET": str(manager.path)}) as process:
            first = await manager.hears()
            url, _ = await ready(process)
            assert first == {"READY": "1", "STATUS": f"Serving on {url}, worker processes: 1"}
            for good in (True, False):
                if not good:
                    Path(environ["FOOTFALL_CONFIG"]).write_text("[sites]\n")
                process.process.send_signal(signal.SIGHUP)
                assert (await manager.hears())["RELOADING"] == "1"
                assert (await manager.hears())["READY"] == "1"
            await process.says("new settings cannot be used")
            process.process.send_signal(signal.SIGTERM)
            assert await manager.hears() == {"STOPPING": "1"}
            assert await process.ends() == 0


async def test_with_bad_settings_systemd_hears_nothing_and_the_status_is_2(
    environ: dict[str, str], own_folder: Path
) -> None:
    """So the start fails, and RestartPreventExitStatus=2 leaves it at that."""
    Path(environ["FOOTFALL_CONFIG"]).write_text("[sites]\n")
    with Manager(own_folder / "notify") as manager:
        status, output = await run("serve", environ=environ | {"NOTIFY_SOCKET": str(manager.path)})
        assert (status, "no portal is configured" in output) == (2, True)
        with pytest.raises(BlockingIOError):
            manager.socket.recv(4096)


async def test_a_restart_on_a_socket_that_stays_open_refuses_nobody(environ: dict[str, str], postgres_url: str) -> None:
    """Without it a restart gave 502 to everyone for seconds; with it they wait."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with AsyncExitStack() as last, load(url) as answers:
            for _ in range(2):
                # What the settings say of the address does not count.
                async with activated(listener, environ | {"FOOTFALL_LISTEN": "127.0.0.1:1"}) as process:
                    assert (await ready(process))[0] == url
                    await more(answers, 50)
                    assert await process.stop() == 0
            process = await last.enter_async_context(activated(listener, environ))
            last.push_async_callback(process.stop)  # after the load
            await more(answers, 50)
    assert set(answers) == {200}
    assert await views(postgres_url) == answers[200]


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="systemd-socket-activate is not installed")
async def test_systemd_starts_it_for_the_first_visitor(environ: dict[str, str]) -> None:
    """The program that passes the socket is systemd's own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "PYTHONUNBUFFERED": "1"}
    variables = [f"--setenv={name}={value}" for name, value in own.items()]
    child = await asyncio.create_subprocess_exec(
        "systemd-socket-activate",
        f"--listen=127.0.0.1:{port}",
        *variables,
        sys.executable,
        "-m",
        "footfall",
        "serve",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    process = Process(child)
    await process.says("Listening on")
    async with fresh_connections() as http:
        assert await see(http, f"http://127.0.0.1:{port}") == 200
    await process.says(f"Footfall is ready: http://127.0.0.1:{port}")
    assert await process.stop() == 0


@pytest.mark.parametrize(
    ("kind", "count", "sentence"),
    [
        pytest.param("listens", "2", "more than one socket", id="two sockets"),
        pytest.param("idle", "1", "does not listen", id="not listening"),
        pytest.param("datagram", "1", "does not listen", id="not a stream"),
        pytest.param("file", "1", "is none", id="no socket"),
    ],
)
async def test_a_socket_that_cannot_serve_is_a_sentence(
    kind: str, count: str, sentence: str, environ: dict[str, str], tmp_path: Path
) -> None:
    """A mistake in footfall.socket must not become a traceback."""
    (tmp_path / "file").touch()
    with (
        socket.create_server(("127.0.0.1", 0)) as listens,
        socket.socket() as idle,
        socket.socket(type=socket.SOCK_DGRAM) as datagram,
        (tmp_path / "file").open() as file,
    ):
        sockets = {"listens": listens, "idle": idle, "datagram": datagram}
        number = file.fileno() if kind == "file" else sockets[kind].fileno()
        os.set_inheritable(number, True)
        shell = f'LISTEN_PID=$$ LISTEN_FDS={count} exec "$0" -m footfall serve 3<&{number}'
        child = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            shell,
            sys.executable,
            env=os.environ | environ,
            pass_fds=(number,),
            stderr=asyncio.subprocess.PIPE,
        )
        _, output = await child.communicate()
    assert child.returncode == 2
    assert sentence in output.decode()
    assert "Traceback" not in output.decode()


def test_the_socket_of_another_process_is_left_alone() -> None:
    """A shell that was started by socket activation passes its variables on to everything below."""
    assert inherited_socket({}) is None
    left = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getppid()), "LISTEN_FDNAMES": "x"}
    assert inherited_socket(left) is None
    assert left == {}


async def test_a_reload_says_which_variables_it_does_not_read_again(environ: dict[str, str]) -> None:
    """systemd reads a changed footfall.env for the next start only, and the operator sees the reload succeed."""
    async with start("serve", environ=environ) as process:
        await ready(process)
        pid = str(process.process.pid)
        status, output = await run("check", "--running", pid, environ=environ)
        assert (status, output.count("\n")) == (0, 1)
        changed = environ | {"FOOTFALL_ROLLUP_EVERY_S": "20", "FOOTFALL_OPS_LISTEN": "127.0.0.1:1"}
        status, output = await run("check", "--running", pid, environ=changed)
        assert status == 0
        assert "FOOTFALL_OPS_LISTEN, FOOTFALL_ROLLUP_EVERY_S: changed since Footfall started." in output
        assert await process.stop() == 0
    assert changed_variables(process.process.pid, changed) == []


async def test_check_lists_all_problems_and_asks_no_store(environ: dict[str, str]) -> None:
    """It must answer before a reload although a store is away, and tell right from wrong by its status."""
    away = {"FOOTFALL_REDIS_URL": "redis://127.0.0.1:1/0", "FOOTFALL_POSTGRES_URL": "postgresql://127.0.0.1:1/x"}
    file = environ["FOOTFALL_CONFIG"]
    assert await run("check", environ=environ | away) == (0, f"The settings are right. Sites in {file}: portal\n")
    wrong = {"FOOTFALL_LISTN": "x", "FOOTFALL_ROLLUP_EVERY_S": "1"}
    status, output = await run("check", environ=environ | away | wrong)
    assert (status, output.count("footfall: FOOTFALL_")) == (2, 2)


async def test_the_variables_of_a_file_are_read_again_at_each_reload(environ: dict[str, str], own_folder: Path) -> None:
    """Without systemd, `--env-file` is what `env $(grep …)` was, and understands quotes."""
    file = own_folder / "footfall.env"
    own = {name: value for name, value in environ.items() if name != "FOOTFALL_CONFIG"}
    file.write_text("".join(f'{name}="{value}"\n' for name, value in own.items()))
    config = {"FOOTFALL_CONFIG": environ["FOOTFALL_CONFIG"]}
    assert (await run("--env-file", str(file), "check", environ=config))[0] == 0
    async with start("--env-file", str(file), "serve", environ=config) as process:
        url, _ = await ready(process)
        with file.open("a") as more_lines:
            more_lines.write("FOOTFALL_POLL_AFTER_S='77'\n")
        process.process.send_signal(signal.SIGHUP)
        await process.says("settings were read again and the workers replaced")

        async def polls() -> bool:
            async with fresh_connections() as http, http.get(f"{url}/counts?site=portal") as response:
                return bool((await response.json())["poll_after_s"] == 77)

        await until(polls)
        with file.open("a") as more_lines:
            more_lines.write("FOOTFALL_POLL_AFTER_S='77\n")
        process.process.send_signal(signal.SIGHUP)
        await process.says("new settings cannot be used.*quote does not end")
        assert await process.stop() == 0
