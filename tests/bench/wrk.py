"""Closed-loop load from wrk (Debian's package): as many requests as the answers allow."""

import asyncio
import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from footfall.errors import Stop
from tests.bench.machine import on_load_core

SCRIPT = Path(__file__).with_name("requests.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """The result of one run of wrk."""

    rps: float
    requests: int
    errors: int
    """Statuses from 400 on, broken connections and timeouts together."""
    p50_us: int
    p99_us: int
    p999_us: int


def find_wrk() -> str:
    """Return the path of wrk; raise Stop with the way to install it."""
    found = shutil.which("wrk")
    if found is None:
        raise Stop("The bench needs wrk to make its load: `apt install wrk` on Debian, `brew install wrk` on macOS.")
    return found


async def drive(url: str, requests: Sequence[bytes], connections: int, seconds: float, *, pinned: bool = True) -> Load:
    """Send `requests` in turn, from a random first one, over `connections` for `seconds` (whole, at least 1)."""
    command = [find_wrk(), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT), url]
    process = await asyncio.create_subprocess_exec(
        *(on_load_core(command) if pinned else command), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    first = random.randrange(len(requests))
    turned = [*requests[first:], *requests[:first]]
    output, _ = await process.communicate(b"".join(b"%d\n%s" % (len(request), request) for request in turned))
    line = next((line for line in output.decode().splitlines() if line.startswith("RESULT ")), None)
    if process.returncode or line is None:
        raise Stop(f"wrk did not finish:\n{output.decode()}", 1)
    result = json.loads(line.removeprefix("RESULT "))
    duration_s = result.pop("duration_us") / 1e6
    return Load(rps=result["requests"] / duration_s, **result)
