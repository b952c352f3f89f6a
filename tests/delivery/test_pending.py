"""Beacons that wait: how many may, what a batch of them holds, and their one answer."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from footfall.delivery.pending import SITE_SHARE, BeaconQueue, PendingBatch, StoredIn, View
from footfall.errors import Reason, Refused
from footfall.metrics.metrics import Metrics
from footfall.model.batch import BATCH_MAX_VISITORS
from footfall.model.site_id import SiteId
from tests.support.footfall import SITE

OTHER = SiteId("other")


@pytest.fixture
def queue() -> BeaconQueue:
    """A queue of eight beacons, of which one site may have two."""
    return BeaconQueue(2 * SITE_SHARE, Metrics(CollectorRegistry()))


async def test_a_visitor_is_in_a_batch_once_and_every_view_counts() -> None:
    """Views are exact, and a batch stays small however often a visitor reloads."""
    pending = PendingBatch(SITE)
    for visitor, view in ((b"a" * 16, True), (b"a" * 16, True), (None, True), (b"b" * 16, False)):
        pending.add(visitor, None, View() if view else None)
    assert (pending.views, list(pending.visitor_ids), pending.beacons) == (3, [b"a" * 16, b"b" * 16], 4)


async def test_a_batch_is_full_before_one_script_call_takes_long() -> None:
    """Redis does one thing at a time: a script that takes long makes all other calls wait."""
    pending = PendingBatch(SITE)
    for number in range(BATCH_MAX_VISITORS):
        assert not pending.is_full
        pending.add(number.to_bytes(16, "big"), None, View())
    assert pending.is_full


async def test_a_site_fills_its_share_of_the_queue_and_no_more(queue: BeaconQueue) -> None:
    """A rush on one portal leaves room for the others."""
    for _ in range(2):
        queue.enter(SITE)
    with pytest.raises(Refused) as refused:
        queue.enter(SITE)
    assert refused.value.reason is Reason.BUSY
    queue.enter(OTHER)
    assert queue.beacons == 3


async def test_an_answer_makes_room_for_the_beacons_that_it_answers(queue: BeaconQueue) -> None:
    """The queue holds what waits, whether the batch was stored or refused."""
    stored, refused = PendingBatch(SITE), PendingBatch(OTHER)
    for pending in (stored, stored, refused):
        queue.enter(pending.site_id)
        pending.add(None, None, View())
    queue.answer(stored, StoredIn.DISK)
    assert (await stored.answer, queue.beacons) == (StoredIn.DISK, 1)
    queue.refuse(refused, Reason.SPOOL_FULL)
    with pytest.raises(Refused):
        await refused.answer
    assert queue.beacons == 0
    queue.enter(SITE)


async def test_a_waiter_that_is_cancelled_does_not_cancel_the_batch(queue: BeaconQueue) -> None:
    """A client that closes its tab must not take the answer from the other clients."""
    pending = PendingBatch(SITE)
    queue.enter(SITE)
    pending.add(None, None, View())
    waiters = [asyncio.ensure_future(_wait(pending)) for _ in range(2)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    queue.answer(pending, StoredIn.REDIS)
    assert await waiters[1] is StoredIn.REDIS
    with pytest.raises(asyncio.CancelledError):
        await waiters[0]


async def _wait(pending: PendingBatch) -> StoredIn:
    return await pending.answer
