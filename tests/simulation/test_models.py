"""The models of the simulation do what the scripts, the SQL and the files do: the same random calls, the same answers.

A simulation on models that are wrong would prove nothing. `FOOTFALL_SEED` repeats the calls of a failure.
"""

import os
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from footfall import sql_folder
from footfall.errors import Stop
from footfall.model.batch import Batch
from footfall.model.clocks import WALL_CLOCK
from footfall.model.day_state import Closed, DayState
from footfall.model.imported import ImportedDay
from footfall.model.pages import PageBase, PageDay, PageReading
from footfall.model.pages import packed as packed_pages
from footfall.model.peak import Peak
from footfall.model.periods import local_day, period_at, week_end, week_of
from footfall.model.retention import Retention
from footfall.model.salt import Salt
from footfall.model.snapshot import Snapshot
from footfall.model.sums import Sums, Tally
from footfall.stores.day_imports import DayImports, open_day_imports
from footfall.stores.migrations import migrate
from footfall.stores.postgres_store import open_postgres
from footfall.stores.redis_store import RedisStore, day_key, open_redis, ready_key
from footfall.stores.spool_store import Spool, open_spool
from tests.simulation.durable_models import DiskModel, PostgresModel, SpoolFile, is_imported
from tests.simulation.models import ALWAYS, VIEW_BYTES, Program, RedisModel, SiteModel, packed, unpacked
from tests.support.footfall import SITE, VIETNAM
from tests.support.storage import RawRedis, plain_redis, registers, save_one

CALLS = 400
CI_SEED = 20261130
"""CI plays the same calls each time; everyone else others."""
EXACT_UP_TO = 5
OWN = "ours"
LOGS = ("a1", "b2")
TODAY = local_day(time.time(), VIETNAM)
DAYS = (TODAY, TODAY - timedelta(days=1), TODAY - timedelta(days=9), TODAY - timedelta(days=10))
EARLIER = (TODAY - timedelta(days=20), TODAY - timedelta(days=40))
"""Days that are imported and never counted."""
PAGES = ("/", "/a", "/b", "(other)")
VIEWS = [number.to_bytes(8, "big") for number in range(3000)]
DAMAGED = ("ready", "online", "days", "dirty", "closed", "visitors", "logs", "ids", "pages")
WEEKS = sorted({week_of(day) for day in DAYS})
IDS = [secrets.token_bytes(16) for _ in range(8)]
"""So few that the estimate of each set of them is its size."""


@pytest.fixture
def chance() -> random.Random:
    """The choices of a test; its seed is printed if it fails."""
    seed = int(os.environ.get("FOOTFALL_SEED") or (CI_SEED if os.environ.get("CI") else secrets.randbits(32)))
    print(f"FOOTFALL_SEED={seed}")
    return random.Random(seed)


