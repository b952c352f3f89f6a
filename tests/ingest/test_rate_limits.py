"""How much one network may do, with the clock in hand: buckets, budgets, and who is new."""

import tracemalloc
from collections.abc import Iterable
from hashlib import blake2b
from itertools import pairwise

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from footfall.ingest.client_address import Client
from footfall.ingest.rate_limits import Buckets, Budget, BusiestNetwork, KnownVisitors


def taken(buckets: Buckets, key: bytes, tries: int, now_s: float) -> int:
    count = 0
    for _ in range(tries):
        if buckets.wait_s(key, now_s) == 0:
            buckets.take(key, now_s)
            count += 1
    return count


@pytest.mark.parametrize("now_s", [0.0, 12.5, 3e9], ids=["at boot", "soon after", "after a century"])
@pytest.mark.parametrize(("rate_per_s", "burst"), [(50.0, 6000), (1 / 3, 7), (1000 / 600, 1000), (0.1, 1)])
def test_a_bucket_gives_its_burst_and_not_one_more(rate_per_s: float, burst: int, now_s: float) -> None:
    """The documented number is the number, whatever floats make of thousands of additions."""
    buckets = Buckets(rate_per_s, burst, keys_max=10)
    assert taken(buckets, b"net", burst + 50, now_s) == burst


def test_a_bucket_refills_with_its_rate() -> None:
    """After a rush a network gets its steady rate, and after a rest its burst."""
    buckets = Buckets(rate_per_s=10, burst=100, keys_max=10)
    taken(buckets, b"net", 100, 0.0)
    assert taken(buckets, b"net", 99, 1.0) == 10
    assert taken(buckets, b"net", 99, 1.5) == 5
    assert taken(buckets, b"net", 999, 1000.0) == 100


def test_the_wait_is_until_the_next_token() -> None:
    """Retry-After is a promise: earlier is refused, then is not."""
    buckets = Buckets(rate_per_s=0.5, burst=3, keys_max=10)
    taken(buckets, b"net", 3, 100.0)
    wait_s = buckets.wait_s(b"net", 100.0)
    assert 0 < wait_s <= 2
    assert buckets.wait_s(b"net", 100.0 + wait_s / 2) > 0
    assert buckets.wait_s(b"net", 100.0 + wait_s) == pytest.approx(0)


@given(st.floats(0.1, 100), st.integers(1, 50), st.lists(st.floats(0, 20), min_size=1, max_size=200))
def test_no_span_of_time_gives_more_than_burst_and_rate(rate_per_s: float, burst: int, pauses: list[float]) -> None:
    """Whatever the rhythm of the requests, an attacker gets what the settings say."""
    buckets = Buckets(rate_per_s, burst, keys_max=10)
    now_s, times = 1000.0, []
    for pause_s in pauses:
        now_s += pause_s
        times += [now_s] * taken(buckets, b"net", 20, now_s)
    for first in range(0, len(times), 7):
        for last in range(first, len(times), 11):
            assert last - first + 1 <= burst + rate_per_s * (times[last] - times[first]) + 1
    assert all(earlier <= later for earlier, later in pairwise(times))


def test_a_table_forgets_the_least_recently_used_network() -> None:
    """A bounded table keeps the active networks; a network that it drops has its whole budget again."""
    buckets = Buckets(rate_per_s=1, burst=1, keys_max=3)
    for key in (b"a", b"b", b"c"):
        buckets.take(key, 0.0)
    buckets.take(b"a", 10.0)
    buckets.take(b"d", 10.0)
    assert len(buckets) == 3
    assert [buckets.wait_s(key, 0.0) > 0 for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]


def test_a_full_table_of_100000_networks_stays_small() -> None:
    """The bound must hold against addresses made up faster than anything else."""
    tracemalloc.start()
    try:
        buckets = Buckets(rate_per_s=1, burst=10, keys_max=100_000)
        for number in range(150_000):
            buckets.take(number.to_bytes(8, "big"), float(number))
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(buckets) == 100_000
    assert used_bytes < 32 * 1024 * 1024


def net64(subscriber: int, subnet: int) -> Client:
    """One /64 in a subscriber's /48."""
    wide = b"\x20\x01\x0d\xb8" + subscriber.to_bytes(2, "big")
    network = wide + subnet.to_bytes(2, "big")
    return Client(network + bytes(8), network, wide, is_proxy=False)


PORTAL, NEWS = b"\0", b"\1"
V4 = bytes([203, 0, 113, 9])
OFFICE = Client(V4, V4, V4, is_proxy=False)


def spent(budget: Budget, clients: Iterable[Client], now_s: float = 0.0, site: bytes = PORTAL) -> int:
    return sum(budget.spend(site, client, now_s) == 0 for client in clients)


def test_a_48_has_a_few_times_the_budget_of_one_64() -> None:
    """One subscriber may own 65,536 networks of the size that counts as one place: four budgets, and 1 for each /56."""
    budget = Budget(rate_per_s=1, burst=10, wide_factor=4, networks_max=100_000)
    everywhere = [net64(1, subnet) for subnet in range(20 * 256)]
    assert spent(budget, everywhere) == 40 + 20
    assert spent(budget, [net64(2, 1)] * 50) == 10


