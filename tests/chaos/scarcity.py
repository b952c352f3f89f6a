"""F37 and F38: clients that ask and do not read, and a service that may open few files."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from urllib.parse import urlsplit

import psutil

from tests.chaos.connection import Connection
from tests.chaos.host import Host
from tests.chaos.overload import MEMORY_MAX_BYTES
from tests.chaos.redis_faults import wait_until_counted
from tests.chaos.signs import Metric, Signs, expect_named, expect_silent, some
from tests.chaos.stage import Stage
from tests.chaos.traffic import SITES
from tests.chaos.waiting import until
from tests.chaos.watcher import READ

FILES = 400
"""Files that the worker may open; half of them are places for clients."""
UNREADING = 100
"""The system takes some megabytes for each of them, which costs the service a hundred answers."""
TRAFFIC_MAX = 40
"""Other clients at once, so that they always find a place."""
CROWD = 250
SCRIPT = b"GET /openapi.json HTTP/1.1\r\nHost: count.example.vn\r\n\r\n"
ASKED_EACH = 400
ENDED_MAX_S = 30
ESTABLISHED = 1
"""Of a connection: the first byte of its TCP_INFO."""
NOTHING_FREE_S = 6
IDLE_SHARE = 0.7
"""Of one core: a worker that spins uses all of it."""
UNREAD = Signs(
    "WARNING .*Connections were ended: their clients took nothing of an answer",
    metric=Metric("footfall_unread_answers_total", some, is_counter=True),
)
NO_FILE = Signs("(?:WARNING|ERROR) .*Too many open files")
CROWDED = Signs("WARNING .*Connections were turned away: too many are open")


async def read_nothing(stage: Stage) -> None:
    """Pipeline requests on most places and read nothing: memory is bounded, and the places become free again."""
    (host,) = stage.hosts
    (worker,) = host.workers()
    before = worker.memory_info().rss
    stage.traffic.waiting_max = TRAFFIC_MAX
    with ExitStack() as stack:
        clients = [stack.enter_context(_connected(host)) for _ in range(UNREADING)]
        for client in clients:
            client.send(SCRIPT * ASKED_EACH)
        await wait_until_counted(stage)
        await _wait_for_end(stage, clients)
    grown = worker.memory_info().rss - before
    stage.expect(grown < MEMORY_MAX_BYTES, f"the worker grew by {grown >> 20} MiB")
    await expect_named(stage, UNREAD)
    await _expect_places(stage, host)
    await expect_silent(stage, UNREAD)


async def run_out_of_files(stage: Stage) -> None:
    """Take all places of a service that may open few files, then leave it no file at all for some seconds."""
    (host,) = stage.hosts
    (worker,) = host.workers()
    stage.traffic.waiting_max = TRAFFIC_MAX
    with ExitStack() as stack:
        for _ in range(CROWD):
            stack.enter_context(_connected(host))
        await expect_named(stage, CROWDED)
        await wait_until_counted(stage)
    worker.rlimit(psutil.RLIMIT_NOFILE, (worker.num_fds(), FILES))
    with ExitStack() as stack:
        for _ in range(CROWD):
            stack.enter_context(_connected(host))
        began_s = sum(worker.cpu_times()[:2])
        await asyncio.sleep(NOTHING_FREE_S)
        used_s = sum(worker.cpu_times()[:2]) - began_s
    worker.rlimit(psutil.RLIMIT_NOFILE, (FILES, FILES))
    await expect_named(stage, NO_FILE)
    stage.expect(used_s < IDLE_SHARE * NOTHING_FREE_S, f"without a free file the worker ran for {used_s:.1f} s")
    await wait_until_counted(stage)
    await expect_silent(stage, CROWDED, NO_FILE)


@contextmanager
def _connected(host: Host) -> Iterator[socket.socket]:
    """A client that keeps little of an answer in the system."""
    where = urlsplit(host.url)
    with closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((where.hostname, where.port))
        client.setblocking(False)
        yield client


async def _wait_for_end(stage: Stage, clients: Sequence[socket.socket]) -> None:
    def are_ended() -> bool:
        return not any(_is_open(client) for client in clients)

    try:
        await until(are_ended, ENDED_MAX_S)
    except TimeoutError:
        left = sum(map(_is_open, clients))
        stage.problems.append(f"{left} of {len(clients)} connections whose answers nobody reads are still open")


def _is_open(client: socket.socket) -> bool:
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED


async def _expect_places(stage: Stage, host: Host) -> None:
    """Ask once on as many new connections as were ended."""
    site = stage.chance.choice(list(SITES))
    connections = [await Connection.open(host.url) for _ in range(UNREADING)]
    try:
        for connection in connections:
            status, _ = await connection.ask(READ.format(site=site).encode())
            stage.expect(status == 200, f"a new connection is answered {status}")
    except OSError as error:
        stage.problems.append(f"places are not free again: {error}")
    finally:
        for connection in connections:
            connection.close()