class Pair:
    """A Redis and its model, side by side; every call is made to both."""

    def __init__(self, redis: RawRedis, store: RedisStore, chance: random.Random) -> None:
        self.raw, self.store, self.chance = redis, store, chance
        ticks = iter(range(1, 1_000_000))
        program = Program(exact_up_to=EXACT_UP_TO)
        self.model = RedisModel(WALL_CLOCK, lambda: next(ticks), program)
        self.snapshots: list[tuple[Snapshot, Snapshot]] = []
        self.numbers: dict[tuple[date, str], int] = {}
        self.asked_pages: tuple[PageReading, PageReading] | None = None
        """An older reading, whose answer from Postgres comes late."""

    async def sketch(self, ids: Sequence[bytes]) -> bytes:
        """What Redis makes of these ids."""
        await self.raw.delete("scratch")
        await self.raw.pfadd("scratch", *ids)
        sketch: bytes = await self.raw.getdel("scratch")
        return sketch

    def some_ids(self) -> list[bytes]:
        return self.chance.sample(IDS, self.chance.randint(1, 4))

    async def record(self) -> None:
        day, log = self.chance.choice(DAYS), self.chance.choice(LOGS)
        known = self.numbers.get((day, log), 0)
        seq = max(1, known + self.chance.choice([-1, 0, 1, 1, 1, 1, 2, 3]))
        skip_gap = self.chance.random() < 0.2
        period, now_ms = period_at(time.time(), VIETNAM), int(time.time() * 1000)
        pages = packed_pages(dict.fromkeys(self.chance.sample(PAGES, self.chance.randint(0, 2)), seq))
        batch = Batch(SITE, day, log, seq, seq * 3, now_ms, packed(self.some_ids()), packed(self.some_ids()[:1]))
        views = self.chance.sample(VIEWS, self.chance.randint(0, 3))
        repeated, may_be_applied = b"".join(views[:1]), self.chance.random() < 0.3
        batch = batch._replace(
            pages=pages, view_ids=b"".join(views), repeated_ids=repeated, may_be_applied=may_be_applied
        )
        sent = (
            None
            if self.chance.random() < 0.1
            else batch._replace(previous_week_ids=b"" if self.chance.random() < 0.7 else batch.previous_week_ids)
        )
        real = await self.store.record(SITE, period, 300, sent, exact_up_to=EXACT_UP_TO, skip_gap=skip_gap)
        model = self.model.record(self.store.installation, SITE, period, 300, sent, skip_gap=skip_gap)
        if real.reading is not None and model.reading is not None:
            one, other = model.reading.peak, real.reading.peak
            assert (one and one.online) == (other and other.online)  # their moments differ by the calls
            model = model._replace(reading=model.reading._replace(at_ms=real.reading.at_ms, peak=other))
        assert list(model.pages.views) == list(real.pages.views)
        real = real._replace(seen_ids=packed(unpacked(real.seen_ids, VIEW_BYTES)))
        assert model._replace(pages=real.pages) == real
        if real.answer in ("ok", "dup"):
            self.numbers[day, log] = max(known, real.acked)

    async def snapshot(self) -> None:
        all_days = self.chance.random() < 0.5
        real = await self.store.snapshot(SITE, WEEKS, all_days=all_days)
        model = self.model.snapshot(self.store.installation, SITE, WEEKS, all_days=all_days)
        if real is None or model is None:
            assert real is model
            return
        assert (model.present, model.salts, model.changes.keys()) == (real.present, real.salts, real.changes.keys())
        assert model.weeks == real.weeks
        for one, other in zip(_by_day(model.days), _by_day(real.days), strict=True):
            assert replace(one, sketch=other.sketch, peak=other.peak) == other
            assert (one.peak and one.peak.online) == (other.peak and other.peak.online)
            assert registers(await self.sketch(list(unpacked(one.sketch or b"")))) == registers(other.sketch)
        pages = [
            sorted((page.day, page.page, page.logs, bool(page.changed)) for page in s.pages) for s in (model, real)
        ]
        assert pages[0] == pages[1]
        self.snapshots.append((real, model))

    async def confirm(self) -> None:
        if not self.snapshots:
            return
        real, model = self.chance.choice(self.snapshots[-4:])
        closed = self.closed()
        ends = {day: int(week_end(week_of(day), VIETNAM)) for day in real.present}
        if self.chance.random() < 0.8:
            await self.store.confirm_pages(SITE, real.pages)
            self.model.confirm_pages(self.store.installation, SITE, model.pages)
        await self.store.confirm(SITE, real.changes, closed, ends)
        self.model.confirm(self.store.installation, SITE, model.changes, closed, ends)

    async def read_and_remember_pages(self) -> None:
        period, pages = period_at(time.time(), VIETNAM), self.chance.sample(PAGES, 2)
        real = (await self.store.read_pages(SITE, period, 300, pages)).pages
        model = self.model.read_pages(self.store.installation, SITE, period, 300, pages).pages
        assert (list(model.views), model.through) == (list(real.views), real.through)
        asked = self.asked_pages or (real, model)
        self.asked_pages = (real, model) if self.chance.random() < 0.5 else None
        later = {
            day: {log: self.chance.randint(1, 9) for log in LOGS} for day in DAYS if day.isoformat() > real.through
        }
        bases = [PageBase(page, self.chance.randint(0, 9), later) for page in pages]
        real = await self.store.remember_pages(SITE, asked[0], bases)
        model = self.model.remember_pages(self.store.installation, SITE, asked[1], bases)
        assert (list(model.views), model.through) == (list(real.views), real.through)

    async def merge(self) -> None:
        if not self.store.installation:
            return  # a restore has asked Postgres first
        days = self.chance.sample(DAYS, self.chance.randint(0, 2))
        model, real = [], []
        for day in days:
            ids = self.some_ids()
            logs = {log: (number, number * 3) for log in LOGS if (number := self.chance.randint(0, 4))}
            sketch = await self.sketch(ids) if self.chance.random() < 0.9 else None
            state = DayState(day, len(ids), sketch, logs)
            if self.chance.random() < 0.7:
                state = replace(state, ids=packed(ids), exact=True)
            real.append(state)
            model.append(replace(state, sketch=sketch and packed(ids)))
        own = self.store.installation
        if self.chance.random() < 0.3:
            closed, salts = self.closed(), self.offers()
            is_open = await self.store.open(SITE, real, closed, salts)
            assert self.model.open(own, SITE, model, closed, salts) == is_open
        else:
            assert self.model.merge(own, SITE, model) == await self.store.merge(SITE, real)

    async def salts(self) -> None:
        offers = self.offers()
        real = await self.store.share_salts(SITE, offers)
        assert self.model.share_salts(self.store.installation, SITE, offers) == real

    def offers(self) -> list[Salt]:
        return [Salt(week_of(TODAY), self.chance.randbytes(32), int(time.time()) + 86400)]

    async def acked(self) -> None:
        asked = [(day, log) for day in DAYS for log in LOGS]
        assert self.model.acked(SITE, asked) == await self.store.acked(SITE, asked)

    async def day_ends(self) -> None:
        """A day expires: all of its keys go in the same moment."""
        day = self.chance.choice(DAYS)
        parts = ("visitors", "logs", "ids", "pages", "pages:dirty")
        await self.raw.delete(*(day_key(SITE, day, part) for part in parts))
        if SITE in self.model.sites:
            self.model.sites[SITE].days.pop(day, None)
            self.model.sites[SITE].day_ids.pop(day, None)

    async def damage_and_mend(self) -> None:
        """A key of another type, in place of any of a site's keys."""
        name, day = self.chance.choice(DAMAGED), date.min
        key = ready_key(SITE).removesuffix("ready") + name
        if self.store.installation != OWN or SITE not in self.model.sites:
            return
        if self.model.sites[SITE].ready not in ("", OWN):  # what is another installation's stays as it is
            assert await self.store.mend(SITE, TODAY) == self.model.mend(OWN, SITE, TODAY) == []
            return
        if name in ("visitors", "logs", "ids", "pages"):
            day = self.chance.choice(DAYS)
            key = day_key(SITE, day, name)
        if not await self.raw.exists(key):
            return
        await self.raw.delete(key)
        await self.raw.rpush(key, "another program's")
        self.model.damage(SITE, name, day)
        real = await self.store.mend(SITE, TODAY)
        model = self.model.mend(OWN, SITE, TODAY)
        assert bool(real) == bool(model)

    async def wipe(self) -> None:
        await self.raw.flushall()
        self.model.sites.clear()

    async def another_installation(self) -> None:
        self.store.installation = self.chance.choice([OWN, OWN, OWN, "theirs", ""])

    def closed(self) -> Closed:
        through = TODAY - timedelta(days=self.chance.choice([1, 2, 8, 9, 11]))
        of = through if self.chance.random() < 0.9 else TODAY - timedelta(days=5)  # as a former version leaves it
        tallies = [Tally(self.chance.randint(0, 9), self.chance.randint(0, 9)) for _ in range(6)]
        tallies[1:3] = [tally if self.chance.random() < 0.9 else Tally(None, 3) for tally in tallies[1:3]]
        peak = Peak(self.chance.randint(1, 12), int(time.time() * 1000) - 5000)
        return Closed(
            self.chance.randint(1, 50),
            through,
            self.chance.randint(0, 9),
            self.chance.randint(0, 9),
            5,
            "r-1",
            sums=Sums(of, *tallies),
            peak=peak if self.chance.random() < 0.5 else None,
            exact=self.chance.random() < 0.5,
        )

    async def compare_ends(self) -> None:
        """What has an end has the same one."""
        if held := self.model.sites.get(SITE):
            held.expire(time.time())
        for day in DAYS:
            kept = held.days.get(day) if held else None
            set_ends_s = await self.raw.expiretime(day_key(SITE, day, "ids"))
            if held and held.day_ids[day].ids:
                ids_end_s = held.day_ids[day].ends_s
                assert set_ends_s == -1 if ids_end_s == ALWAYS else abs(set_ends_s - ids_end_s) <= 1, day
            else:
                assert set_ends_s == -2, day
            has = {"visitors": True, "logs": bool(kept and kept.logs), "pages": bool(kept and kept.pages)}
            for part in (part for part, is_there in has.items() if is_there):
                ends_s = await self.raw.expiretime(day_key(SITE, day, part))
                if kept is None:
                    assert ends_s == -2
                elif kept.ends_s == ALWAYS:
                    assert ends_s == -1, (day, part)
                else:
                    assert abs(ends_s - kept.ends_s) <= 1, (day, part)

    async def compare_ends_of_weeks(self) -> None:
        """The same of the weeks."""
        held = self.model.sites.get(SITE) or SiteModel()
        for week in sorted({week_of(day) for day in DAYS}):
            ids = held.week_ids[week] if held.week_ids[week].ids else None
            for part, in_model in (("visitors", held.weeks.get(week)), ("ids", ids)):
                ends_s = await self.raw.expiretime(f"ff1:{{{SITE}}}:week:{week}:{part}")
                if in_model is None:
                    assert ends_s == -2, (week, part)
                elif in_model.ends_s == ALWAYS:
                    assert ends_s == -1, (week, part)
                else:
                    assert abs(ends_s - in_model.ends_s) <= 1, (week, part)


