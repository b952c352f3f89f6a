"""Instructions per request, counted by valgrind's callgrind: neither the machine's speed nor its other programs matter.

Footfall's public listener and the empty server (`quiet.py` runs either) get the same requests in the same run, from
this process, on 64 connections. The server is stopped while each round of 64 requests is sent, so that a round is one
turn of its loop and another run counts the same.
"""

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from footfall import sql_folder
from footfall.embedded.servers import servers
from footfall.errors import Stop
from footfall.stores.migrations import migrate
from tests.bench import callgrind, families, traffic
from tests.bench.callgrind import Callgrind
from tests.bench.servers import Server, answer_of
from tests.support.own_footfall import running
from tests.support.raw_http import Connection, read_answer

CONNECTIONS = 64
WARMING, COUNTED = 4, 8
"""Rounds that warm up a server, and those that are counted."""
WARMING_AGAIN, COUNTED_AGAIN = 2, 4
"""The same for each family that is left out: eight times in each case."""
SITES = 1_000
START_MAX_S = 600
"""Under valgrind a server starts slowly."""
SETTLE_S = 0.5
"""What a round leaves behind, such as connections that were closed, is done after this time."""
STOP_MAX_S, LOOK_EVERY_S = 10, 0.002
"""How long a server may take to rest and to stop, and how often its state is read."""
RESTED_LOOKS = 10
"""It rests when it is seen asleep so many times on end."""
OTHER_ORIGIN = b"Origin: https://other.example.vn\r\n"
ORIGIN = re.compile(rb"Origin: \S+\r\n")


@dataclass(frozen=True, slots=True)
class Case:
    """Requests of one kind: those that warm up come first."""

    requests: Sequence[bytes]
    status: int = 200
    """What Footfall answers; the empty server always answers 200."""
    keeps_connections: bool = True
    sites: int = 1
    warming: int = WARMING

    def rounds(self, numbers: range) -> Sequence[bytes]:
        """Return the requests of these rounds."""
        return self.requests[numbers.start * CONNECTIONS : numbers.stop * CONNECTIONS]


