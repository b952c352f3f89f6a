"""The life of a batch, without a store: its seq is acked, falls back, and is sent again until it is durable."""

from collections.abc import Callable
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.model.batch import BATCH_OVERHEAD_BYTES, Answer, Batch
from footfall.model.batch_log import BatchLog, Need
from footfall.model.site_id import SiteId

SITE = SiteId("portal")
DAY = date(2026, 11, 23)
VISITOR = b"v" * 16


def log_with(batches: int, *, acked: int = 0, on_disk: bool = False) -> BatchLog:
    """Return a log that retains so many batches of one view each; Redis has the first `acked` of them."""
    log = BatchLog(SITE, DAY, "a1", on_disk=on_disk)
    for _ in range(batches):
        log.retain(log.append(1, VISITOR, b"", seen_ms=0, beacons=1))
    for batch in list(log.retained)[:acked]:
        send(log, batch, Answer.OK)
    return log


def send(log: BatchLog, batch: Batch, answer: Answer, acked: int = 0) -> Need:
    """Send a batch; return what the log needs after Redis' answer."""
    is_first_time = log.mark_sent(batch)
    return log.mark_answered(batch, answer, acked, is_first_time=is_first_time)


def next_seq(log: BatchLog) -> int | None:
    """Return the seq of the batch that is sent next."""
    batch = log.next_batch()
    return batch.seq if batch else None


def test_a_batch_carries_the_views_of_its_log_so_far() -> None:
    """A store that has seq n of a log has all its views up to n, even where earlier batches were lost."""
    assert [(batch.seq, batch.views) for batch in log_with(3).retained] == [(1, 1), (2, 2), (3, 3)]


def test_batches_are_sent_in_order_and_retained_until_they_are_durable() -> None:
    """Redis may lose what it has acked; a worker forgets a batch only once Postgres has its seq."""
    log = log_with(3, acked=2)
    assert (next_seq(log), len(log.retained), log.is_behind) == (3, 3, True)
    before = log.retained_bytes
    log.mark_durable(2)
    assert before - log.retained_bytes == 2 * (len(VISITOR) + BATCH_OVERHEAD_BYTES)
    assert [batch.seq for batch in log.retained] == [3]


def test_after_a_gap_sending_starts_again_from_the_seq_that_redis_names() -> None:
    """A Redis that lost its last seconds becomes exact without Postgres and without an operator."""
    log = log_with(5, acked=4)
    assert send(log, log.retained[4], Answer.GAP, acked=1) is Need.NOTHING
    assert next_seq(log) == 2


def test_a_gap_below_the_retained_batches_needs_one_merge_and_is_then_skipped() -> None:
    """A gap that no process can fill never blocks a log."""
    log = log_with(5, acked=4)
    log.mark_durable(3)
    last = log.retained[1]
    assert send(log, last, Answer.GAP, acked=1) is Need.MERGE
    log.merged = 1
    assert send(log, last, Answer.GAP, acked=1) is Need.NOTHING
    assert (log.skip_gap, next_seq(log)) == (True, 4)


def test_a_gap_is_only_skipped_where_redis_has_all_that_postgres_had() -> None:
    """A Redis that loses data again after the merge would get a seq that covers visitors it has not.

    The next rollup would then overwrite a sketch in Postgres that has them.
    """
    log = log_with(5, acked=4)
    log.mark_durable(3)
    log.merged = 3
    assert send(log, log.retained[0], Answer.GAP, acked=1) is Need.MERGE
    assert not log.skip_gap


def test_without_an_answer_the_leave_to_skip_is_withdrawn() -> None:
    """The next answer may come from another Redis, which has lost more, or less."""
    log = log_with(2)
    log.merged = 0
    assert send(log, log.retained[1], Answer.GAP) is Need.NOTHING
    log.mark_acked(1)
    log.forget_oldest()
    log.merged = 0
    assert send(log, log.retained[0], Answer.GAP) is Need.NOTHING
    assert log.skip_gap
    log.mark_unanswered()
    assert send(log, log.retained[0], Answer.GAP) is Need.MERGE


