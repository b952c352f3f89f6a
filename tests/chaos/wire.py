"""F7-F9: the network between Footfall and Redis loses, cuts and delays its chunks."""

import asyncio

from tests.chaos.redis_faults import wait_until_counted
from tests.chaos.relay import delay, drip, halve_requests, lose_replies, pass_reply, pass_request
from tests.chaos.stage import Stage
from tests.chaos.traffic import percentile

DELAY_S = 0.05
P99_MAX_S = 1.0
ANSWER_MIN_BEACONS = 2.0


async def lose_answers(stage: Stage) -> None:
    """Lose 15 % of the replies after the commit; Redis recognises the batch when it comes again."""
    for host in stage.hosts:
        host.redis.replies = lose_replies(stage.chance, 0.15)
    await asyncio.sleep(4 if stage.quick else 10)
    _repair(stage)
    await wait_until_counted(stage)
    duplicates = await stage.metric("footfall_flushes_total", 'answer="dup"')
    stage.expect(duplicates > 0, "no batch was recognised as one that had come before")


async def cut_requests(stage: Stage) -> None:
    """Cut 8 % of the requests in half; Redis does not apply a half, and the batch is sent again."""
    for host in stage.hosts:
        host.redis.requests = halve_requests(stage.chance, 0.08)
    await asyncio.sleep(4 if stage.quick else 10)
    _repair(stage)
    await wait_until_counted(stage)
    retries = await stage.metric("footfall_retries_total")
    stage.expect(retries > 0, "nothing was sent again")


async def slow_down(stage: Stage) -> None:
    """Delay everything by 50 ms, then pass one byte at a time: batches grow, and answers come within a second."""
    for passages in (
        (delay(pass_request, DELAY_S / 2), delay(pass_reply, DELAY_S / 2)),
        (drip(pass_request), drip(pass_reply)),
    ):
        before = len(stage.traffic.answers)
        batches = await stage.metric("footfall_batch_beacons_count")
        beacons = await stage.metric("footfall_batch_beacons_sum")
        for host in stage.hosts:
            host.redis.requests, host.redis.replies = passages
        await asyncio.sleep(4)
        p99 = percentile(stage.traffic.answers[before:], 0.99)
        stage.expect(p99 < P99_MAX_S, f"99 % of the answers took up to {p99:.2f} s")
        batches = await stage.metric("footfall_batch_beacons_count") - batches
        beacons = await stage.metric("footfall_batch_beacons_sum") - beacons
        stage.expect(beacons > ANSWER_MIN_BEACONS * batches, f"{beacons:.0f} beacons went in {batches:.0f} batches")
    _repair(stage)


def _repair(stage: Stage) -> None:
    for host in stage.hosts:
        host.redis.repair()
