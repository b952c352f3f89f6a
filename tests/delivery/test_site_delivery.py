"""The logs of one site: which one a beacon joins, and when a log is done."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from footfall import sql_folder
from footfall.delivery.pending import StoredIn, View
from footfall.delivery.site_delivery import SiteDelivery, new_log_id
from footfall.http.services import Services
from footfall.model.availability import Away
from footfall.model.batch import BATCH_MAX_VISITORS
from footfall.model.batch_log import BatchLog
from footfall.stores.migrations import migrate
from tests.support.delivery import count, open_worker
from tests.support.footfall import SITE, FakeClock, settings_for
from tests.support.storage import TODAY

TOMORROW = TODAY + timedelta(days=1)
DAY_S = 86400


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def services(redis_url: str, postgres_url: str, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Services]:
    """A worker whose steps the test calls."""
    await migrate(postgres_url, sql_folder())
    async with open_worker(settings_for(redis_url, postgres_url, tmp_path), clock) as services:
        yield services


@pytest.fixture
def delivery(services: Services) -> SiteDelivery:
    return services.recorder.sites[SITE]


def test_a_log_id_is_never_drawn_twice() -> None:
    """Two logs under one id would be taken for one: half of the beacons would be duplicates."""
    assert len({new_log_id() for _ in range(1000)}) == 1000


async def test_a_day_has_one_log_for_redis_and_one_for_the_disk(delivery: SiteDelivery) -> None:
    """Each is sent on its own: a long queue on the disk holds up no visitor."""
    live, spooling = delivery.live_sender(TODAY), delivery.spooling_sender(TODAY)
    assert delivery.live_sender(TODAY) is live
    assert delivery.spooling_sender(TODAY) is spooling
    assert live.log.log_id != spooling.log.log_id
    assert delivery.live_sender(TOMORROW) is not live


async def test_one_batch_holds_no_more_visitors_than_a_script_call_takes(delivery: SiteDelivery) -> None:
    """The rest goes into the next batch, in the order of arrival."""
    sender = delivery.live_sender(TODAY)
    for number in range(BATCH_MAX_VISITORS + 1):
        sender.enqueue(number.to_bytes(16, "big"), None, View())
    first = await sender.next_batch()
    assert first is not None
    assert (first.seq, len(first.visitor_ids), first.views) == (1, 16 * BATCH_MAX_VISITORS, BATCH_MAX_VISITORS)
    sender.log.mark_sent(first)
    sender.log.mark_acked(first.seq)
    second = await sender.next_batch()
    assert second is not None
    assert (second.seq, len(second.visitor_ids), second.views) == (2, 16, BATCH_MAX_VISITORS + 1)


async def test_a_closed_log_gets_no_new_beacons(delivery: SiteDelivery) -> None:
    """What is wrong with a log is wrong for the beacons that it holds, not for later ones."""
    sender = delivery.live_sender(TODAY)
    sender.enqueue(None, None, View())
    sender.close()
    assert delivery.live_sender(TODAY) is not sender
    assert sender in list(delivery)


async def test_an_empty_closed_log_is_dropped(delivery: SiteDelivery) -> None:
    """While a full disk refuses everything, each attempt begins a log; they must not pile up."""
    delivery.spooling_sender(TODAY).close()
    assert list(delivery) != []
    fresh = delivery.spooling_sender(TODAY)
    assert list(delivery) == [fresh]


async def test_a_days_logs_are_retired_once_it_is_over_and_postgres_has_them(
    services: Services, delivery: SiteDelivery, clock: FakeClock
) -> None:
    """Otherwise a worker that runs for a year would ask both stores about a year of logs."""
    await count(services)
    live = delivery.live_sender(TODAY)
    clock.advance(DAY_S)
    delivery.retire()
    assert list(delivery) == [live]
    clock.advance(-DAY_S)
    await services.copy()
    assert live.is_done
    assert list(delivery) == [live]
    clock.advance(DAY_S)
    delivery.retire()
    assert list(delivery) == []


async def test_a_log_that_is_being_written_to_the_disk_is_not_retired(
    services: Services, delivery: SiteDelivery, clock: FakeClock
) -> None:
    """Its visitors get 202 in a moment; without the log their beacons would never be sent."""
    delivery.redis = Away(clock(), "for this test")
    writing = asyncio.create_task(count(services))
    await asyncio.sleep(0)
    clock.advance(DAY_S)
    delivery.retire()
    assert list(delivery) == [delivery.spooling_sender(TODAY)]
    assert await writing is StoredIn.DISK
    delivery.retire()
    assert list(delivery) == [delivery.spooling_sender(TODAY)]


async def test_a_log_is_not_done_before_the_disk_has_dropped_it(delivery: SiteDelivery) -> None:
    """A row that is never dropped would fill the disk until the next start."""
    adopted = delivery.adopt(BatchLog.adopted(SITE, TODAY, "a1", last_seq=2, views=2))
    adopted.log.mark_durable(2)
    delivery.retire()
    assert list(delivery) == [adopted]
    await adopted.clear_disk()
    delivery.retire()
    assert list(delivery) == []


async def test_a_log_without_anything_to_send_is_retired(
    services: Services, delivery: SiteDelivery, clock: FakeClock
) -> None:
    """A batch that was forgotten to free memory cannot become durable through this worker: it would wait for ever."""
    await count(services)
    assert delivery.live_sender(TODAY).log.forget_oldest() is not None
    clock.advance(DAY_S)
    delivery.retire()
    assert list(delivery) == []
