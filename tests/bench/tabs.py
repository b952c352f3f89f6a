"""What visible tabs cost that stay open: each pings as `footfall.js` does, over TLS, through `deploy/nginx.conf`.

A tab that counts sends its view once, and then a ping after 80 to 100 % of `ping_after_s`, whose answer has all numbers
of its site; it reads them in no other way. Some hundred connections stand for more tabs, and pinging sooner they make
as many pings a second as those do. A part of the sites has that part of the tabs, so that each site gets what it would
get among ten times as many. Costs are CPU seconds, which each process counts for itself, by the pings meanwhile.
"""

import asyncio
import random
import re
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from footfall.errors import Stop
from footfall.settings.settings import Settings
from tests.bench import nginx, traffic
from tests.bench.servers import Footfall, Server, footfall
from tests.support.certificates import make_authority, sign
from tests.support.project import PROJECT
from tests.support.raw_http import Connection

PING_AFTER_S: int = Settings.model_fields["ping_after_s"].default
SHORTEST = 0.8
"""The script takes off up to a fifth, so that pages which were opened together do not ask together."""
INTERVAL_S = PING_AFTER_S * (1 + SHORTEST) / 2
PINGS_AN_HOUR = 3600 / INTERVAL_S
SITES = 100
CONNECTIONS = 500
TABS = (10, 100)
"""Of each site: 10,000 and 100,000 of a thousand sites."""
SECONDS = 20
"""Two rollups come in this time."""
SETTLE_S = 13
"""After this time PostgreSQL has the views with which the tabs were opened: what follows is of pings."""
OPENED_AT_ONCE = 64
TRIES, RETRY_AFTER_S = 60, 1
"""A site that a worker has not opened yet is not ready, for a moment."""
TABLE_PLACE = PROJECT / "deploy" / "README.md"
TABLE_HEAD = (
    "| visible tabs | pings a second | cores: Footfall | Redis | PostgreSQL | nginx | log (WAL) an hour |"
    " HTTP an hour | connections / their memory in nginx |"
)
CONTENT_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


async def measure(
    tabs: Sequence[int] = TABS,
    sites: int = SITES,
    connections: int = CONNECTIONS,
    seconds: float = SECONDS,
    settle_s: float = SETTLE_S,
) -> dict[str, Any]:
    """Return by the tabs of each site what 1,000 of them cost in an hour, and what their connections cost nginx."""
    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as name:
        certificate = sign(make_authority(Path(name), "authority"), "fullchain", host="localhost")
        trust = ssl.create_default_context(cafile=str(certificate.with_name("authority.pem")))
        async with footfall(sites=sites, pinned=False) as service, nginx.running(service, certificate) as proxy:
            before = _private_bytes(proxy)
            async with opened(proxy.port, trust, _views(sites, connections)) as those:
                kept_bytes = (_private_bytes(proxy) - before) / connections
                await asyncio.sleep(settle_s)
                by_tabs = {}
                for number in tabs:
                    by_tabs[str(number)] = await _cost(service, proxy, those, number * sites, seconds)
            fresh = Tabs(proxy.port, trust, those.views, keeps_connections=False)
            costs = await _cost(service, proxy, fresh, tabs[0] * sites, seconds)
    return {
        "interval_s": INTERVAL_S,
        "by_tabs": by_tabs,
        "new_connections": costs,
        "bytes_sent_per_hour": round(those.bytes_sent / those.pings * PINGS_AN_HOUR),
        "bytes_received_per_hour": round(those.bytes_received / those.pings * PINGS_AN_HOUR),
        "nginx_bytes_per_connection": round(kept_bytes),
    }


