"""Events: noted where they are noticed, written once Postgres takes them, each once however many workers notice it."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from prometheus_client import CollectorRegistry

from footfall.embedded.servers import POSTGRES_SOCKET, USER
from footfall.metrics.metrics import Metrics
from footfall.model.event import Event
from footfall.model.site_id import SiteId
from footfall.stores.postgres_store import PostgresStore, open_postgres
from footfall.sync.event_book import EVERY_SITE, KINDS, WAITING_MAX, EventBook
from tests.chaos.relay import Link, open_relay, pass_request
from tests.support.footfall import NOON, SITE, FakeClock
from tests.support.storage import Stores


def book_of(postgres: PostgresStore, clock: FakeClock) -> EventBook:
    """The book of one more worker."""
    return EventBook(postgres, Metrics(CollectorRegistry()), clock)


def spans(events: list[Event]) -> list[tuple[str, str, float, float]]:
    """When each event began and ended, in seconds after noon."""
    return [
        (event.site_id, event.kind, (event.began - NOON).total_seconds(), (event.ended - NOON).total_seconds())
        for event in events
        if event.began and event.ended
    ]


async def test_what_workers_notice_of_one_outage_is_one_event(stores: Stores) -> None:
    """Each of them finds out, and finds it over, at its own moment; some write it for a second time."""
    clock = FakeClock()
    async with open_postgres(stores.postgres_url) as one, open_postgres(stores.postgres_url) as other:
        books = [book_of(one, clock), book_of(other, clock)]
        books[0].note_lasting("redis_away", 0)
        clock.advance(100)
        books[1].note_lasting("redis_away", 120)
        clock.advance(30)
        books[0].note_lasting("redis_away", 90)
        for book in (*books, *books):
            await book.write()
        books[1].note_lasting("postgres_away", 10)
        books[1].note_lasting("redis_away", 10, SITE)
        clock.advance(600)
        books[1].note_lasting("redis_away", 5)
        await books[1].write()
        assert spans(await one.events()) == [
            (EVERY_SITE, "redis_away", -20, 130),
            (EVERY_SITE, "postgres_away", 120, 130),
            (SITE, "redis_away", 120, 130),
            (EVERY_SITE, "redis_away", 725, 730),
        ]
        assert [event.kind for event in await one.events(SITE)] == ["redis_away"]
        assert len(await one.events(SITE, EVERY_SITE)) == 4


async def test_what_goes_on_is_an_event_from_its_beginning(stores: Stores) -> None:
    """A report made during an outage names it; each worker says each minute that it goes on, and when it is over."""
    clock = FakeClock()
    away = {SITE: 5.0}
    async with open_postgres(stores.postgres_url) as postgres:
        books = [book_of(postgres, clock), book_of(postgres, clock)]

        async def look(*after: float) -> list[tuple[float, float, bool]]:
            found = []
            for seconds in after:
                clock.advance(seconds)
                for book in books:
                    await book.write()
                (event,) = await postgres.events()
                now = datetime.fromtimestamp(clock(), UTC)
                ((_, _, began, ended),) = spans([event])
                found.append((began, ended, event.goes_on(now)))
            return found

        books[0].note_running("redis_away", away)
        assert await look(0, 30, 31, 59, 2) == [
            *((-5, 0, True), (-5, 0, True), (-5, 61, True)),
            *((-5, 61, True), (-5, 122, True)),
        ]
        books[1].note_running("redis_away", away)
        books[0].note_lasting("redis_away", 125, SITE)
        assert await look(0, 10) == [(-5, 122, True), (-5, 122, True)]
        books[1].note_lasting("redis_away", 17, SITE)
        assert await look(0, 3600) == [(-5, 132, False), (-5, 132, False)]


async def test_what_no_worker_says_any_more_is_over(stores: Stores) -> None:
    """A worker that was killed in an outage says no end: the report has the last moment of which one knew."""
    clock = FakeClock()
    async with open_postgres(stores.postgres_url) as postgres:
        book = book_of(postgres, clock)
        book.note_running("redis_away", {SITE: 0})
        await book.write()
        book.note_running("redis_away", {EVERY_SITE: 0})  # more portals than are noted one by one
        clock.advance(30)
        await book.write()
        now = datetime.fromtimestamp(clock(), UTC)
        assert [(event.site_id, event.goes_on(now)) for event in await postgres.events()] == [
            (SITE, False),
            (EVERY_SITE, True),
        ]
        clock.advance(600)
        now = datetime.fromtimestamp(clock(), UTC)
        assert not any(event.goes_on(now) for event in await postgres.events())


async def test_sites_that_open_together_write_each_event_once(stores: Stores) -> None:
    """At the start of a thousand sites, each wrote the events of all others: a million statements."""
    sent: list[bytes] = []
    url = urlsplit(stores.postgres_url)

    async def note(link: Link, chunk: bytes) -> None:
        sent.append(chunk)
        await pass_request(link, chunk)

    async with open_relay(Path(parse_qs(url.query)["host"][0]) / POSTGRES_SOCKET) as relay:
        relay.requests = note
        async with open_postgres(f"postgresql://{USER}@127.0.0.1:{relay.port}{url.path}?sslmode=disable") as postgres:
            requests = []
            for sites in (1, 2, 200):
                book = book_of(postgres, FakeClock())
                for number in range(sites):
                    book.note_settings("time_zone=Asia/Ho_Chi_Minh", SiteId(f"site-{number}"))
                book.note("started", f"{sites} sites")
                sent.clear()
                await asyncio.gather(*(book.write() for _ in range(sites)))
                requests.append(len(sent))
            assert requests[1] == requests[2] > 0, "the first ones also open the connection"
            assert [event.kind for event in await postgres.events()].count("settings") == 200
            again = book_of(postgres, FakeClock())
            again.note_settings("time_zone=Asia/Tokyo", SiteId("site-7"))
            again.note_settings("time_zone=Asia/Ho_Chi_Minh", SiteId("site-8"))
            await again.write()
            kinds = [(event.site_id, event.detail) for event in await postgres.events() if event.kind == "settings"]
            assert (len(kinds), kinds[-1]) == (201, ("site-7", f"{NOON:%Y-%m-%d}: time_zone=Asia/Tokyo"))


async def test_events_wait_while_postgres_is_away(stores: Stores) -> None:
    """That Postgres was away is itself an event; the memory for them is bounded, and the metric counts all."""
    metrics = Metrics(CollectorRegistry())
    async with open_postgres("postgresql://nobody@127.0.0.1:1/nowhere", 1) as away:
        book = EventBook(away, metrics, FakeClock())
        for number in range(WAITING_MAX + 5):
            book.note("salt_lost", str(number), SITE)
        await book.write()
    assert metrics.registry.get_sample_value("footfall_events_total", {"kind": "salt_lost"}) == WAITING_MAX + 5
    async with open_postgres(stores.postgres_url) as postgres:
        assert await postgres.events() == []
        clock = FakeClock()
        again = book_of(postgres, clock)
        again.note("salt_lost", "2054-11-23", SITE)
        again.note("salt_lost", "2054-11-23", SITE)
        await again.write()
        await again.write()
        assert [(event.kind, event.detail) for event in await postgres.events(SITE)] == [("salt_lost", "2054-11-23")]


async def test_a_site_has_a_hundred_events_of_a_kind_a_month_at_most(stores: Stores) -> None:
    """A worker that restarts again and again fills no table, and hides no event of another kind or month."""
    async with open_postgres(stores.postgres_url) as postgres:
        for number in range(103):
            await postgres.record_event(SITE, "started", str(number))
            at = datetime(2054, 11, 1, tzinfo=UTC) + timedelta(hours=number)
            await postgres.record_lasting_event(SITE, "redis_away", at, at)
        await postgres.record_event(SITE, "salt_lost", "2054-11-23")
        kinds = [event.kind for event in await postgres.events(SITE)]
        assert [kinds.count(kind) for kind in ("started", "redis_away", "salt_lost")] == [100, 100, 1]
        await stores.sql.execute("UPDATE footfall.event SET at = at - interval '1 month' WHERE kind = 'started'")
        await postgres.record_event(SITE, "started", "of the next month")
        kinds = [event.kind for event in await postgres.events(SITE)]
        assert kinds.count("started") == 101


async def test_settings_are_an_event_where_they_changed(stores: Stores) -> None:
    """Every worker says what it runs with; a report names the day from which a number means something else."""
    async with open_postgres(stores.postgres_url) as postgres:
        clock = FakeClock()
        for zone in ("Asia/Ho_Chi_Minh", "Asia/Ho_Chi_Minh", "UTC", "UTC", "Asia/Ho_Chi_Minh"):
            book = book_of(postgres, clock)
            book.note_settings(f"time_zone={zone}", SITE)
            await book.write()
            clock.advance(86_400)
        assert [event.detail for event in await postgres.events(SITE)] == [
            "2054-11-25: time_zone=Asia/Ho_Chi_Minh",
            "2054-11-27: time_zone=UTC",
            "2054-11-29: time_zone=Asia/Ho_Chi_Minh",
        ]


def test_every_kind_has_its_sentence() -> None:
    """Reports print it; a kind without one would be a bare word of the program's."""
    metrics = Metrics(CollectorRegistry())
    assert all(text[0].isupper() and not text.endswith(".") for text in KINDS.values())
    with pytest.raises(KeyError):
        EventBook(None, metrics, FakeClock()).note("unheard_of", "")  # type: ignore[arg-type]
