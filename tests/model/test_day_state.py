"""The join of two copies of a day is idempotent, commutative and associative, as the servers do it, for any copies."""

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from footfall.model.day_state import Closed, DayState
from footfall.stores.redis_store import RedisStore, day_key
from tests.support.storage import MONDAY, TODAY, RawRedis, packed, registers

LOGS = ("a" * 16, "b" * 16, "c" * 16)
Copy = dict[str, int]
"""How far each log is known to a copy; what a log's batches bring follows from their numbers."""

COPIES = st.dictionaries(st.sampled_from(LOGS), st.integers(1, 6))
ON_REAL_SERVERS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def sites() -> Iterator[str]:
    """Names of sites that hold nothing yet."""
    return (f"site-{number}" for number in count())


def visitors_of(copy: Copy) -> set[int]:
    """Batch n of a log brings 1, 10, 100 ... visitors: copies are sparse, dense, and in between."""
    return {
        LOGS.index(log) * 1000 + visitor for log, last in copy.items() for visitor in range(min(10 ** (last - 1), 4000))
    }


async def state_of(redis: RawRedis, copy: Copy) -> DayState:
    """The copy, with the sketch that Redis makes of its visitors."""
    await redis.delete("made")
    await redis.pfadd("made")
    ids = [packed([visitor]) for visitor in visitors_of(copy)]
    for first in range(0, len(ids), 1000):
        await redis.pfadd("made", *ids[first : first + 1000])
    return DayState(TODAY, 0, await redis.get("made"), {log: (last, last * 7) for log, last in copy.items()})


async def joined(
    store: RedisStore, redis: RawRedis, site: str, copies: list[Copy]
) -> tuple[bytes, bytes, dict[str, object]]:
    """Join copies into an empty site, one after another, and return day, week and logs as Postgres would see them."""
    await store.join(site, [], ready=True, closed=Closed(1, MONDAY, 0, 0, 0, ""))
    for copy in copies:
        await store.join(site, [await state_of(redis, copy)])
    snapshot = await store.snapshot(site, [], all_days=True)
    assert snapshot is not None
    (state,) = snapshot.days
    week = await redis.get(f"ff1:{{{site}}}:week:{MONDAY}:visitors")
    return registers(state.sketch), registers(week), dict(state.logs)


@ON_REAL_SERVERS
@given(first=COPIES, second=COPIES)
async def test_the_order_of_two_copies_does_not_matter(
    store: RedisStore, redis: RawRedis, sites: Iterator[str], first: Copy, second: Copy
) -> None:
    """Two rollups, two restorers, two lineages: whichever comes first, the end is the same."""
    one_way = await joined(store, redis, next(sites), [first, second])
    assert one_way == await joined(store, redis, next(sites), [second, first])
    sketch, week, logs = one_way
    union = {log: max(first.get(log, 0), second.get(log, 0)) for log in first.keys() | second.keys()}
    assert logs == {log: (last, last * 7) for log, last in union.items()}
    assert sketch == week == registers((await state_of(redis, union)).sketch)


@ON_REAL_SERVERS
@given(copy=COPIES, other=COPIES)
async def test_a_copy_joined_again_changes_nothing(
    store: RedisStore, redis: RawRedis, sites: Iterator[str], copy: Copy, other: Copy
) -> None:
    """A restore that got no answer is simply done again."""
    once = await joined(store, redis, next(sites), [copy, other])
    assert once == await joined(store, redis, next(sites), [copy, other, copy, other, other])


@ON_REAL_SERVERS
@given(first=COPIES, second=COPIES, third=COPIES)
async def test_how_copies_are_grouped_does_not_matter(
    store: RedisStore, redis: RawRedis, sites: Iterator[str], first: Copy, second: Copy, third: Copy
) -> None:
    """What Postgres joined of two copies and Redis then joins with a third is what any other path would give."""
    site = next(sites)
    left = await joined(store, redis, site, [first, second])
    snapshot = await store.snapshot(site, [], all_days=True)
    assert snapshot is not None
    other_site = next(sites)
    right = await joined(store, redis, other_site, [third])
    await store.join(other_site, snapshot.days)
    regrouped = await store.snapshot(other_site, [], all_days=True)
    assert regrouped is not None
    (state,) = regrouped.days
    straight = await joined(store, redis, next(sites), [first, second, third])
    assert (registers(state.sketch), dict(state.logs)) == (straight[0], straight[2])
    assert left[2].keys() | right[2].keys() == straight[2].keys()


async def test_a_copy_without_a_sketch_brings_its_logs(
    store: RedisStore, redis: RawRedis, sites: Iterator[str]
) -> None:
    """A day older than 35 days, or one whose sketch is damaged: its numbers still tell what was counted."""
    site = next(sites)
    before = await joined(store, redis, site, [{LOGS[0]: 3}])
    await store.join(site, [DayState(TODAY, 0, None, {LOGS[1]: (4, 9)})])
    assert await redis.hgetall(day_key(site, TODAY, "logs")) == {LOGS[0].encode(): b"3:21", LOGS[1].encode(): b"4:9"}
    assert registers(await redis.get(day_key(site, TODAY, "visitors"))) == before[0]


def test_views_are_the_sum_over_the_logs() -> None:
    """Each log's views are cumulative, so the last entry of each says it all."""
    assert DayState(TODAY, 0, None, {"a": (3, 2**52), "b": (9, 5)}).views == 2**52 + 5
