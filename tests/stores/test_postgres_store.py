"""What must last, against a real server: days, adjustments, events, and failures as one kind of error."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from footfall import sql_folder
from footfall.embedded.servers import POSTGRES_SOCKET, USER, Postgres
from footfall.errors import StoreBusy, StoreUnavailable
from footfall.model.day_state import DayState
from footfall.model.periods import week_of
from footfall.model.retention import SKETCHES_RETAINED, Retention
from footfall.model.site_id import SiteId
from footfall.model.snapshot import Snapshot
from footfall.stores.migrations import migrate
from footfall.stores.postgres_connection import COMMAND_TIMEOUT_S, LIMITS, WAIT, open_connections
from footfall.stores.postgres_store import PostgresStore, Saved, open_postgres
from tests.chaos.relay import Hold, open_relay, pass_request
from tests.support.footfall import SITE
from tests.support.postgres_programs import run_program
from tests.support.storage import DAY, LOG, MONDAY, OTHER_LOG, TODAY, Stores, open_stores, save_one

OTHER_SITE = SiteId("another")
RETENTION = Retention(
    today=TODAY,
    week=MONDAY,
    needed_from=MONDAY,
    closed_through=TODAY - DAY,
    salts_from=MONDAY,
    sketches_from=TODAY - SKETCHES_RETAINED,
)


@pytest.fixture
async def postgres(stores: Stores) -> AsyncIterator[PostgresStore]:
    """Postgres alone, migrated and empty."""
    async with open_postgres(stores.postgres_url) as store:
        yield store


async def save(store: PostgresStore, *days: DayState, site_id: SiteId = SITE) -> Saved:
    """Save a snapshot of a Redis that has these days and no others."""
    snapshot = Snapshot(days, changes={}, present=[state.day for state in days], salts={})
    return await save_one(store, site_id, snapshot, RETENTION)


@pytest.mark.parametrize(
    ("copy", "other", "covers"),
    [
        ('{"a": [2, 9]}', '{"a": [2, 9]}', True),
        ('{"a": [3, 9]}', '{"a": [2, 9]}', True),
        ('{"a": [1, 9]}', '{"a": [2, 9]}', False),
        ('{"a": [2, 9], "b": [1, 1]}', '{"a": [2, 9]}', True),
        ('{"b": [7, 1]}', '{"a": [1, 1]}', False),
        ("{}", "{}", True),
        (None, "{}", True),
        (None, '{"a": [1, 1]}', False),
        ('{"a": [9007199254740991, 1]}', '{"a": [9007199254740990, 1]}', True),
        ('{"a": [9, 1]}', '{"a": [10, 1]}', False),
    ],
)
async def test_a_copy_covers_another_if_no_log_of_it_is_behind(
    stores: Stores, copy: str | None, other: str, covers: bool
) -> None:
    """The guard of the merge: seqs are compared as numbers, and log by log."""
    assert await stores.sql.fetchval("SELECT footfall.covers($1::jsonb, $2::jsonb)", copy, other) is covers


async def test_sites_do_not_touch_each_other(postgres: PostgresStore) -> None:
    """Two portals may have the same day and, by accident, the same log id."""
    await save(postgres, DayState(TODAY, 5, None, {LOG: (1, 10)}))
    await save(postgres, DayState(TODAY, 7, None, {LOG: (9, 90)}), site_id=OTHER_SITE)
    assert await postgres.durable([(SITE, TODAY, LOG), (OTHER_SITE, TODAY, LOG)]) == [1, 9]
    assert [state.views for state in await postgres.days(SITE, [TODAY])] == [10]


async def test_closed_days_are_summed_up_to_their_day(postgres: PostgresStore) -> None:
    """The closed days are Postgres' part of the total; the open ones are Redis'."""
    saved = await save(
        postgres,
        DayState(TODAY - 9 * DAY, 100, None, {LOG: (1, 2**40)}),
        DayState(TODAY - DAY, 30, None, {LOG: (1, 5), OTHER_LOG: (1, 5)}),
        DayState(TODAY, 7, None, {LOG: (1, 1)}),
    )
    assert (saved.closed.visitors, saved.closed.views) == (130, 2**40 + 10)
    days, closed = await postgres.open_days(SITE, replace(RETENTION, needed_from=TODAY - DAY))
    assert [state.day for state in days] == [TODAY - DAY, TODAY]
    assert (closed.visitors, closed.views, closed.revision) == (130, 2**40 + 10, saved.closed.revision)
    assert closed.read_at_us > saved.closed.read_at_us


async def test_rows_of_days_that_redis_lost_come_back_as_ahead(postgres: PostgresStore) -> None:
    """Only the days that Redis needs: those of this week, and those that are not closed."""
    for day in (MONDAY - DAY, MONDAY, TODAY):
        await save(postgres, DayState(day, 1, None, {LOG: (1, 1)}))
    saved = await save(postgres, DayState(TODAY, 1, None, {LOG: (1, 1)}))
    assert [state.day for state in saved.ahead] == [MONDAY]


@pytest.mark.parametrize("is_changed", [True, False])
async def test_the_other_days_of_a_week_that_is_over_come_back_where_one_has_changed(
    stores: Stores, postgres: PostgresStore, is_changed: bool
) -> None:
    """The union in Redis may lack their visitors, and its set is not all of it; a day without a sketch has none."""
    saturday, sunday = MONDAY - 2 * DAY, MONDAY - DAY
    await stores.redis.pfadd("one", b"visitor")
    sketch = await stores.redis.get("one")
    for day in (MONDAY - 8 * DAY, saturday, MONDAY):
        await save(postgres, DayState(day, 1, sketch, {LOG: (1, 1)}))
    await save(postgres, DayState(saturday - DAY, 1, None, {LOG: (1, 1)}))
    changes = {sunday: "1"} if is_changed else {}
    week, late = week_of(sunday), DayState(sunday, 1, sketch, {LOG: (1, 1)})
    snapshot = Snapshot([late], changes, [sunday, MONDAY], {}, weeks={week: 1}, exact_weeks=[week])
    saved = await save_one(postgres, SITE, snapshot, RETENTION)
    assert [state.day for state in saved.ahead] == ([saturday] if is_changed else [])
    row = await stores.sql.fetchrow("SELECT visitors, exact FROM footfall.site_week WHERE week = $1", week)
    assert row is not None
    assert tuple(row) == (1, not is_changed)


async def test_an_adjustment_counts_once(postgres: PostgresStore) -> None:
    """The same id again changes nothing, and the operator is shown that; each new id changes the revision."""
    assert await postgres.adjust(SITE, "old-counter", 1_373_876, "old counter")
    revision = (await save(postgres)).closed.revision
    assert not await postgres.adjust(SITE, "old-counter", 999, "typed again")
    assert (await save(postgres)).closed.revision == revision
    assert await postgres.adjust(SITE, "correction", -500, "counted twice")
    closed = (await save(postgres)).closed
    assert closed.adjustments == 1_373_376
    assert closed.revision != revision
    assert [(row.id, row.amount) for row in await postgres.adjustments(SITE)] == [
        ("old-counter", 1_373_876),
        ("correction", -500),
    ]
    assert await postgres.adjustment_counts() == {SITE: 2}


async def test_the_same_adjustment_from_many_sessions_counts_once(postgres: PostgresStore) -> None:
    """An operator may run the same script on two hosts."""
    done = await asyncio.gather(*(postgres.adjust(SITE, "old-counter", 10, "old") for _ in range(6)))
    assert sorted(done) == [False] * 5 + [True]


async def test_the_same_kind_and_detail_is_one_event(stores: Stores, postgres: PostgresStore) -> None:
    """Every worker that finds a salt lost records it; the first one dates it."""
    for kind, detail in [("salt_lost", "2054-11-23"), ("salt_lost", "2054-11-30"), ("batches_lost", "2054-11-23")]:
        await postgres.record_event(SITE, kind, detail)
    first = await postgres.events(SITE)
    async with open_postgres(stores.postgres_url) as other:
        await asyncio.gather(
            *(store.record_event(SITE, "salt_lost", "2054-11-23") for store in (postgres, other) for _ in range(3))
        )
    await postgres.record_event(OTHER_SITE, "salt_lost", "2054-11-23")
    assert await postgres.events(SITE) == first
    assert [(event.kind, event.detail) for event in first] == [
        ("salt_lost", "2054-11-23"),
        ("salt_lost", "2054-11-30"),
        ("batches_lost", "2054-11-23"),
    ]
    assert [event.detail for event in await postgres.events(OTHER_SITE)] == ["2054-11-23"]
    now = await stores.sql.fetchval("SELECT now()")
    assert all(0 <= (now - event.at).total_seconds() < 600 for event in first)


async def test_an_event_changes_neither_adjustments_nor_the_revision(postgres: PostgresStore) -> None:
    """The journal holds corrections of the total only, and pages that cache by revision need not read again."""
    await postgres.adjust(SITE, "old-counter", 10, "old counter")
    before, journal = (await save(postgres)).closed, await postgres.adjustments(SITE)
    await postgres.record_event(SITE, "salt_lost", "2054-11-23")
    after = (await save(postgres)).closed
    assert (after.adjustments, after.revision) == (before.adjustments, before.revision)
    assert await postgres.adjustments(SITE) == journal
    assert await postgres.adjustment_counts() == {SITE: 1}


@asynccontextmanager
async def stopped_before_its_commit(postgres_url: str) -> AsyncIterator[asyncio.Task[Saved]]:
    """A worker that is stopped between its last write and its commit."""
    url = urlsplit(postgres_url)
    folder = Path(parse_qs(url.query)["host"][0])
    async with open_relay(folder / POSTGRES_SOCKET) as relay:
        relay.requests = hold = Hold(pass_request, b"COMMIT")
        relayed = f"postgresql://{USER}@127.0.0.1:{relay.port}{url.path}?sslmode=disable"
        async with open_postgres(relayed) as store:
            saving = asyncio.create_task(save(store, DayState(TODAY, 2, None, {LOG: (2, 2)})))
            await hold.reached.wait()
            yield saving
            hold.release()
            await asyncio.wait([saving])


async def test_a_stopped_process_holds_one_site_and_not_for_long(stores: Stores, postgres: PostgresStore) -> None:
    """It cannot release the rows that it holds: other workers must neither wait long for them nor give up."""
    await save(postgres, DayState(TODAY, 1, None, {LOG: (1, 1)}))
    newer = DayState(TODAY, 3, None, {LOG: (3, 3)})
    async with stopped_before_its_commit(stores.postgres_url) as stopped:
        began = time.monotonic()
        with pytest.raises(StoreBusy):
            await save(postgres, newer)
        await save(postgres, newer, site_id=OTHER_SITE)
        assert time.monotonic() - began < COMMAND_TIMEOUT_S
        while True:
            with suppress(StoreBusy):
                await save(postgres, newer)
                break
    with pytest.raises(StoreUnavailable):
        stopped.result()
    assert await postgres.durable([(SITE, TODAY, LOG)]) == [3]


async def test_the_limits_end_with_the_transaction(stores: Stores) -> None:
    """A pooler hands the session to other clients, which have limits of their own."""
    async with open_connections(stores.postgres_url, COMMAND_TIMEOUT_S) as connections:
        limits = "SELECT array_agg(name || '=' || setting ORDER BY name) FROM pg_settings WHERE name LIKE '%timeout'"
        before = await stores.sql.fetchval(limits)
        await save(PostgresStore(connections), DayState(TODAY, 1, None, {LOG: (1, 1)}))
        async with connections.connection() as connection:
            assert await connection.fetchval(limits) == before
            async with connection.transaction():
                await connection.execute(LIMITS, WAIT)
                assert len(set(await connection.fetchval(limits)) - set(before)) == 3


async def test_a_server_whose_data_may_be_older_is_another_incarnation(own_postgres: Postgres, tmp_path: Path) -> None:
    """A restart may be a failover or a base backup; a restored dump brings new tables, through a pooler too."""
    await migrate(own_postgres.url, sql_folder())
    async with open_postgres(own_postgres.url) as store:
        first = await store.incarnation()
        await save(store, DayState(TODAY, 1, None, {LOG: (1, 1)}))
        assert await store.incarnation() == first
        dump = tmp_path / "dump"
        await run_program(own_postgres.url, "pg_dump", "--format=custom", f"--file={dump}")
        await run_program(own_postgres.url, "pg_restore", "--clean", "--if-exists", str(dump))
        restored = await store.incarnation()
        assert restored != first
    await own_postgres.stop()
    await own_postgres.start()
    async with open_postgres(own_postgres.url) as store:
        assert await store.incarnation() not in (first, restored)


async def test_a_lost_connection_is_a_store_that_is_away(stores: Stores, postgres: PostgresStore) -> None:
    """Every failure on the way to Postgres is one kind of error; the next call opens a new connection."""
    await postgres.installation()
    await stores.sql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    results = await asyncio.gather(
        postgres.installation(), postgres.days(SITE, [TODAY]), postgres.durable([]), return_exceptions=True
    )
    assert {type(result) for result in results if isinstance(result, BaseException)} <= {StoreUnavailable}
    assert len(await postgres.installation()) == 32


async def test_a_call_to_a_server_that_hangs_is_given_up(redis_url: str, own_postgres: Postgres) -> None:
    """A stopped server refuses nothing and answers nothing, and the loops of a worker must continue."""
    async with open_stores(redis_url, own_postgres.url), open_postgres(own_postgres.url, timeout_s=0.5) as store:
        await store.installation()
        own_postgres.suspend()
        try:
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await store.days(SITE, [TODAY])
        finally:
            own_postgres.resume()
        assert await store.days(SITE, [TODAY]) == []
