"""The model of Postgres' pages against the real tables and functions, with the same random calls."""

import random
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from footfall import sql_folder
from footfall.model.pages import PageDay
from footfall.model.periods import local_day
from footfall.model.retention import Retention
from footfall.model.snapshot import SiteCopy, Snapshot
from footfall.stores.migrations import migrate
from footfall.stores.page_journal import open_page_journal
from footfall.stores.postgres_store import open_postgres
from tests.simulation.page_models import PagesModel
from tests.simulation.simulated import PageJournal
from tests.simulation.test_models import CALLS
from tests.support.footfall import SITE, VIETNAM

TODAY = local_day(time.time(), VIETNAM)
OLD = date(2020, 1, 30)
DAYS = [OLD, OLD + timedelta(days=1), OLD + timedelta(days=2), TODAY - timedelta(days=1), TODAY]
PAGES = ["/a", "/b", "/c", "/new"]
LOGS = ["x", "y"]


@pytest.fixture
def chance() -> random.Random:
    """The same calls each time."""
    return random.Random(14)


async def test_the_model_of_pages_answers_as_the_functions_do(postgres_url: str, chance: random.Random) -> None:
    """Copies that come late, twice and after their day was folded; moves there and back; imports that are corrected."""
    await migrate(postgres_url, sql_folder())
    model = PagesModel(lambda: int(datetime.now(UTC).timestamp() * 1e6))
    retention = Retention.at(time.time(), VIETNAM)
    seen, journal = Counter[str](), PageJournal()
    async with open_postgres(postgres_url) as store, open_page_journal(postgres_url) as pages:
        for _ in range(CALLS // 2):
            call = chance.choice(["save", "save", "save", "fold", "move", "import"])
            seen[call] += 1
            if call == "save":
                some = chance.sample([(day, page) for day in DAYS for page in PAGES], chance.randint(1, 4))
                copies = [PageDay(day, page, {chance.choice(LOGS): chance.randint(0, 9)}) for day, page in some]
                await store.save([SiteCopy(SITE, Snapshot([], {}, [], {}, copies, {}), retention)])
                model.save(SITE, copies)
            elif call == "fold":
                before, at_most = chance.choice([date(2020, 2, 10), date(2020, 4, 1), TODAY]), chance.randint(1, 3)
                assert await store.fold_pages(SITE, before, at_most) == model.fold(SITE, before, at_most)
            elif call == "move":
                old, new = chance.choice(PAGES), chance.choice(PAGES)
                assert await pages.move(SITE, old, new) == model.move(SITE, old, new)
                journal.move(old, new)
            else:
                name = chance.choice("ij")
                views = {page: chance.randint(0, 9) for page in chance.sample(PAGES, chance.randint(0, 3))}
                await pages.import_views(SITE, name, views, progress=lambda _: None)
                model.import_views(SITE, name, views)
            through = chance.choice([OLD, TODAY - timedelta(days=2), TODAY])
            through = max(through, TODAY - timedelta(days=31))  # folded days are closed
            assert model.bases(SITE, through, PAGES) == await store.page_bases(SITE, through, PAGES), call
            assert {page: model.aliases.get((SITE, page), page) for page in PAGES} == {
                page: journal.shown_as(page) for page in PAGES
            }
    assert min(seen.values()) > 3
    assert model.months
