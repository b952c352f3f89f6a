"""A real access log, page by page, while a worker, Valkey and PostgreSQL are killed: no page loses or gains a view."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from footfall.embedded.servers import Postgres, Valkey
from footfall.ingest.pages import normalise_page
from footfall.settings.settings import Site
from tests.replay.access_log import View, open_log
from tests.replay.test_replay import REAL_LOG
from tests.support.footfall import HOST, ORIGIN, SITE
from tests.support.process import Process, production, ready, start, until

CONNECTIONS = 16
PORTAL = Site(id=SITE, name="Portal", hosts=(HOST,))


@dataclass
class Ledger:
    """What became of the views of each page."""

    counted: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    """Counted once or not at all: their worker was killed before it could say."""

    def differences(self, pages: dict[str, int]) -> dict[str, int]:
        """Return by how much each page is off; an unanswered view explains one."""
        off: dict[str, int] = {}
        for page in self.counted.keys() | self.unanswered.keys() | pages.keys():
            more = pages.get(page, 0) - self.counted[page]
            off[page] = more if more < 0 else max(0, more - self.unanswered[page])
        return off


async def send(session: aiohttp.ClientSession, url: str, view: View, ledger: Ledger) -> None:
    """Send one view until it is answered; what was refused with 503 counted zero times."""
    page = normalise_page(view.page, PORTAL)
    assert page is not None
    headers = {"Origin": ORIGIN, "X-Forwarded-For": view.address, "User-Agent": view.user_agent or "-"}
    for _ in range(600):
        try:
            body = json.dumps({"site": SITE, "page": view.page})
            async with session.post(f"{url}/seen", data=body, headers=headers) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            ledger.unanswered[page] += 1
            return
        if answer.status in (200, 202):
            if "Footfall-Ignored" not in answer.headers:
                ledger.counted[page] += 1
            return
        assert answer.status == 503, answer.status
        await asyncio.sleep(0.1)
    raise AssertionError("refused for a minute")


async def send_all(
    url: str, views: Sequence[View], kills: Mapping[int, Callable[[], Coroutine[None, None, None]]], ledger: Ledger
) -> None:
    """Send all views over several connections; a fault comes once so many views were taken."""
    waiting: Iterator[tuple[int, View]] = iter(enumerate(views))
    faults: set[asyncio.Task[None]] = set()

    async def send_some() -> None:
        for number, view in waiting:
            if number in kills:
                faults.add(asyncio.create_task(kills[number]()))
            await send(session, url, view, ledger)

    timeout = aiohttp.ClientTimeout(total=30)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session, asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(send_some())
    await asyncio.gather(*faults)


@pytest.fixture
def sql(own_postgres: Postgres) -> Callable[[], Awaitable[dict[str, int]]]:
    """Read the views of each page from PostgreSQL, which may just be starting."""

    async def pages() -> dict[str, int]:
        connection = await asyncpg.connect(own_postgres.url)
        try:
            async with connection.transaction(isolation="repeatable_read"):  # a rollup may end between the two
                rows = await connection.fetch("SELECT page, views FROM footfall.page_total")
                totals = {row["page"]: row["views"] for row in rows}
                rows = await connection.fetch(
                    "SELECT page, sum(views)::bigint AS views FROM footfall.page_day GROUP BY page"
                )
                days = {row["page"]: row["views"] for row in rows}
            assert totals == days, "the totals are not the sums of the days"
            return totals
        finally:
            await connection.close()

    return pages


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not REAL_LOG.exists(), reason=f"there is no access log at {REAL_LOG}")
async def test_every_page_of_a_real_log_has_exactly_its_counted_views(
    own_folder: Path,
    own_valkey: Valkey,
    own_postgres: Postgres,
    sql: Callable[[], Awaitable[dict[str, int]]],
) -> None:
    """Through kill -9 of a worker, of Valkey and of PostgreSQL in the middle; the pages add up to the site's views."""
    views, ledger = open_log(REAL_LOG).views, Ledger()
    environ = await production(own_folder / "footfall", own_valkey.url, own_postgres.url)
    async with start("serve", "--workers", "2", environ=environ | {"FOOTFALL_ROLLUP_EVERY_S": "5"}) as footfall:
        url, _ = await ready(footfall)
        kills = {
            len(views) // 5: lambda: kill_a_worker(footfall),
            2 * len(views) // 5: lambda: kill_and_start(own_valkey),
            4 * len(views) // 5: lambda: kill_and_start(own_postgres),
        }
        await send_all(url, views, kills, ledger)

        async def all_copied() -> bool:
            return sum((await sql()).values()) >= ledger.counted.total()

        await until(all_copied)
        assert await footfall.stop() == 0
    pages, off = await sql(), ledger.differences(await sql())
    largest = max(map(abs, off.values()))
    unanswered = ledger.unanswered.total()
    print(f"pages {len(pages)}, views {ledger.counted.total()}, unanswered {unanswered}, largest difference {largest}")
    assert largest == 0, {page: by for page, by in off.items() if by}
    assert ledger.counted.total() > 1000 < sum(pages.values())
    assert sum(pages.values()) == await views_of_site(own_postgres)
    assert "(other)" not in pages


async def kill_a_worker(footfall: Process) -> None:
    """End the oldest worker as the kernel would."""
    footfall.workers[0].send_signal(signal.SIGKILL)


async def kill_and_start(server: Valkey | Postgres) -> None:
    """Kill a server, and start it again on its data after a moment."""
    server.kill()
    await asyncio.sleep(0.5)
    await server.start()


async def views_of_site(postgres: Postgres) -> int:
    """Return all views of the site."""
    connection = await asyncpg.connect(postgres.url)
    try:
        return int(await connection.fetchval("SELECT sum(views) FROM footfall.site_day"))
    finally:
        await connection.close()
