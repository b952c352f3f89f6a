"""Tabs without an attached debugger: only these are really hidden behind others, and really prerendered.

Playwright keeps every page visible, and Chromium prerenders no page that a debugger is attached to. So this
module opens tabs through the browser's own protocol and attaches only when a test reads a value.
"""

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

ADDRESS = re.compile(rb"DevTools listening on (ws://\S+)")


class Tabs:
    """The tabs of one Chromium."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._last_id = 0

    async def open(self, url: str, *, in_background: bool = False) -> str:
        """Open a tab, behind the others if asked; return its id."""
        opened = await self._ask("Target.createTarget", url=url, background=in_background)
        return str(opened["targetId"])

    async def bring_to_front(self, tab: str) -> None:
        """Make the tab the visible one."""
        await self._ask("Target.activateTarget", targetId=tab)

    async def evaluate(self, tab: str, expression: str) -> Any:
        """Return the value of a JavaScript expression in the tab."""
        attached = await self._ask("Target.attachToTarget", targetId=tab, flatten=True)
        session = attached["sessionId"]
        done = await self._ask("Runtime.evaluate", session, expression=expression, returnByValue=True)
        await self._ask("Target.detachFromTarget", sessionId=session)
        return done["result"].get("value")

    async def close(self) -> None:
        """Close the browser."""
        await self._ask("Browser.close")

    async def _ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        await self._socket.send_json(message if session is None else {**message, "sessionId": session})
        async for received in self._socket:
            answer = json.loads(received.data)
            if answer.get("id") == self._last_id:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result
        raise AssertionError(f"the browser went away during {method}")


@asynccontextmanager
async def running_tabs(chromium_path: str, arguments: Sequence[str]) -> AsyncIterator[Tabs]:
    """Start a Chromium with an empty profile."""
    with tempfile.TemporaryDirectory(prefix="footfall-tabs-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            chromium_path,
            "--headless",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            *arguments,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        output = b""
        while not (address := ADDRESS.search(output)):
            line = await process.stderr.readline()
            assert line, output.decode()
            output += line
        # An unread pipe would fill and block the browser.
        draining = asyncio.create_task(process.stderr.read())
        async with ClientSession() as session, session.ws_connect(address[1].decode(), max_msg_size=0) as socket:
            tabs = Tabs(socket)
            yield tabs
            await tabs.close()
        await process.wait()
        await draining
