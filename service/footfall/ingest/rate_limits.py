"""How much one network may do: a budget for each site and network, and the visitors that are known already.

Nothing here asks a store. Each worker knows what it has seen itself, so with four workers a network may do up to four
times as much. Every table is bounded and drops the least recently used; a dropped network has its whole budget again.
"""

import mmap
import struct
from collections import Counter, OrderedDict, deque

from footfall.ingest.client_address import Client
from footfall.settings.settings import Limits

TEN_MINUTES_S = 600
PROXY_FACTOR = 20
"""What a trusted proxy's own address may do, in budgets of one network: it stands for many clients, not for all."""
REPORT_WEIGHT = 100
"""As many reads of the numbers weigh as one report, or one guess of its token: numbers are bytes in memory."""
WATCHED_BEACONS = 1000
TELLING_BEACONS = 100
MODEST_PART = 64
"""A network uses little while it stays below this part of its budget."""
LINES_IN_48 = 256
_HALVES = struct.Struct("=QQ")


class Buckets:
    """A token bucket per key: `burst` at once, refilled with `rate_per_s`.

    A bucket is one number, the moment at which it will be full again: a key costs about 200 bytes, and an idle bucket
    equals an unknown one.
    """

    def __init__(self, rate_per_s: float, burst: int, keys_max: int) -> None:
        self._token_s = 1 / rate_per_s
        # Half a token of slack, so that rounding of floats does not decide about the last token.
        self._depth_s = (burst - 0.5) * self._token_s
        self._keys_max = keys_max
        self._full_at: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_s(self, key: bytes, now_s: float) -> float:
        """Return the seconds until `key` has a token; 0 if it has one now."""
        full_at = self._full_at.get(key, 0.0)
        return max(0.0, full_at - now_s - self._depth_s)

    def take(self, key: bytes, now_s: float) -> None:
        """Take a token from `key`, which must have one."""
        self._full_at[key] = max(self._full_at.get(key, 0.0), now_s) + self._token_s
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._keys_max:
            self._full_at.popitem(last=False)


