"""The protocol against everything that can go wrong, in any order: two workers, models of the stores, a ledger.

The workers run the service's own code (recorder, reconciler, rollup, folding, salts); `simulated.py` decides what
becomes of each of their calls. Hypothesis chooses what happens next: calls are delivered, lost on the way or on the
way back, doubled or late; Redis is wiped, goes back to an older copy, or splits in two; Postgres goes away or comes
back from an old dump; workers die; days pass and fold into months; operators move pages, and import numbers and days.
After every step the ledger is compared with what the stores hold.

A failure prints the shortest way to it that was found, and a seed; FOOTFALL_SEED=<seed> make test ARGS=tests/simulation
takes the same ways again. Without the variable every run takes new ones, except in CI.
Finding the shortest way takes minutes; FOOTFALL_SHRINK=no leaves it out. FOOTFALL_RUNS=10000 searches for half an hour.
FOOTFALL_FAULTS=lose_answer,kill chooses among these alone and what is usual: what takes two faults is found sooner.
"""

import copy
import os
import secrets
from dataclasses import dataclass, replace
from datetime import date
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

from footfall.errors import StoreUnavailable
from footfall.model.day_state import DayState
from footfall.model.imported import ImportedDay
from footfall.model.periods import local_day, week_of
from footfall.model.retention import DAY, Retention
from footfall.model.site_id import SiteId
from tests.simulation.day_imports import Heard
from tests.simulation.durable_models import PostgresModel
from tests.simulation.models import ALWAYS
from tests.simulation.page_models import PagesModel
from tests.simulation.ports import Call, Server
from tests.simulation.promises import Promises
from tests.simulation.simulated import NAMES, PageJournal, Worker, World, settings_of
from tests.support.footfall import NOON, FakeClock

RUNS, STEPS = 300, 100
CI_SEED = 20261123
"""CI takes the same ways each time, so that a red build is about the change; everybody else takes new ones."""
ROOMY, TIGHT = 1 << 26, 2500
"""Bytes of batches that a worker may keep: all of them, or hardly five."""
ENOUGH, SCARCE = 1000, 6
"""Batches for which a worker's disk has room."""
ALL, FEW = 4096, 4
"""Visitors of a day whose ids are kept: more than come, or fewer."""
DAY_S = 86400
REPEATED_S = 60
"""So long a page sends a view again."""
SKETCHES_LAST_S = 25 * DAY_S
"""Later, sketches in Postgres are dropped on purpose."""
QUIET_DAYS = 8
"""After so many the first day is of a month that is over, and older than pages are kept by day."""
ANY = st.integers(0, 30)
USUAL = {"beacons", "served_beacons", "quiet_minute", "reconcile", "probe", "deliver", "deliver_any", "time_passes"}
"""The rules of a good day; the others are faults, and what operators do."""


@dataclass(frozen=True)
class Dump:
    """What Postgres had, and what operators had done until then."""

    rows: dict[tuple[str, date], DayState]
    pages: PagesModel
    journal: PageJournal
    day_journal: list[tuple[SiteId, date]]
    imported: dict[date, ImportedDay]


