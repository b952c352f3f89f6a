"""The merge of two copies of a day, done by the real servers, is idempotent, commutative and associative."""

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from footfall.model.day_state import Closed, DayState
from footfall.model.site_id import SiteId
from footfall.stores.redis_store import RedisStore, day_key
from tests.support.storage import MONDAY, TODAY, RawRedis, packed, registers

LOGS = ("a" * 16, "b" * 16, "c" * 16)
Copy = dict[str, int]
"""The last seq of each log in a copy; which visitors a batch brings follows from its seq."""

COPIES = st.dictionaries(st.sampled_from(LOGS), st.integers(1, 6))
ON_REAL_SERVERS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def sites() -> Iterator[SiteId]:
    """Ids of sites that hold nothing yet."""
    return (SiteId(f"site-{number}") for number in count())


def visitors_of(copy: Copy) -> set[int]:
    """Return the visitors of a copy: batch n of a log brings 1, 10, 100 ..., so sketches are sparse and dense."""
    return {
        LOGS.index(log_id) * 1000 + visitor
        for log_id, seq in copy.items()
        for visitor in range(min(10 ** (seq - 1), 4000))
    }


async def state_of(redis: RawRedis, copy: Copy) -> DayState:
    """Return the state of a copy, with the sketch that Redis makes of its visitors."""
    await redis.delete("made")
    await redis.pfadd("made")
    ids = [packed([visitor]) for visitor in visitors_of(copy)]
    for first in range(0, len(ids), 1000):
        await redis.pfadd("made", *ids[first : first + 1000])
    return DayState(TODAY, 0, await redis.get("made"), {log_id: (seq, seq * 7) for log_id, seq in copy.items()})


async def merged(
    store: RedisStore, redis: RawRedis, site_id: SiteId, copies: list[Copy]
) -> tuple[bytes, bytes, dict[str, object]]:
    """Merge copies into an empty site, one after another; return day, week and logs as Postgres would see them."""
    await store.open(site_id, [], Closed(1, MONDAY, 0, 0, 0, ""))
    for copy in copies:
        await store.merge(site_id, [await state_of(redis, copy)])
    state = await only_day(store, site_id)
    week = await redis.get(f"ff1:{{{site_id}}}:week:{MONDAY}:visitors")
    return registers(state.sketch), registers(week), dict(state.logs)


async def only_day(store: RedisStore, site_id: SiteId) -> DayState:
    """Return the state of the only day that Redis has of a site."""
    snapshot = await store.snapshot(site_id, [], all_days=True)
    assert snapshot is not None
    (state,) = snapshot.days
    return state


@ON_REAL_SERVERS
@given(first=COPIES, second=COPIES)
async def test_the_order_of_two_copies_does_not_matter(
    store: RedisStore, redis: RawRedis, sites: Iterator[SiteId], first: Copy, second: Copy
) -> None:
    """Two rollups, two restores, two lineages of a Redis: in either order the outcome is the same."""
    one_way = await merged(store, redis, next(sites), [first, second])
    assert one_way == await merged(store, redis, next(sites), [second, first])
    sketch, week, logs = one_way
    union = {log_id: max(first.get(log_id, 0), second.get(log_id, 0)) for log_id in first.keys() | second.keys()}
    assert logs.pop("f", (0, 0)) == (7 * sum(union.values()), 0)
    assert logs == {log_id: (seq, seq * 7) for log_id, seq in union.items()}
    assert sketch == week == registers((await state_of(redis, union)).sketch)


@ON_REAL_SERVERS
@given(copy=COPIES, other=COPIES)
async def test_a_copy_merged_again_changes_nothing(
    store: RedisStore, redis: RawRedis, sites: Iterator[SiteId], copy: Copy, other: Copy
) -> None:
    """A restore without an answer is simply repeated."""
    once = await merged(store, redis, next(sites), [copy, other])
    assert once == await merged(store, redis, next(sites), [copy, other, copy, other, other])


@ON_REAL_SERVERS
@given(first=COPIES, second=COPIES, third=COPIES)
async def test_how_copies_are_grouped_does_not_matter(
    store: RedisStore, redis: RawRedis, sites: Iterator[SiteId], first: Copy, second: Copy, third: Copy
) -> None:
    """Two copies that are merged in Redis, saved, and merged with a third end as on any other path."""
    site_id, other_id = next(sites), next(sites)
    left = await merged(store, redis, site_id, [first, second])
    saved = await only_day(store, site_id)
    right = await merged(store, redis, other_id, [third])
    await store.merge(other_id, [saved])
    state = await only_day(store, other_id)
    straight = await merged(store, redis, next(sites), [first, second, third])
    assert (registers(state.sketch), dict(state.logs)) == (straight[0], straight[2])
    assert left[2].keys() | right[2].keys() == straight[2].keys()


async def test_a_copy_without_a_sketch_brings_its_logs(
    store: RedisStore, redis: RawRedis, sites: Iterator[SiteId]
) -> None:
    """A day older than 35 days, or one whose sketch is damaged: its seqs still say what was counted."""
    site_id = next(sites)
    before = await merged(store, redis, site_id, [{LOGS[0]: 3}])
    await store.merge(site_id, [DayState(TODAY, 0, None, {LOGS[1]: (4, 9)})])
    kept = await redis.hgetall(day_key(site_id, TODAY, "logs"))
    assert kept == {LOGS[0].encode(): b"3:21", LOGS[1].encode(): b"4:9", b"f": b"30:0"}
    assert registers(await redis.get(day_key(site_id, TODAY, "visitors"))) == before[0]


def test_views_are_the_sum_over_the_logs() -> None:
    """Each log's views are cumulative, so its last entry carries all of them."""
    assert DayState(TODAY, 0, None, {"a": (3, 2**52), "b": (9, 5)}).views == 2**52 + 5
