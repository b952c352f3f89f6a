"""Views of pages over HTTP: a page counts, and its number is in the answer, in lists and in an image."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from footfall.display.page_views import WAIT_MAX_S
from footfall.embedded.servers import Postgres
from footfall.stores.page_journal import open_page_journal
from tests.support.footfall import BROWSER, NOON, ORIGIN, SITE, Footfall, running, settings_for
from tests.support.storage import Stores, plain_redis

LIST = [f"/tin/{number}" for number in range(50)]


async def pages(footfall: Footfall, *asked: str) -> dict[str, Any]:
    """Read views of pages as a list of news does, again while a busy machine does not know them in time."""
    found = await pages_now(footfall, *asked)
    for _ in range(40):
        if all(page["views"] is not None for page in found.values()):
            break
        found = await pages_now(footfall, *asked)
    return found


async def pages_now(footfall: Footfall, *asked: str) -> dict[str, Any]:
    """Read views of pages once."""
    response = await footfall.public.get("/counts", params=[("site", SITE), *(("page", page) for page in asked)])
    answer: dict[str, Any] = await response.json()
    assert response.status == 200, answer
    found: dict[str, Any] = answer["pages"]
    return found


@pytest.fixture
def settings(redis_url: str, postgres_url: str, tmp_path: Path) -> Any:
    return settings_for(redis_url, postgres_url, tmp_path)


async def test_a_view_answers_the_number_of_its_page(settings: Any) -> None:
    """As it was sent, whatever it is stored as; the numbers of the site stay where they were."""
    async with running(settings) as footfall:
        assert (await footfall.see(page="/tin/1"))["pages"] == {"/tin/1": {"views": 1}}
        answer = await footfall.see(page="//tin/1/?utm_source=zalo")
        assert answer["pages"] == {"//tin/1/?utm_source=zalo": {"views": 2}}
        assert answer["views_today"] == 2
        assert (await footfall.see(page="/tin/2"))["pages"] == {"/tin/2": {"views": 1}}
        assert (await footfall.see(page="/tin/1", kind="ping"))["pages"] == {"/tin/1": {"views": 2}}


async def test_a_page_that_a_list_showed_without_views_has_its_first_view_in_the_answer(settings: Any) -> None:
    """A front page shows a new article before the first reader opens it."""
    async with running(settings) as footfall, running(settings, clock=footfall.clock) as other:
        for worker in (footfall, other):
            assert await pages(worker, "/new") == {"/new": {"views": 0}}
        assert (await footfall.see(page="/new"))["pages"] == {"/new": {"views": 1}}
        assert (await other.see(page="/new"))["pages"] == {"/new": {"views": 2}}
        assert await pages(footfall, "/new") == {"/new": {"views": 1}}  # of a second ago at most
        footfall.clock.advance(10)
        assert await pages(footfall, "/new") == {"/new": {"views": 2}}


async def test_what_redis_forgot_is_read_again_for_the_page_that_is_viewed(settings: Any) -> None:
    """An article on no list has no other reader than its own views."""
    async with running(settings) as footfall:
        await footfall.see(page="/a")
        await footfall.services.copy()
        await footfall.services.stores.redis.forget_pages(SITE)
        assert [(await footfall.see(page="/a"))["pages"]["/a"]["views"] for _ in range(2)] == [2, 3]
        async with plain_redis(settings.redis_url.get_secret_value()) as redis:
            await redis.delete(f"ff1:{{{SITE}}}:page_totals")
        assert [(await footfall.see(page="/a"))["pages"]["/a"]["views"] for _ in range(2)] == [4, 5]


async def test_a_renamed_page_shows_its_views_under_both_names(settings: Any, postgres_url: str) -> None:
    """Lists still link to the old address for a while; and starting numbers are in both."""
    async with running(settings) as footfall, open_page_journal(postgres_url) as journal:
        for page in ("/old", "/old", "/new"):
            await footfall.see(page=page)
        await footfall.services.copy()
        await journal.import_views(SITE, "counter", {"/old": 100}, progress=lambda _: None)
        await journal.move(SITE, "/old", "/new")
        await footfall.services.stores.redis.forget_pages(SITE)
        footfall.clock.advance(10)
        assert await pages(footfall, "/old", "/new") == {"/old": {"views": 103}, "/new": {"views": 103}}
        assert (await footfall.see(page="/new"))["pages"] == {"/new": {"views": 104}}
        for hours in (12, 12):
            footfall.clock.advance(hours * 3600)
            await footfall.services.copy()
        await footfall.services.stores.redis.forget_pages(SITE)
        assert await pages(footfall, "/old", "/new") == {"/old": {"views": 104}, "/new": {"views": 104}}


async def test_the_pixel_names_its_page_where_its_address_does(settings: Any) -> None:
    """A page without script knows its own path, and its server can write it there."""
    async with running(settings) as footfall:
        sender = {"Origin": ORIGIN, "User-Agent": BROWSER}
        for query in ({"site": SITE, "page": "//a/"}, {"site": SITE}, {"site": SITE, "page": "/" + "a" * 5000}):
            assert (await footfall.public.get("/seen.gif", params=query, headers=sender)).status == 200
        assert await pages(footfall, "/a") == {"/a": {"views": 1}}
        assert (await footfall.counts())["views_today"] == 3


async def test_a_view_of_no_page_counts_for_the_site_alone(settings: Any) -> None:
    """An error page that opts out, a page of another host, and a script of before pages."""
    async with running(settings) as footfall:
        for fields in ({"page": "off"}, {"page": "https://elsewhere.example/a"}, {}, {"page": ""}):
            assert "pages" not in await footfall.see(**fields)
        assert (await footfall.counts())["views_today"] == 4
        assert "pages" not in await footfall.counts()
        await footfall.services.copy()
        assert await footfall.services.stores.postgres.page_bases(SITE, NOON.date(), ["/"]) == [("/", 0, {})]


async def test_a_list_of_50_news_is_one_request_in_any_order(settings: Any) -> None:
    """The order of the pages changes neither the answer nor its version; another page does."""
    async with running(settings) as footfall:
        for page in LIST[:3]:
            await footfall.see(page=page)
        found = await pages(footfall, *LIST)
        assert found == {page: {"views": int(page in LIST[:3])} for page in LIST}
        tags = {}
        for name, asked in (("as it is", LIST), ("reversed", LIST[::-1]), ("fewer", LIST[:2]), ("none", [])):
            query = [("site", SITE), *(("page", page) for page in asked)]
            response = await footfall.public.get("/counts", params=query)
            tags[name] = response.headers["ETag"]
            again = await footfall.public.get("/counts", params=query, headers={"If-None-Match": tags[name]})
            assert again.status == 304
        assert tags["as it is"] == tags["reversed"]
        assert len(set(tags.values())) == 3
        too_many = await footfall.public.get("/counts", params=[("site", SITE)] + [("page", "/")] * 51)
        assert (too_many.status, await too_many.json()) == (400, {"error": "bad_field"})


async def test_all_days_of_a_page_are_in_its_number_and_midnight_takes_none_away(settings: Any) -> None:
    """Closed days come from PostgreSQL, open ones from Redis, and a day is in one of them at every moment."""
    async with running(settings) as footfall:
        for day in range(5):
            await footfall.see(page="/a")
            assert await pages(footfall, "/a", "/b") == {"/a": {"views": day + 1}, "/b": {"views": 0}}
            for hours in (11, 2, 11):  # 23:00, 01:00, noon
                footfall.clock.advance(hours * 3600)
                assert await pages(footfall, "/a") == {"/a": {"views": day + 1}}
                await footfall.services.copy()
                footfall.clock.advance(10)
                assert await pages(footfall, "/a") == {"/a": {"views": day + 1}}
            footfall.clock.set(NOON + timedelta(days=day + 1))


async def test_another_worker_and_an_emptied_redis_know_the_same(settings: Any, redis_url: str) -> None:
    """What PostgreSQL has of a page comes back when the page is asked for."""
    async with running(settings) as footfall:
        for _ in range(3):
            await footfall.see(page="/a")
        await footfall.services.copy()
        async with plain_redis(redis_url) as redis:
            await redis.flushall()
        async with running(settings, clock=footfall.clock) as other:
            assert await pages(other, "/a", "/b") == {"/a": {"views": 3}, "/b": {"views": 0}}
            assert (await other.see(page="/a"))["pages"] == {"/a": {"views": 4}}
        assert (await footfall.see(page="/a"))["pages"] == {"/a": {"views": 5}}


async def test_what_is_not_known_now_is_null_and_never_0(
    redis_url: str, own_postgres: Postgres, tmp_path: Path
) -> None:
    """PostgreSQL is away, and nothing remembers what it has of the page."""
    async with running(settings_for(redis_url, own_postgres.url, tmp_path)) as footfall:
        await footfall.see(page="/a")
        await own_postgres.stop()
        assert await pages_now(footfall, "/a", "/b") == {"/a": {"views": 1}, "/b": {"views": None}}
        assert (await footfall.see(page="/b"))["pages"] == {"/b": {"views": None}}
        image = await (await footfall.public.get("/counts.svg", params={"site": SITE, "page": "/b"})).text()
        assert "Lượt xem: –" in image


async def test_the_first_view_of_a_page_waits_for_a_store_that_is_slow(settings: Any, stores: Stores) -> None:
    """PostgreSQL answers after more than a quarter of a second; its reader would see a dash until the next poll."""
    sql = stores.sql
    async with running(settings) as footfall:
        await footfall.see(page="/a")
        async with sql.transaction():
            await sql.execute("LOCK TABLE footfall.page_total, footfall.page_day IN ACCESS EXCLUSIVE MODE")
            seeing = asyncio.create_task(footfall.see(page="/b"))
            while not await sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(1.2 * WAIT_MAX_S)
        assert (await seeing)["pages"] == {"/b": {"views": 1}}


async def test_the_image_of_a_page_shows_its_views(settings: Any) -> None:
    """For a page where no script runs."""
    async with running(settings) as footfall:
        await footfall.see(page="/a")
        response = await footfall.public.get("/counts.svg", params={"site": SITE, "page": "/a", "lang": "en"})
        image = await response.text()
        assert ">Views: 1</title>" in image
        assert "All time" not in image
        tag = response.headers["ETag"]
        await footfall.see(page="/a")
        other = await footfall.public.get("/counts.svg", params={"site": SITE, "page": "/a", "lang": "en"})
        assert other.headers["ETag"] != tag


async def test_names_that_are_made_up_are_not_remembered(settings: Any) -> None:
    """A reader who asks for pages that do not exist fills neither Redis nor the list of pages."""
    redis_url = settings.redis_url.get_secret_value()
    async with running(settings) as footfall, plain_redis(redis_url) as client:
        await footfall.see(page="/a")
        before = await client.memory_usage(f"ff1:{{{SITE}}}:page_totals")
        for number in range(20):
            await pages(footfall, *(f"/made-up/{number}/{name}" for name in range(50)))
        assert await client.memory_usage(f"ff1:{{{SITE}}}:page_totals") == before
