"""Small days and weeks are counted by the ids themselves: the scripts, the rows, and other versions beside them."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b

from footfall.model.counts import Reading
from footfall.model.day_state import Closed, DayState
from footfall.model.retention import WEEK
from footfall.model.salt import salt_ends_s
from footfall.model.site_id import SiteId
from footfall.stores.redis_store import EXACT_UP_TO, RedisStore, day_key, open_redis
from tests.support.footfall import SITE
from tests.support.storage import (
    DAY,
    LOG,
    MONDAY,
    OTHER_LOG,
    TODAY,
    RawRedis,
    Stores,
    batch,
    packed,
    period_of,
    ready_site,
)

LIMIT = 100
WEEK_IDS = f"ff1:{{{SITE}}}:week:{MONDAY}:ids"


async def counted(store: RedisStore, visitors: Iterable[int], *, seq: int = 1, log: str = LOG) -> Reading:
    """Count visitors today, where a day keeps a hundred ids."""
    sent = batch(seq, visitors, log=log)
    recorded = await store.record(SITE, period_of(TODAY), 300, sent, exact_up_to=LIMIT)
    assert recorded.reading is not None
    return recorded.reading


async def test_small_numbers_are_exact_and_larger_ones_never_begin_lower(store: RedisStore, redis: RawRedis) -> None:
    """One visitor at a time, over the limits of the day and of the week: each answer is watched."""
    shown = []
    for visitor in range(3 * LIMIT):
        read = await counted(store, [visitor], seq=visitor + 1)
        shown.append((read.today_visitors, read.week_visitors or 0))
        assert ("today" in read.exact, "week" in read.exact) == (visitor < LIMIT, visitor < 2 * LIMIT)
        if "today" in read.exact:
            assert read.today_visitors == visitor + 1
        if "week" in read.exact:
            assert read.week_visitors == visitor + 1
    assert [today for today, _ in shown] == sorted(today for today, _ in shown)
    assert [week for _, week in shown] == sorted(week for _, week in shown)
    assert shown[LIMIT][0] >= LIMIT + 1
    assert not await redis.exists(day_key(SITE, TODAY, "ids"), WEEK_IDS)
    await redis.pfadd("whole", *(packed([visitor]) for visitor in range(3 * LIMIT)))
    assert await redis.pfcount("whole") == await redis.pfcount(day_key(SITE, TODAY, "visitors"))


async def test_a_day_of_more_than_five_thousand_never_falls_and_stays_within_three_standard_errors(
    store: RedisStore,
) -> None:
    """With the limit that sites have: each answer on the way from nobody to 5,200 is watched."""
    shown = 0
    for at in range(0, 5200, 40):
        ids = b"".join(blake2b(visitor.to_bytes(4, "big"), digest_size=16).digest() for visitor in range(at, at + 40))
        sent = batch(at // 40 + 1)._replace(visitor_ids=ids)
        recorded = await store.record(SITE, period_of(TODAY), 300, sent)
        assert recorded.reading is not None
        today, truth = recorded.reading.today_visitors, at + 40
        assert today >= shown
        assert abs(today - truth) <= (0 if truth <= EXACT_UP_TO else 3 * 0.0081 * truth)
        assert ("today" in recorded.reading.exact) == (truth <= EXACT_UP_TO)
        shown = today


async def test_a_site_may_keep_no_ids(store: RedisStore, redis: RawRedis) -> None:
    """With `exact_up_to = 0` nothing but the sketches knows a visitor."""
    recorded = await store.record(SITE, period_of(TODAY), 300, batch(1, [1, 2]), exact_up_to=0)
    assert recorded.reading is not None
    assert recorded.reading.exact == ()
    assert not await redis.exists(day_key(SITE, TODAY, "ids"), WEEK_IDS)


async def commands_of_a_batch(redis_url: str, redis: RawRedis, exact_up_to: int, visitors: int) -> Counter[str]:
    """Count what Redis does for one visitor more on a day of `visitors`."""
    await redis.flushall()
    async with ready_site(redis_url) as store:
        for seq, ids in enumerate((range(visitors), [visitors], [visitors + 1]), 1):
            await redis.config_resetstat()  # the first batch makes the keys, the second may drop them
            await store.record(SITE, period_of(TODAY), 300, batch(seq, ids), exact_up_to=exact_up_to)
    stats = await redis.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): of_command["calls"] for name, of_command in stats.items()})


async def test_ids_cost_a_big_site_no_command_and_a_small_one_two_for_each_number(
    redis_url: str, redis: RawRedis
) -> None:
    """Most batches are those of big sites. A small one adds its ids and reads sizes instead of estimates."""
    of_big, of_small = 3 * LIMIT, LIMIT // 2
    big = [await commands_of_a_batch(redis_url, redis, kept, of_big) for kept in (LIMIT, 0)]
    assert big[0] == big[1]
    with_ids, without = [await commands_of_a_batch(redis_url, redis, kept, of_small) for kept in (LIMIT, 0)]
    assert with_ids - without == Counter(sadd=2, scard=2)
    assert without - with_ids == Counter(pfcount=2)


async def test_what_an_older_version_counts_makes_a_day_an_estimate_and_loses_nobody(
    store: RedisStore, redis: RawRedis
) -> None:
    """It feeds the sketches only, and neither its logs nor its moment in `dirty` has a mark."""
    await counted(store, range(10))
    await redis.hset(f"ff1:{{{SITE}}}:dirty", TODAY.isoformat(), "1795490000000000")
    await redis.pfadd(day_key(SITE, TODAY, "visitors"), *(packed([visitor]) for visitor in range(10, 30)))
    await redis.pfadd(f"ff1:{{{SITE}}}:week:{MONDAY}:visitors", *(packed([visitor]) for visitor in range(10, 30)))
    await redis.hset(day_key(SITE, TODAY, "logs"), OTHER_LOG, "1:20")
    read = await counted(store, [30], seq=2)
    assert (read.today_visitors, read.week_visitors, read.exact) == (31, 31, ())


async def test_a_day_whose_logs_are_lost_is_an_estimate_and_loses_nobody(store: RedisStore, redis: RawRedis) -> None:
    """An older version that mends the day drops its logs, and with them that its visitors are in no set."""
    await counted(store, range(10))
    for sketch in (day_key(SITE, TODAY, "visitors"), f"ff1:{{{SITE}}}:week:{MONDAY}:visitors"):
        await redis.pfadd(sketch, *(packed([visitor]) for visitor in range(10, 30)))
    await redis.delete(day_key(SITE, TODAY, "logs"))
    read = (await store.record(SITE, period_of(TODAY), 300)).reading
    assert read is not None
    assert (read.today_visitors, read.week_visitors, read.exact) == (30, 30, ())
    read = await counted(store, range(10))  # what its worker still has comes again
    assert (read.today_visitors, read.week_visitors, read.exact) == (30, 30, ())


async def test_a_day_whose_logs_are_lost_is_an_estimate_after_a_merge_too(store: RedisStore, redis: RawRedis) -> None:
    """Postgres has of the day what it had before the older version counted."""
    await counted(store, range(10))
    snapshot = await store.snapshot(SITE, [MONDAY], all_days=True)
    assert snapshot is not None
    await redis.pfadd(day_key(SITE, TODAY, "visitors"), *(packed([visitor]) for visitor in range(10, 30)))
    await redis.delete(day_key(SITE, TODAY, "logs"))
    await store.merge(SITE, snapshot.days)
    read = (await store.record(SITE, period_of(TODAY), 300)).reading
    assert read is not None
    assert (read.today_visitors, "today" in read.exact) == (30, False)


async def test_the_ids_of_a_day_that_is_lost_end_with_the_next_full_rollup(store: RedisStore, redis: RawRedis) -> None:
    """An older version that mends the day drops its sketch only; no confirmation would name the day any more."""
    await counted(store, range(10))
    week = MONDAY - WEEK
    lost_keys = day_key(SITE, MONDAY - DAY, "ids"), f"ff1:{{{SITE}}}:week:{week}:ids"
    for key in lost_keys:
        await redis.sadd(key, packed([1]))
    lost_week = f"ff1:{{{SITE}}}:week:{week}:visitors"
    await redis.pfadd(lost_week, packed([1]))
    assert await store.snapshot(SITE, [week, MONDAY], all_days=True)
    assert await redis.exists(*lost_keys) == 0
    assert await redis.ttl(lost_week) > 7 * 86400, "its number must not fall while it is the current week"
    assert await redis.ttl(f"ff1:{{{SITE}}}:week:{MONDAY}:visitors") == -1
    assert await redis.exists(day_key(SITE, TODAY, "ids"), WEEK_IDS) == 2


async def state_of(redis: RawRedis, chance: random.Random, log: str) -> DayState:
    """A copy of today: with its ids, or with its sketch alone."""
    ids = chance.sample(range(40), chance.randint(0, 30))
    await redis.delete("made")
    await redis.pfadd("made", *(packed([visitor]) for visitor in ids))
    whole = DayState(TODAY, len(ids), await redis.get("made"), {log: (chance.randint(1, 3), 5)})
    return replace(whole, ids=packed(sorted(ids)), exact=True) if chance.random() < 0.6 else whole


async def merged(url: str, redis: RawRedis, site: SiteId, states: Sequence[DayState]) -> tuple[object, ...]:
    """What Redis has of today after merges in this order."""
    async with open_redis(url, 5.0) as store:
        store.installation = "ours"
        await store.open(site, [], Closed(1, MONDAY - DAY, 0, 0, 0, ""))
        for state in states:
            await store.merge(site, [state])
    ids = await redis.smembers(day_key(site, TODAY, "ids"))
    logs = await redis.hgetall(day_key(site, TODAY, "logs"))
    are_exact = bool(ids) and all(entry.startswith(b"0") for entry in logs.values())
    numbers = {log: int(entry.partition(b":")[0]) for log, entry in logs.items() if log not in (b"d", b"e")}
    sketch: bytes = await redis.get(day_key(site, TODAY, "visitors"))
    return frozenset(ids) if are_exact else None, numbers, sketch[16:]


async def test_merges_of_sets_and_sketches_end_alike_in_every_order(redis_url: str, redis: RawRedis) -> None:
    """Idempotent, commutative, associative: random triples, in different orders and with repetitions."""
    chance = random.Random(13)
    for number in range(25):
        states = [await state_of(redis, chance, log) for log in ("a1", "b2", "c3")]
        orders = [[0, 1, 2], [2, 1, 0], [1, 0, 1, 2, 2, 0]]
        ends = [
            await merged(redis_url, redis, SiteId(f"s{number}-{at}"), [states[n] for n in order])
            for at, order in enumerate(orders)
        ]
        assert ends[0] == ends[1] == ends[2]


async def test_a_row_has_the_ids_until_their_key_is_destroyed_and_stays_exact(stores: Stores) -> None:
    """The list of a small portal's visitors ends with its week; that the number is exact stays for ever."""
    worker = await stores.worker()
    await worker.rollup.roll_up(worker.site, all_days=True)
    await worker.count(batch(1, range(63)))
    await worker.rollup.roll_up(worker.site)
    row = await stores.row()
    assert (row["ids"], row["visitors"], row["exact"]) == (packed(range(63)), 63, True)
    stores.clock.advance(9 * 86400)
    await worker.roll_up_all_days()
    row = await stores.row()
    assert (row["ids"], row["visitors"], row["exact"]) == (None, 63, True)
    ends_s = salt_ends_s(MONDAY, worker.site.zone)  # by Redis' clock, years from now
    assert [await stores.redis.expiretime(key) for key in (day_key(SITE, TODAY, "ids"), WEEK_IDS)] == [ends_s, ends_s]
    assert "total" in (await worker.count()).exact


async def test_a_restore_brings_the_ids_back(stores: Stores) -> None:
    """After FLUSHALL the numbers are as exact as before, and a known visitor is not counted again."""
    worker = await stores.worker()
    await worker.rollup.roll_up(worker.site, all_days=True)
    before = await worker.count(batch(1, range(495)))
    await worker.rollup.roll_up(worker.site)
    await stores.redis.flushall()
    fresh = await stores.worker()
    assert await fresh.opener.open(fresh.site)
    after = await fresh.count(batch(1, range(10), log=OTHER_LOG))
    assert (after.today_visitors, after.week_visitors, after.exact) == (495, 495, before.exact)


async def test_what_an_older_version_saves_takes_the_ids_away(stores: Stores) -> None:
    """It knows neither ids nor their checksum: the row has visitors who are not among them."""
    worker = await stores.worker()
    await worker.rollup.roll_up(worker.site, all_days=True)
    await worker.count(batch(1, range(63)))
    await worker.rollup.roll_up(worker.site)
    await stores.sql.execute("UPDATE footfall.site_day SET visitors = 70, logs = logs || '{\"bb\": [1, 1]}', views = 2")
    row = await stores.row()
    assert (row["ids"], row["exact"]) == (None, False)
