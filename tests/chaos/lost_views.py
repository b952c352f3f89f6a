"""F41: the network between pages and Footfall loses requests and answers; pages send their views again."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.chaos.host import signal_worker
from tests.chaos.ledger import Outcome
from tests.chaos.open_pages import ANSWER_MAX_S, OpenPages
from tests.chaos.redis_faults import wait_until_counted
from tests.chaos.relay import Relay, lose_replies, lose_requests, open_relay
from tests.chaos.signs import REDIS_AWAY, expect_named, expect_silent
from tests.chaos.stage import Stage
from tests.chaos.workers import WORKERS, wait_for_workers

LOST_SHARE = 0.15
PATIENCE_S = 1.0
"""Of pages while answers are lost, of which half never come: a real page waits twenty times as long."""


async def lose(stage: Stage) -> None:
    """Lose requests and answers while a worker ends; then, while Redis is away, requests alone.

    One failure at a time counts no view twice and loses none: each of the pages, which stay open, counts once. Two at
    once may: a view that waits on a disk for Redis is unknown to the other workers, so an answer that is lost then may
    count twice. So answers are lost only while Redis takes beacons, and all pages have theirs before it ends.
    """
    await stage.stores.redis.config_set("appendfsync", "always")  # a Redis that loses data is a failure of its own
    async with _open_pages(stage) as (pages, network):
        for turn in stage.rounds(2, 1):
            _lose_both(stage, pages, network)
            await stage.pause(0.5, 1)
            worker = stage.chance.choice(stage.hosts[0].workers())
            signal_worker(worker, signal.SIGKILL if turn % 2 == 0 else signal.SIGTERM)
            await stage.pause(0.5, 1)
            await _answer_all(pages, network)
            await wait_for_workers(stage, WORKERS)

            network.requests = lose_requests(stage.chance, LOST_SHARE)
            pages.open()
            await stage.pause(0.2, 0.5)
            stage.valkey.kill()
            await expect_named(stage, REDIS_AWAY)
            await stage.valkey.start()
            await wait_until_counted(stage)
            await expect_silent(stage, REDIS_AWAY)

        _lose_both(stage, pages, network)
        await stage.pause(1, 2)
        await _answer_all(pages, network)
        stage.expect(pages.repeats > 0, "no page sent its view again")
    unknown = stage.ledger.beacons[Outcome.UNKNOWN]
    stage.expect(not unknown, f"{unknown} pages had no answer within their minute")
    known = await stage.metric("footfall_repeated_views_total")
    stage.expect(known > 0, "no view that came again was recognised")


def _lose_both(stage: Stage, pages: OpenPages, network: Relay) -> None:
    network.requests = lose_requests(stage.chance, LOST_SHARE)
    network.replies = lose_replies(stage.chance, LOST_SHARE)
    pages.answer_max_s = PATIENCE_S
    pages.open()


async def _answer_all(pages: OpenPages, network: Relay) -> None:
    network.repair()
    await pages.pause()
    pages.answer_max_s = ANSWER_MAX_S


@asynccontextmanager
async def _open_pages(stage: Stage) -> AsyncIterator[tuple[OpenPages, Relay]]:
    """Open pages in front of a relay to Footfall."""
    (host,) = stage.hosts
    async with open_relay(urlsplit(host.url).port or 0) as network:
        url, chance = f"http://127.0.0.1:{network.port}", random.Random(stage.seed + 2)
        pages = OpenPages(url, stage.sites, stage.day, stage.ledger, chance)
        stage.traffic.answers = pages.answers
        running = asyncio.create_task(pages.run())
        try:
            yield pages, network
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
