"""Mistakes that real counters make, tried on the whole application with a clock that the test sets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from redis.asyncio import Redis

from footfall.embedded.servers import Valkey
from footfall.errors import Stop
from footfall.stores.postgres_store import open_postgres
from tests.support.footfall import (
    BROWSER,
    HOST,
    ORIGIN,
    SITE,
    VIETNAM,
    FakeClock,
    Footfall,
    running,
    serving,
    settings_for,
    until,
)

WEDNESDAY = datetime(2054, 11, 25, tzinfo=VIETNAM)
MONDAY = datetime(2054, 11, 30, tzinfo=VIETNAM)
MOMENT = timedelta(milliseconds=100)
WIDGETS = 10_000


@pytest.fixture
async def footfall(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Footfall]:
    """Run a worker with the site `portal`, on a Wednesday at noon."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        yield footfall


def numbers(answer: dict[str, Any]) -> tuple[int | None, ...]:
    """Return online, today, week, total and views of an answer."""
    return tuple(answer[name] for name in ("online", "today", "week", "total", "views_today"))


async def fresh_counts(footfall: Footfall) -> dict[str, Any]:
    """Read the numbers as a page does, when its worker has to ask Redis again."""
    footfall.clock.advance(6)
    return await footfall.counts()


async def adjust(footfall: Footfall, amount: int, name: str) -> bool:
    """Correct the total as `footfall adjust` does; return False when the journal has that name already."""
    async with open_postgres(footfall.services.settings.postgres_url.get_secret_value()) as postgres:
        changed = await postgres.adjust(SITE, name, amount, "số liệu bộ đếm cũ")
    await footfall.services.rollup.step()
    return changed


async def test_ten_reloads_are_ten_views_of_one_visitor(footfall: Footfall) -> None:
    """Two tabs of one person are one visitor online."""
    answers = [await footfall.see() for _ in range(10)]
    assert numbers(answers[-1]) == (1, 1, 1, 1, 10)


async def test_a_privacy_address_of_the_same_network_is_the_same_visitor(footfall: Footfall) -> None:
    """A telephone takes a new IPv6 address every day, and keeps its /64."""
    await footfall.see(address="2001:db8:1:2:aaaa::1")
    assert numbers(await footfall.see(address="2001:db8:1:2:bbbb::9")) == (1, 1, 1, 1, 2)
    assert numbers(await footfall.see(address="2001:db8:1:3::1")) == (2, 2, 2, 2, 3)


