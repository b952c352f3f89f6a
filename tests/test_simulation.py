"""The protocol against everything that can go wrong, in any order: two workers, models of the stores, a ledger.

The workers run the service's own code (recorder, reconciler, rollup, board, salts); `simulated.py` decides what
becomes of each of their calls. Hypothesis chooses what happens next: calls are delivered, lost on the way or on the
way back, doubled or late; Redis is wiped, goes back to an older copy, or splits in two; Postgres goes away or comes
back from an old dump; workers die; days pass. After every step the ledger is compared with what the stores hold.

A failure prints the shortest way to it that was found, and a seed: `FOOTFALL_SEED=<seed> make test
ARGS=tests/test_simulation.py` takes the same ways again. Without the variable every run takes new ones.
Finding the shortest way takes minutes; FOOTFALL_SHRINK=no leaves it out.
"""

import os
import secrets
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from service.periods import start_of
from tests.footfall import FakeClock
from tests.models import unpacked
from tests.simulated import Sent, Server, Worker, World, settings_of

RUNS, STEPS = 220, 100
ROUNDS = 6
"""Rollups of each worker, after the last fault, within which everything has to be even again."""
ROOMY, TIGHT = 1 << 26, 2500
DAY_S = 86400
ANY = st.integers(0, 30)


class Footfall(RuleBasedStateMachine):
    """What may happen (`rule`), and what must hold whatever happens (`invariant`)."""

    folder = Path()
    steps_done: list[int]

    @initialize(keep_max_bytes=st.sampled_from([ROOMY, ROOMY, TIGHT]), rows_max=st.sampled_from([1000, 1000, 6]))
    def begin(self, keep_max_bytes: int, rows_max: int) -> None:
        """Two workers on empty stores, a quarter of an hour before midnight."""
        self.world = World(settings_of(self.folder, keep_max_bytes), FakeClock())
        self.world.disk.rows_max = rows_max
        self.world.clock.set(self.world.clock_at(hours=23, minutes=45))
        self.redis_lost_data = False
        self.copies: list[Server] = []
        self.shown: dict[Worker, tuple[object, dict[str, int]]] = {}
        for _ in range(2):
            self.world.start_worker()
        self.world.loop.settle()
        self.world.deliver(50)

    # What pages and workers do.

    @rule(which=ANY, view=st.booleans(), burst=st.integers(1, 3))
    def beacons(self, which: int, view: bool, burst: int) -> None:
        for _ in range(burst):
            self.world.send(self.worker(which), view=view)
        self.world.loop.settle()

    @rule(which=ANY, burst=st.integers(1, 3))
    def served(self, which: int, burst: int) -> None:
        self.beacons(which, True, burst)
        self.world.deliver(6)

    @rule(count=st.integers(1, 12))
    def deliver(self, count: int) -> None:
        self.world.deliver(count)

    @rule(pick=ANY)
    def deliver_any(self, pick: int) -> None:
        if self.world.calls:
            self.world.calls.pop(pick % len(self.world.calls)).arrive()
            self.world.loop.settle()

    @rule(which=ANY)
    def reconcile(self, which: int) -> None:
        worker = self.worker(which)
        worker.step("step", worker.reconciler.step)
        self.world.loop.settle()

    @rule(which=ANY)
    def reconcile_at_once(self, which: int) -> None:
        self.reconcile(which)
        self.world.deliver(30)

    @rule(which=ANY)
    def probe(self, which: int) -> None:
        worker = self.worker(which)
        worker.step("quick", worker.reconciler.quick_step)
        self.world.loop.settle()
        self.world.deliver(2)

    # What the network does.

    @rule(pick=ANY)
    def lose_request(self, pick: int) -> None:
        if call := self.pick(pick):
            call.lose()
            self.world.loop.settle()

    @rule(pick=ANY)
    def lose_answer(self, pick: int) -> None:
        if call := self.pick(pick):
            call.arrive_unheard()
            call.lose()
            self.world.loop.settle()

    @rule(pick=ANY)
    def delay(self, pick: int) -> None:
        if call := self.pick(pick):
            self.world.late.append(call)
            call.lose()
            self.world.loop.settle()

    @rule(pick=ANY)
    def arrive_late(self, pick: int) -> None:
        if self.world.late:
            self.world.late.pop(pick % len(self.world.late)).arrive_unheard()

    @rule(pick=ANY)
    def double(self, pick: int) -> None:
        """What arrived and was answered arrives again: at once, or whenever `arrive_late` comes."""
        if call := self.pick(pick):
            call.arrive()
            self.world.late.append(call)
            self.world.loop.settle()

    # What happens to the stores.

    @rule(which=ANY)
    def redis_stops_or_starts(self, which: int) -> None:
        server = self.world.redis[which % len(self.world.redis)]
        server.up = not server.up

    @rule()
    def redis_is_copied(self) -> None:
        self.copies = [Server(self.world.redis[0].model.copied()), *self.copies[:2]]

    @precondition(lambda self: self.copies)
    @rule(which=ANY, age=ANY)
    def redis_goes_back(self, which: int, age: int) -> None:
        server = self.world.redis[which % len(self.world.redis)]
        server.model = self.copies[age % len(self.copies)].model.copied()
        self.redis_lost_data = True
        self.lost_data()

    @rule(which=ANY)
    def redis_is_emptied(self, which: int) -> None:
        self.world.redis[which % len(self.world.redis)].model.sites.clear()
        self.redis_lost_data = True
        self.lost_data()

    @precondition(lambda self: self.copies and len(self.world.redis) == 1)
    @rule(age=ANY, current=st.booleans())
    def redis_splits(self, age: int, current: bool) -> None:
        """A replica is promoted while the old primary goes on; half of the workers see the one, half the other."""
        copy = self.world.redis[0] if current else self.copies[age % len(self.copies)]
        self.world.redis.append(Server(copy.model.copied()))
        self.world.workers[-1].redis = self.world.redis[-1]

    @precondition(lambda self: len(self.world.redis) == 2)
    @rule(survivor=st.integers(0, 1))
    def redis_split_ends(self, survivor: int) -> None:
        dies = self.world.redis.pop(1 - survivor)
        dies.up = False
        for worker in self.world.workers:
            worker.redis = self.world.redis[0]
        self.redis_lost_data = True
        self.lost_data()

    @rule()
    def postgres_stops_or_starts(self) -> None:
        self.world.postgres.up = not self.world.postgres.up

    @rule()
    def postgres_is_dumped(self) -> None:
        self.dump = dict(self.world.postgres.model.rows)

    @precondition(lambda self: hasattr(self, "dump"))
    @rule()
    def postgres_is_restored(self) -> None:
        """From the dump; whoever was connected notices, as it was stopped for that."""
        self.world.postgres.model.rows = dict(self.dump)
        self.world.postgres_was_restored = True
        self.lost_data()

    @rule()
    def disk_fails_or_recovers(self) -> None:
        self.world.disk_server.up = not self.world.disk_server.up

    # What happens to workers and to time.

    @rule(which=ANY)
    def kill(self, which: int) -> None:
        worker = self.worker(which)
        self.world.end_worker(worker)
        self.lost_data()
        self.world.start_worker(worker.redis)
        self.world.loop.settle()

    @rule(which=ANY, patience=st.integers(0, 40))
    def stop(self, which: int, patience: int) -> None:
        """Gracefully, unless the patience of whoever stops it ends before."""
        worker = self.worker(which)
        worker.run(worker.close())
        self.world.loop.settle()
        self.world.deliver(patience)
        self.kill(which)

    @rule(seconds=st.sampled_from([0.001, 1, 10, 60, 300, 3600]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @precondition(lambda self: self.world.clock.monotonic() < 25 * DAY_S)  # later, sketches are dropped on purpose
    @rule(days=st.sampled_from([1, 1, 1, 3, 8]))
    def days_pass(self, days: int) -> None:
        self.world.clock.advance(days * DAY_S)
        self.lost_data()

    # What must hold.

    @invariant()
    def promises(self) -> None:
        """After every step."""
        self.steps_done[0] += 1
        self.no_step_fails()
        self.nothing_counts_twice()
        self.nothing_acked_is_lost()
        self.numbers_never_fall()

    def nothing_counts_twice(self) -> None:
        possible: dict[object, int] = {}
        for sent in self.world.ledger:
            if sent.view and sent.outcome != "refused":
                possible[sent.day] = possible.get(sent.day, 0) + 1
        for name, views in self.views():
            for day, number in views.items():
                assert number <= possible.get(day, 0), f"{name} has {number} views of {day}"

    def nothing_acked_is_lost(self) -> None:
        held = self.held()
        for sent in self.world.ledger:
            if sent.outcome == "ok" and not sent.excused and sent.id not in held:
                # A batch may be dropped for room after Redis has lost it, before its worker knows.
                sent.excused = self.redis_lost_data and sent.worker.forgot()
                assert sent.excused, f"{sent} is nowhere"

    def numbers_never_fall(self) -> None:
        for worker in self.world.workers:
            counts = worker.board.shown(self.world.site).counts
            if counts.day_of is None or counts.week is None:
                continue
            assert counts.week >= counts.today >= 0
            assert counts.total >= counts.today
            now = (
                {"total": counts.total},
                {(counts.week_of, "week"): counts.week},
                {(counts.day_of, "today"): counts.today, (counts.day_of, "views"): counts.views_today},
            )
            for numbers in now:
                for name, number in numbers.items():
                    known = self.shown.setdefault(worker, {})
                    assert number >= known.get(name, 0), f"{name} fell from {known[name]} to {number}"
                    known[name] = number

    def no_step_fails(self) -> None:
        for worker in self.world.workers:
            assert not worker.errors, worker.errors

    def teardown(self) -> None:
        """End the faults: then a few rollups bring the ledger and both stores together."""
        if not hasattr(self, "world"):
            return
        try:
            self.recover()
            self.check_equality()
        finally:
            self.world.close()

    def recover(self) -> None:
        world = self.world
        if len(world.redis) == 2:
            self.redis_split_ends(0)
        for server in (world.redis[0], world.postgres, world.disk_server):
            server.up = True
        world.disk.rows_max = 10_000
        while world.late:
            world.late.pop().arrive_unheard()
        for after_s in (0, 10, 10, 3600, 10, 10):
            world.clock.advance(after_s)
            self.lost_data()
            for worker in world.workers:
                self.finish(worker)
            self.promises()

    def finish(self, worker: Worker) -> None:
        for name, step in (("quick", worker.reconciler.quick_step), ("step", worker.reconciler.step)):
            worker.step(name, step)
            self.world.loop.settle()
            self.world.deliver(3000)
            assert not self.world.calls, "it never comes to an end"
            worker.step(name, step)
            self.world.loop.settle()
            self.world.deliver(3000)

    def check_equality(self) -> None:
        world = self.world
        site = world.redis[0].model.sites["portal"]
        rows = {day: row for (_, day), row in world.postgres.model.rows.items()}
        for day, kept in site.days.items():
            assert dict(rows[day].logs) == kept.logs, f"the logs of {day} differ"
            assert unpacked(rows[day].sketch or b"") == kept.visitors, f"the sketches of {day} differ"
        assert not site.dirty
        for worker in world.workers:
            for writers in worker.recorder.sites.values():
                assert writers.away_since_s is None
                assert worker.recorder.queued == writers.queued == 0
                for writer in writers:
                    assert writer.log.durable == writer.log.written, "a log is stuck"
            assert worker.recorder.kept_bytes == 0
        assert not [file for file in world.disk.files.values() if file.rows], "the disk keeps what Postgres has"
        for day in {sent.day for sent in world.ledger}:
            self.check_day(day, [sent for sent in world.ledger if sent.day == day], rows)

    def check_day(self, day, ledger: list[Sent], rows) -> None:
        row = rows.get(day)
        views, ids = (row.views, unpacked(row.sketch or b"")) if row else (0, set())
        assert not [sent for sent in ledger if sent.outcome == "waiting"], "a beacon never got its answer"
        certain = {sent.id for sent in ledger if sent.outcome == "ok" and not sent.excused}
        possible = {sent.id for sent in ledger if sent.outcome != "refused"}
        assert certain <= ids <= possible
        at_least = sum(sent.view for sent in ledger if sent.id in certain)
        at_most = sum(sent.view for sent in ledger if sent.id in possible)
        assert at_least <= views <= at_most, f"{views} views of {day}, not {at_least} to {at_most}"

    # Looking around.

    def worker(self, which: int) -> Worker:
        return self.world.workers[which % len(self.world.workers)]

    def pick(self, pick: int):
        """A call on the network: the disk either answers or refuses."""
        remote = [call for call in self.world.calls if call.store != "spool"]
        if not remote:
            return None
        call = remote[pick % len(remote)]
        self.world.calls.remove(call)
        return call

    def views(self):
        for number, server in enumerate(self.world.redis):
            for site in server.model.sites.values():
                yield f"Redis {number}", {day: kept.views for day, kept in site.days.items()}
        yield "Postgres", {day: row.views for (_, day), row in self.world.postgres.model.rows.items()}

    def held(self) -> set[bytes]:
        held = unpacked(b"".join(worker.held_ids() for worker in self.world.workers))
        for server in self.world.redis:
            for site in server.model.sites.values():
                site.expire(self.world.clock())
                held = held.union(*(kept.visitors for kept in site.days.values()))
        held |= unpacked(b"".join(row.sketch or b"" for row in self.world.postgres.model.rows.values()))
        rows = [batch.visitors for file in self.world.disk.files.values() for batch in file.rows.values()]
        return held | unpacked(b"".join(rows))

    def lost_data(self) -> None:
        """Excuse what is nowhere any more, where that is not promised: its worker is gone, or had no room."""
        held = self.held()
        for sent in self.world.ledger:
            if sent.outcome == "ok" and not sent.excused and sent.id not in held:
                legitimate = not sent.worker.alive or sent.worker.forgot() or self.world.postgres_was_restored
                assert legitimate, f"{sent} is lost although its worker lives"
                sent.excused = True


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whatever_happens_every_beacon_counts_once(tmp_path: Path) -> None:
    """Counting once is a promise about all faults in all orders; nobody can list these."""
    number = int(os.environ.get("FOOTFALL_SEED") or secrets.randbits(32))
    steps = [0]
    machine = type("Footfall", (Footfall,), {"folder": tmp_path, "steps_done": steps})
    try:
        run_state_machine_as_test(
            seed(number)(machine),
            settings=settings(
                max_examples=RUNS,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=[Phase.generate]
                if os.environ.get("FOOTFALL_SHRINK") == "no"
                else [Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except BaseException:
        print(f"FOOTFALL_SEED={number}")
        raise
    assert steps[0] >= 20_000


start_of  # noqa: B018
