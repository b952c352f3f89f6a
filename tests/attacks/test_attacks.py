"""Every attack of `tests/attacks/__main__.py`, on a whole Footfall, reaches no more than its row allows."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.attacks.__main__ import ATTACKS, Attack, estimate_of_raw_ids
from tests.attacks.under_attack import Outcome, attack, flood
from tests.support.crafted import REGISTERS
from tests.support.footfall import running, settings_for

KEYS = 15
"""Keys of one site, whatever it receives: ready, online, days, dirty, closed, page_totals, two salts, those of a
day and its week, each with its set of ids."""
SETS = 2
EXACT_UP_TO = 4096
"""Beyond so many visitors a day keeps no set of ids; a week keeps twice as many."""
PAGE_BYTES_MAX = 3 * (2048 + 200)
"""A page, its mark of change, and what is remembered of PostgreSQL."""
VISITOR_BYTES_MAX = 200
SKETCHES_BYTES_MAX = 2 * 16_384
"""Bytes of a day's and its week's sketch at their largest."""
FIVE_SIGMA = 5 * 0.0081


def assert_bounded(outcome: Outcome) -> None:
    """An attack makes no key more than one honest visitor, and uses memory only for admitted visitors."""
    assert outcome.before.keys == KEYS
    assert outcome.after.keys == (KEYS if outcome.visitors <= EXACT_UP_TO else KEYS - SETS)
    assert (
        outcome.added_bytes
        <= SKETCHES_BYTES_MAX + VISITOR_BYTES_MAX * outcome.visitors + PAGE_BYTES_MAX * outcome.pages
    )


@pytest.mark.parametrize("each", ATTACKS, ids=lambda each: each.name)
async def test_an_attack_reaches_what_is_known_beforehand_and_no_more(
    redis_url: str, postgres_url: str, tmp_path: Path, each: Attack
) -> None:
    """Anyone can send beacons; what beacons add to the numbers, the memory and the keys has a bound."""
    settings = settings_for(redis_url, postgres_url, tmp_path, portal=each.portal, **each.settings)
    async with running(settings) as footfall, Redis.from_url(redis_url) as redis:
        outcome = await attack(footfall, redis, each.requests())
    assert (outcome.answers, outcome.views, outcome.visitors) == (each.answers, each.views, each.visitors)
    assert outcome.pages == each.pages
    assert outcome.real_pages == (1, 1), "a page of the portal does not count by itself"
    assert outcome.after.shown == pytest.approx(outcome.after.visitors, rel=FIVE_SIGMA, abs=2)
    assert_bounded(outcome)


async def test_ids_that_nobody_hashes_inflate_the_count_a_thousandfold(redis_url: str) -> None:
    """The crafted ids of the attack work: without the keyed hash they would be 24 million visitors."""
    async with Redis.from_url(redis_url) as redis:
        assert await estimate_of_raw_ids(redis) > 1000 * REGISTERS


async def test_a_flood_is_refused_while_its_neighbour_is_served(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """Budgets are per network; the table of `make attacks` shows how much longer the neighbour waits."""
    settings = settings_for(redis_url, postgres_url, tmp_path)
    async with running(settings) as footfall, Redis.from_url(redis_url) as redis:
        outcome = await flood(footfall, redis)
    assert set(outcome.answers) == {200, 429}
    assert outcome.views == outcome.answers[200]
    assert outcome.visitors == 1
    assert_bounded(outcome)
