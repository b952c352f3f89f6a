"""What the processes of a Footfall hold in memory: beside each other by number of workers, and with many sites.

`private_mb` is what a process has for itself, `share_mb` (PSS) adds its part of what it shares with others, such as
libraries, and `resident_mb` (RSS) counts all of that in full. Sums are of shares: they count nothing twice.

The floor is an interpreter of its own that imports a worker's libraries, one after the other, and nothing of Footfall.
"""

import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from footfall import sql_folder
from footfall.embedded.servers import ServerUrls, servers
from footfall.errors import Stop
from footfall.stores.migrations import migrate
from tests.bench import traffic
from tests.support.own_footfall import running
from tests.support.process import workers_among
from tests.support.raw_http import send_all

WORKERS = (1, 2, 4)
SITES = 1_000
SETTLE_S = 3
"""All sites are open, and each background step has run."""
LIBRARIES = {
    "nothing": ("sys", "nothing yet"),
    "uvloop": ("uvloop", "uvloop, and with it asyncio and OpenSSL"),
    "aiohttp": ("aiohttp.web", "then aiohttp"),
    "redis": ("redis.asyncio", "then redis-py"),
    "asyncpg": ("asyncpg", "then asyncpg"),
    "pydantic": ("pydantic.main", "then pydantic"),
    "prometheus": ("prometheus_client.multiprocess", "then prometheus_client"),
    "psutil": ("psutil", "then psutil: all libraries of an idle worker"),
}
"""What an interpreter imports, one after the other: the name of a figure, the module, and the row's words."""
IMPORTS = "import sys\nfor module in sys.stdin:\n    __import__(module.strip())\n    print(flush=True)"
"""A program that imports each module of which it reads the name, and writes a line then."""


@dataclass(frozen=True, slots=True)
class Family:
    """The processes of a running Footfall, without its stores."""

    port: int
    processes: list[psutil.Process]

    @property
    def workers(self) -> list[psutil.Process]:
        """Return those that serve."""
        return workers_among(self.processes)

    def of_a_worker(self) -> dict[str, float]:
        """Return the memory of a worker, in MB, as the mean of all."""
        return _mean(self.workers)

    def share_mb(self) -> float:
        """Return the memory of all processes together, in MB."""
        return round(sum(process.memory_full_info().pss for process in self.processes) / 1e6, 1)


async def measure(
    workers: Sequence[int] = WORKERS, sites: int = SITES, settle_s: float = SETTLE_S
) -> dict[str, Any] | None:
    """Return what workers hold, by their number and with `sites`, and what libraries alone do; None off Linux."""
    if sys.platform != "linux":
        return None
    with tempfile.TemporaryDirectory(prefix="footfall-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # As root, PostgreSQL runs under another account, which must pass through this folder
        async with servers(folder / "data") as urls:
            await migrate(urls.postgres, sql_folder())
            by_workers = {}
            for number in workers:
                async with footfall(folder, urls, number) as family:
                    await asyncio.sleep(settle_s)
                    by_workers[str(number)] = family.of_a_worker() | {"all_mb": family.share_mb()}
            async with footfall(folder, urls, 1, sites) as family:
                await asyncio.sleep(settle_s)
                idle = family.of_a_worker()
                if (statuses := await send_all(family.port, _a_view_of_each(sites))).keys() - {200, 202}:
                    raise Stop(f"Views of {sites} sites were answered with {dict(statuses)}.", 1)
                await asyncio.sleep(settle_s)
                many_sites = {"idle": idle, "viewed": family.of_a_worker()}
    return {"by_workers": by_workers, "many_sites": many_sites, "floor": await floor()}


async def floor() -> dict[str, dict[str, float]]:
    """Return the memory, in MB, of an interpreter once it has imported each of `LIBRARIES` and those before it."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", IMPORTS, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    found = {}
    try:
        for name, (module, _) in LIBRARIES.items():
            process.stdin.write(f"{module}\n".encode())
            if not await process.stdout.readline():
                raise Stop(f"An interpreter cannot import {module}.", 1)
            found[name] = _mean([psutil.Process(process.pid)])
    finally:
        process.stdin.close()
        await process.wait()
    return found


def _mean(processes: Sequence[psutil.Process]) -> dict[str, float]:
    """Return what a process holds, in MB, as the mean of some."""
    each = [process.memory_full_info() for process in processes]
    fields = {"private_mb": "uss", "share_mb": "pss", "resident_mb": "rss"}
    return {
        name: round(statistics.fmean(getattr(found, field) for found in each) / 1e6, 1)
        for name, field in fields.items()
    }


def _a_view_of_each(sites: int) -> list[bytes]:
    """Return a person's view of each site."""
    people = (beacon for number, beacon in enumerate(traffic.beacons(sites)) if not traffic.is_robot(number))
    by_site = {beacon.partition(b'"site":"')[2].partition(b'"')[0]: beacon for beacon in people}
    return list(by_site.values())


@asynccontextmanager
async def footfall(folder: Path, urls: ServerUrls, workers: int, sites: int = 1) -> AsyncIterator[Family]:
    """Start a Footfall with these stores, as in production."""
    settings = folder / "footfall.toml"
    settings.write_text(
        "".join(f'[sites.{name}]\nname = "Bench"\nhosts = ["{traffic.HOST}"]\n' for name in traffic.site_names(sites))
    )
    environ = {key: value for key, value in os.environ.items() if not key.startswith("FOOTFALL_")} | {
        "FOOTFALL_CONFIG": str(settings),
        "FOOTFALL_DATA_DIR": str(folder / "worker"),
        "FOOTFALL_LISTEN": "127.0.0.1:0",
        "FOOTFALL_OPS_LISTEN": "127.0.0.1:0",
        "FOOTFALL_REDIS_URL": urls.redis,
        "FOOTFALL_POSTGRES_URL": urls.postgres,
        "FOOTFALL_WORKERS": str(workers),
    }
    before = set(psutil.Process().children(recursive=True))
    async with running(sys.executable, "-m", "footfall", "serve", environ=environ) as url:
        started = set(psutil.Process().children(recursive=True)) - before
        yield Family(urlsplit(url).port or 0, [process for process in started if _is_python(process)])


def _is_python(process: psutil.Process) -> bool:
    """Return whether a process is of Footfall, and no new one of PostgreSQL's, which answers its connections."""
    return process.cmdline()[:1] == [sys.executable]
