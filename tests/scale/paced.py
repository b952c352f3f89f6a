"""Beacons at a fixed rate, whichever worker each goes to."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

from tests.bench import traffic
from tests.support.raw_http import connected, read_answer


async def send(ports: Sequence[int], requests: Iterator[bytes], per_s: float, seconds: float) -> int:
    """Send `per_s` requests a second, from port to port in turn; return how many were answered 200 or 202.

    Where the server is slower, requests come later, and no request is left out. Raises AssertionError at any other
    answer: what was not taken would cost nothing.
    """
    statuses: Counter[int] = Counter()
    numbers = iter(range(round(per_s * seconds)))
    started = time.monotonic()

    async def send_some(lane: int) -> None:
        async with AsyncExitStack() as stack:
            open_ones = [await stack.enter_async_context(connected(port)) for port in ports]
            for number in numbers:
                await asyncio.sleep(max(0.0, started + number / per_s - time.monotonic()))
                reader, writer = open_ones[(number + lane) % len(ports)]
                writer.write(next(requests))
                status, _ = await read_answer(reader)
                statuses[status] += 1

    async with asyncio.TaskGroup() as tasks:
        for lane in range(CONNECTIONS):
            tasks.create_task(send_some(lane))
    assert set(statuses) <= {200, 202}, statuses
    return statuses.total()


CONNECTIONS = 32


def people(sites: int) -> Iterator[bytes]:
    """Yield beacons of people, over and over: each by another visitor, at any of the sites, and of no page.

    A page has further costs, mostly at its first view of a day: the model knows no pages yet.
    """
    while True:
        for visitor, request in enumerate(traffic.beacons(sites, with_pages=False)):
            if not traffic.is_robot(visitor):
                yield request
