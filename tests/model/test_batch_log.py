"""The life of a batch, without a store: numbers that rise, fall back, and are sent again."""

from datetime import date

import pytest

from footfall.model.batch_log import BATCH_OVERHEAD_BYTES, Answer, Batch, Log, Need

DAY = date(2026, 11, 23)
VISITOR = b"v" * 16


def log_with(batches: int, *, sent: int = 0, on_disk: bool = False) -> Log:
    """A log that keeps so many batches of one view each, of which the first `sent` were applied."""
    log = Log("portal", DAY, "a1", on_disk=on_disk)
    for _ in range(batches):
        log.keep(log.number(1, VISITOR, b"", seen_ms=0, beacons=1))
    for batch in list(log.kept)[:sent]:
        answer(log, batch, Answer.OK)
    return log


def answer(log: Log, batch: Batch, said: Answer, applied: int = 0) -> Need:
    """Send a batch and hear an answer."""
    first_time = log.sending(batch)
    return log.answered(batch, said, applied, first_time=first_time)


def following(log: Log) -> int | None:
    """Number of the batch that goes out next."""
    batch = log.next_batch()
    return batch.seq if batch else None


def test_a_batch_carries_the_views_of_its_log_so_far() -> None:
    """So whoever has number n of a log has all its views up to n, whatever was lost before."""
    assert [(batch.seq, batch.views) for batch in log_with(3).kept] == [(1, 1), (2, 2), (3, 3)]


def test_batches_go_out_in_order_and_are_kept_until_postgres_has_them() -> None:
    """Redis may lose what it has applied; only Postgres' number lets a worker forget."""
    log = log_with(3, sent=2)
    assert (following(log), len(log.kept), log.behind) == (3, 3, True)
    assert log.postgres_has(2) == 2 * (len(VISITOR) + BATCH_OVERHEAD_BYTES)
    assert [batch.seq for batch in log.kept] == [3]


def test_a_gap_sends_again_from_the_number_that_redis_names() -> None:
    """A Redis that went back by seconds ends up exact without Postgres and without an operator."""
    log = log_with(5, sent=4)
    assert answer(log, log.kept[4], Answer.GAP, applied=1) is Need.NOTHING
    assert following(log) == 2


def test_a_gap_below_what_is_kept_needs_postgres_once_and_is_then_skipped() -> None:
    """A hole that nobody can fill never blocks a log."""
    log = log_with(5, sent=4)
    log.postgres_has(3)
    last = log.kept[1]
    assert answer(log, last, Answer.GAP, applied=1) is Need.JOIN
    log.joined = 1
    assert answer(log, last, Answer.GAP, applied=1) is Need.NOTHING
    assert (log.hole, following(log)) == (True, 4)


def test_a_hole_is_only_skipped_where_redis_has_all_that_postgres_had() -> None:
    """A Redis that goes back once more after the join would get a number that covers visitors it has not.

    The next rollup would then overwrite a sketch in Postgres that has them.
    """
    log = log_with(5, sent=4)
    log.postgres_has(3)
    log.joined = 3
    assert answer(log, log.kept[0], Answer.GAP, applied=1) is Need.JOIN
    assert not log.hole


def test_an_answer_that_does_not_come_withdraws_the_leave_to_skip() -> None:
    """Next time it may be another Redis that answers, which lacks less, or more."""
    log = log_with(2)
    log.joined = 0
    assert answer(log, log.kept[1], Answer.GAP) is Need.NOTHING
    log.kept.popleft()
    assert answer(log, log.kept[0], Answer.GAP) is Need.NOTHING
    assert log.hole
    log.unanswered()
    assert answer(log, log.kept[0], Answer.GAP) is Need.JOIN


def test_a_log_on_the_disk_looks_there_before_it_asks_postgres() -> None:
    """Only a page of it is in memory: what is not in the page may still be on the disk."""
    log = log_with(5, sent=4, on_disk=True)
    log.turn_page([log.kept[4]])
    assert answer(log, log.kept[0], Answer.GAP, applied=1) is Need.NOTHING
    log.turn_page([log.kept[0]])  # read again, after 1: the disk has nothing between
    assert answer(log, log.kept[0], Answer.GAP, applied=1) is Need.JOIN


def test_a_day_that_left_redis_needs_a_join_whatever_is_kept() -> None:
    """The first batch of a late log skips nothing, and yet nothing but the join makes room for it."""
    for on_disk in (False, True):
        log = log_with(1, on_disk=on_disk)
        assert answer(log, log.kept[0], Answer.OLD) is Need.JOIN


def test_a_duplicate_of_what_was_sent_before_is_progress() -> None:
    """The answer was lost, not the batch."""
    log = log_with(2)
    log.sending(log.kept[0])
    assert answer(log, log.kept[0], Answer.DUP, applied=1) is Need.NOTHING
    assert following(log) == 2


def test_a_duplicate_of_what_was_never_sent_means_that_somebody_else_has_this_log() -> None:
    """After cloning a running machine two workers share an id: taken for progress, one of the two would be lost."""
    log = log_with(2)
    first, second = log.kept
    answer(log, first, Answer.OK)
    assert answer(log, second, Answer.DUP, applied=7) is Need.NEW_LOG
    assert log.brought == 1
    log.take_out(second)
    assert (log.behind, list(log.kept)) == (False, [first])


@pytest.mark.parametrize("store", ["redis_has", "postgres_has"])
def test_no_store_can_have_what_was_never_sent(store: str) -> None:
    """Such a number is somebody else's; believing it would forget batches that nobody has."""
    log = log_with(3, sent=1)
    getattr(log, store)(3)
    assert following(log) == 2
    assert log.kept[-1].seq == 3


def test_what_postgres_has_need_not_be_sent() -> None:
    """It was forgotten here: Redis gets it from Postgres, and waiting for it would block the log."""
    log = log_with(2, sent=2)
    log.postgres_has(2)
    log.redis_has(0)
    assert not log.behind


def test_only_what_redis_has_is_forgotten_for_room() -> None:
    """An unapplied batch is nowhere else."""
    log = log_with(2, sent=1)
    forgotten = log.forget_oldest()
    assert forgotten is not None
    assert (forgotten.seq, log.forget_oldest()) == (1, None)


def test_numbers_that_could_not_be_stored_are_given_up() -> None:
    """They may be on the disk or not: used again, two different batches could share a number."""
    log = Log("portal", DAY, "a1", on_disk=True)
    log.number(1, VISITOR, b"", 0, 1)
    log.stored()
    log.number(1, VISITOR, b"", 0, 1)
    log.not_stored()
    assert log.numbered == log.written == 1


def test_a_log_that_was_left_behind_takes_nothing_for_somebody_elses() -> None:
    """Its worker may have sent any of it: a duplicate is what one expects."""
    log = Log.left_behind("portal", DAY, "a1", last=3, views=9)
    log.turn_page([Batch("portal", DAY, "a1", 3, 9, 0, VISITOR)])
    assert log.behind
    assert answer(log, log.kept[0], Answer.DUP, applied=3) is Need.NOTHING
    assert not log.behind


def test_what_was_forgotten_for_room_comes_back_from_the_disk() -> None:
    """A batch that was put there when Redis was away is not lost because memory was short later."""
    log = log_with(4, sent=4)
    on_disk = list(log.kept)[:3]
    for _ in range(3):
        log.forget_oldest()
    log.redis_has(1)
    assert log.put_back(on_disk) == sum(batch.size_bytes for batch in on_disk[1:])
    assert [batch.seq for batch in log.kept] == [2, 3, 4]
    assert following(log) == 2
