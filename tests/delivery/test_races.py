"""What depends on the order of things: one worker on models of the stores, its calls delivered one by one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from footfall.model.availability import UP
from tests.simulation.simulated import World, settings_of
from tests.support.footfall import NOON, SITE, FakeClock


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A worker whose every call waits to be delivered: for what depends on the order."""
    world = World(settings_of(tmp_path, 1 << 20), FakeClock(NOON))
    world.start_worker()
    world.loop.settle()
    world.deliver(20)
    yield world
    world.close()


def lose(world: World, what: str) -> None:
    """Let one call get no answer."""
    call = next(call for call in world.calls if call.what == what)
    world.calls.remove(call)
    call.lose()
    world.loop.settle()


def send(world: World, count: int = 1) -> None:
    for _ in range(count):
        world.send(world.workers[0], view=True)
    world.loop.settle()


def test_a_disk_that_does_not_answer_costs_no_memory(world: World) -> None:
    """What was forgotten is no longer accounted for, and its rows are dropped later."""
    (worker,) = world.workers
    send(world)
    lose(world, "record")
    world.deliver(10)
    worker.step("step", worker.reconciler.quick_step)
    world.loop.settle()
    world.deliver(10)
    worker.step("step", worker.copy)
    world.loop.settle()
    while not any(call.what == "delete" for call in world.calls):
        world.deliver(1)
    lose(world, "delete")
    world.deliver(20)
    assert worker.recorder.retained_bytes == 0
    assert any(file.rows for file in world.disk.model.files.values())
    worker.step("step", worker.copy)
    world.loop.settle()
    world.deliver(20)
    assert not any(file.rows for file in world.disk.model.files.values())


def test_nobody_waits_for_a_log_that_goes_to_the_disk_just_now(world: World) -> None:
    """A beacon that comes while its log is being put on the disk would wait until the next one comes."""
    world.clock.advance(-86400)
    send(world)
    world.clock.advance(86400)  # a log of yesterday: it fails, and the site is not away
    lose(world, "record")
    assert [call.what for call in world.calls] == ["write"]
    world.clock.advance(-86400)
    send(world)
    world.clock.advance(86400)
    world.deliver(20)
    assert {sent.outcome for sent in world.ledger} == {"ok"}


def test_beacons_that_come_while_the_disk_refuses_begin_another_log(world: World) -> None:
    """Numbers that may be on the disk are never used for anything else, and nobody is forgotten over it."""
    send(world)
    lose(world, "record")
    world.deliver(5)
    send(world)
    send(world)
    refused, *_ = [call for call in world.calls if call.what == "write"]
    send(world)
    world.calls.remove(refused)
    refused.lose()
    world.loop.settle()
    world.deliver(5)
    assert sorted(sent.outcome for sent in world.ledger) == ["ok", "ok", "ok", "unknown"]
    numbers = [seq for file in world.disk.model.files.values() for _, seq in file.rows]
    assert sorted(numbers) == [1, 1]


def test_a_stale_number_of_redis_is_not_believed(world: World) -> None:
    """A batch may be sent and answered while the numbers are being read; the older answer must not win."""
    (worker,) = world.workers
    send(world)
    world.deliver(1)
    worker.step("step", worker.copy)
    world.loop.settle()
    while not any(call.what == "durable" for call in world.calls):
        world.deliver(1)
    lose(world, "durable")
    while not any(call.what == "acked" for call in world.calls):
        world.deliver(1)
    reading = next(call for call in world.calls if call.what == "acked")
    world.calls.remove(reading)
    answer = reading.act()
    send(world)
    world.deliver(1)
    reading.answer.set_result(answer)
    world.loop.settle()
    (sender,) = worker.recorder.sites[SITE]
    assert sender.log.acked == 2
    assert not [call for call in world.calls if call.what == "record"]


def test_what_is_on_the_disk_too_is_sent_again_although_memory_had_no_room(world: World) -> None:
    """A batch that timed out was put on the disk, applied, dropped from memory, and then lost by Redis."""
    (worker,) = world.workers
    copy = world.redis[0].model.copied()
    send(world)
    lose(world, "record")
    world.deliver(10)
    worker.step("quick", worker.reconciler.quick_step)
    world.loop.settle()
    world.deliver(10)
    (sender,) = worker.recorder.sites[SITE]
    assert sender.log.forget_oldest() is not None
    world.redis[0].model = copy
    worker.step("step", worker.copy)
    world.loop.settle()
    world.deliver(30)
    assert world.redis[0].model.sites["portal"].days[NOON.date()].views == 1


def test_a_fault_of_our_own_is_no_outage_of_redis(world: World) -> None:
    """An operator who reads that Redis is away looks at Redis for hours, while a defect in Footfall loses nothing."""
    (worker,) = world.workers
    send(world)
    (call,) = [call for call in world.calls if call.what == "record"]
    world.calls.remove(call)
    call.answer.set_exception(AttributeError("a defect"))
    world.loop.settle()
    world.deliver(10)
    assert {sent.outcome for sent in world.ledger} == {"ok"}
    delivery = worker.recorder.sites[SITE]
    assert delivery.redis is UP
    assert worker.metrics.registry.get_sample_value("footfall_internal_faults_total") == 1
    worker.step("step", worker.copy)
    world.loop.settle()
    world.deliver(30)
    assert world.redis[0].model.sites[SITE].days[NOON.date()].views == 1


def test_a_batch_whose_answer_was_lost_is_rolled_up_although_it_is_not_sent_again(world: World) -> None:
    """Redis has it and the comparison finds that out; without a rollup Postgres would lack it for an hour."""
    (worker,) = world.workers
    worker.step("step", worker.copy)
    world.loop.settle()
    world.deliver(30)
    send(world)
    (call,) = [call for call in world.calls if call.what == "record"]
    world.calls.remove(call)
    call.arrive_unheard()
    call.answer.set_exception(AttributeError("a defect"))
    world.loop.settle()
    world.deliver(10)
    for _ in range(2):
        worker.step("step", worker.copy)
        world.loop.settle()
        world.deliver(30)
    (row,) = world.postgres.model.rows.values()
    assert row.views == 1


def test_a_beacon_whose_batch_postgres_has_is_answered_although_redis_answer_was_lost(world: World) -> None:
    """Its batch is forgotten then: without an answer the request waited for ever, and so did the end of the worker."""
    (worker,) = world.workers
    send(world)
    (call,) = [call for call in world.calls if call.what == "record"]
    world.calls.remove(call)
    call.arrive_unheard()
    world.start_worker()
    other = world.workers[1]
    world.loop.settle()
    world.deliver(20)
    world.send(other, view=True)
    world.loop.settle()
    world.deliver(20)
    for step in (other.copy, worker.reconciler.step):
        worker.step(step.__qualname__, step)
        world.loop.settle()
        world.deliver(30)
    (sender,) = worker.recorder.sites[SITE]
    assert sender.log.durable == 1
    call.lose()
    world.loop.settle()
    world.deliver(10)
    assert worker.recorder.queued == 0
    assert [sent.outcome for sent in world.ledger] == ["ok", "ok"]
