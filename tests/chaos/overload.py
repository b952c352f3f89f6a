"""F17 and F18: far too many beacons, and thousands of clients that are slow or silent."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from tests.chaos.redis_faults import wait_until_counted
from tests.chaos.stage import Stage
from tests.chaos.traffic import SITES, percentile
from tests.chaos.waiting import until

OVERLOAD_S = 15
RATE_PER_S = 3000
MEMORY_MAX_BYTES = 150 * 1024 * 1024
"""Growth of one worker that is allowed."""
RECOVERY_MAX_S = 2.0
RECOVERY_GIVEN_S = 20
QUICK_S = 0.5

SLOW_CLIENTS = 2000
SLOW_CLIENTS_AT_ONCE = 100
CLOSED_MAX_S = 40
P99_MAX_S = 1.0


async def overload(stage: Stage) -> None:
    """Send ten times the usual for 15 seconds while Redis stalls: memory stays bounded, the service recovers."""
    usual = stage.traffic.rate_per_s
    before = {worker.pid: worker.memory_info().rss for host in stage.hosts for worker in host.workers()}
    stage.traffic.rate_per_s = RATE_PER_S
    ends = time.monotonic() + (4 if stage.quick else OVERLOAD_S)
    while time.monotonic() < ends:
        stage.valkey.suspend()
        await stage.pause(0.6, 0.9)
        stage.valkey.resume()
        await stage.pause(0.3, 0.6)
    stage.traffic.rate_per_s = usual
    since = time.monotonic()
    await wait_until_counted(stage)
    await until(lambda: all(answer.took_s < QUICK_S for answer in stage.traffic.answers[-20:]), RECOVERY_GIVEN_S)
    took_s = time.monotonic() - since
    stage.expect(took_s < RECOVERY_MAX_S, f"it took {took_s:.1f} s to recover")
    for host in stage.hosts:
        for worker in host.workers():
            grown = worker.memory_info().rss - before.get(worker.pid, 0)
            stage.expect(grown < MEMORY_MAX_BYTES, f"a worker grew by {grown >> 20} MiB")
    refused = [answer for answer in stage.traffic.answers if answer.status == 503]
    stage.expect(bool(refused), "nothing was refused, so this was no overload")


async def slow_clients(stage: Stage) -> None:
    """Two thousand clients drip heads or bodies, or stay silent: they are closed, and other clients do not notice."""
    where = urlsplit(stage.hosts[0].url)
    before = len(stage.traffic.answers)
    kinds = (_drip_head, _drip_body, _say_nothing)
    gate = asyncio.Semaphore(SLOW_CLIENTS_AT_ONCE)
    count = 200 if stage.quick else SLOW_CLIENTS
    tasks = [
        asyncio.create_task(_be_slow(where.hostname or "", where.port or 0, kinds[n % len(kinds)], gate))
        for n in range(count)
    ]
    done, open_still = await asyncio.wait(tasks, timeout=CLOSED_MAX_S)
    stage.expect(not open_still, f"{len(open_still)} slow clients were never closed, {len(done)} were")
    for task in open_still:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    p99 = percentile(stage.traffic.answers[before:], 0.99)
    stage.expect(p99 < P99_MAX_S, f"others waited: 99 % of the answers took up to {p99:.2f} s")


Slowly = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def _be_slow(host: str, port: int, slowly: Slowly, gate: asyncio.Semaphore) -> None:
    """Connect and drip until the service closes the connection."""
    async with gate:
        reader, writer = await asyncio.open_connection(host, port)
    dripping = asyncio.ensure_future(slowly(writer))
    try:
        while await reader.read(1024):
            continue
    except OSError:
        return
    finally:
        dripping.cancel()
        writer.close()


async def _drip_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"POST /seen HTTP/1.1\r\nHost: x\r\n")
    while True:
        await asyncio.sleep(1)
        writer.write(b"X: y\r\n")


async def _drip_body(writer: asyncio.StreamWriter) -> None:
    host = next(iter(SITES.values()))
    writer.write(f"POST /seen HTTP/1.1\r\nHost: x\r\nOrigin: https://{host}\r\nContent-Length: 900\r\n\r\n".encode())
    while True:
        await asyncio.sleep(1)
        writer.write(b" ")


async def _say_nothing(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()
