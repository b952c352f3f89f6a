"""What must last, against a real server: numbers, the journal, and failures that come as one kind of error."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from footfall import sql_folder
from footfall.embedded.servers import POSTGRES_SOCKET, USER, Postgres
from footfall.errors import StoreBusy, StoreUnavailable
from footfall.model.day_state import DayState
from footfall.stores.migrations import migrate
from footfall.stores.postgres_store import LIMITS, PostgresStore, Saved, open_postgres
from tests.chaos.relay import Hold, open_relay, pass_request
from tests.support.footfall import SITE
from tests.support.postgres_programs import run_program
from tests.support.storage import DAY, LOG, MONDAY, OTHER_LOG, TODAY, Stores, open_stores

OTHER_SITE = "another"


@pytest.fixture
async def stores(redis_url: str, postgres_url: str) -> AsyncIterator[Stores]:
    """Both stores, migrated and empty."""
    async with open_stores(redis_url, postgres_url) as stores:
        yield stores


@pytest.fixture
async def postgres(stores: Stores) -> AsyncIterator[PostgresStore]:
    """The store alone."""
    async with open_postgres(stores.postgres_url) as store:
        yield store


async def save(store: PostgresStore, *days: DayState, site: str = SITE) -> Saved:
    return await store.save(
        site,
        days,
        {},
        present=[state.day for state in days],
        needed_from=MONDAY,
        closed_through=TODAY - DAY,
        salts_from=MONDAY,
        sketches_from=TODAY - timedelta(days=35),
    )


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
    """The guard of the join: numbers are compared as numbers, and log by log."""
    assert await stores.sql.fetchval("SELECT footfall.covers($1::jsonb, $2::jsonb)", copy, other) is covers


async def test_sites_do_not_touch_each_other(postgres: PostgresStore) -> None:
    """Same day, same log id by accident, another portal."""
    await save(postgres, DayState(TODAY, 5, None, {LOG: (1, 10)}))
    await save(postgres, DayState(TODAY, 7, None, {LOG: (9, 90)}), site=OTHER_SITE)
    assert await postgres.durable([(SITE, TODAY, LOG), (OTHER_SITE, TODAY, LOG)]) == [1, 9]
    assert [state.views for state in await postgres.days(SITE, [TODAY])] == [10]


async def test_closed_days_are_summed_up_to_their_day(postgres: PostgresStore) -> None:
    """The total's part that lives in Postgres; today is in Redis."""
    saved = await save(
        postgres,
        DayState(TODAY - 9 * DAY, 100, None, {LOG: (1, 2**40)}),
        DayState(TODAY - DAY, 30, None, {LOG: (1, 5), OTHER_LOG: (1, 5)}),
        DayState(TODAY, 7, None, {LOG: (1, 1)}),
    )
    assert (saved.closed.visitors, saved.closed.views) == (130, 2**40 + 10)
    days, closed = await postgres.open_days(SITE, TODAY - DAY, TODAY - DAY)
    assert [state.day for state in days] == [TODAY - DAY, TODAY]
    assert (closed.visitors, closed.views, closed.revision) == (130, 2**40 + 10, saved.closed.revision)
    assert closed.read_at_us > saved.closed.read_at_us


async def test_rows_of_days_that_redis_lost_come_back_as_ahead(postgres: PostgresStore) -> None:
    """Only those that Redis needs: this week's, and what is not closed."""
    for day in (MONDAY - DAY, MONDAY, TODAY):
        await save(postgres, DayState(day, 1, None, {LOG: (1, 1)}))
    saved = await save(postgres, DayState(TODAY, 1, None, {LOG: (1, 1)}))
    assert [state.day for state in saved.ahead] == [MONDAY]


async def test_an_adjustment_counts_once(postgres: PostgresStore) -> None:
    """The same id again changes nothing and says so; each one changes the revision."""
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


async def test_adjusting_at_the_same_time_counts_once(postgres: PostgresStore) -> None:
    """A script that is run on two hosts."""
    done = await asyncio.gather(*(postgres.adjust(SITE, "old-counter", 10, "old") for _ in range(6)))
    assert sorted(done) == [False] * 5 + [True]


@asynccontextmanager
async def standing_still(postgres_url: str) -> AsyncIterator[asyncio.Task[Saved]]:
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


async def test_who_stands_still_holds_one_site_and_that_not_for_long(stores: Stores, postgres: PostgresStore) -> None:
    """A stopped process does not know that it holds anything: the others must neither wait for it nor give up."""
    await save(postgres, DayState(TODAY, 1, None, {LOG: (1, 1)}))
    newer = DayState(TODAY, 3, None, {LOG: (3, 3)})
    async with standing_still(stores.postgres_url) as stopped:
        began = time.monotonic()
        with pytest.raises(StoreBusy):
            await save(postgres, newer)
        await save(postgres, newer, site=OTHER_SITE)
        assert time.monotonic() - began < 3
        while True:
            with suppress(StoreBusy):
                await save(postgres, newer)
                break
        assert time.monotonic() - began < 10
    with pytest.raises(StoreUnavailable):
        stopped.result()
    assert await postgres.durable([(SITE, TODAY, LOG)]) == [3]


async def test_the_limits_end_with_the_transaction(stores: Stores) -> None:
    """A pooler hands the session to others, who have limits of their own."""
    async with open_postgres(stores.postgres_url) as store:
        limits = "SELECT array_agg(name || '=' || setting ORDER BY name) FROM pg_settings WHERE name LIKE '%timeout'"
        before = await stores.sql.fetchval(limits)
        await save(store, DayState(TODAY, 1, None, {LOG: (1, 1)}))
        async with store._pool.acquire() as connection:  # noqa: SLF001
            assert await connection.fetchval(limits) == before
            async with connection.transaction():
                await connection.execute(LIMITS)
                assert len(set(await connection.fetchval(limits)) - set(before)) == 3


async def test_another_incarnation_is_one_whose_data_may_have_gone_back(own_postgres: Postgres, tmp_path: Path) -> None:
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
    """One kind of error for all that may happen between here and there; the next call connects anew."""
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


async def test_a_server_that_hangs_is_given_up(redis_url: str, own_postgres: Postgres) -> None:
    """Stopped, not dead: nothing is refused and nothing answered, and the loops of a worker must go on."""
    async with open_stores(redis_url, own_postgres.url), open_postgres(own_postgres.url, timeout_s=0.5) as store:
        await store.installation()
        own_postgres.suspend()
        started = time.monotonic()
        try:
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await store.days(SITE, [TODAY])
        finally:
            own_postgres.resume()
        assert time.monotonic() - started < 10
        assert await store.days(SITE, [TODAY]) == []
