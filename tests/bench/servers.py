"""The processes of a bench: Footfall with its own stores, and the baseline, each on its core."""

import asyncio
import os
import re
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from tests.own_footfall import running

SITE, HOST = "bench", "bench.example.vn"
SERVER_CORE, LOAD_CORE = 0, 1


@dataclass(frozen=True, slots=True)
class Footfall:
    """A running Footfall, its processes, and where it tells its metrics."""

    url: str
    ops_url: str
    workers: list[psutil.Process]
    valkey: psutil.Process
    start_s: float

    async def metrics(self) -> dict[str, float]:
        """Read all metrics, label sets summed by name."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.ops_url}/metrics") as answer:
            text = await answer.text()
        sums: dict[str, float] = {}
        for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? ([-+.\deE]+)$", text, re.MULTILINE):
            sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    def cpu_s(self) -> float:
        """CPU seconds that the workers have used."""
        return sum(sum(worker.cpu_times()[:2]) for worker in self.workers)

    def valkey_cpu_s(self) -> float:
        """CPU seconds that Valkey has used."""
        return float(sum(self.valkey.cpu_times()[:2]))

    def rss_mb(self) -> float:
        """Resident memory of the workers, in MB."""
        return sum(worker.memory_info().rss for worker in self.workers) / 1e6


@asynccontextmanager
async def footfall(sites: int = 1, workers: int = 1) -> AsyncIterator[Footfall]:
    """Start a Footfall on an empty folder, without limits; its workers on one core, its stores on the other."""
    with tempfile.TemporaryDirectory(prefix="footfall-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        tables = [f'[sites.{SITE}]\nname = "Bench"\nhosts = ["{HOST}"]\n']
        tables += [f'[sites.{SITE}-{n}]\nname = "Bench"\nhosts = ["{HOST}"]\n' for n in range(1, sites)]
        (folder / "footfall.toml").write_text("".join(tables) + "[limits]\nenabled = false\n")
        environ = {key: value for key, value in os.environ.items() if not key.startswith("FOOTFALL_")} | {
            "FOOTFALL_CONFIG": str(folder / "footfall.toml"),
            "FOOTFALL_DATA_DIR": str(folder / "data"),
            "FOOTFALL_LISTEN": "127.0.0.1:0",
            "FOOTFALL_OPS_LISTEN": f"127.0.0.1:{(ops_port := _free_port())}",
        }
        command = [sys.executable, "-m", "service", "serve", "--embedded", "--workers", str(workers)]
        started = asyncio.get_running_loop().time()
        async with running(*command, environ=environ) as url:
            start_s = asyncio.get_running_loop().time() - started
            family = psutil.Process().children(recursive=True)
            serving = [child for child in family if "spawn_main" in " ".join(child.cmdline())]
            valkey = next(child for child in family if "valkey-server" in child.name())
            for child in family:
                pin(child, LOAD_CORE if child not in serving else SERVER_CORE if workers == 1 else None)
            yield Footfall(url, f"http://127.0.0.1:{ops_port}", serving, valkey, start_s)


@asynccontextmanager
async def baseline(body: bytes, etag: str) -> AsyncIterator[str]:
    """Start the server that Footfall is measured against, on the same core; yields its URL."""
    command = [sys.executable, "-m", "tests.bench.baseline", body.decode(), etag]
    async with running(*command, environ=dict(os.environ)) as url:
        for child in psutil.Process().children(recursive=True):
            if "tests.bench.baseline" in " ".join(child.cmdline()):
                pin(child, SERVER_CORE)
        yield url


def pin(process: psutil.Process, core: int | None) -> None:
    """Keep a process on one core, where the system and the number of cores allow it."""
    cores = list(range(psutil.cpu_count() or 1))
    if hasattr(process, "cpu_affinity") and len(cores) > 1:
        process.cpu_affinity(cores if core is None else [core])


def _free_port() -> int:

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
