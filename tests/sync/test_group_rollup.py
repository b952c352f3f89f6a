"""The rollup of many sites at once, between real stores: one transaction, and no site that holds up another."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import date

import pytest

from footfall.errors import StoreBusy, StoreDamaged, StoreRefused, StoreUnavailable
from footfall.model.pages import packed
from footfall.model.site_id import SiteId
from footfall.model.snapshot import Snapshot, Turn
from footfall.stores.redis_connection import open_calls
from footfall.stores.redis_store import RedisStore, day_key
from footfall.stores.store_pair import StorePair
from footfall.sync.repairs import Repairs
from footfall.sync.rollup import FAILURES_MAX, Rollup
from tests.support.storage import TIMEOUT_S, TODAY, Stores, Worker, batch, period_of

SITES = [SiteId(f"site{number:02}") for number in range(30)]
BAD = SITES[17]


@pytest.fixture
async def many(stores: Stores) -> Worker:
    """A worker with thirty sites that are ready and have nothing to copy."""
    worker = await stores.worker(sites=SITES)
    await worker.rollup.step()
    return worker


async def visit(worker: Worker, seq: int = 1, sites: Sequence[SiteId] = SITES) -> None:
    """One visitor on a page of each site."""
    for site_id in sites:
        counted = batch(seq, [seq])._replace(site_id=site_id, pages=packed({"/": seq}))
        await worker.redis.record(site_id, period_of(TODAY), 300, counted)
        worker.changed.note(site_id)


async def copied(stores: Stores, seq: int = 1) -> set[str]:
    """The sites of which Postgres has the batch, with its page."""
    rows = await stores.sql.fetch(
        "SELECT site FROM footfall.site_day JOIN footfall.page_day USING (site, day)"
        " WHERE (site_day.logs #>> '{aaaaaaaaaaaaaaaa,0}')::int = $1 AND page_day.views = $1",
        seq,
    )
    return {row["site"] for row in rows}


async def test_the_days_and_pages_of_many_sites_are_saved_by_one_transaction(stores: Stores, many: Worker) -> None:
    """A transaction of its own for each site costs most of the time; a day and its pages never part."""
    await visit(many)
    assert len(await many.rollup.step()) == len(SITES)
    written_by = await stores.sql.fetch(
        "SELECT DISTINCT xmin::text FROM footfall.site_day UNION SELECT DISTINCT xmin::text FROM footfall.page_day"
    )
    assert (len(written_by), await copied(stores)) == (1, set(SITES))
    assert await many.rollup.step() == []


async def test_a_site_that_postgres_refuses_falls_out_of_its_group(stores: Stores, many: Worker) -> None:
    """A guard that raises ends the whole transaction; the others have one without the bad site, in the same step."""
    await stores.sql.execute(f"ALTER TABLE footfall.site_day ADD CONSTRAINT bad CHECK (site <> '{BAD}')")
    await visit(many)
    await many.rollup.step()
    assert await copied(stores) == set(SITES) - {BAD}
    assert isinstance(many.rollup.failures.errors.pop(BAD), StoreRefused)
    assert not many.rollup.failures.errors


async def test_a_sketch_that_redis_cannot_read_is_the_matter_of_its_site(stores: Stores, many: Worker) -> None:
    """The others are copied in the same step; the bad site is mended, and copied in the next ones."""
    await visit(many)
    await stores.redis.set(day_key(BAD, TODAY, "visitors"), b"no sketch")
    await many.rollup.step()
    assert await copied(stores) == set(SITES) - {BAD}
    assert isinstance(many.rollup.failures.errors[BAD], StoreDamaged)


@pytest.mark.parametrize("table", ["site_day", "page_day", "page_total"])
async def test_a_row_that_another_session_holds_is_the_matter_of_its_site(
    stores: Stores, many: Worker, table: str
) -> None:
    """A process that stopped in its transaction holds it for seconds, or for days."""
    await visit(many)
    await many.rollup.step()
    await visit(many, 2)
    async with stores.sql.transaction():
        await stores.sql.execute(f"SELECT FROM footfall.{table} WHERE site = $1 FOR UPDATE", BAD)
        await many.rollup.step()
        assert await copied(stores, 2) == set(SITES) - {BAD}
        assert isinstance(many.rollup.failures.errors[BAD], StoreBusy)
    await many.rollup.step()
    assert await copied(stores, 2) == set(SITES)


async def test_a_redis_that_lost_days_of_some_sites_gets_them_back_in_the_same_step(
    stores: Stores, many: Worker
) -> None:
    """Those sites are merged and looked at again; the others are done already."""
    await visit(many)
    await many.rollup.step()
    lost = SITES[3:9]
    for site_id in lost:
        await stores.redis.delete(*[day_key(site_id, TODAY, part) for part in ("visitors", "ids", "logs", "pages")])
        await stores.redis.srem(f"ff1:{{{site_id}}}:days", str(TODAY))
    for site_id in SITES:
        many.changed.note(site_id)
    done = await many.rollup.step()
    assert {one.site_id for one in done if one.merged_back} == set(lost)
    assert len(done) == len(SITES)


class TwoServers(RedisStore):
    """Of two servers the one that has every other site may be dead."""

    is_dead = True

    def server_of(self, site_id: SiteId) -> str:
        """By the site's number."""
        return "mortal" if int(site_id[-2:]) % 2 else "other"

    async def snapshot(
        self, site_id: SiteId, weeks: Sequence[date], *, all_days: bool, turn: Turn | None = None
    ) -> Snapshot | None:
        """Answer for the sites of the server that lives."""
        if self.is_dead and self.server_of(site_id) == "mortal":
            raise StoreUnavailable("redis", "no answer within 1 s")
        return await super().snapshot(site_id, weeks, all_days=all_days, turn=turn)