def test_a_log_on_the_disk_reads_the_disk_before_it_asks_postgres() -> None:
    """Memory holds one page of it: a batch that is not in the page may still be on the disk."""
    log = log_with(5, acked=4, on_disk=True)
    log.load_page([log.retained[4]])
    assert send(log, log.retained[0], Answer.GAP, acked=1) is Need.NOTHING
    log.load_page([log.retained[0]])  # read after seq 1: the disk has nothing between
    assert send(log, log.retained[0], Answer.GAP, acked=1) is Need.MERGE


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_day_that_redis_dropped_needs_a_merge_whatever_is_retained(on_disk: bool) -> None:
    """The first batch of a late log skips nothing, and yet Redis accepts it only after the merge."""
    log = log_with(1, on_disk=on_disk)
    assert send(log, log.retained[0], Answer.OLD) is Need.MERGE


def test_a_redis_that_is_not_ready_needs_a_restore() -> None:
    """It has lost the whole site, not a part of this log."""
    log = log_with(2, acked=1)
    assert send(log, log.retained[1], Answer.NOTREADY) is Need.RESTORE
    assert next_seq(log) == 2


def test_a_duplicate_of_a_batch_that_was_sent_before_is_progress() -> None:
    """The answer was lost, not the batch."""
    log = log_with(2)
    log.mark_sent(log.retained[0])
    assert send(log, log.retained[0], Answer.DUP, acked=1) is Need.NOTHING
    assert next_seq(log) == 2


def test_a_duplicate_of_a_batch_that_was_never_sent_means_that_another_worker_has_this_log() -> None:
    """After cloning a running machine two workers share an id: taken for progress, a batch of one would be lost."""
    log = log_with(2)
    first, second = log.retained
    send(log, first, Answer.OK)
    assert send(log, second, Answer.DUP, acked=7) is Need.NEW_LOG
    assert log.sent_batch_views == 1
    log.take_out(second)
    assert (log.is_behind, list(log.retained)) == (False, [first])


@pytest.mark.parametrize("mark", [BatchLog.mark_acked, BatchLog.mark_durable])
def test_no_store_can_have_a_batch_that_was_never_sent(mark: Callable[[BatchLog, int], None]) -> None:
    """Such a seq is another worker's; believing it would forget batches that no store has."""
    log = log_with(3, acked=1)
    mark(log, 3)
    assert next_seq(log) == 2
    assert log.retained[-1].seq == 3


def test_a_durable_batch_need_not_be_sent() -> None:
    """The worker has forgotten it: Redis gets it from Postgres, and waiting for it would block the log."""
    log = log_with(2, acked=2)
    log.mark_durable(2)
    log.mark_acked(0)
    assert not log.is_behind


def test_only_acked_batches_are_forgotten_to_free_memory() -> None:
    """A batch that Redis lacks is nowhere else."""
    log = log_with(2, acked=1)
    forgotten = log.forget_oldest()
    assert forgotten is not None
    assert (forgotten.seq, log.forget_oldest()) == (1, None)


def test_seqs_that_could_not_be_stored_are_withdrawn() -> None:
    """They may be on the disk or not: used again, two different batches could share a seq."""
    log = BatchLog(SITE, DAY, "a1", on_disk=True)
    log.append(1, VISITOR, b"", 0, 1)
    log.mark_stored()
    log.append(1, VISITOR, b"", 0, 1)
    log.withdraw_unstored()
    assert log.assigned == log.stored == 1


def test_batches_that_the_disk_has_lost_are_given_up() -> None:
    """Waiting for them would block the log; what a store has of it is not lost."""
    log = BatchLog.adopted(SITE, DAY, "a1", last_seq=5, views=9)
    log.mark_acked(2)
    log.mark_durable(3)
    assert log.cut_missing_end() == 2
    assert (log.stored, log.assigned, log.is_behind) == (3, 3, False)
    assert log.cut_missing_end() == 0


def test_in_an_adopted_log_a_duplicate_is_progress() -> None:
    """Its former worker may have sent any of it, so no other worker writes under its id."""
    log = BatchLog.adopted(SITE, DAY, "a1", last_seq=3, views=9)
    log.load_page([Batch(SITE, DAY, "a1", 3, 9, 0, VISITOR)])
    assert log.is_behind
    assert send(log, log.retained[0], Answer.DUP, acked=3) is Need.NOTHING
    assert not log.is_behind


