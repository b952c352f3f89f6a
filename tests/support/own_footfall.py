"""A Footfall in a child process, as an operator starts it, to measure from outside and then stop."""

import asyncio
import os
import re
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from footfall.errors import Stop
from tests.support.project import PROJECT

SITE = "replay"
HOST = "replay.example.vn"
READY = re.compile(r"Footfall is ready: (http://\S+)")
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60


@asynccontextmanager
async def own_footfall() -> AsyncIterator[str]:
    """Run a Footfall on an empty data folder, without limits, that trusts our forwarding header; yield its URL."""
    with tempfile.TemporaryDirectory(prefix="footfall-", ignore_cleanup_errors=True) as folder:
        # The caller's own settings of a Footfall must not apply here.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FOOTFALL_")}
        environ = inherited | prepare(Path(folder))
        async with running(sys.executable, "-m", "footfall", "serve", "--embedded", environ=environ) as url:
            yield url


def prepare(folder: Path) -> dict[str, str]:
    """Write the settings of a Footfall that lives in `folder`, and return its variables."""
    # As root, PostgreSQL runs under another account, which must pass through this folder.
    folder.chmod(0o711)
    settings = folder / "footfall.toml"
    settings.write_text(
        f'[sites.{SITE}]\nname = "Replay"\nhosts = ["{HOST}"]\n'
        f'time_zone = "{zone_at_noon(datetime.now(UTC))}"\n[limits]\nenabled = false\n'
    )
    return {
        "FOOTFALL_CONFIG": str(settings),
        "FOOTFALL_DATA_DIR": str(folder / "data"),
        "FOOTFALL_LISTEN": "127.0.0.1:0",
        "FOOTFALL_OPS_LISTEN": "127.0.0.1:0",
        "FOOTFALL_TRUSTED_PROXIES": "127.0.0.1/32",
        "PYTHONUNBUFFERED": "1",
    }


def zone_at_noon(now: datetime) -> str:
    """Return a zone in which no replay that starts now meets a midnight.

    >>> zone_at_noon(datetime(2026, 11, 23, 5, tzinfo=UTC))
    'Etc/GMT-7'
    """
    # POSIX counts its offsets to the west: noon at 05:00 UTC is seven hours east of it.
    return f"Etc/GMT{now.hour - 12:+d}"


@asynccontextmanager
async def running(
    *command: str, environ: dict[str, str], start_timeout_s: float = START_TIMEOUT_S
) -> AsyncIterator[str]:
    """Run the command until it prints that it is ready; stop it gently at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *command, env=environ, cwd=PROJECT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    last_lines: deque[str] = deque(maxlen=20)
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    reading = asyncio.create_task(_listen(process.stdout, last_lines, ready))
    try:
        try:
            url = await asyncio.wait_for(ready, start_timeout_s)
        except TimeoutError:
            raise Stop("Footfall did not get ready. Its last lines:\n" + "".join(last_lines)) from None
        yield url
    finally:
        # A process whose output has ended is ending too; a signal would race with its exit status.
        if not reading.done():
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
        await reading


async def _listen(output: asyncio.StreamReader, last_lines: deque[str], ready: asyncio.Future[str]) -> None:
    """Read to the end: a full pipe would block the process."""
    async for line in output:
        last_lines.append(line.decode(errors="replace"))
        if not ready.done() and (match := READY.match(last_lines[-1])):
            ready.set_result(match[1].rstrip("/"))
    if not ready.done():
        ready.set_exception(Stop("Footfall did not start. Its last lines:\n" + "".join(last_lines)))
