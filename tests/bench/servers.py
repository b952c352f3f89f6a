"""The processes of a bench: Footfall with its own stores, and the baseline, each on its core."""

import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import psutil
from redis.asyncio import Redis

from footfall.embedded.servers import ServerUrls, running_servers
from tests.bench import machine, traffic
from tests.bench.traffic import HOST, SITE
from tests.support.own_footfall import running, zone_at_noon
from tests.support.ports import free_port
from tests.support.process import workers_among
from tests.support.raw_http import connected

OWN_HEADERS = ("Date", "Footfall-Ignored")
METRICS_SETTLE_S = 1.0
"""Workers write their metrics every half a second."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and its worker processes."""

    url: str
    workers: list[psutil.Process]

    @property
    def port(self) -> int:
        """Return the port on this machine."""
        return urlsplit(self.url).port or 0

    def cpu_s(self) -> float:
        """Return the CPU seconds of the workers."""
        return sum(sum(worker.cpu_times()[:2]) for worker in self.workers)

    def rss_mb(self) -> float:
        """Return the resident memory of the workers, in MB."""
        return sum(worker.memory_info().rss for worker in self.workers) / 1e6


@dataclass(frozen=True, slots=True)
class Footfall(Server):
    """A running Footfall, its stores, and the address of its metrics."""

    ops_url: str
    stores: ServerUrls
    valkey: psutil.Process
    environ: dict[str, str]
    first_start_s: float
    """Start time on an empty folder: it includes making PostgreSQL's files and the migration."""

    async def answered(self, route: str, status: str = "") -> int:
        """Return how many requests Footfall has answered on a route, of any status or of one."""
        await asyncio.sleep(METRICS_SETTLE_S)
        async with aiohttp.ClientSession() as session, session.get(f"{self.ops_url}/metrics") as answer:
            text = await answer.text()
        labels = rf'{{route="{route}",status="{status or "[0-9]+"}"}}'
        found = re.findall(rf"^footfall_request_seconds_count{labels} (\S+)$", text, re.MULTILINE)
        return int(sum(map(float, found)))

    def valkey_cpu_s(self) -> float:
        """Return the CPU seconds of Valkey."""
        return float(sum(self.valkey.cpu_times()[:2]))

    async def redis_calls(self) -> tuple[int, int]:
        """Return Redis' script calls, each a round trip, and all its commands, including those in scripts."""
        async with Redis.from_url(self.stores.redis) as redis:
            by_command, stats = await redis.info("commandstats"), await redis.info("stats")
        return by_command["cmdstat_evalsha"]["calls"], stats["total_commands_processed"]

    async def saved_views(self) -> int:
        """Return the views of the site in Postgres."""
        connection = await asyncpg.connect(self.stores.postgres)
        try:
            views = await connection.fetchval("SELECT sum(views) FROM footfall.report_day WHERE site = $1", SITE)
        finally:
            await connection.close()
        return int(views or 0)


@asynccontextmanager
async def footfall(
    workers: int = 1, *, sites: int = 1, pinned: bool = True, variables: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Footfall]:
    """Start a Footfall on an empty folder, without limits; pinned: its workers on one core, its stores elsewhere."""
    with tempfile.TemporaryDirectory(prefix="footfall-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # As root, PostgreSQL runs under another account, which must pass through this folder
        zone = zone_at_noon(datetime.now(UTC))
        (folder / "footfall.toml").write_text(
            "[limits]\nenabled = false\n"
            + "".join(
                f'[sites.{name}]\nname = "Bench"\nhosts = ["{HOST}"]\ntime_zone = "{zone}"\n'
                for name in traffic.site_names(sites)
            )
        )
        environ = {key: value for key, value in os.environ.items() if not key.startswith("FOOTFALL_")} | {
            "FOOTFALL_CONFIG": str(folder / "footfall.toml"),
            "FOOTFALL_DATA_DIR": str(folder / "data"),
            "FOOTFALL_LISTEN": "127.0.0.1:0",
            "FOOTFALL_OPS_LISTEN": f"127.0.0.1:{(ops_port := free_port())}",
            **variables,
        }
        command = [sys.executable, "-m", "footfall", "serve", "--embedded", "--workers", str(workers)]
        started = time.monotonic()
        async with running(*command, environ=environ) as url:
            first_start_s = time.monotonic() - started
            family = psutil.Process().children(recursive=True)
            serving = workers_among(family)
            if pinned:
                machine.pin(set(family) - set(serving), machine.STORES)
                machine.pin(serving, machine.SERVER)
            yield Footfall(
                url,
                serving,
                f"http://127.0.0.1:{ops_port}",
                running_servers(folder / "data"),
                next(child for child in family if "valkey-server" in child.name()),
                environ,
                first_start_s,
            )


async def start_s(service: Footfall) -> float:
    """Return how long another Footfall takes to serve on running stores, as after an upgrade."""
    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as name:
        environ = service.environ | {
            "FOOTFALL_REDIS_URL": service.stores.redis,
            "FOOTFALL_POSTGRES_URL": service.stores.postgres,
            "FOOTFALL_DATA_DIR": name,
            "FOOTFALL_OPS_LISTEN": "127.0.0.1:0",
        }
        started = time.monotonic()
        async with running(sys.executable, "-m", "footfall", "serve", environ=environ):
            return time.monotonic() - started


@asynccontextmanager
async def baseline(service: Footfall) -> AsyncIterator[Server]:
    """Start the baseline on the same core, with Footfall's answers of this moment."""
    # A robot's beacon counts nothing.
    requests = {"/seen": traffic.beacons()[0], "/counts": traffic.reads()[0]}
    answers = {route: await answer_of(service, request) for route, request in requests.items()}
    command = [sys.executable, "-m", "tests.bench.baseline", json.dumps(answers)]
    async with running(*command, environ=dict(os.environ)) as url:
        ours = [child for child in psutil.Process().children() if "tests.bench.baseline" in child.cmdline()]
        machine.pin(ours, machine.SERVER)
        yield Server(url, ours)


async def answer_of(server: Server, request: bytes) -> dict[str, Any]:
    """Return body and headers of a server's answer now, without the headers that every server writes itself."""
    async with connected(server.port) as (reader, writer):
        writer.write(request)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:-2])
        body = await reader.readexactly(int(headers.pop("Content-Length")))
    return {"body": body.decode(), "headers": {name: headers[name] for name in headers if name not in OWN_HEADERS}}