async def _import(model: PostgresModel, imports: DayImports, chance: random.Random) -> None:
    """Import some days in both, some of them again; both refuse what was counted live, and read it back as one."""
    days = []
    live = [day for (_, day), row in model.rows.items() if day in DAYS and not is_imported(row)]
    for day in chance.sample([*live, *EARLIER], 2):
        pages = dict.fromkeys(chance.sample(PAGES, 2), chance.randint(1, 9))
        days.append(ImportedDay(day, chance.randint(0, 9), sum(pages.values()), chance.random() < 0.5, pages))
    outcomes = []
    for write in (lambda: model.import_days(SITE, days), lambda: imports.write(SITE, "days", days)):
        try:
            if (writing := write()) is not None:
                await writing
        except Stop:
            outcomes.append("refused")
        else:
            outcomes.append("written")
    assert outcomes[0] == outcomes[1]
    assert model.first_counted_day(SITE) == await imports.first_counted_day(SITE)
    changed = [day for day in days if model.imported(SITE, day.day) != day]
    if outcomes[0] == "written":
        assert changed == await imports.changed(SITE, days) == []


def _by_day(states: Sequence[DayState]) -> list[DayState]:
    return sorted(states, key=lambda state: state.day)


async def test_the_model_of_redis_answers_as_the_scripts_do(redis_url: str, chance: random.Random) -> None:
    """Each script against its model: batches, gaps, merges, snapshots, confirmations, ends."""
    async with plain_redis(redis_url) as redis, open_redis(redis_url, 5.0) as store:
        store.installation = OWN
        pair = Pair(redis, store, chance)
        often = [pair.record] * 8 + [pair.snapshot, pair.confirm] * 2
        often += [pair.read_and_remember_pages] * 2
        often += [pair.merge, pair.acked, pair.salts, pair.day_ends, pair.damage_and_mend]
        seldom = [pair.wipe, pair.another_installation]
        for _ in range(CALLS):
            await chance.choice(seldom if chance.random() < 0.02 else often)()
            await pair.compare_ends()
            await pair.compare_ends_of_weeks()


