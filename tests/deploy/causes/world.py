"""A Footfall with its own stores, Debian's Prometheus and Alertmanager, and the telephone that Alertmanager calls."""

import asyncio
import random
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from aiohttp import web
from redis.asyncio import Redis

from footfall.embedded.servers import Postgres, Valkey
from footfall.stores.redis_store import REWRITTEN
from tests.deploy.causes.rules import FASTER, write_files
from tests.support.ports import free_port
from tests.support.process import HEADERS, SETTINGS, Process, production, ready, start, until
from tests.support.project import PROJECT

NETWORKS = 250
PAUSE_S = 0.05
SCRAPES_FIRST = 10
Pages = Sequence[str | None]
"""Of views; None for a view of no page."""
REPLACED = "The settings were read again and the workers replaced"


class OwnRedis(Valkey):
    """A Redis whose program may be another one at its next start."""

    @property
    def program(self) -> Path:
        """Return what runs."""
        return self._binary

    def use(self, program: Path) -> None:
        """Run this program from the next start on."""
        self._binary = program


@dataclass(slots=True)
class World:
    """What a cause may take hold of."""

    folder: Path
    valkey: OwnRedis
    postgres: Postgres
    environ: dict[str, str]
    http: aiohttp.ClientSession
    chance: random.Random
    program: Path = PROJECT / "service"
    """Where Footfall's files are; a copy, where the story wants one."""
    service: Process | None = None
    public: str = ""
    heard: list[str] = field(default_factory=list)
    """The names of the alerts for which Alertmanager has called, in order."""
    over: list[str] = field(default_factory=list)
    """The names of the alerts that Alertmanager has called off, in order."""
    headers: Callable[[], Mapping[str, str]] = dict
    """Of each ordinary beacon."""
    sites: Sequence[str] = ("portal",)
    """The portals that have visitors."""
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def redis(self) -> Redis:
        """Return a client of Redis, which its user closes."""
        return Redis.from_url(self.valkey.url)

    async def redis_with(self, more: Mapping[str, str]) -> None:
        """Start Redis again, with these variables."""
        program = self.folder / "redis-with-variables"
        words = " ".join(f"{name}={value}" for name, value in more.items())
        program.write_text(f'#!/bin/sh\nexec env {words} {self.valkey.program} "$@"\n')
        program.chmod(0o755)
        await self.valkey.stop()
        self.valkey.use(program)
        await self.valkey.start()

    async def sql(self, *statements: str) -> Any:
        """Run statements as the administrator of PostgreSQL; return the first value of the last one."""
        session = await asyncpg.connect(self.postgres.url)
        try:
            value = None
            for statement in statements:
                value = await session.fetchval(statement)
            return value
        finally:
            await session.close()

    async def serve(self) -> None:
        """Start Footfall, again after `stop`."""
        self.stack = AsyncExitStack()
        self.service = await self.stack.enter_async_context(start("serve", environ=self.environ))
        self.public, _ = await ready(self.service)

    async def reload(self) -> None:
        """Have Footfall replace its workers, one after the other, as for new settings."""
        service = self.service
        assert service is not None
        times = service.text.count(REPLACED)
        service.process.send_signal(signal.SIGHUP)
        await until(lambda: service.text.count(REPLACED) > times)

    async def stop(self) -> None:
        """Kill Footfall with its workers."""
        await self.stack.aclose()
        self.service = None

    @property
    def parent(self) -> int:
        """Return the process id of Footfall, which its workers are below."""
        assert self.service is not None
        return self.service.process.pid

    @property
    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        assert self.service is not None
        return [worker.pid for worker in self.service.workers]

    @asynccontextmanager
    async def another_host(self, more: Mapping[str, str]) -> AsyncIterator[str]:
        """Run a second Footfall with its own data folder on the same stores, and kill it at the end; yield its URL.

        Prometheus does not know it.
        """
        own = {"FOOTFALL_DATA_DIR": str(self.folder / "other"), "FOOTFALL_OPS_LISTEN": "127.0.0.1:0"}
        async with start("serve", environ=self.environ | own | dict(more)) as process:
            public, _ = await ready(process)
            yield public

    async def left_spool(self, site: str = "portal", pages: Iterable[Pages] = ((None,),) * 60) -> Path:
        """Have a host that lost Redis spool views of a portal, kill it, and return the file that it left.

        The views of each of `pages` come at once.
        """
        file = self.folder / "other.toml"
        file.write_text(f"{portal(site)}[limits]\nenabled = false\n")
        lost = {"FOOTFALL_CONFIG": str(file), "FOOTFALL_REDIS_URL": f"unix://{self.folder}/nowhere.sock"}
        async with self.another_host(lost) as public:
            for at_once in pages:
                assert await self.views(at_once, site=site, to=public) == {202}
        [file] = (self.folder / "other" / "spool").glob("*.spool")
        return file

    def bring(self, file: Path) -> None:
        """Move a file into the spool of the running Footfall."""
        file.rename(Path(self.environ["FOOTFALL_DATA_DIR"]) / "spool" / file.name)

    async def serve_portal(self, name: str) -> None:
        """Configure one more portal, of the same page host, and have it counted."""
        file = self._file_of(name)
        file.parent.mkdir(exist_ok=True)
        file.write_text(portal(name))
        await self.reload()

        async def is_counted() -> bool:
            return await self.view(site=name) == 200

        await until(is_counted)

    async def retire_portal(self, name: str) -> None:
        """Take a portal out of the settings again."""
        self._file_of(name).unlink()
        await self.reload()

    def _file_of(self, name: str) -> Path:
        return Path(self.environ["FOOTFALL_CONFIG"]).parent / "sites.d" / f"{name}.toml"

    async def views(self, pages: Pages, *, site: str = "portal", to: str = "") -> set[int]:
        """Send a view of each page at once; return the statuses of the answers."""
        return set(await asyncio.gather(*(self.view(site=site, page=page, to=to) for page in pages)))

    async def view(self, *, site: str = "portal", page: str | None = None, to: str = "", **headers: str) -> int:
        """Send a view, to this host or another; return the status of its answer, 0 if there was none."""
        sent = {**HEADERS, **self.headers(), **headers}
        body = {"site": site, "page": page}
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self.http.post(f"{to or self.public}/seen", json=body, headers=sent) as answer:
                await answer.read()
                return answer.status
        return 0


