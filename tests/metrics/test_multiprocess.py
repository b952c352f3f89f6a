"""Several workers' metrics as one: here as two slots in one process."""

import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from prometheus_client import values

from footfall.errors import Stop
from footfall.metrics.multiprocess import Slot
from footfall.metrics.slots import free_slot, metrics_folder

OpenSlot = Callable[[int], Slot]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for slots."""
    with metrics_folder() as made:
        yield made
    assert not made.exists()


@pytest.fixture
def open_slot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenSlot]:
    """Open slots; a new metric belongs to the slot that was opened last, as in a process of its own."""
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    with ExitStack() as stack:
        yield lambda number: stack.enter_context(closing(Slot(folder, number)))


def read(slot: Slot, name: str, **labels: str) -> float | None:
    """What Prometheus gets from this slot's worker."""
    return slot.metrics.registry.get_sample_value(name, labels)


def test_every_worker_answers_for_all(open_slot: OpenSlot) -> None:
    """Prometheus reaches one worker at random; counters and histograms add up."""
    slots = []
    for number in (0, 1):
        slot = open_slot(number)
        slot.metrics.beacon("portal", "counted", "").inc(1)
        slot.metrics.request("/seen", 200).observe(0.003)
        slot.metrics.queue_beacons.set(5)
        slot.write()
        slots.append(slot)
    for slot in slots:
        assert read(slot, "footfall_beacons_total", site="portal", outcome="counted", reason="") == 2
        assert read(slot, "footfall_request_seconds_count", route="/seen", status="200") == 2
        assert read(slot, "footfall_request_seconds_bucket", route="/seen", status="200", le="0.005") == 2
        assert read(slot, "footfall_queue_beacons") == 10


def test_a_worker_s_own_counts_are_in_its_answer_at_once(open_slot: OpenSlot) -> None:
    """What a request has just done is seen by the next one, without waiting for the files."""
    slot = open_slot(0)
    slot.metrics.retries.inc()
    assert read(slot, "footfall_retries_total") == 1


def test_a_slot_s_counters_go_on_and_its_gauges_begin_anew(open_slot: OpenSlot, folder: Path) -> None:
    """A worker that is replaced is no reset of its counters, and no second worker in the gauges."""
    first = open_slot(0)
    first.metrics.retries.inc(3)
    first.metrics.workers.set(1)
    first.metrics.store_up.labels("redis").set(0)
    first.write()
    free_slot(folder, 0)
    second = open_slot(0)
    assert read(second, "footfall_workers") == 0
    assert read(second, "footfall_store_up", store="redis") is None
    second.metrics.retries.inc()
    assert read(second, "footfall_retries_total") == 4


def test_what_was_not_written_yet_is_lost_with_its_worker(open_slot: OpenSlot, folder: Path) -> None:
    """The price of counters that cost nothing: half a second of them when a worker is killed, and never a fall."""
    first = open_slot(0)
    first.metrics.retries.inc(3)
    first.write()
    first.metrics.retries.inc(2)
    free_slot(folder, 0)
    assert read(open_slot(0), "footfall_retries_total") == 3


def test_a_worker_that_only_starts_disturbs_no_answer(open_slot: OpenSlot) -> None:
    """The others' files are read while a new worker makes its own."""
    slot = open_slot(0)
    for number in range(1, 4):
        open_slot(number)
        assert read(slot, "footfall_retries_total") == 0


def test_a_worker_without_room_for_its_metrics_says_so(open_slot: OpenSlot, folder: Path) -> None:
    """The folder in memory of a container is small: an operator should read a sentence, not where in the code it is."""
    bound = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, bound[1]))
    try:
        with pytest.raises(Stop, match=f"no room for its metrics in {folder}"):
            open_slot(0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, bound)
    open_slot(0)


def test_the_most_recent_number_is_the_one_that_is_shown(open_slot: OpenSlot) -> None:
    """What is one number for all workers, such as a total, is not added up."""
    first = open_slot(0)
    first.metrics.show("portal", "total", 10)
    second = open_slot(1)
    second.metrics.show("portal", "total", 11)
    second.write()
    assert read(first, "footfall_visitors", site="portal", period="total") == 11


def test_a_number_of_a_site_takes_no_object_of_its_own(open_slot: OpenSlot) -> None:
    """A worker of a thousand sites shows more than ten thousand numbers."""
    slot = open_slot(0)
    for number in range(100):
        slot.metrics.show(f"site-{number}", "total", number)
    assert read(slot, "footfall_visitors", site="site-99", period="total") == 99
    assert not slot.metrics.visitors._metrics  # noqa: SLF001 - the library offers no public way to read them


def test_every_worker_reads_the_reports_of_all_that_run(open_slot: OpenSlot, folder: Path) -> None:
    """What no label may hold, such as an origin, is still one answer for all workers."""
    first, second = open_slot(0), open_slot(1)
    first.metrics.reports.write({"pid": 1})
    second.metrics.reports.write({"pid": 2})
    second.metrics.reports.write({"pid": 3})
    for slot in (first, second):
        assert slot.metrics.reports.read() == [{"slot": 0, "pid": 1}, {"slot": 1, "pid": 3}]
    free_slot(folder, 1)
    free_slot(folder, 1)
    assert first.metrics.reports.read() == [{"slot": 0, "pid": 1}]
