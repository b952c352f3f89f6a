"""The use case without HTTP, as imports and trusted back ends call it: one worker with real stores."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from footfall.embedded.servers import Valkey
from footfall.errors import Reason, Refused
from footfall.ingest.beacon import Beacon, Kind
from footfall.ingest.counting import COUNTED, SPOOLED, Counted, Ignored, Spooled
from footfall.ingest.proxy_watch import MENDED_AFTER_S
from footfall.ingest.sender import Sender
from tests.support.footfall import (
    ADDRESS,
    BROWSER,
    ORIGIN,
    SITE,
    VIETNAM,
    FakeClock,
    Footfall,
    running,
    settings_for,
    until,
)

VIEW = Beacon(SITE, "/", Kind.VIEW, None, webdriver=False)
PING = VIEW._replace(kind=Kind.PING)
STAFF = "198.51.100.9"
MONDAY = datetime(2054, 11, 30, tzinfo=VIETNAM)
LOG = "footfall.ingest.proxy_watch"


@pytest.fixture
async def footfall(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Footfall]:
    """A worker with the site `portal`, which does not count the network of its staff."""
    portal = {"excluded_networks": [STAFF], "visitor_id": "browser"}
    async with running(settings_for(redis_url, postgres_url, tmp_path, portal=portal)) as footfall:
        yield footfall


def sender(footfall: Footfall, address: str = ADDRESS) -> Sender:
    """Return a browser at `address` that shows a page of the site."""
    return Sender(footfall.services.resolver.resolve(address, ()), origin=ORIGIN, user_agent=BROWSER)


async def count(footfall: Footfall, beacon: Beacon = VIEW, address: str = ADDRESS) -> Counted | Spooled | Ignored:
    """Count a beacon of a browser at `address`."""
    return await footfall.services.counting.count_beacon(beacon, sender(footfall, address))


def shown(footfall: Footfall) -> tuple[int | None, ...]:
    """Return online, today and views of today, as the worker last saw them."""
    counts = footfall.services.counts_cache.shown(footfall.services.settings.sites[SITE]).counts
    return counts.online, counts.today, counts.views_today


def outcomes(footfall: Footfall, outcome: str, reason: str = "", site: str = SITE) -> float:
    """Return how many beacons had this outcome."""
    return footfall.metric("footfall_beacons_total", site=site, outcome=outcome, reason=reason)


async def test_a_counted_beacon_is_in_the_numbers_when_the_call_returns(footfall: Footfall) -> None:
    """The caller needs no second question: the answer means that Redis has the beacon."""
    assert await count(footfall) is COUNTED
    assert await count(footfall, PING) is COUNTED
    assert await count(footfall, address="203.0.113.8") is COUNTED
    assert shown(footfall) == (2, 2, 2)
    assert outcomes(footfall, "counted") == 3


async def test_beacons_that_come_together_count_each_once(footfall: Footfall) -> None:
    """An import calls many at once, and they share batches."""
    assert await asyncio.gather(*(count(footfall) for _ in range(100))) == [COUNTED] * 100
    assert shown(footfall) == (1, 1, 100)


async def test_a_page_s_own_id_parts_visitors_where_the_site_asks_for_it(footfall: Footfall) -> None:
    """Behind one address of an office sit many people with the same browser."""
    for own_id in ("a", "b", "b"):
        await count(footfall, VIEW._replace(visitor=own_id))
    assert shown(footfall) == (2, 2, 3)


async def test_while_redis_is_away_a_beacon_is_spooled(own_valkey: Valkey, postgres_url: str, tmp_path: Path) -> None:
    """The caller may report success: the beacon is on this host's disk and will count once."""
    async with running(settings_for(own_valkey.url, postgres_url, tmp_path)) as footfall:
        assert await count(footfall) is COUNTED
        own_valkey.kill()
        assert await count(footfall) is SPOOLED
        assert outcomes(footfall, "spooled") == 1
        assert shown(footfall) == (1, 1, 1)


@pytest.mark.parametrize(
    ("beacon", "address", "change", "reason"),
    [
        pytest.param(VIEW, ADDRESS, {"opts_out": True}, Reason.OPT_OUT, id="opted out"),
        pytest.param(VIEW, ADDRESS, {"is_prefetch": True}, Reason.PREFETCH, id="prefetch"),
        pytest.param(VIEW, ADDRESS, {"user_agent": ""}, Reason.ROBOT, id="no user agent"),
        pytest.param(VIEW._replace(webdriver=True), ADDRESS, {}, Reason.ROBOT, id="driven by a program"),
        pytest.param(VIEW, STAFF, {}, Reason.EXCLUDED, id="staff"),
    ],
)
async def test_an_ignored_beacon_names_its_reason_and_leaves_nothing(
    footfall: Footfall, beacon: Beacon, address: str, change: dict[str, object], reason: Reason
) -> None:
    """The caller can say why a number did not rise."""
    ignored = sender(footfall, address)._replace(**change)  # type: ignore[arg-type]
    assert await footfall.services.counting.count_beacon(beacon, ignored) == Ignored(reason)
    assert outcomes(footfall, "ignored", reason.value) == 1
    assert await count(footfall, PING) is COUNTED
    assert shown(footfall) == (1, 1, 0)


