"""What one worker is writing: which log a beacon goes to, and when a log is done."""

from datetime import date, timedelta

import pytest

from footfall.delivery.pending import SiteWriters, Writer, new_log_id
from footfall.model.batch_log import BATCH_MAX_VISITORS, Answer, Log
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site

DAY = date(2026, 11, 23)
TOMORROW = DAY + timedelta(days=1)


@pytest.fixture
async def writers() -> SiteWriters:
    """Those of one site, in a running loop, for who gathers makes futures."""
    return SiteWriters(Site(id=SiteId("portal"), name="Portal", hosts=("portal.example.vn",)))


def make_durable(writer: Writer, *, durable: bool = True) -> None:
    """Send all that has gathered, and let Postgres have it, or only Redis."""
    while numbered := writer.number(seen_ms=0):
        batch, _ = numbered
        writer.log.keep(batch)
        first_time = writer.log.sending(batch)
        writer.log.answered(batch, Answer.OK, batch.seq, first_time=first_time)
    if durable:
        writer.log.postgres_has(writer.log.written)
        writer.cleared = writer.log.durable


def test_a_log_id_is_never_drawn_twice() -> None:
    """Two logs under one id would be taken for one: half of the beacons would be duplicates."""
    assert len({new_log_id() for _ in range(1000)}) == 1000


async def test_a_day_has_one_log_for_redis_and_one_for_the_disk(writers: SiteWriters) -> None:
    """Both are sent on their own: a long queue on the disk holds up no visitor."""
    live, spooling = writers.live_writer(DAY), writers.spool_writer(DAY)
    assert writers.live_writer(DAY) is live
    assert writers.spool_writer(DAY) is spooling
    assert live.log.id != spooling.log.id
    assert writers.live_writer(TOMORROW) is not live


async def test_a_visitor_is_in_a_batch_once_and_every_view_counts(writers: SiteWriters) -> None:
    """Views are exact, and a batch stays small however often somebody reloads."""
    writer = writers.live_writer(DAY)
    for visitor, view in ((b"a" * 16, True), (b"a" * 16, True), (None, True), (b"b" * 16, False)):
        writer.gather(visitor, None, is_view=view)
    numbered = writer.number(seen_ms=7)
    assert numbered is not None
    batch, gathered = numbered
    assert (batch.views, batch.visitors, batch.beacons, batch.seen_ms) == (3, b"a" * 16 + b"b" * 16, 4, 7)
    assert gathered.beacons == 4
    assert writer.number(seen_ms=8) is None


async def test_a_batch_stays_short_enough_for_one_script_call(writers: SiteWriters) -> None:
    """Redis does one thing at a time: a script that takes long makes everybody wait."""
    writer = writers.live_writer(DAY)
    for number in range(BATCH_MAX_VISITORS + 1):
        writer.gather(number.to_bytes(16, "big"), None, is_view=True)
    assert [len(gathered.visitors) for gathered in writer.gathered] == [BATCH_MAX_VISITORS, 1]


async def test_a_log_that_is_set_aside_gets_no_new_beacons(writers: SiteWriters) -> None:
    """What is wrong with a log is wrong for what it holds, not for who comes next."""
    writer = writers.live_writer(DAY)
    writer.gather(None, None, is_view=True)
    writers.set_aside(writer)
    assert writers.live_writer(DAY) is not writer
    assert writer in list(writers)


async def test_an_empty_log_that_is_set_aside_is_gone(writers: SiteWriters) -> None:
    """While a full disk refuses everything, each attempt begins a log; they must not pile up."""
    writer = writers.spool_writer(DAY)
    writers.set_aside(writer)
    assert list(writers) == []


async def test_a_days_logs_are_let_go_once_it_is_over_and_postgres_has_them(writers: SiteWriters) -> None:
    """Otherwise a worker that runs for a year would ask both stores about a year of logs."""
    live = writers.live_writer(DAY)
    live.gather(None, None, is_view=True)
    writers.retire(TOMORROW)
    assert live in list(writers)
    make_durable(live)
    writers.retire(DAY)
    assert live in list(writers)
    writers.retire(TOMORROW)
    assert list(writers) == []


async def test_a_log_whose_batch_is_being_written_to_the_disk_is_not_let_go(writers: SiteWriters) -> None:
    """Its visitors get 202 in a moment; nobody would ever send what they were promised."""
    spooling = writers.spool_writer(DAY)
    spooling.gather(None, None, is_view=True)
    spooling.number(seen_ms=0)
    writers.retire(TOMORROW)
    assert spooling in list(writers)
    spooling.log.stored()
    writers.retire(TOMORROW)
    assert spooling in list(writers)


async def test_a_log_is_not_done_before_the_disk_has_dropped_it(writers: SiteWriters) -> None:
    """A row that nobody asks to be dropped any more would fill the disk until the next start."""
    adopted = Writer(Log.left_behind("portal", DAY, "a1", last=2, views=2))
    writers.others.append(adopted)
    adopted.log.postgres_has(2)
    writers.retire(TOMORROW)
    assert list(writers) == [adopted]
    adopted.cleared = 2
    writers.retire(TOMORROW)
    assert list(writers) == []


async def test_a_log_of_which_nothing_is_left_to_send_is_let_go(writers: SiteWriters) -> None:
    """What was dropped for room cannot become durable through this worker: waiting for it would never end."""
    live = writers.live_writer(DAY)
    live.gather(None, None, is_view=True)
    make_durable(live, durable=False)
    live.log.forget_oldest()
    writers.retire(TOMORROW)
    assert list(writers) == []
