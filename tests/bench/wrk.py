"""Closed-loop load from wrk (Debian's package), with requests as browsers send them."""

import asyncio
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from service.errors import Stop
from tests.bench.servers import LOAD_CORE

REQUESTS = Path(__file__).with_name("requests.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw."""

    rps: float
    requests: int
    errors: int
    p50_us: int
    p99_us: int
    p999_us: int


def find_wrk() -> str:
    """Return the path of wrk; Stop says how to get it."""
    found = shutil.which("wrk")
    if found is None:
        raise Stop("The bench needs wrk to make its load: `apt install wrk` on Debian, `brew install wrk` on macOS.")
    return found


async def drive(url: str, path: str, connections: int, seconds: float, etag: str = "") -> Load:
    """Send as fast as the answers come over `connections` for `seconds`."""
    length = f"-d{max(1, round(seconds))}s"
    command = [find_wrk(), "-t1", f"-c{connections}", length, "-s", str(REQUESTS), url, "--", path, etag]
    if taskset := shutil.which("taskset"):
        command = [taskset, "-c", str(LOAD_CORE), *command]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    line = next((line for line in output.decode().splitlines() if line.startswith("RESULT ")), None)
    if process.returncode or line is None:
        raise Stop(f"wrk did not finish:\n{output.decode()}", 1)
    result = json.loads(line.removeprefix("RESULT "))
    duration_s = result.pop("duration_us") / 1e6
    return Load(rps=result["requests"] / duration_s, **result)