async def test_a_view_that_got_no_answer_is_one_view_and_the_ping_after_it_none(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """The client closes before the answer: its beacon counts, and the script's ping cannot count it again."""
    async with running(settings_for(own_valkey.url, postgres_url, tmp_path, redis_timeout_s=10)) as footfall:
        own_valkey.suspend()
        body = json.dumps({"site": SITE}).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", footfall.public.port)
        writer.write(
            f"POST /seen HTTP/1.1\r\nHost: {HOST}\r\nOrigin: {ORIGIN}\r\nUser-Agent: {BROWSER}\r\n"
            f"X-Forwarded-For: 203.0.113.7\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await until(lambda: footfall.services.recorder.queued == 1)
        writer.transport.abort()
        own_valkey.resume()
        await footfall.services.recorder.settle()
        assert numbers(await footfall.see(kind="ping")) == (1, 1, 1, 1, 1)


async def test_midnight_divides_by_the_moment_of_receipt(footfall: Footfall) -> None:
    """The day turns in the site's zone, to the tenth of a second."""
    midnight = WEDNESDAY + timedelta(days=1)
    footfall.clock.set(midnight - MOMENT)
    assert numbers(await footfall.see()) == (1, 1, 1, 1, 1)
    footfall.clock.set(midnight + MOMENT)
    answer = await footfall.see(address="203.0.113.8")
    assert numbers(answer) == (2, 1, 2, 2, 1)
    assert (answer["day_of"], answer["week_of"]) == ("2054-11-26", "2054-11-23")


async def test_a_beacon_received_before_midnight_and_written_after_it_is_of_its_own_day(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """Redis may be slow at midnight; sending a batch again never moves a beacon to another day."""
    async with running(settings_for(own_valkey.url, postgres_url, tmp_path, redis_timeout_s=10)) as footfall:
        footfall.clock.set(WEDNESDAY + timedelta(days=1) - MOMENT)
        own_valkey.suspend()
        first = asyncio.create_task(footfall.send())  # is in flight over midnight
        await until(lambda: footfall.services.recorder.queued == 1)
        second = asyncio.create_task(footfall.send(address="203.0.113.8"))  # gathers before midnight, is sent after it
        await until(lambda: footfall.services.recorder.queued == 2)
        footfall.clock.advance(0.2)
        own_valkey.resume()
        assert {(await first).status, (await second).status} == {200}
        async with Redis.from_url(own_valkey.url) as redis:
            assert await redis.pfcount("ff1:{portal}:day:2054-11-25:visitors") == 2
            assert not await redis.exists("ff1:{portal}:day:2054-11-26:logs")
        answer = await footfall.see(kind="ping")
        assert (answer["day_of"], answer["today"], answer["views_today"], answer["total"]) == ("2054-11-26", 1, 0, 3)


async def test_today_is_the_local_day_while_it_is_still_yesterday_in_utc(footfall: Footfall) -> None:
    """For a server that counts days in UTC, the Vietnamese morning until seven o'clock is yesterday."""
    footfall.clock.set(WEDNESDAY + timedelta(hours=6))
    answer = await footfall.see()
    assert (answer["day_of"], answer["today"]) == ("2054-11-25", 1)
    footfall.clock.advance(3600 + 60)  # midnight in UTC has no effect here
    assert numbers(await footfall.see()) == (1, 1, 1, 1, 2)


async def test_monday_resets_the_week_once_on_all_workers(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    """Sunday ends the week. Both workers turn the week at the same moment, and continue to count."""
    clock = FakeClock(MONDAY - timedelta(minutes=10))
    settings = settings_for(redis_url, postgres_url, tmp_path)
    async with running(settings, clock=clock) as one, running(settings, clock=clock) as other:
        assert (await one.see())["week_of"] == "2054-11-23"
        assert numbers(await other.see(address="203.0.113.8")) == (2, 2, 2, 2, 2)
        clock.set(MONDAY + MOMENT)
        for worker in (one, other):
            answer = await worker.counts()
            assert numbers(answer) == (2, 0, 0, 2, 0)
            assert (answer["day_of"], answer["week_of"], answer["stale"]) == ("2054-11-30", "2054-11-30", False)
        assert numbers(await one.see(address="203.0.113.9"))[1:] == (1, 1, 3, 1)
        assert numbers(await other.see(address="203.0.113.10"))[1:] == (2, 2, 4, 2)
        assert numbers(await fresh_counts(one))[1:] == (2, 2, 4, 2)


async def test_a_week_continues_over_new_year(footfall: Footfall) -> None:
    """2054-12-31 and 2055-01-01 belong to the week of Monday 2054-12-28: the same visitor is one in it."""
    footfall.clock.set(datetime(2054, 12, 31, 23, tzinfo=VIETNAM))
    before = await footfall.see()
    footfall.clock.set(datetime(2055, 1, 1, 9, tzinfo=VIETNAM))
    after = await footfall.see()
    assert (before["week_of"], after["week_of"]) == ("2054-12-28", "2054-12-28")
    assert (after["day_of"], after["today"], after["week"], after["total"]) == ("2055-01-01", 1, 1, 2)


@pytest.mark.parametrize(
    ("day", "hours"), [("2054-03-29", 23), ("2054-10-25", 25)], ids=["clocks go forward", "clocks go back"]
)
async def test_a_day_is_as_long_as_its_zone_says(
    redis_url: str, postgres_url: str, tmp_path: Path, day: str, hours: int
) -> None:
    """Twenty-four hours after midnight is not always midnight."""
    portal = {"time_zone": "Europe/Berlin"}
    clock = FakeClock(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin")))
    async with running(settings_for(redis_url, postgres_url, tmp_path, portal=portal), clock=clock) as footfall:
        assert (await footfall.see())["day_of"] == day
        clock.advance(hours * 3600 - 1)
        assert numbers(await footfall.see())[1:] == (1, 1, 1, 2)
        clock.advance(1)
        answer = await footfall.see()
        assert (answer["day_of"] > day, answer["today"], answer["views_today"]) == (True, 1, 1)


async def test_a_visitor_who_stays_over_midnight_is_in_both_days_once_and_online_all_along(footfall: Footfall) -> None:
    """The total is a sum of days, so the second day adds one; the week stays the same."""
    footfall.clock.set(WEDNESDAY + timedelta(hours=23, minutes=58))
    assert numbers(await footfall.see()) == (1, 1, 1, 1, 1)
    footfall.clock.advance(60)
    assert numbers(await footfall.see(kind="ping")) == (1, 1, 1, 1, 1)
    footfall.clock.advance(120)
    assert numbers(await footfall.see(kind="ping")) == (1, 1, 1, 2, 0)


async def test_a_visitor_who_stays_over_the_turn_of_the_week_is_online_once(footfall: Footfall) -> None:
    """The key of the hash changes with the week, and no visitor may be online twice, under both keys."""
    footfall.clock.set(MONDAY - timedelta(minutes=2))
    await footfall.see(address="203.0.113.8")
    assert numbers(await footfall.see())[0] == 2
    footfall.clock.set(MONDAY + timedelta(minutes=1))
    answer = await footfall.see(kind="ping")
    assert numbers(answer) == (2, 1, 1, 3, 0)
    assert numbers(await footfall.see(kind="ping", address="203.0.113.8")) == (2, 2, 2, 4, 0)


async def test_no_number_falls_over_midnight_closing_and_restarts(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """At midnight yesterday is not rolled up yet; it closes two hours later, and workers start and end meanwhile."""
    clock = FakeClock(WEDNESDAY + timedelta(hours=23, minutes=59))
    settings = settings_for(redis_url, postgres_url, tmp_path)
    async with running(settings, clock=clock) as footfall:
        for host in range(20):
            await footfall.see(address=f"203.0.113.{host}")
        before = await fresh_counts(footfall)
        clock.advance(120)
        assert numbers(await footfall.counts())[1:] == (0, before["week"], before["total"], 0)
    for _ in range(3):
        async with running(settings, clock=clock) as footfall:
            for _ in range(2):
                answer = await fresh_counts(footfall)
                assert (answer["week"], answer["total"]) == (before["week"], before["total"])
                await footfall.services.rollup.roll_up(footfall.services.settings.sites[SITE], all_days=True)
        clock.advance(5400)


async def test_the_week_is_never_less_than_today_on_a_monday(footfall: Footfall) -> None:
    """Both numbers estimate the same set from the same bytes: they are equal."""
    footfall.clock.set(MONDAY + timedelta(hours=9))
    for host in range(200):
        answer = await footfall.see(address=f"203.0.{host}.1", agent=f"{BROWSER} {host}")
        assert answer["week"] == answer["today"]


async def test_a_correction_counts_once_under_its_name_and_may_lower_the_total(footfall: Footfall) -> None:
    """An operator who is unsure repeats the command; `revision` shows pages that a fall is intended."""
    first = await footfall.see()
    assert await adjust(footfall, 1_373_876, "old-counter")
    second = await fresh_counts(footfall)
    assert not await adjust(footfall, 1_373_876, "old-counter")
    third = await fresh_counts(footfall)
    assert await adjust(footfall, -500, "robots")
    fourth = await fresh_counts(footfall)
    assert [answer["total"] for answer in (first, second, third, fourth)] == [1, 1_373_877, 1_373_877, 1_373_377]
    revisions = [answer["revision"] for answer in (first, second, third, fourth)]
    assert (revisions[1] == revisions[2], len(set(revisions))) == (True, 3)


async def test_totals_beyond_32_bits_are_right_in_redis_and_postgres_and_json(footfall: Footfall) -> None:
    """Two old portals together passed 2^31 long ago; JavaScript's integers end at 2^53."""
    await footfall.see()
    for amount, name, total in ((2**31, "31 bits", 2**31 + 1), (2**53 - 2**31 - 2, "53 bits", 2**53 - 1)):
        assert await adjust(footfall, amount, name)
        assert (await fresh_counts(footfall))["total"] == total


async def test_an_idle_sites_online_decays_to_zero_without_traffic(footfall: Footfall, redis: Redis) -> None:
    """The window is read by Redis' clock at every reading, not only when somebody comes."""
    await footfall.see()
    await footfall.see(address="203.0.113.8")
    online = "ff1:{portal}:online"
    first: Any
    second: Any
    first, second = await redis.zrange(online, 0, -1)
    await redis.zincrby(online, -301_000, first)  # as if the visitor was last seen five minutes earlier
    assert numbers(await fresh_counts(footfall)) == (1, 2, 2, 2, 2)
    await redis.zincrby(online, -301_000, second)
    assert numbers(await fresh_counts(footfall)) == (0, 2, 2, 2, 2)
    assert 0 < await redis.pttl(online) <= 300_000


async def test_redis_down_at_start_shows_what_postgres_knows_and_counts_to_the_disk(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """The service starts, is alive and ready, and every beacon counts once when Redis comes."""
    settings = settings_for(own_valkey.url, postgres_url, tmp_path)
    clock = FakeClock()
    async with running(settings, clock=clock) as footfall:
        before = await footfall.see()
    own_valkey.kill()
    async with serving(settings, clock) as footfall:
        assert (await footfall.ops.get("/healthz")).status == 200
        ready = await footfall.ops.get("/readyz")
        assert (ready.status, (await ready.json())["status"]) == (200, "degraded")
        known = await footfall.counts()
        assert numbers(known) == (None, 1, None, 1, 1)
        assert (known["stale"], known["day_of"], known["revision"]) == (True, before["day_of"], before["revision"])
        spooled = await footfall.send(address="203.0.113.8")
        assert (spooled.status, numbers(await spooled.json())) == (202, numbers(known))
        await own_valkey.start()
        await footfall.services.reconciler.quick_step()
        await footfall.services.recorder.settle()
        assert numbers(await fresh_counts(footfall))[1:] == (2, 2, 2, 2)


async def test_ten_thousand_widgets_at_once_are_one_refresh(
    redis_url: str, redis: Redis, postgres_url: str, tmp_path: Path
) -> None:
    """After a cache purge of a busy portal, thousands of pages read at once, and Redis gets one read."""
    async with running(settings_for(redis_url, postgres_url, tmp_path, limits={"enabled": False})) as footfall:
        await footfall.see()
        footfall.clock.advance(6)
        before = await redis.info("commandstats")
        enough = asyncio.Semaphore(200)

        async def read() -> str:
            async with enough, footfall.public.session.get(footfall.public.make_url("/counts?site=portal")) as response:
                return await response.text()

        answers = set(await asyncio.gather(*(read() for _ in range(WIDGETS))))
        after = await redis.info("commandstats")
        assert len(answers) == 1
        assert after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"] == 1


async def test_old_and_new_version_running_together_both_count(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """During an upgrade the schema is newer than the old workers, or older than the new workers: both keep counting."""
    async with AsyncExitStack() as stack:
        schema = await asyncpg.connect(postgres_url)
        stack.push_async_callback(schema.close)
        settings = settings_for(redis_url, postgres_url, tmp_path)
        clock = FakeClock()
        old = await stack.enter_async_context(running(settings, clock=clock))
        await schema.execute("INSERT INTO footfall.migration (version, name) VALUES (9999, 'from the future')")
        new = await stack.enter_async_context(serving(settings, clock))
        assert numbers(await old.see()) == (1, 1, 1, 1, 1)
        assert numbers(await new.see(address="203.0.113.8")) == (2, 2, 2, 2, 2)
        assert [done.saved for done in await old.services.rollup.step()] == [1]

        await schema.execute("UPDATE footfall.migration SET version = -version")  # as if not migrated yet
        assert await new.services.rollup.step() == []
        assert numbers(await new.see(address="203.0.113.9")) == (3, 3, 3, 3, 3)
        ready = await new.ops.get("/readyz")
        assert (ready.status, (await ready.json())["status"]) == (200, "degraded")

        await schema.execute("UPDATE footfall.migration SET version = -version")
        assert [done.saved for done in await new.services.rollup.step(is_last=True)] == [1]
        assert await schema.fetchval("SELECT sum(views) FROM footfall.report_day WHERE site = 'portal'") == 3


async def test_a_redis_that_may_throw_counts_away_is_refused_in_a_sentence(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """With `maxmemory` and an evicting policy, numbers would disappear without a sign."""
    settings = settings_for(own_valkey.url, postgres_url, tmp_path)
    async with Redis.from_url(own_valkey.url) as redis:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        async with running(settings):  # without a limit Redis evicts no key
            pass
        await redis.config_set("maxmemory", "100mb")
        with pytest.raises(Stop, match="maxmemory-policy is allkeys-lru") as refused:
            async with running(settings):
                raise AssertionError("it started")
        assert refused.value.status == 2
        await redis.config_set("maxmemory-policy", "noeviction")
        async with running(settings) as footfall:
            await footfall.see()