class Footfall(RuleBasedStateMachine):
    """Everything that may happen to two workers and their stores."""

    folder: Path
    steps_done: list[int]

    @initialize(
        keep_max_bytes=st.sampled_from([ROOMY, ROOMY, TIGHT]),
        rows_max=st.sampled_from([ENOUGH, ENOUGH, SCARCE]),
        exact_up_to=st.sampled_from([ALL, ALL, FEW, 0]),
        neighbours=st.sampled_from([0, 0, 2]),
    )
    def begin(self, keep_max_bytes: int, rows_max: int, exact_up_to: int, neighbours: int) -> None:
        """Empty stores, a quarter of an hour before midnight."""
        clock = FakeClock(NOON.replace(hour=23, minute=45))
        self.started_s = clock()
        self.world = World(settings_of(self.folder, keep_max_bytes, exact_up_to, neighbours), clock)
        self.world.disk.model.rows_max = rows_max
        self.promises = Promises(self.world)
        self.has_folded = False
        self.copies: list[Server] = []
        self.dumps: list[Dump] = []
        for _ in range(2):
            self.world.start_worker()
        self.world.loop.settle()
        self.world.deliver(50)

    @invariant()
    def promises_hold(self) -> None:
        self.steps_done[0] += 1
        self.has_folded |= bool(self.world.postgres.model.pages.months)
        self.promises.check()

    def teardown(self) -> None:
        """Bring everything together."""
        if not hasattr(self, "promises"):
            return
        try:
            if len(self.world.redis) == 2:
                self.redis_split_ends(0)
            self.promises.recover()
        finally:
            self.world.close()

    # What pages and workers do.

    @rule(which=ANY, view=st.booleans(), burst=st.integers(1, 3))
    def beacons(self, which: int, view: bool, burst: int) -> None:
        for _ in range(burst):
            self.world.send(self.worker(which), view=view)
        self.world.loop.settle()

    @rule(which=ANY, batches=st.integers(1, 5))
    def served_beacons(self, which: int, batches: int) -> None:
        for _ in range(batches):
            self.world.send(self.worker(which), view=True)
            self.world.loop.settle()
            self.world.deliver(4)

    @rule(which=ANY, age=st.integers(0, 4), served=st.booleans())
    def page_sends_again(self, which: int, age: int, served: bool) -> None:
        """It heard no answer to a view of the last minute, whatever became of it."""
        now_s, today = self.world.clock(), local_day(self.world.clock(), self.world.site.zone)
        views = [
            sent
            for sent in self.world.ledger[-10:]
            if sent.view and sent.day == today and 0 <= now_s - sent.sent_s <= REPEATED_S
        ]
        if views:
            self.world.send_again(self.worker(which), views[-1 - age % len(views)])
            self.world.loop.settle()
            self.world.deliver(4 if served else 0)

    @rule(batches=st.integers(1, 3), rolled_up=st.booleans())
    def quiet_minute(self, batches: int, rolled_up: bool) -> None:
        """Nothing special: beacons at both workers, which then do what they do all the time."""
        for which in range(2):
            self.served_beacons(which, batches)
            self.probe(which)
            if rolled_up:
                self.reconcile(which, served=True)

    @rule(which=ANY, served=st.booleans())
    def reconcile(self, which: int, served: bool) -> None:
        worker = self.worker(which)
        worker.step("step", worker.copy)
        self.world.loop.settle()
        if served:
            self.world.deliver(30)

    @rule(which=ANY, after=st.sampled_from(["snapshot", "save", "tidy", "confirm_pages"]), killed=st.booleans())
    def rollup_is_cut(self, which: int, after: str, killed: bool) -> None:
        """A view is counted, and its copy ends after a call: no more answers come, or the worker is killed."""
        worker = self.worker(which)
        self.served_beacons(which, 1)
        worker.step("step", worker.copy)
        self.world.loop.settle()
        self.world.deliver_until(worker, after)
        self.promises.check()
        if killed:
            self.kill(which)
            return
        for call in [call for call in self.world.calls if call.worker is worker and call.store != "spool"]:
            self.world.calls.remove(call)
            call.lose()
        self.world.loop.settle()

    @rule(which=ANY)
    def probe(self, which: int) -> None:
        worker = self.worker(which)
        worker.step("quick", worker.reconciler.quick_step)
        self.world.loop.settle()
        self.world.deliver(2)

    # What the network does.

    @rule(count=st.integers(1, 12))
    def deliver(self, count: int) -> None:
        self.world.deliver(count)

    @rule(pick=ANY)
    def deliver_any(self, pick: int) -> None:
        if self.world.calls:
            self.world.calls.pop(pick % len(self.world.calls)).arrive()
            self.world.loop.settle()

    @rule(pick=ANY)
    def lose_request(self, pick: int) -> None:
        if call := self.pick(pick):
            self.world.disturb()
            call.lose()
            self.world.loop.settle()

    @rule(pick=ANY)
    def lose_answer(self, pick: int) -> None:
        if call := self.pick(pick):
            self.world.disturb()
            call.arrive_unheard()
            call.lose()
            self.world.loop.settle()

    @rule(pick=ANY)
    def delay(self, pick: int) -> None:
        if call := self.pick(pick):
            self.world.disturb()
            self.world.late.append(call)
            call.lose()
            self.world.loop.settle()

    @rule(pick=ANY)
    def double(self, pick: int) -> None:
        """What arrived and was answered will arrive once more."""
        if call := self.pick(pick):
            self.world.late.append(call)
            call.arrive()
            self.world.loop.settle()

    @rule(pick=ANY, writes=st.integers(0, 12))
    def fails_within(self, pick: int, writes: int) -> None:
        """Redis takes back nothing of a script that ends with an error half way."""
        call, site_id = self.pick(pick), self.world.site.id
        if call is None:
            return
        self.world.disturb()
        self.promises.may_estimate()
        sites = call.worker.redis.model.sites
        if site_id in sites:
            sites[site_id].writes_left = writes
        call.arrive()
        for server in self.world.redis:
            for site in server.model.sites.values():
                site.writes_left = ALWAYS
        self.world.loop.settle()

    @rule(at_most=st.integers(1, 8))
    def arrive_late(self, at_most: int) -> None:
        """Those last that were given up first."""
        while self.world.late and at_most:
            self.world.late.pop().arrive_unheard()
            at_most -= 1

    # What happens to the stores.

    @rule(which=ANY)
    def redis_stops_or_starts(self, which: int) -> None:
        self.world.disturb()
        server = self.redis(which)
        server.up = not server.up

    @rule()
    def redis_is_copied(self) -> None:
        self.copies = [Server(self.world.redis[0].model.copied()), *self.copies[:2]]

    @precondition(lambda self: self.copies)
    @rule(which=ANY, age=ANY)
    def redis_goes_back(self, which: int, age: int) -> None:
        self.world.disturb()
        self.redis(which).model = self.copies[age % len(self.copies)].model.copied()
        self.promises.redis_lost_data()

    @rule(which=ANY)
    def redis_is_emptied(self, which: int) -> None:
        self.world.disturb()
        self.redis(which).model.empty()
        self.promises.redis_lost_data()

    @rule(which=ANY, name=st.sampled_from(["ready", "online", "days", "dirty", "closed"]))
    def key_is_damaged(self, which: int, name: str) -> None:
        """What these keys hold can be made again from the others and from Postgres: nothing counts as lost."""
        self.world.disturb()
        self.redis(which).model.damage(self.world.site.id, name)

    @rule(which=ANY, name=st.sampled_from(["visitors", "logs", "ids", "pages"]), age=ANY)
    def day_is_damaged(self, which: int, name: str, age: int) -> None:
        """A key of another type in its place, or a sketch lost beside its logs: a part of what Redis has is lost."""
        self.world.disturb()
        model = self.redis(which).model
        days = sorted(model.sites[self.world.site.id].days) if self.world.site.id in model.sites else []
        if days:
            day = days[-1 - age % len(days)]
            model.damage(self.world.site.id, name, day)
            self.promises.may_estimate()
            if name != "ids":
                self.promises.logs_lost(day)

    @precondition(lambda self: self.copies and len(self.world.redis) == 1)
    @rule(age=ANY, lags=st.booleans())
    def redis_splits(self, age: int, lags: bool) -> None:
        """A replica is promoted while the old primary goes on; half of the workers see the one, half the other."""
        self.world.disturb()
        promoted = self.copies[age % len(self.copies)] if lags else self.world.redis[0]
        if lags:
            self.promises.redis_lags()
        self.world.redis.append(Server(promoted.model.copied()))
        self.world.workers[-1].redis = self.world.redis[-1]

    @precondition(lambda self: len(self.world.redis) == 2)
    @rule(survivor=st.integers(0, 1))
    def redis_split_ends(self, survivor: int) -> None:
        self.world.disturb()
        self.world.redis.pop(1 - survivor).up = False
        for worker in self.world.workers:
            worker.redis = self.world.redis[0]
        self.promises.redis_lost_data()

    @rule()
    def postgres_stops_or_starts(self) -> None:
        self.world.postgres.up = not self.world.postgres.up

    @rule()
    def rows_are_held_or_let_go(self) -> None:
        """A worker stands still in its transaction, until the server ends it."""
        self.world.postgres.model.held ^= {self.world.site.id}

    @precondition(lambda self: self.world.neighbours)
    @rule(which=ANY, of=ANY, served=st.booleans())
    def neighbours_fail_or_recover(self, which: int, of: int, served: bool) -> None:
        """Views of the sites that are rolled up with the portal; a guard refuses one, or its rows are held."""
        self.world.send_to_neighbours(self.worker(which))
        self.world.loop.settle()
        if served:
            self.world.deliver(8)
        model = self.world.postgres.model
        site_id = self.world.neighbours[of % len(self.world.neighbours)].id
        if of % 3 == 0:
            model.refused ^= {site_id}
        elif of % 3 == 1:
            model.held ^= {site_id}

    @precondition(lambda self: self.dumps)
    @rule(age=ANY)
    def postgres_is_restored_from_before(self, age: int) -> None:
        """A dump that an older version made has no ids."""
        dump = self.dumps[age % len(self.dumps)]
        dump.rows.update({key: replace(row, ids=None, exact=False) for key, row in dump.rows.items()})
        dump.imported.update({day: replace(said, exact=False) for day, said in dump.imported.items()})
        self.promises.may_estimate()
        self.postgres_is_restored(age)

    @precondition(lambda self: self.copies)
    @rule(age=ANY)
    def copy_is_from_before(self, age: int) -> None:
        """Of Redis: an older version made it."""
        for site in self.copies[age % len(self.copies)].model.sites.values():
            site.forget_sets()
        self.promises.may_estimate()

    @rule()
    def postgres_is_dumped(self) -> None:
        model = self.world.postgres.model
        journal = copy.deepcopy(self.world.journal)
        imported = dict(self.world.imports.days)
        dump = Dump(dict(model.rows), model.pages.copied(), journal, list(model.day_journal), imported)
        self.dumps = [dump, *self.dumps[:1]]

    @precondition(lambda self: self.dumps)
    @rule(age=ANY)
    def postgres_is_restored(self, age: int) -> None:
        dump, model = self.dumps[age % len(self.dumps)], self.world.postgres.model
        model.rows, model.pages, self.world.journal = dict(dump.rows), dump.pages.copied(), copy.deepcopy(dump.journal)
        model.day_journal, self.world.imports.days = list(dump.day_journal), dict(dump.imported)
        model.restarts += 1
        self.promises.postgres_lost_data()

    @precondition(lambda self: self.world.postgres.up)
    @rule(old=st.sampled_from(NAMES), new=st.sampled_from(NAMES))
    def page_is_moved(self, old: str, new: str) -> None:
        """An operator shows a page as another one: `footfall pages --move`."""
        self.world.journal.move(old, new)
        model: PostgresModel = self.world.postgres.model
        shown_as = self.world.journal.shown_as(new)
        assert model.pages.move(self.world.site.id, old, new) == model.pages.total(self.world.site.id, shown_as)
        self.promises.pages_lag()  # views that come under the old name are shown once Redis asks again

    @precondition(lambda self: self.world.postgres.up)
    @rule(name=st.sampled_from("ab"), views=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9)))
    def pages_are_imported(self, name: str, views: dict[str, int]) -> None:
        """Starting numbers, for the first time or corrected: `footfall import pages`."""
        self.world.journal.starting[name] = views
        self.world.postgres.model.pages.import_views(self.world.site.id, name, views)
        self.forget_pages()

    @precondition(lambda self: self.world.postgres.up and self.world.site.id not in self.world.postgres.model.held)
    @rule(
        which=ANY,
        ages=st.sets(st.integers(-3, 9), min_size=1, max_size=3),
        visitors=st.integers(0, 5),
        pages=st.dictionaries(st.sampled_from(NAMES), st.integers(1, 5)),
        heard=st.sampled_from([Heard.ALL, Heard.ALL, Heard.NO_ANSWER, Heard.NOTHING]),
    )
    def days_are_imported(self, which: int, ages: set[int], visitors: int, pages: dict[str, int], heard: Heard) -> None:
        """Days of before, for the first time, again or corrected, and some that were counted live."""
        self.reconcile(which, served=True)  # as the command does: a day that Redis alone has was counted live as well
        first, site = local_day(self.started_s, self.world.site.zone), self.world.site
        counted_since = self.world.postgres.model.first_counted_day(site.id) or date.max
        days = [
            ImportedDay(day, visitors + age % 2, sum(pages.values()), age % 2 == 0, pages)
            for age in sorted(ages)
            if (day := first - age * DAY) < first or day >= counted_since
        ]
        closed_through = Retention.at(self.world.clock(), site.zone).closed_through
        self.world.imports.run(self.world.postgres.model, site, days, closed_through, heard)
        self.forget_pages()

    def forget_pages(self) -> None:
        """Redis is asked to read pages again; where it does not hear of it, it shows what it remembers."""
        if not self.world.redis[0].up or len(self.world.redis) == 2:
            self.promises.pages_lag()
            return
        try:
            self.world.redis[0].model.forget_pages("", self.world.site.id)
        except StoreUnavailable:
            self.promises.pages_lag()

    @rule()
    def disk_fails_or_recovers(self) -> None:
        self.world.disturb()
        self.world.disk.up = not self.world.disk.up

    # What happens to workers and to time.

    @rule(which=ANY)
    def kill(self, which: int) -> None:
        self.replace_worker(which, older=self.worker(which).program.older)

    @rule(which=ANY)
    def program_changes(self, which: int) -> None:
        """An upgrade, host by host, or back: an older worker runs beside a newer one."""
        self.promises.may_estimate()
        self.replace_worker(which, older=not self.worker(which).program.older)

    def replace_worker(self, which: int, *, older: bool) -> None:
        worker = self.worker(which)
        self.world.end_worker(worker)
        self.world.start_worker(worker.redis, older=older)
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
        if seconds >= REPEATED_S:
            self.world.disturb()
        self.world.clock.advance(seconds)

    @precondition(lambda self: self.world.clock() < self.started_s + SKETCHES_LAST_S)
    @rule(days=st.sampled_from([1, 1, 1, 3, 8]))
    def days_pass(self, days: int) -> None:
        self.world.disturb()
        self.world.clock.advance(days * DAY_S)

    @precondition(lambda self: self.world.clock() < self.started_s + SKETCHES_LAST_S - QUIET_DAYS * DAY_S)
    @rule()
    def quiet_days_pass(self) -> None:
        """Each with its rollups: days close, leave Redis and fold into their month; what is late finds them there."""
        self.world.disturb()
        for _ in range(QUIET_DAYS):
            self.world.clock.advance(DAY_S)
            self.promises.check()
            for which in range(2):
                self.reconcile(which, served=True)

    @rule(hours=st.sampled_from([1, 7, 30, 3 * 24, 9 * 24]))
    def clocks_are_corrected(self, hours: int) -> None:
        """All clocks were ahead: what was done by them stays done, and the calendar goes back."""
        self.world.disturb()
        # Days fold sooner here than after 31 days, and no clock is corrected by so much.
        if self.world.clock() - hours * 3600 >= self.started_s and not self.has_folded:
            ahead = local_day(self.world.clock(), self.world.site.zone)
            self.world.clock.set_back(hours * 3600)
            if week_of(ahead) != week_of(local_day(self.world.clock(), self.world.site.zone)):
                self.promises.may_estimate()  # the ids of the week that was taken for the last one may have ended
            self.promises.clocks_were_ahead()

    def worker(self, which: int) -> Worker:
        return self.world.workers[which % len(self.world.workers)]

    def redis(self, which: int) -> Server:
        return self.world.redis[which % len(self.world.redis)]

    def pick(self, pick: int) -> Call | None:
        """Take a call from the network, every other time a batch; the disk either answers or refuses."""
        remote = [call for call in self.world.calls if call.store != "spool"]
        if pick % 2:
            remote = [call for call in remote if call.what == "record"] or remote
        if not remote:
            return None
        call = remote[pick % len(remote)]
        self.world.calls.remove(call)
        return call