def table(found: Mapping[str, Any]) -> list[str]:
    """Return what so many visible tabs take, as a table for operators."""
    lines = [TABLE_HEAD, "|---" * TABLE_HEAD.count(" | ") + "|---|"]
    for tabs, sites in ((1_000, 100), (10_000, 1_000), (100_000, 1_000)):
        cost = found["by_tabs"][str(tabs // sites)]
        thousands = tabs / 1000
        cells = (
            f"{tabs:,} on {sites:,} sites",
            f"{tabs / found['interval_s']:,.0f}",
            *(f"{cost[f'{who}_cpu_s'] * thousands / 3600:.2f}" for who in ("footfall", "redis", "postgres", "nginx")),
            f"{cost['wal_mb'] * thousands:,.0f} MB",
            f"{(found['bytes_sent_per_hour'] + found['bytes_received_per_hour']) * tabs / 1e6:,.0f} MB",
            f"{tabs:,} / {found['nginx_bytes_per_connection'] * tabs / 1e6:,.0f} MB",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def write_table(found: Mapping[str, Any]) -> None:
    """Write the table into the operators' page in the place of the former one."""
    text = TABLE_PLACE.read_text("utf-8")
    before, _, after = text.partition(TABLE_HEAD)
    rest = after.partition("\n\n")[2]
    TABLE_PLACE.write_text(before + "\n".join([*table(found), "", rest]), "utf-8")


class Tabs:
    """Visible tabs of different people, each with its connection."""

    def __init__(self, port: int, trust: ssl.SSLContext, views: Sequence[bytes], *, keeps_connections: bool = True):
        self.views = views
        self.pings = self.bytes_sent = self.bytes_received = self.reconnected = 0
        self._port = port
        self._trust = trust
        self._keeps_connections = keeps_connections
        self._connecting = asyncio.Semaphore(OPENED_AT_ONCE)
        self._connections: list[Connection | None] = [None] * len(views)

    async def open(self) -> None:
        """Connect each tab and send its view, some at once."""
        for first in range(0, len(self.views), OPENED_AT_ONCE):
            some = self.views[first : first + OPENED_AT_ONCE]
            await asyncio.gather(*(self._send(tab, view) for tab, view in enumerate(some, first)))

    async def ping(self, seconds: float, interval_s: float) -> None:
        """Let each tab ping every `interval_s` as a mean, for so long."""
        self.pings = self.bytes_sent = self.bytes_received = 0
        until_s = time.monotonic() + seconds
        await asyncio.gather(*(self._ping(tab, until_s, interval_s) for tab in range(len(self.views))))

    async def close(self) -> None:
        """Close all connections."""
        for tab in range(len(self._connections)):
            self._close(tab)

    async def _ping(self, tab: int, until_s: float, interval_s: float) -> None:
        ping = self.views[tab].replace(b'"kind":"view"', b'"kind":"ping"')
        longest_s = 2 * interval_s / (1 + SHORTEST)
        wait_s = random.uniform(0, longest_s)
        while time.monotonic() + wait_s < until_s:
            await asyncio.sleep(wait_s)
            await self._send(tab, ping)
            self.pings += 1
            wait_s = longest_s * random.uniform(SHORTEST, 1)

    async def _send(self, tab: int, request: bytes) -> None:
        """Send a beacon; where no answer comes, or the service is busy, wait and send it again, as the script does."""
        for _ in range(TRIES):
            if await self._answer(tab, request) in (200, 202):
                return
            await asyncio.sleep(RETRY_AFTER_S)
        raise Stop(f"A tab's beacon was refused {TRIES} times.", 1)

    async def _answer(self, tab: int, request: bytes) -> int:
        reader, writer = self._connections[tab] or await self._connect(tab)
        writer.write(request)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):  # nginx had closed it, for it rested too long
            self._close(tab)
            self.reconnected += 1
            return 0
        length = CONTENT_LENGTH.search(head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        self.bytes_sent += len(request)
        self.bytes_received += len(head) + len(body)
        if not self._keeps_connections:
            self._close(tab)
        return int(head[9:12])

    async def _connect(self, tab: int) -> Connection:
        async with self._connecting:
            connection = await asyncio.open_connection(
                "127.0.0.1", self._port, ssl=self._trust, server_hostname="localhost"
            )
        self._connections[tab] = connection
        return connection

    def _close(self, tab: int) -> None:
        if connection := self._connections[tab]:
            connection[1].close()
        self._connections[tab] = None


@asynccontextmanager
async def opened(port: int, trust: ssl.SSLContext, views: Sequence[bytes]) -> AsyncIterator[Tabs]:
    """Open these tabs, and close them at the end of the block."""
    tabs = Tabs(port, trust, views)
    await tabs.open()
    try:
        yield tabs
    finally:
        await tabs.close()


def _views(sites: int, number: int) -> list[bytes]:
    """Return views of as many people on these sites."""
    people = (beacon for visitor, beacon in enumerate(traffic.beacons(sites)) if not traffic.is_robot(visitor))
    return [view for view, _ in zip(people, range(number), strict=False)]


async def _cost(service: Footfall, proxy: Server, tabs: Tabs, number: int, seconds: float) -> dict[str, float]:
    """Return what 1,000 of `number` tabs cost in an hour, while `tabs` ping for all of them."""
    cpu_before, wal_before = _cpu_s(service, proxy), await _wal(service)
    started = time.monotonic()
    await tabs.ping(seconds, INTERVAL_S * len(tabs.views) / number)
    elapsed_s = time.monotonic() - started
    per_1000 = 1000 * PINGS_AN_HOUR / tabs.pings
    cpu_s = {who: round((now - cpu_before[who]) * per_1000, 1) for who, now in _cpu_s(service, proxy).items()}
    return {
        "pings_per_s": round(tabs.pings / elapsed_s),
        "wanted_per_s": round(number / INTERVAL_S),
        **cpu_s,
        "cores_for_100000": round(sum(cpu_s.values()) * 100 / 3600, 2),
        "wal_mb": round((await _wal(service) - wal_before) * per_1000 / 1e6, 1),
    }


def _cpu_s(service: Footfall, proxy: Server) -> Mapping[str, float]:
    """Return the CPU seconds of each program until now."""
    databases = [child for child in psutil.Process().children(recursive=True) if "postgres" in child.name()]
    return {
        "footfall_cpu_s": service.cpu_s(),
        "redis_cpu_s": service.valkey_cpu_s(),
        "postgres_cpu_s": sum(sum(process.cpu_times()[:2]) for process in databases),
        "nginx_cpu_s": proxy.cpu_s(),
    }


async def _wal(service: Footfall) -> int:
    """Return how many bytes of log PostgreSQL has written."""
    connection = await asyncpg.connect(service.stores.postgres)
    try:
        return int(await connection.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))
    finally:
        await connection.close()


def _private_bytes(server: Server) -> int:
    """Return what the workers of a server have for themselves."""
    return sum(worker.memory_full_info().uss for worker in server.workers)