def cases(etag: str) -> dict[str, Case]:
    """Return the kinds of requests, for the first site and for many; `etag` is that of no view yet."""
    people = [number for number in range(traffic.VISITORS) if not traffic.is_robot(number)]
    beacons, paged = traffic.beacons(with_pages=False), traffic.beacons()
    of_sites = traffic.beacons(SITES, with_pages=False)
    some = (WARMING + COUNTED) * CONNECTIONS
    kept, new, refused = (people[turn * some : (turn + 1) * some] for turn in range(3))
    robots = range(0, some * traffic.ROBOT_EVERY, traffic.ROBOT_EVERY)
    to_all = -(-max(SITES, traffic.PAGES) // CONNECTIONS)  # rounds in which each site, or each page, gets a beacon
    several = (to_all + COUNTED) * CONNECTIONS
    by_page = _in_turn([paged[number] for number in people], b'"page":"')
    with_ids = traffic.beacons(with_ids=True)
    by_page_with_ids = _in_turn([with_ids[number] for number in people], b'"page":"')
    by_site = _in_turn([of_sites[number] for number in people], b'"site":"')
    return {
        "counts": Case(traffic.reads()[:some]),
        "counts_304": Case(traffic.reads(etag)[:some], 304),
        "seen": Case([beacons[number] for number in kept]),
        "seen_page": Case(by_page[:several], warming=to_all),
        "seen_view": Case(by_page_with_ids[:several], warming=to_all),
        "new_connection": Case([beacons[number] for number in new], keeps_connections=False),
        "robot": Case([beacons[number] for number in robots]),
        "refused": Case([ORIGIN.sub(OTHER_ORIGIN, beacons[number]) for number in refused], 403),
        "many_sites": Case(by_site[:several], sites=SITES, warming=to_all),
    }


def _in_turn(beacons: Sequence[bytes], field: bytes) -> list[bytes]:
    """Return a beacon of each site or page in turn, again and again."""
    by_value: dict[bytes, list[bytes]] = {}
    for beacon in beacons:
        by_value.setdefault(beacon.partition(field)[2].partition(b'"')[0], []).append(beacon)
    return [beacon for turn in zip(*by_value.values(), strict=False) for beacon in turn]


async def measure() -> dict[str, Any] | None:
    """Return instructions per request of both servers and their ratio, by case; None where there is no valgrind."""
    if not callgrind.is_installed():
        return None
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="footfall-bench-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        folder.chmod(0o711)  # As root, PostgreSQL runs under another account, which must pass through this folder
        async with servers(folder / "data") as urls:
            await migrate(urls.postgres, sql_folder())
            async with AsyncExitStack() as stack:
                start = stack.enter_async_context
                of_one, of_many = await asyncio.gather(
                    *(
                        start(counted_server({"stores": [urls.redis, urls.postgres, str(folder), sites]}, folder))
                        for sites in (1, SITES)
                    )
                )
                answers = {
                    "/seen": await answer_of(of_one.server, traffic.beacons()[0]),  # a robot's: it counts nothing
                    "/counts": await answer_of(of_one.server, traffic.reads()[0]),
                }
                empty = await start(counted_server({"answers": answers}, folder))
                for name, case in cases(answers["/counts"]["headers"]["ETag"]).items():
                    ours = of_one if case.sites == 1 else of_many
                    found[name] = await compared(ours, empty, case)
                    found[name]["families"] = await ours.count_families(case, found[name]["ours"])
    return found | {"page_growth": round(found["seen_page"]["ours"] / found["seen"]["ours"], 3)}


async def compared(ours: "Counted", empty: "Counted", case: Case) -> dict[str, Any]:
    """Return the instructions per request of both servers, and ours by the empty one's."""
    of_ours, of_theirs = await ours.count(case, case.status), await empty.count(case, 200)
    return {"ours": round(of_ours), "empty": round(of_theirs), "ratio": round(of_ours / of_theirs, 3)}


@dataclass(slots=True)
class Counted:
    """A server that runs under callgrind."""

    server: Server
    callgrind: Callgrind

    async def count(self, case: Case, status: int) -> float:
        """Send all requests of a case; return the instructions of each of those that do not warm up."""
        return await self._count(case, status, range(case.warming), COUNTED)

    async def _count(self, case: Case, status: int, warming: range, counted: int) -> float:
        """Warm up with these rounds of a case, and count a request of so many rounds after those that warm up."""
        connections: list[Connection] = []
        await self._send(case.rounds(warming), case, status, connections)
        await self.callgrind.begin()
        await self._send(case.rounds(range(case.warming, case.warming + counted)), case, status, connections)
        whole = await self.callgrind.end()
        _close(connections)
        return whole / (counted * CONNECTIONS)

    async def count_families(self, case: Case, whole: float) -> dict[str, int]:
        """Return the instructions of each family of functions in a case that takes `whole` in all."""
        without, again = [], range(case.warming - WARMING_AGAIN, case.warming)
        for _ in families.FAMILIES:
            self._signal(signal.SIGUSR1)
            without.append(await self._count(case, case.status, again, COUNTED_AGAIN))
        self._signal(signal.SIGUSR1)
        return families.parts(whole, without)

    async def _send(self, requests: Sequence[bytes], case: Case, status: int, connections: list[Connection]) -> None:
        """Send requests on `connections`, which are opened first where there are none."""
        for first in range(0, len(requests), CONNECTIONS):
            round_of = requests[first : first + CONNECTIONS]
            await self._stop()
            try:
                if not connections:
                    connections += [await asyncio.open_connection("127.0.0.1", self.server.port) for _ in round_of]
                for (_, writer), request in zip(connections, round_of, strict=True):
                    writer.write(request)
                    await writer.drain()
            finally:
                self._signal(signal.SIGCONT)
            statuses = {(await read_answer(reader))[0] for reader, _ in connections}
            if statuses != {status}:
                raise Stop(f"A request that is answered with {status} was answered with {statuses}.", 1)
            if not case.keeps_connections:
                _close(connections)
        await asyncio.sleep(SETTLE_S)

    async def _stop(self) -> None:
        """Stop the process, once it has nothing left to do.

        Else it reads a round in several turns, or before it waits for one: 2 % of its instructions.
        """
        await self._until(psutil.STATUS_SLEEPING, RESTED_LOOKS)
        self._signal(signal.SIGSTOP)
        await self._until(psutil.STATUS_STOPPED)

    async def _until(self, status: str, looks: int = 1) -> None:
        """Wait until the process is seen in a state of the system's, so many times on end."""
        seen = 0
        for _ in range(round(STOP_MAX_S / LOOK_EVERY_S)):
            seen = seen + 1 if self.server.workers[0].status() == status else 0
            if seen == looks:
                return
            await asyncio.sleep(LOOK_EVERY_S)
        raise Stop(f"A server that is counted is not {status} after {STOP_MAX_S} s.", 1)

    def _signal(self, sent: signal.Signals) -> None:
        os.kill(self.server.workers[0].pid, sent)


def _close(connections: list[Connection]) -> None:
    for _, writer in connections:
        writer.close()
    connections.clear()


@asynccontextmanager
async def counted_server(given: dict[str, Any], folder: Path) -> AsyncIterator[Counted]:
    """Start `quiet.py` under callgrind, counting nothing yet."""
    out = folder / f"callgrind-{uuid4().hex}"
    option = f"--callgrind-out-file={out}"
    command = (*callgrind.PROGRAM, option, sys.executable, "-m", "tests.bench.quiet", json.dumps(given))
    environ = {**os.environ, "PYTHONHASHSEED": "0"}
    async with running(*command, environ=environ, start_timeout_s=START_MAX_S) as url:
        [process] = [child for child in psutil.Process().children() if option in child.cmdline()]
        yield Counted(Server(url, [process]), Callgrind(process.pid, out))
