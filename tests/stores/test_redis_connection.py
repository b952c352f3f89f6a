"""How calls reach a real server: together, each with its own answer, and never twice."""

import asyncio
import contextlib

from footfall.errors import StoreDamaged, StoreUnavailable
from footfall.model.batch import Answer
from footfall.model.day_state import Closed
from footfall.model.salt import Salt
from footfall.model.site_id import SiteId
from footfall.stores.redis_connection import CONNECTIONS, Script, open_calls
from footfall.stores.redis_store import RedisStore, day_key, ready_key
from tests.support.footfall import SITE
from tests.support.storage import DAY, MONDAY, OTHER_LOG, TODAY, RawRedis, batch, period_of, ready_site

NOW = period_of(TODAY)
WINDOW_S = 300
OTHER_SITE = SiteId("other")


async def until_held(redis: RawRedis) -> None:
    """Wait until Redis has read a call and holds it, for its clients pause."""
    while not (await redis.info("clients"))["blocked_clients"]:  # noqa: ASYNC110 - a server offers no event
        await asyncio.sleep(0.01)


async def test_calls_of_one_turn_are_sent_together(store: RedisStore, redis: RawRedis) -> None:
    """A hundred portals that are busy at the same time cost one write and one connection."""
    await store.record(SITE, NOW, WINDOW_S)  # Redis knows the script now
    await redis.config_resetstat()
    asked = await asyncio.gather(*(store.record(SITE, NOW, WINDOW_S) for _ in range(100)))
    stats, commands = await redis.info("stats"), await redis.info("commandstats")
    assert {recorded.answer for recorded in asked} == {Answer.OK}
    assert commands["cmdstat_evalsha"]["calls"] == 100
    assert stats["total_connections_received"] == 0
    assert stats["total_reads_processed"] < 20


async def test_each_call_gets_its_own_answer(store: RedisStore) -> None:
    """Answers come in the order of the calls; an answer to another caller would ack another log."""
    counted = await asyncio.gather(
        store.record(SITE, NOW, WINDOW_S, batch(1, [1], views=7)),
        store.record(OTHER_SITE, NOW, WINDOW_S),
        store.record(SITE, NOW, WINDOW_S, batch(3, [1], log=OTHER_LOG)),
        store.share_salts(SITE, [Salt(MONDAY, b"k" * 32, 2**31)]),
    )
    assert [recorded.answer for recorded in counted[:3]] == [Answer.OK, Answer.NOTREADY, Answer.GAP]
    assert counted[3] == {MONDAY: b"k" * 32}


async def test_an_error_reaches_the_caller_of_its_site_only(store: RedisStore, redis: RawRedis) -> None:
    """A site whose sketch is damaged does not keep other sites from counting."""
    await store.open(OTHER_SITE, [], Closed(1, MONDAY - DAY, 0, 0, 0, "first"))
    await redis.hset(day_key(OTHER_SITE, TODAY, "visitors"), "no", "sketch")
    damaged, well = await asyncio.gather(
        store.record(OTHER_SITE, NOW, WINDOW_S), store.record(SITE, NOW, WINDOW_S, batch(1)), return_exceptions=True
    )
    assert isinstance(damaged, StoreDamaged)
    assert not isinstance(well, BaseException)
    assert well.answer is Answer.OK


async def test_lost_scripts_are_loaded_again(store: RedisStore, redis: RawRedis) -> None:
    """Redis forgets its scripts at a restart or a failover; a call of that moment runs once."""
    await store.record(SITE, NOW, WINDOW_S, batch(1))
    await redis.script_flush()
    second, third, salts = await asyncio.gather(
        store.record(SITE, NOW, WINDOW_S, batch(2)),
        store.record(SITE, NOW, WINDOW_S, batch(1, log=OTHER_LOG)),
        store.share_salts(SITE, []),
    )
    assert (second.answer, third.answer, salts) == (Answer.OK, Answer.OK, {})


async def test_more_calls_than_connections_wait_their_turn(store: RedisStore, redis: RawRedis) -> None:
    """A server that is slow for a moment gets no more connections than the limit, and every call is answered."""
    await redis.execute_command("CLIENT", "PAUSE", 200, "ALL")
    asked = []
    for _ in range(4 * CONNECTIONS):
        asked.append(asyncio.create_task(store.record(SITE, NOW, WINDOW_S)))
        await asyncio.sleep(0.0005)  # each call is sent in its own turn of the loop
    assert {recorded.answer for recorded in await asyncio.gather(*asked)} == {Answer.OK}
    clients = await redis.info("clients")
    assert 2 <= clients["connected_clients"] <= CONNECTIONS + 1


async def test_a_connection_that_breaks_fails_all_calls_on_it(store: RedisStore, redis: RawRedis) -> None:
    """Each caller gets its own exception, and the next call a new connection."""
    await redis.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
    calls = [asyncio.create_task(store.record(SITE, NOW, WINDOW_S, batch(1, log=f"{n:016x}"))) for n in range(3)]
    await until_held(redis)
    await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await redis.execute_command("CLIENT", "UNPAUSE")
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(failure, StoreUnavailable) for failure in failures)
    assert len(set(map(id, failures))) == 3
    assert (await store.record(SITE, NOW, WINDOW_S, batch(1))).answer is Answer.OK


async def test_a_cancelled_caller_cancels_no_other_call(store: RedisStore, redis: RawRedis) -> None:
    """Its own call runs all the same: a beacon counts also when its page was closed."""
    await redis.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
    leaving = asyncio.create_task(store.record(SITE, NOW, WINDOW_S, batch(1)))
    staying = asyncio.create_task(store.record(SITE, NOW, WINDOW_S, batch(1, log=OTHER_LOG)))
    await until_held(redis)
    leaving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leaving
    await redis.execute_command("CLIENT", "UNPAUSE")
    assert (await staying).answer is Answer.OK
    assert (await store.record(SITE, NOW, WINDOW_S, batch(1))).answer is Answer.DUP


async def test_closing_waits_for_the_calls_in_progress(redis_url: str, redis: RawRedis) -> None:
    """A caller may have been cancelled while Redis still runs its call; the connection must stay until the answer."""
    async with ready_site(redis_url), open_calls(redis_url, timeout_s=20) as calls:
        await redis.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
        arguments = ["ours", MONDAY.isoformat(), b"k" * 32, 2**31]
        leaving = asyncio.create_task(calls.run(Script("salts"), ready_key(SITE), arguments))
        await until_held(redis)
        leaving.cancel()
        answered = asyncio.create_task(redis.execute_command("CLIENT", "UNPAUSE"))  # runs once the closing waits
    await answered
    assert await redis.get(f"ff1:{{{SITE}}}:salt:{MONDAY}") == b"k" * 32