async def test_the_model_of_postgres_answers_as_the_queries_do(
    redis_url: str, postgres_url: str, chance: random.Random
) -> None:
    """Rows that are overwritten, refused, returned; closed days; salts that were first."""
    await migrate(postgres_url, sql_folder())
    async with (
        plain_redis(redis_url) as redis,
        open_redis(redis_url, 5.0) as sketches,
        open_postgres(postgres_url) as store,
        open_day_imports(postgres_url) as imports,
    ):
        model = PostgresModel(lambda: int(time.time() * 1e6), await store.installation())
        pair = Pair(redis, sketches, chance)
        for _ in range(CALLS // 4):
            states = []
            for day in chance.sample(DAYS, chance.randint(0, 3)):
                ids = pair.some_ids()
                logs = {log: (number, number * 3) for log in LOGS if (number := chance.randint(0, 3))}
                peak = Peak(chance.randint(1, 5), chance.randint(1, 10**12)) if chance.random() < 0.5 else None
                state = DayState(day, len(ids), await pair.sketch(ids), logs, peak=peak)
                if chance.random() < 0.6:
                    state = replace(state, ids=packed(ids), exact=True)
                states.append(state)
            unions = {week_of(day): chance.randint(1, 99) for day in chance.sample(DAYS, chance.randint(0, 2))}
            salts = {week_of(chance.choice(DAYS)): chance.randbytes(32)}
            present = [*(state.day for state in states), *chance.sample(DAYS, 1)]
            touched = [(state.day, page) for state in states for page in chance.sample(PAGES, 2)]
            pages = [PageDay(day, page, {chance.choice(LOGS): chance.randint(0, 3)}) for day, page in touched]
            changes = {state.day: "1" for state in states if chance.random() < 0.5}
            exact_weeks = [week for week in unions if chance.random() < 0.5]
            snapshot = Snapshot(states, changes, present, salts, pages, unions, exact_weeks)
            retention = Retention(
                today=TODAY,
                week=week_of(TODAY),
                needed_from=chance.choice(DAYS),
                closed_through=chance.choice(DAYS),
                salts_from=week_of(chance.choice(DAYS)),
                sketches_from=DAYS[3] if chance.random() < 0.9 else DAYS[2],
            )
            correction = f"id-{chance.randint(1, 3)}"
            assert model.adjust(SITE, correction, 5) == await store.adjust(SITE, correction, 5, "a reason")
            assert model.adjustment_counts() == await store.adjustment_counts()
            model.record_event(SITE, "salt_lost", correction)
            await store.record_event(SITE, "salt_lost", correction)
            assert {(SITE, event.kind, event.detail) for event in await store.events(SITE)} == model.events
            await _import(model, imports, chance)
            real = await save_one(store, SITE, snapshot, retention)
            ahead = model.save(SITE, snapshot, retention)
            closed = model.tidy(SITE, snapshot, retention)
            assert _by_day(ahead) == _by_day(real.ahead)
            assert replace(closed, read_at_us=real.closed.read_at_us) == real.closed
            assert _by_day(model.days(SITE, DAYS)) == _by_day(await store.days(SITE, DAYS))
            assert model.open_days(SITE, retention)[0] == (await store.open_days(SITE, retention))[0]
            through = chance.choice(DAYS)
            assert model.pages.bases(SITE, through, PAGES) == await store.page_bases(SITE, through, PAGES)
            asked = [(SITE, day, log) for day in DAYS for log in (*LOGS, "c3")]
            assert model.durable(asked) == await store.durable(asked)
            weeks = sorted({week_of(day) for day in DAYS})
            assert model.salts(SITE, weeks) == await store.salts(SITE, weeks)


async def test_the_model_of_the_disk_answers_as_the_files_do(tmp_path: Path, chance: random.Random) -> None:
    """Rows that are written twice, read by the page, dropped, and taken over."""
    model = DiskModel(rows_max=10_000)
    for name in ("first", "second"):
        model.files[name] = SpoolFile()
        async with open_spool(tmp_path, name, 1 << 22) as spool:
            if name == "second":
                assert await spool.adopt() == model.adopt(name)
            for _ in range(60):
                await _use(spool, model, name, chance)
        model.close(name)


async def _use(spool: Spool, model: DiskModel, name: str, chance: random.Random) -> None:
    log, seq = chance.choice(LOGS), chance.randint(1, 12)
    match chance.randint(0, 3):
        case 0 | 1:
            pages = packed_pages({page: chance.randint(1, 9) for page in chance.sample(PAGES, chance.randint(0, 2))})
            rows = [Batch(SITE, TODAY, log, seq, seq * 3, 0, packed(IDS[:2]), b"", 2, pages)]
            await spool.write(rows)
            model.write(name, rows)
        case 2:
            assert await spool.read(log, seq, 3) == model.read(name, log, seq, 3)
        case 3:
            through = chance.randint(0, 3)
            await spool.delete(log, through)
            model.delete(name, log, through)
