"""The numbers of Postgres alone, while Redis is away."""

from footfall.display.saved_counts import read_saved_counts
from tests.support.footfall import SITE
from tests.support.storage import TODAY, TOMORROW, Stores, batch


async def test_postgres_alone_has_the_numbers_that_redis_had(stores: Stores) -> None:
    """Footfall starts while Redis is away: pages see the last numbers, and unknown is unknown."""
    worker = await stores.worker()
    assert await worker.opener.open(worker.site)
    for day in (TODAY, TOMORROW):
        await worker.count(batch(1, range(day.day, day.day + 30), views=70, day=day))
    await worker.postgres.adjust(SITE, "old", 1000, "old counter")
    await worker.roll_up_all_days()
    live = await worker.count()
    saved = await read_saved_counts((await stores.worker()).postgres, worker.site, stores.clock())
    assert (saved.online, saved.week_visitors) == (None, None)
    for number in ("today_visitors", "today_views", "week_views", "total_visitors", "total_views", "adjustments"):
        assert getattr(saved, number) == getattr(live, number), number
    assert (saved.revision, saved.day_of) == (live.revision, TODAY)


async def test_a_new_site_has_zeros_where_postgres_can_know(stores: Stores) -> None:
    """Nothing was saved: the sums are 0, and a number that only Redis has stays unknown."""
    worker = await stores.worker()
    saved = await read_saved_counts(worker.postgres, worker.site, stores.clock())
    assert (saved.online, saved.week_visitors) == (None, None)
    assert (saved.today_visitors, saved.today_views, saved.week_views) == (0, 0, 0)
    assert (saved.total_visitors, saved.total_views, saved.adjustments) == (0, 0, 0)