def test_a_few_busy_networks_leave_their_neighbours_a_budget() -> None:
    """A /48 may be a village: four of its computers must not shut out two hundred households."""
    budget = Budget(rate_per_s=1000 / 600, burst=1000, wide_factor=4, networks_max=100_000)
    busy = [net64(1, subnet) for subnet in range(4) for _ in range(2000)]
    assert spent(budget, busy) == 2000 + 4 * 15 + 3
    assert [spent(budget, [net64(1, subnet)] * 5) for subnet in range(4, 204)] == [5] * 200


def test_a_line_is_served_although_every_other_line_floods() -> None:
    """Who owns a /56, or many, takes nothing of what another /56 has for itself."""
    budget = Budget(rate_per_s=1000 / 600, burst=1000, wide_factor=4, networks_max=100_000)
    flood = [net64(1, subnet) for _ in range(20) for subnet in range(1024)]
    assert spent(budget, flood) < 4100
    assert spent(budget, [net64(1, 0xFF01)] * 50) == 3
    assert spent(budget, [net64(1, 0xFF01)] * 50, now_s=600.0) > 3


def test_one_site_uses_up_nothing_of_another_site() -> None:
    """An office that floods one portal is still counted on the others."""
    budget = Budget(rate_per_s=1, burst=10, wide_factor=4, networks_max=100_000)
    assert spent(budget, [OFFICE] * 100) == 10
    assert spent(budget, [OFFICE] * 100, site=NEWS) == 10
    assert spent(budget, [net64(1, subnet) for subnet in range(200)]) == 41
    assert spent(budget, [net64(1, subnet) for subnet in range(200)], site=NEWS) == 41


def test_who_is_refused_spends_nothing_of_the_neighbours() -> None:
    """A flood from one /64 would otherwise shut out its whole /48."""
    budget = Budget(rate_per_s=1, burst=10, wide_factor=4, networks_max=100_000)
    assert spent(budget, [net64(1, 1)] * 10_000) == 10
    assert spent(budget, [net64(1, 2)] * 50) == 10


def test_an_ipv4_address_has_one_budget() -> None:
    """An IPv4 address is its own wide network: the larger budget must not lift the smaller."""
    budget = Budget(rate_per_s=1, burst=10, wide_factor=4, networks_max=100_000)
    assert spent(budget, [OFFICE] * 100) == 10


def visitor(number: int) -> bytes:
    return blake2b(str(number).encode(), digest_size=16).digest()


def test_a_visitor_is_known_once_seen() -> None:
    """A known visitor does not use up the budget of new ones a second time."""
    known = KnownVisitors(1 << 16)
    assert visitor(1) not in known
    known.add(visitor(1))
    assert visitor(1) in known
    assert visitor(2) not in known


def test_nobody_is_known_who_was_not_added() -> None:
    """An unknown visitor that passed for known would avoid the budget; a forgotten one costs a unit of it."""
    known = KnownVisitors(1024)
    for number in range(5000):
        known.add(visitor(number))
    assert sum(visitor(number) in known for number in range(5000)) > 900
    assert not any(visitor(number) in known for number in range(5000, 30_000))


def test_known_visitors_take_memory_once_they_come_and_8_bytes_each_at_most() -> None:
    """Each worker has such a table: 8 MiB that an idle worker never writes to would be a seventh of its memory."""
    before = psutil.Process().memory_info().rss
    known = KnownVisitors(1 << 24)
    assert psutil.Process().memory_info().rss - before < 32 * 1024 * 1024
    tracemalloc.start()
    try:
        for number in range(10_000):
            known.add(visitor(number))
        grown_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown_bytes < 0.1 * 1024 * 1024


@pytest.mark.parametrize(
    ("networks", "share"),
    [
        pytest.param([b"a"] * 99, 0.0, id="too few to tell"),
        pytest.param([b"a"] * 100, 1.0, id="one alone"),
        pytest.param([b"a", b"b"] * 400, 0.5, id="two alike"),
        pytest.param([b"a", b"a", b"a", b"b"] * 100, 0.75, id="one busier"),
        pytest.param([bytes([number % 250]) for number in range(1000)], 0.004, id="many alike"),
        pytest.param([b"a"] * 5000 + [b"b"] * 250, 0.75, id="the latest thousand"),
        pytest.param([b"a"] * 5000 + [b"b"] * 1000, 1.0, id="nothing of before"),
    ],
)
def test_the_share_of_the_busiest_network_is_of_the_latest_beacons(networks: list[bytes], share: float) -> None:
    """Near 1 means that a proxy is not trusted yet, and that all its clients are counted as one visitor."""
    busiest = BusiestNetwork()
    for network in networks:
        busiest.saw(network)
    assert busiest.share() == pytest.approx(share)