class Budget:
    """What a network may do on one site, and what the /48 around it may do there as a whole.

    The /48 has two pools of equal size. A network may use both up to a 64th of its own budget, and beyond that only
    the first. So a few busy networks empty the first, and their neighbours still find the second. If many networks
    have emptied both, each /56, which is a subscriber line, still has a 256th of a budget of its own.
    """

    def __init__(self, rate_per_s: float, burst: int, wide_factor: int, networks_max: int) -> None:
        def buckets(factor: float, keys_max: int) -> Buckets:
            return Buckets(rate_per_s * factor, max(1, int(burst * factor)), keys_max)

        self._networks = buckets(1, networks_max)
        self._modest = buckets(1 / MODEST_PART, networks_max)
        """What a network may take from the second pool."""
        self._first_pool = buckets(max(1, wide_factor / 2), networks_max // 4)
        self._second_pool = buckets(wide_factor / 2, networks_max // 4)
        self._lines = buckets(1 / LINES_IN_48, networks_max // 4)

    def spend(self, site: bytes, client: Client, now_s: float) -> float:
        """Spend one unit and return 0, or spend nothing and return the seconds until one is free."""
        # A refusal costs no budget, so a flood from one /64 cannot use up the share of its neighbours.
        network = site + client.network
        if (wait_s := self._networks.wait_s(network, now_s)) > 0:
            return wait_s
        if client.network != client.wide_network:  # an IPv4 address is its own wide network
            wait_s = self._spend_wide(network, site + client.wide_network, now_s)
            if wait_s > 0:
                return wait_s
        self._networks.take(network, now_s)
        return 0.0

    def _spend_wide(self, network: bytes, wide_network: bytes, now_s: float) -> float:
        if self._modest.wait_s(network, now_s) == 0 and self._second_pool.wait_s(wide_network, now_s) == 0:
            self._modest.take(network, now_s)
            self._second_pool.take(wide_network, now_s)
            return 0.0
        if (pool_wait_s := self._first_pool.wait_s(wide_network, now_s)) == 0:
            self._first_pool.take(wide_network, now_s)
            return 0.0
        line = network[:-1]  # the /56 around a /64
        if (line_wait_s := self._lines.wait_s(line, now_s)) == 0:
            self._lines.take(line, now_s)
            return 0.0
        return min(pool_wait_s, line_wait_s)


class KnownVisitors:
    """Remembers visitor ids, so that a visitor is new once; a fixed table of 8 bytes for each id.

    Half of an id's bytes choose its place in the table, where the other half is stored; a later id with the same
    place displaces it. Ids are keyed hashes, so a client cannot choose a place. A displaced visitor counts as new
    again. An unknown visitor passes for known only if 64 bits are equal.

    The system gives a page of the table when a visitor first falls into it: 8 MiB for a busy worker, next to nothing
    for an idle one.
    """

    def __init__(self, size: int) -> None:
        self._marks = memoryview(mmap.mmap(-1, 8 * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)).cast("Q")

    def __contains__(self, visitor: bytes) -> bool:
        place, mark = self._place_and_mark(visitor)
        return self._marks[place] == mark

    def add(self, visitor: bytes) -> None:
        """Remember a visitor id (16 bytes)."""
        place, mark = self._place_and_mark(visitor)
        self._marks[place] = mark

    def _place_and_mark(self, visitor: bytes) -> tuple[int, int]:
        place, mark = _HALVES.unpack(visitor)
        return place % len(self._marks), mark


class NetworkLimits:
    """All budgets of one worker, and the visitors that it knows, by the settings' table `[limits]`."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.beacons = self._budget(limits.beacons_per_s, limits.beacons_burst)
        self.reads = self._budget(limits.reads_per_s, limits.reads_burst)
        self.new_visitors = self._budget(limits.new_visitors_per_10_min / TEN_MINUTES_S, limits.new_visitors_per_10_min)
        self.known = KnownVisitors(limits.known_visitors_max)
        self.proxy_beacons = self._budget(PROXY_FACTOR * limits.beacons_per_s, PROXY_FACTOR * limits.beacons_burst)
        self.proxy_reads = self._budget(PROXY_FACTOR * limits.reads_per_s, PROXY_FACTOR * limits.reads_burst)
        at_once = PROXY_FACTOR * limits.new_visitors_per_10_min
        self.proxy_new_visitors = self._budget(at_once / TEN_MINUTES_S, at_once)
        rate_per_s, at_once = limits.reads_per_s / REPORT_WEIGHT, max(1, limits.reads_burst // REPORT_WEIGHT)
        self.reports = self._budget(rate_per_s, at_once)
        self.proxy_reports = self._budget(PROXY_FACTOR * rate_per_s, PROXY_FACTOR * at_once)
        self.new_pages = self._budget(limits.new_pages_per_10_min / TEN_MINUTES_S, limits.new_pages_per_10_min)
        at_once = PROXY_FACTOR * limits.new_pages_per_10_min
        self.proxy_new_pages = self._budget(at_once / TEN_MINUTES_S, at_once)

    def _budget(self, rate_per_s: float, burst: int) -> Budget:
        return Budget(rate_per_s, burst, self.limits.wide_factor, self.limits.networks_max)


class BusiestNetwork:
    """Finds out how much of the latest beacons one network sends."""

    def __init__(self) -> None:
        self._latest: deque[bytes] = deque(maxlen=WATCHED_BEACONS)

    def saw(self, network: bytes) -> None:
        """Record that a beacon came from `network`."""
        self._latest.append(network)

    def share(self) -> float:
        """Return the busiest network's part of the latest 1,000 beacons, 0 to 1; 0 while too few were seen."""
        if len(self._latest) < TELLING_BEACONS:
            return 0.0
        return max(Counter(self._latest).values()) / len(self._latest)
