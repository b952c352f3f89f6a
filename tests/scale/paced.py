"""Beacons at a fixed rate, whichever worker each goes to."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import accumulate

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


CONNECTIONS, PAGES = 32, 300


def people(sites: int, pages: int = PAGES) -> Iterator[bytes]:
    """Yield views of people without end: each by another visitor, at any of the sites, of one of its pages.

    As in `Load.pages`, the second most viewed page has half the views of the first, the third a third, and so on.
    """
    dice = random.Random(20261130)
    names = traffic.site_names(sites)
    shares = list(accumulate(1 / place for place in range(1, pages + 1)))
    while True:
        for visitor in range(traffic.VISITORS):
            if not traffic.is_robot(visitor):
                (place,) = dice.choices(range(pages), cum_weights=shares)
                yield traffic.view(visitor, dice.choice(names), page(place))


def of_new_pages(sites: int) -> Iterator[bytes]:
    """Yield views of people, each of a page that none of them viewed before."""
    dice = random.Random(20261130)
    names = traffic.site_names(sites)
    for visitor in range(traffic.VISITORS):
        if not traffic.is_robot(visitor):
            yield traffic.view(visitor, dice.choice(names), page(PAGES + visitor))


def page(place: int) -> str:
    """Return the page of a site that has so many before it."""
    return f"/tin-tuc/bai-viet-{place}"