def test_batches_that_were_forgotten_to_free_memory_come_back_from_the_disk() -> None:
    """A batch that was spooled while Redis was away is not lost because memory was short later."""
    log = log_with(4, acked=4)
    on_disk = list(log.retained)[:3]
    for _ in range(3):
        log.forget_oldest()
    log.mark_acked(1)
    before = log.retained_bytes
    log.retain_again(on_disk)
    assert log.retained_bytes - before == sum(batch.size_bytes for batch in on_disk[1:])
    assert [batch.seq for batch in log.retained] == [2, 3, 4]
    assert next_seq(log) == 2


Operation = Callable[[BatchLog, list[Batch], int], object]
"""Changes a log; takes the log, the batches on its disk, and a small number: a size or a seq."""


def append(log: BatchLog, disk: list[Batch], visitors: int) -> None:
    """Assign a seq to some visitors; memory retains the batch, or the disk stores it."""
    batch = log.append(1, VISITOR * visitors, VISITOR * (visitors // 2), seen_ms=0, beacons=1)
    disk.append(batch)
    if log.on_disk:
        log.mark_stored()
    else:
        log.retain(batch)


def send_next(answer: Answer) -> Operation:
    """Return the operation that sends the next batch, to which Redis gives `answer`."""

    def operation(log: BatchLog, _disk: list[Batch], seq: int) -> None:
        if batch := log.next_batch():
            need = send(log, batch, answer, min(seq, log.acked))
            if need is Need.NEW_LOG:
                log.take_out(batch)

    return operation


def free_memory_and_fall_back(log: BatchLog, disk: list[Batch], seq: int) -> None:
    """Forget all that Redis has; then Redis loses what is after `seq`, and the disk still has it."""
    while log.forget_oldest():
        pass
    log.mark_acked(min(seq, log.acked))
    log.retain_again(disk)


BOTH: tuple[Operation, ...] = (
    append,
    send_next(Answer.OK),
    send_next(Answer.GAP),
    send_next(Answer.DUP),
    lambda log, _disk, seq: log.mark_acked(seq),
    lambda log, _disk, seq: log.mark_durable(seq),
    lambda log, _disk, _: log.forget_oldest(),
)
IN_MEMORY: tuple[Operation, ...] = (*BOTH, free_memory_and_fall_back)
ON_DISK: tuple[Operation, ...] = (
    *BOTH,
    lambda log, disk, size: log.load_page([batch for batch in disk if batch.seq > log.acked][:size]),
    lambda log, _disk, _: log.unload_page(),
)


def steps(operations: tuple[Operation, ...]) -> st.SearchStrategy[list[tuple[Operation, int]]]:
    """Return runs of operations; the few of `append` that a fair choice gives would leave most logs empty."""
    some = st.tuples(st.one_of(st.just(append), st.sampled_from(operations)), st.integers(0, 12))
    return st.lists(some, max_size=60)


def check_after_each_step(log: BatchLog, run: list[tuple[Operation, int]]) -> None:
    """Assert after each operation that the log knows the size of what it retains, in order."""
    disk: list[Batch] = []
    for operation, number in run:
        operation(log, disk, number)
        assert log.retained_bytes == sum(batch.size_bytes for batch in log.retained)
        assert all(earlier.seq < later.seq for earlier, later in pairwise(log.retained))
        assert max(log.acked, log.durable) <= log.sent <= log.stored <= log.assigned


@given(steps(IN_MEMORY))
def test_a_log_in_memory_knows_the_bytes_that_it_retains(run: list[tuple[Operation, int]]) -> None:
    """The worker limits its memory by this sum: an error in it would last until the log ends."""
    check_after_each_step(BatchLog(SITE, DAY, "a1"), run)


@given(steps(ON_DISK))
def test_a_log_on_the_disk_knows_the_bytes_of_its_page(run: list[tuple[Operation, int]]) -> None:
    """The page counts against the same limit."""
    check_after_each_step(BatchLog(SITE, DAY, "a1", on_disk=True), run)