@pytest.mark.parametrize(
    ("beacon", "change", "reason", "label"),
    [
        pytest.param(VIEW._replace(site="nope"), {}, Reason.UNKNOWN_SITE, "", id="a site that is not in the settings"),
        pytest.param(VIEW, {"origin": "https://elsewhere.example"}, Reason.WRONG_ORIGIN, SITE, id="another page"),
        pytest.param(VIEW, {"origin": None}, Reason.NO_ORIGIN, SITE, id="no page"),
    ],
)
async def test_a_refused_beacon_raises_its_reason(
    footfall: Footfall, beacon: Beacon, change: dict[str, object], reason: Reason, label: str
) -> None:
    """The reason is the metric's label; an unknown site is none, because a caller must not name metrics."""
    refused = sender(footfall)._replace(**change)  # type: ignore[arg-type]
    with pytest.raises(Refused) as caught:
        await footfall.services.counting.count_beacon(beacon, refused)
    assert caught.value.reason is reason
    assert outcomes(footfall, "refused", reason.value, label) == 1
    assert shown(footfall) == (0, 0, 0)


async def test_a_page_of_the_counter_s_own_site_needs_no_origin_where_its_site_takes_it(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """The image in a page without script comes with neither Origin nor Referer."""
    portal = {"pixel_without_origin": True}
    async with running(settings_for(redis_url, postgres_url, tmp_path, portal=portal)) as footfall:
        own = sender(footfall)._replace(origin=None, is_same_site=True)
        assert await footfall.services.counting.count_beacon(VIEW, own) is COUNTED
        assert shown(footfall) == (1, 1, 1)


async def test_a_network_over_its_limits_is_refused_or_counts_its_views_alone(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """Beyond the budget of new visitors a view still counts; beyond the budget of beacons nothing counts."""
    limits = {"beacons_per_s": 1, "beacons_burst": 3, "new_visitors_per_10_min": 1}
    portal = {"visitor_id": "browser"}
    async with running(settings_for(redis_url, postgres_url, tmp_path, portal=portal, limits=limits)) as footfall:
        for own_id in ("a", "b", "c"):
            assert await count(footfall, VIEW._replace(visitor=own_id)) is COUNTED
        assert shown(footfall) == (1, 1, 3)
        with pytest.raises(Refused, match="rate_limited") as refused:
            await count(footfall)
        assert refused.value.retry_after_s == 1


async def test_a_full_queue_refuses_and_says_when_to_come_back(
    own_valkey: Valkey, postgres_url: str, tmp_path: Path
) -> None:
    """An import that is faster than Redis is slowed down, and memory stays bounded."""
    settings = settings_for(own_valkey.url, postgres_url, tmp_path, queue_max_beacons=100, redis_timeout_s=10)
    async with running(settings) as footfall:
        own_valkey.suspend()
        waiting = [asyncio.create_task(count(footfall)) for _ in range(25)]
        await until(lambda: footfall.services.recorder.queued == 25)
        with pytest.raises(Refused, match="busy") as refused:
            await count(footfall)
        assert refused.value.retry_after_s == 1
        assert outcomes(footfall, "refused", "busy") == 1
        own_valkey.resume()
        assert await asyncio.gather(*waiting) == [COUNTED] * 25


async def test_a_visitor_present_at_the_turn_of_the_week_is_online_once(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """The id changes with the week's salt; the old one leaves as the new one comes."""
    clock = FakeClock(MONDAY - timedelta(seconds=30))
    async with running(settings_for(redis_url, postgres_url, tmp_path), clock=clock) as footfall:
        await count(footfall)
        assert shown(footfall) == (1, 1, 1)
        clock.advance(60)
        await count(footfall, PING)
        assert shown(footfall) == (1, 1, 0)


async def test_a_proxy_s_own_address_is_noted_and_logged_once_an_hour(
    footfall: Footfall, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy that forwards no address makes all its clients one visitor."""
    proxies = footfall.services.counting.proxies
    for _ in range(3):
        assert await count(footfall, address="127.0.0.1") is COUNTED
    assert footfall.metric("footfall_unresolved_clients_total") == 3
    assert [record.levelname for record in caplog.records if record.name == LOG] == ["WARNING"]
    caplog.clear()
    caplog.set_level("INFO")
    began_s = footfall.clock()
    await count(footfall)
    assert proxies.since_s == began_s  # perhaps one of two proxies is well
    footfall.clock.advance(MENDED_AFTER_S)
    await count(footfall)
    await count(footfall)
    assert not proxies.since_s
    assert [record.levelname for record in caplog.records if record.name == LOG] == ["INFO"]
