"""Firefox and WebKitGTK as Debian packages them, driven by what each brings: WebDriver BiDi, and WebDriver."""

import asyncio
import json
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

from tests.support.patience import PATIENCE_S
from tests.support.ports import free_port

POLL_S = 0.05
LIBRARIES = Path("/usr/lib")
MINI_BROWSER = "*/webkit2gtk-*/MiniBrowser"
NOT_A_ROBOT = "<script>Object.defineProperty(navigator, 'webdriver', { get: () => false })</script>"
"""A page that a driver opens says so, and Footfall does not count it; these pages hide it."""


class Engine(ABC):
    """A browser with one window."""

    @abstractmethod
    async def open(self, url: str) -> None:
        """Load a page; return after its load event."""

    @abstractmethod
    async def _evaluate(self, expression: str) -> str:
        """Return the text that an expression of the page has as its value."""

    async def read(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        return json.loads(await self._evaluate(f"JSON.stringify(({expression}) ?? null)"))

    async def until(self, expression: str) -> None:
        """Wait until an expression of the page is true."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self.read(expression):  # noqa: ASYNC110 - another process offers nothing to wait for
                await asyncio.sleep(POLL_S)


class Firefox(Engine):
    """One tab, by WebDriver BiDi: https://w3c.github.io/webdriver-bidi/."""

    def __init__(self, bidi: ClientWebSocketResponse) -> None:
        self._socket = bidi
        self._asked = 0
        self._tab = ""

    async def start(self) -> None:
        """Take the tab that is open."""
        await self._ask("session.new", capabilities={})
        self._tab = (await self._ask("browsingContext.getTree"))["contexts"][0]["context"]

    async def open(self, url: str) -> None:
        """Load a page; return after its load event."""
        await self._ask("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    async def _evaluate(self, expression: str) -> str:
        where = {"context": self._tab}
        found = await self._ask("script.evaluate", expression=expression, target=where, awaitPromise=False)
        assert found["type"] == "success", found
        return str(found["result"]["value"])

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._asked += 1
        await self._socket.send_json({"id": self._asked, "method": method, "params": params})
        while True:
            answer = await self._socket.receive_json(timeout=PATIENCE_S)
            if answer.get("id") == self._asked:
                assert answer["type"] == "success", answer
                result: dict[str, Any] = answer["result"]
                return result


class WebKit(Engine):
    """One window of MiniBrowser, by WebDriver: https://w3c.github.io/webdriver/."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def open(self, url: str) -> None:
        """Load a page; return after its load event."""
        await self._post("url", {"url": url})

    async def _evaluate(self, expression: str) -> str:
        return str(await self._post("execute/sync", {"script": f"return {expression}", "args": []}))

    async def _post(self, what: str, body: Mapping[str, Any]) -> Any:
        async with self._session.post(f"{self._url}/{what}", json=body) as response:
            answer = await response.json()
            assert response.status == 200, answer
            return answer["value"]


def missing(name: str) -> str:
    """Return which program an engine lacks here, or nothing."""
    if name == "firefox":
        return "" if shutil.which("firefox-esr") else "firefox-esr"
    if not shutil.which("Xvfb"):
        return "Xvfb"
    return "" if shutil.which("WebKitWebDriver") and any(LIBRARIES.glob(MINI_BROWSER)) else "WebKitWebDriver"


@asynccontextmanager
async def running_engine(name: str) -> AsyncIterator[Engine]:
    """Start a browser with an empty profile."""
    folder = Path(tempfile.mkdtemp(prefix="footfall-engine-"))
    try:
        async with _firefox(folder) if name == "firefox" else _webkit(folder) as engine:
            yield engine
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _firefox(folder: Path) -> AsyncIterator[Engine]:
    command = ("firefox-esr", "--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", str(folder))
    async with _process(*command, folder=folder, reads="stderr") as process:
        url = await _line_with(process.stderr, b"ws://")
        reader = asyncio.create_task(_read_on(process.stderr))
        async with ClientSession() as session, session.ws_connect(f"{url}/session", max_msg_size=0) as bidi:
            engine = Firefox(bidi)
            await engine.start()
            yield engine
        reader.cancel()


@asynccontextmanager
async def _webkit(folder: Path) -> AsyncIterator[Engine]:
    async with _process("Xvfb", "-displayfd", "1", "-nolisten", "tcp", folder=folder, reads="stdout") as screen:
        assert screen.stdout is not None
        display = (await asyncio.wait_for(screen.stdout.readline(), PATIENCE_S)).decode().strip()
        port = free_port()
        environ = {
            "DISPLAY": f":{display}",
            "XDG_RUNTIME_DIR": str(folder),
            "GDK_BACKEND": "x11",
            "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1",
            "WEBKIT_DISABLE_DMABUF_RENDERER": "1",
        }
        async with (
            _process("WebKitWebDriver", "-p", str(port), folder=folder, **environ),
            ClientSession() as session,
        ):
            url = f"http://127.0.0.1:{port}/session"
            options = {"binary": str(next(LIBRARIES.glob(MINI_BROWSER))), "args": ["--automation"]}
            wanted = {"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": options}}}
            opened = f"{url}/{await _new_session(session, url, wanted)}"
            yield WebKit(session, opened)
            await session.delete(opened)


async def _new_session(session: ClientSession, url: str, wanted: Mapping[str, Any]) -> str:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                async with session.post(url, json=wanted) as response:
                    return str((await response.json())["value"]["sessionId"])
            except OSError:
                await asyncio.sleep(POLL_S)


@asynccontextmanager
async def _process(
    *command: str, folder: Path, reads: str = "", **environ: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program with a home of its own, and read one of its outputs; end it afterwards."""
    own = {**os.environ, "HOME": str(folder), **environ}
    stdout, stderr = (PIPE if name == reads else DEVNULL for name in ("stdout", "stderr"))
    process = await asyncio.create_subprocess_exec(*command, env=own, stdout=stdout, stderr=stderr)
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


async def _line_with(stream: asyncio.StreamReader | None, mark: bytes) -> str:
    """Return the word with this mark in what a program writes."""
    assert stream is not None
    async with asyncio.timeout(PATIENCE_S):
        while line := await stream.readline():
            for word in line.split():
                if mark in word:
                    return word.decode()
    raise AssertionError("the browser ended before it was ready")


async def _read_on(stream: asyncio.StreamReader | None) -> None:
    """Read what a program writes, so that it never waits for a reader."""
    while stream is not None and await stream.readline():
        pass
