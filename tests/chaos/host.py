"""A Footfall as an operator runs it, `footfall serve --workers N`, with its stores behind relays of ours."""

import asyncio
import json
import os
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from aiohttp import ClientSession

from footfall.embedded.servers import USER
from footfall.metrics.multiprocess import FLUSH_EVERY_S
from tests.chaos.relay import Relay
from tests.support.ports import free_port
from tests.support.project import PROJECT

READY = re.compile(r"Footfall is ready: (http://\S+)")
OPS = re.compile(r"Metrics: (http://\S+)/metrics")
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
START_MAX_S = 60
STOP_MAX_S = 45
LINES_KEPT = 4000
FRESH_LOOKS = 5


class Host:
    """One machine's Footfall: a parent and its workers on one pair of listeners, with a spool folder."""

    def __init__(
        self, folder: Path, redis: Relay, postgres: Relay, workers: int, settings: Path, files: int | None = None
    ) -> None:
        self.redis = redis
        self.postgres = postgres
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._unmarked = 0
        self.spool = folder / "data" / "spool"
        self.url = self.ops_url = ""
        self._workers = workers
        self._bounded = [] if files is None else ["prlimit", f"--nofile={files}:{files}"]
        self._environ = {
            "FOOTFALL_CONFIG": str(settings),
            "FOOTFALL_DATA_DIR": str(folder / "data"),
            "FOOTFALL_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            "FOOTFALL_POSTGRES_URL": f"postgresql://{USER}@127.0.0.1:{postgres.port}/postgres?sslmode=disable",
            "FOOTFALL_LISTEN": f"127.0.0.1:{free_port()}",
            "FOOTFALL_OPS_LISTEN": f"127.0.0.1:{free_port()}",
            "PYTHONUNBUFFERED": "1",
        }
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    def use(self, *, redis_url: str = "", postgres_url: str = "") -> None:
        """Reach a store by this URL instead of through its relay."""
        for variable, url in (("FOOTFALL_REDIS_URL", redis_url), ("FOOTFALL_POSTGRES_URL", postgres_url)):
            if url:
                self._environ[variable] = url

    async def start(self) -> None:
        """Start it and wait until it serves, after a stop too, and on the same ports."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FOOTFALL_")}
        command = [*self._bounded, sys.executable, "-m", "footfall", "serve", "--workers", str(self._workers)]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            env=inherited | self._environ,
            cwd=PROJECT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        ready = asyncio.Event()
        self._reading = asyncio.create_task(self._read_lines(ready))
        await asyncio.wait_for(ready.wait(), START_MAX_S)
        if not self.ops_url:
            raise RuntimeError("Footfall did not start:\n" + "".join(self.lines))

    async def stop(self) -> None:
        """Stop it gently; kill it where it does not end."""
        if self._process is None or self._reading is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_MAX_S)
        except TimeoutError:
            self.lines.append("chaos: it did not end after SIGTERM and was killed\n")
            for worker in self.workers():
                worker.kill()
            self._process.kill()
        await self._reading
        self._process = None

    @property
    def family(self) -> list[psutil.Process]:
        """Return the parent and then all processes below it."""
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    async def kill(self) -> None:
        """Kill the parent and all workers at once, as a loss of power would."""
        assert self._process is not None
        assert self._reading is not None
        family = self.family
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none acts on the end of another
            for process in family:
                signal_worker(process, number)
        await self._process.wait()
        await self._reading
        self._process = None

    @property
    def lines_since_mark(self) -> list[str]:
        """Return the lines since the last `mark_lines`."""
        return list(self.lines)[-self._unmarked :] if self._unmarked else []

    def mark_lines(self) -> None:
        """Begin `lines_since_mark` anew."""
        self._unmarked = 0

    def workers(self) -> list[psutil.Process]:
        """Return the workers that run now."""
        if self._process is None or self._process.returncode is not None:
            return []
        return [child for child in psutil.Process(self._process.pid).children() if _is_at_work(child)]

    async def metric(self, name: str, labels: str = "") -> float:
        """Return a metric, summed over the workers; `labels` as they are printed, such as 'answer="dup"'."""
        await asyncio.sleep(2 * FLUSH_EVERY_S)  # each worker writes its part for the others
        async with ClientSession() as session, session.get(f"{self.ops_url}/metrics") as response:
            return _sample(await response.text(), name, labels)

    async def readiness(self) -> tuple[int, dict[str, object]]:
        """Return the answer of /readyz, as a balancer reads it."""
        async with ClientSession() as session, session.get(f"{self.ops_url}/readyz") as response:
            return response.status, await response.json()

    async def counts(self, site: str) -> dict[str, Any]:
        """Return the counts that one of its workers shows now."""
        async with ClientSession() as session, session.get(f"{self.url}/counts", params={"site": site}) as response:
            answer: dict[str, Any] = await response.json()
            return answer

    async def counts_that_are_fresh(self, site: str) -> dict[str, Any]:
        """Return the counts once they are no longer of before; a reader is not kept waiting for a busy machine."""
        for _ in range(FRESH_LOOKS):
            if not (shown := await self.counts(site))["stale"]:
                return shown
            await asyncio.sleep(1)
        return await self.counts(site)

    async def _read_lines(self, ready: asyncio.Event) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            line = raw.decode(errors="replace")
            self.lines.append(line)
            self._unmarked += 1
            if match := READY.match(line):
                self.url = match[1].rstrip("/")
            if match := OPS.match(line):
                self.ops_url = match[1]
                ready.set()
        ready.set()


def signal_worker(worker: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to one worker, if it still lives."""
    with suppress(psutil.NoSuchProcess):
        worker.send_signal(number)


@asynccontextmanager
async def running_host(host: Host) -> AsyncIterator[Host]:
    """Run it; stop it at the end of the block, also after an exception."""
    try:
        await host.start()
        yield host
    finally:
        await host.stop()


def write_settings(file: Path, sites: Mapping[str, str], zone: str, **others: object) -> None:
    """Write a `footfall.toml` with these sites (id to host), no limits, and the shortest rollup interval."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in ({"rollup_every_s": 5} | others).items()]
    for site, host in sites.items():
        lines += [f"[sites.{site}]", f'name = "{site}"', f'hosts = ["{host}"]', f'time_zone = "{zone}"']
    lines += ["[limits]", "enabled = false"]
    file.write_text("\n".join(lines) + "\n")


def _is_at_work(process: psutil.Process) -> bool:
    try:
        # A starting worker has no spool yet; the tracker of multiprocessing, a child of the parent too, never has one.
        return any(file.path.endswith(".spool") for file in process.open_files())
    except psutil.Error:
        return False


def _sample(text: str, name: str, labels: str) -> float:
    return sum(
        float(value) for found, given, value in SAMPLE.findall(text) if found == name and labels in (given or "")
    )