@pytest.fixture
async def of_two_servers(stores: Stores, many: Worker) -> AsyncIterator[tuple[TwoServers, Rollup, Repairs]]:
    """A rollup that has found one of two servers dead."""
    async with open_calls(stores.redis_url, TIMEOUT_S) as calls:
        pair = StorePair(redis := TwoServers(calls), many.postgres)
        repairs = Repairs.between(pair, many.metrics, many.clock)
        sites = [replace(many.site, id=site_id) for site_id in SITES]
        rollup = Rollup(sites, pair, repairs, many.metrics, many.clock)
        await rollup.step()
        assert rollup.failures.errors.keys() == set(SITES[1::2])
        yield redis, rollup, repairs


async def test_a_dead_server_of_many_costs_its_own_sites_alone(
    stores: Stores, many: Worker, of_two_servers: tuple[TwoServers, Rollup, Repairs]
) -> None:
    """Each of its failures takes the whole deadline: counted over all servers they ended the step for every site."""
    _, rollup, repairs = of_two_servers
    for seq in (1, 2, 3):
        await visit(many, seq)
        repairs.changed.note_all(SITES)
        failed = many.metric("footfall_rollup_errors_total")
        await rollup.step()
        assert await copied(stores, seq) == set(SITES[::2])
        assert many.metric("footfall_rollup_errors_total") - failed == FAILURES_MAX


async def test_all_sites_of_a_server_that_is_back_follow_the_first_one(
    stores: Stores, many: Worker, of_two_servers: tuple[TwoServers, Rollup, Repairs]
) -> None:
    """A transaction for each of them took 48 s for 438 portals after a failover of two seconds."""
    redis, rollup, repairs = of_two_servers
    await visit(many)
    repairs.changed.note_all(SITES)
    await rollup.step()
    redis.is_dead = False
    groups = many.metric("footfall_rollup_seconds_count")
    await rollup.step()
    assert await copied(stores) == set(SITES)
    assert not rollup.failures.errors
    assert many.metric("footfall_rollup_seconds_count") - groups == len([1, 2, 4, 8])


async def test_a_site_that_keeps_failing_holds_up_none_of_those_that_are_well_again(
    stores: Stores, many: Worker, of_two_servers: tuple[TwoServers, Rollup, Repairs]
) -> None:
    """After it the next one is tried alone again: a group is as large as the last ones were well."""
    redis, rollup, repairs = of_two_servers
    await stores.sql.execute(f"ALTER TABLE footfall.site_day ADD CONSTRAINT bad CHECK (site <> '{BAD}')")
    await visit(many)
    repairs.changed.note_all(SITES)
    redis.is_dead = False
    await rollup.step()
    assert await copied(stores) == set(SITES) - {BAD}
    assert rollup.failures.errors.keys() == {BAD}


async def test_of_a_server_that_is_back_one_worker_copies_the_sites_for_all(stores: Stores, many: Worker) -> None:
    """Four workers looked at all days of a thousand portals at once, which held up each of them."""
    async with open_calls(stores.redis_url, TIMEOUT_S) as calls:
        pair = StorePair(redis := TwoServers(calls), many.postgres)
        sites = [replace(many.site, id=site_id) for site_id in SITES]
        first, second = [
            Rollup(sites, pair, Repairs.between(pair, many.metrics, many.clock), many.metrics, many.clock, every_s)
            for every_s in (0.0, 3600.0)  # the second leaves to others what they have looked at
        ]
        await visit(many)
        for rollup in (first, second):
            await rollup.step(is_last=True)
            assert rollup.failures.errors.keys() == set(SITES[1::2])
        redis.is_dead = False
        await first.step()
        assert await copied(stores) == set(SITES)
        assert await second.step() == []
        assert not second.failures.errors
