"""Footfall as an operator runs it: a process with an environment, signals and output."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import psutil

from footfall import sql_folder
from footfall.signals import default_signals
from footfall.stores.migrations import migrate
from tests.support.ordinary_account import python_of
from tests.support.patience import PATIENCE_S
from tests.support.project import PROJECT

HOST = "portal.example.vn"
HEADERS = {"Origin": f"https://{HOST}", "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"}
LOOK_EVERY_S = 0.01
OF_PYTHON = ("Traceback", "never awaited", "resource_tracker", "never retrieved", "Warning: ", "Exception ignored")
"""What an operator cannot act on."""
PLAIN_OUTPUT = {"PYTHONUNBUFFERED": "1", "COLUMNS": "200", "NO_COLOR": "1"}
SETTINGS = f'[sites.portal]\nname = "Cổng thử"\nhosts = ["{HOST}"]\n'


def command_of(process: psutil.Process) -> list[str]:
    """Return the command line of a process; an empty one where it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # since it was listed; or its parent has not noticed yet
        return []


def workers_among(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the workers of a Footfall among some processes, oldest first."""
    found = [process for process in processes if "--multiprocessing-fork" in command_of(process)]
    return sorted(found, key=psutil.Process.create_time)


class Process:
    """A running command, and the lines of its output so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._heard = asyncio.Condition()
        self._listening = asyncio.create_task(self._listen())

    async def says(self, pattern: str) -> re.Match[str]:
        """Wait until a line matches, and return the match; fail when the output ends without one."""
        async with asyncio.timeout(PATIENCE_S), self._heard:
            while not (found := next(filter(None, (re.search(pattern, line) for line in self.lines)), None)):
                assert not self._listening.done(), f"no line matches {pattern!r}: {self.lines}"
                await self._heard.wait()
        return found

    async def ends(self) -> int:
        """Wait for the end, check that the output holds nothing of Python's own, and return the exit status."""
        async with asyncio.timeout(PATIENCE_S):
            status = await self.process.wait()
            await self._listening
        for word in OF_PYTHON:
            assert word not in self.text, self.text
        return status

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return await self.ends()

    @property
    def children(self) -> list[psutil.Process]:
        """Return every process below this one."""
        return psutil.Process(self.process.pid).children(recursive=True)

    @property
    def workers(self) -> list[psutil.Process]:
        """Return the workers, oldest first."""
        return workers_among(self.children)

    @property
    def text(self) -> str:
        """Return all output so far."""
        return "".join(self.lines)

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._heard:
                self.lines.append(line.decode())
                self._heard.notify_all()
        async with self._heard:
            self._heard.notify_all()


@asynccontextmanager
async def start(
    *arguments: str, environ: Mapping[str, str], user: str | None = None, module: str = "footfall"
) -> AsyncIterator[Process]:
    """Run `python -m footfall` with `arguments`, without this process's settings; end it at the end of the block."""
    python = python_of(user)
    async with launch(*python.words, "-m", module, *arguments, environ=python.environ | dict(environ)) as process:
        yield process


@asynccontextmanager
async def launch(*words: str, environ: Mapping[str, str]) -> AsyncIterator[Process]:
    """Run a command without this process's settings of a Footfall; end it and all below it at the end of the block."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FOOTFALL_")}
    with default_signals():
        child = await asyncio.create_subprocess_exec(
            *words,
            cwd=PROJECT,
            env=inherited | PLAIN_OUTPUT | dict(environ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    process = Process(child)
    try:
        yield process
    finally:
        if child.returncode is None:
            below = process.children  # a failed test leaves no server behind, nor one that keeps the output open
            child.kill()
            await child.wait()
            for one in below:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        async with asyncio.timeout(PATIENCE_S):
            await process._listening  # noqa: SLF001


async def run(*arguments: str, environ: Mapping[str, str]) -> tuple[int, str]:
    """Run a command to its end; return exit status and output."""
    async with start(*arguments, environ=environ) as process:
        return await process.ends(), process.text


async def ready(process: Process) -> tuple[str, str]:
    """Wait until the command serves; return the addresses of both listeners."""
    metrics = await process.says(r"Metrics: (\S+)/metrics")
    return (await process.says(r"Footfall is ready: (\S+)"))[1], metrics[1]


async def production(folder: Path, redis_url: str, postgres_url: str) -> dict[str, str]:
    """Return the environment of a Footfall on these stores, migrated, on free ports, with its file in `folder`."""
    await migrate(postgres_url, sql_folder())
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "footfall.toml"
    file.write_text(f"redis_timeout_s = 10\n{SETTINGS}[limits]\nenabled = false\n")
    return {
        "FOOTFALL_CONFIG": str(file),
        "FOOTFALL_REDIS_URL": redis_url,
        "FOOTFALL_POSTGRES_URL": postgres_url,
        "FOOTFALL_DATA_DIR": str(folder / "data"),
        "FOOTFALL_LISTEN": "127.0.0.1:0",
        "FOOTFALL_OPS_LISTEN": "127.0.0.1:0",
    }


def embedded(folder: Path) -> dict[str, str]:
    """Return the environment of `serve --embedded` with its data in `folder`, on free ports."""
    return {
        "FOOTFALL_DATA_DIR": str(folder),
        "FOOTFALL_LISTEN": "127.0.0.1:0",
        "FOOTFALL_OPS_LISTEN": "127.0.0.1:0",
    }


async def until(fact: Callable[[], bool | Awaitable[bool]]) -> None:
    """Poll until the fact holds: another process offers no event to wait for."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            seen = fact()
            if seen if isinstance(seen, bool) else await seen:
                return
            await asyncio.sleep(LOOK_EVERY_S)


async def all_ended(processes: list[psutil.Process]) -> None:
    """Wait until none of the processes runs any more."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, PATIENCE_S)
    assert alive == []


async def see(http: aiohttp.ClientSession, url: str, host: str = f"https://{HOST}", site: str = "portal") -> int:
    """Send the view of a page; return the status of the answer."""
    headers = HEADERS | {"Origin": host}
    async with http.post(f"{url}/seen", json={"site": site}, headers=headers) as response:
        await response.read()
        return response.status


def fresh_connections() -> aiohttp.ClientSession:
    """Return a client that connects anew for every request, so that each request may reach another worker."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))