def machine_of(faults: str) -> type[Footfall]:
    """Choose only usual rules and `faults`, names with commas between; without names choose all."""
    rules = {rule.function.__name__: rule.function for rule in Footfall.setup_state().rules}
    chosen = set(faults.split(",")) if faults else rules.keys()
    assert chosen | USUAL <= rules.keys(), f"there is no rule {', '.join(chosen - rules.keys())}"
    # The function of a rule is none itself; other rules may call it.
    return type("Footfall", (Footfall,), {name: rules[name] for name in rules.keys() - USUAL - chosen})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whatever_happens_every_beacon_counts_once(tmp_path: Path) -> None:
    """Counting once is a promise about all faults in all orders; nobody can list these."""
    chosen = os.environ.get("FOOTFALL_SEED") or (CI_SEED if os.environ.get("CI") else secrets.randbits(32))
    number = int(chosen)
    quickly = os.environ.get("FOOTFALL_SHRINK") == "no"
    steps = [0]
    machine = machine_of(os.environ.get("FOOTFALL_FAULTS", ""))
    machine.folder, machine.steps_done = tmp_path, steps
    print(f"FOOTFALL_SEED={number}")
    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=int(os.environ.get("FOOTFALL_RUNS") or RUNS),
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=[Phase.generate] if quickly else [Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert steps[0] >= 20_000