def portal(name: str) -> str:
    """Return the settings of a portal, of the same page host as all others."""
    return SETTINGS.replace("[sites.portal]", f"[sites.{name}]")


@asynccontextmanager
async def world(more: Mapping[str, str], times: int = FASTER, *, has_own_program: bool = False) -> AsyncIterator[World]:
    """Run everything with visitors from many networks, and let Prometheus see that all is well.

    All times of the rules are divided by `times`. With `has_own_program` Footfall runs from a copy of its files.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="footfall-cause-")))
        folder.chmod(0o711)
        valkey = await stack.enter_async_context(OwnRedis(folder))
        postgres = await stack.enter_async_context(Postgres(folder))
        environ = await production(folder / "footfall", valkey.url, postgres.url)
        environ |= {"FOOTFALL_OPS_LISTEN": f"127.0.0.1:{free_port()}", "FOOTFALL_ROLLUP_EVERY_S": "5", **more}
        timeout = aiohttp.ClientTimeout(total=15)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        here = World(folder, valkey, postgres, environ, http, random.Random(18))
        here.headers = lambda: {"X-Forwarded-For": f"198.51.{here.chance.randrange(NETWORKS)}.7"}
        if has_own_program:
            here.program = _copy_of_program(folder)
            environ["PYTHONPATH"] = str(here.program)
        # As after a day: Footfall's claim of a first rewrite lasts half an hour, which no rule makes shorter.
        async with here.redis as redis:
            await redis.set(REWRITTEN, int(time.time()))
        await here.serve()
        stack.push_async_callback(here.stop)
        visiting = asyncio.create_task(_visit(here))
        stack.push_async_callback(_cancel, visiting)
        webhook = await stack.enter_async_context(_telephone(here))
        alertmanager, prometheus = (f"127.0.0.1:{free_port()}" for _ in range(2))
        write_files(folder, f"http://{environ['FOOTFALL_OPS_LISTEN']}", alertmanager, webhook, times)
        for words in (
            ("prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/calls"),
            ("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/samples"),
        ):
            address = alertmanager if words[0].endswith("alertmanager") else prometheus
            more_words = ("--cluster.listen-address=",) if address is alertmanager else ()
            await stack.enter_async_context(_program(*words, f"--web.listen-address={address}", *more_words))
        await _until_seen(here, prometheus)
        yield here


def _copy_of_program(folder: Path) -> Path:
    for name in ("service", "sql"):
        shutil.copytree(PROJECT / name, folder / "program" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "program" / "service"


@asynccontextmanager
async def _telephone(here: World) -> AsyncIterator[str]:
    """Answer Alertmanager's calls, and note the alerts that fire in them and those that are over."""

    async def answer(request: web.Request) -> web.Response:
        for alert in (await request.json())["alerts"]:
            (here.heard if alert["status"] == "firing" else here.over).append(alert["labels"]["alertname"])
        return web.Response()

    app = web.Application()
    app.router.add_post("/{severity}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _program(*words: str) -> AsyncIterator[None]:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*words, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def _visit(here: World) -> None:
    while True:
        for site in here.sites:
            await here.view(site=site)
        await asyncio.sleep(PAUSE_S)


async def _cancel(task: asyncio.Task[None]) -> None:
    while not task.done():  # a request whose time is over at this moment swallows a cancellation
        task.cancel()
        await asyncio.wait([task], timeout=1)


async def _until_seen(here: World, prometheus: str) -> None:
    """Wait until Prometheus has scraped Footfall some times."""
    query = {"query": 'count_over_time(up{job="footfall"}[5m]) > 0'}
    async with asyncio.timeout(60):
        while True:
            with suppress(aiohttp.ClientError):
                async with here.http.get(f"http://{prometheus}/api/v1/query", params=query) as answer:
                    found = (await answer.json())["data"]["result"]
                if found and int(found[0]["value"][1]) >= SCRAPES_FIRST:
                    return
            await asyncio.sleep(0.2)
