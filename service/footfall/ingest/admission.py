"""Who may count: whose page it is, whether its network has budget left, and who asks not to be counted."""

import math
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import ip_address

from multidict import istr

from footfall.errors import Reason, Refused
from footfall.ingest.beacon import Beacon
from footfall.ingest.client_address import Client
from footfall.ingest.origins import Origins
from footfall.ingest.rate_limits import Budget, BusiestNetwork, NetworkLimits
from footfall.ingest.robots import Robots
from footfall.settings.settings import Settings, Site

ADDRESSES_REMEMBERED_MAX = 4096
# Made once: for a plain string the lower case and its hash are found anew for every request.
ORIGIN, REFERER, USER_AGENT = istr("Origin"), istr("Referer"), istr("User-Agent")
SEC_FETCH_SITE, SEC_GPC, SEC_PURPOSE, PURPOSE = map(istr, ("Sec-Fetch-Site", "Sec-GPC", "Sec-Purpose", "Purpose"))
EARLY_PURPOSES = ("prefetch", "prerender", "preview")


class SiteRules:
    """What the settings say about counting on one site, compiled once."""

    def __init__(self, site: Site) -> None:
        self.origins = Origins(site.hosts)
        self._excluded_networks = site.excluded_networks
        self._is_excluded_cached = lru_cache(ADDRESSES_REMEMBERED_MAX)(self._is_excluded)

    def excludes(self, client: Client) -> bool:
        """Whether the client is in a network that the site never counts: staff, monitors."""
        if not self._excluded_networks or not client.address:
            return False
        return self._is_excluded_cached(client.address)

    def _is_excluded(self, packed: bytes) -> bool:
        address = ip_address(packed)
        return any(address in network for network in self._excluded_networks)


class Admission:
    """Decides about each beacon and each read; knows only what its own worker has seen."""

    def __init__(self, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._robots = Robots()
        self._busiest = BusiestNetwork()
        self._networks = NetworkLimits(settings.limits)
        self._rules = _compile_rules(settings)

    def reload(self, settings: Settings) -> None:
        """Go by new settings; what is known of networks and visitors stays, unless the limits changed."""
        self._rules = _compile_rules(settings)
        if settings.limits != self._networks.limits:
            self._networks = NetworkLimits(settings.limits)

    def check(
        self, site: Site, beacon: Beacon, headers: Mapping[str, str], client: Client, *, pixel: bool = False
    ) -> Reason | None:
        """None if the beacon counts, else why it is ignored: OPT_OUT, EXCLUDED, PREFETCH or ROBOT.

        Raises Refused(NO_ORIGIN | WRONG_ORIGIN | RATE_LIMITED). Cheapest first; a refused or ignored
        beacon leaves nothing behind but its network's budget. `pixel`: a GET for the image, which
        browsers send without Origin, and without Referer where the page's policy says so.
        """
        rules = self._rules[site.id]
        _check_origin(rules.origins, headers, pixel)
        if not client.is_proxy:
            self._busiest.saw(client.network)
            self._charge(self._networks.beacons, client)
        # Global Privacy Control: the script does not even send then. A page without script or with an
        # old copy of it still does, and whoever asks not to be measured is not.
        if headers.get(SEC_GPC) == "1":
            return Reason.OPT_OUT
        if rules.excludes(client):
            return Reason.EXCLUDED
        if _is_prefetch(headers):
            return Reason.PREFETCH
        if beacon.webdriver or self._robots.is_robot(headers.get(USER_AGENT, "")):
            return Reason.ROBOT
        return None

    def may_add_visitor(self, client: Client, visitor: bytes) -> bool:
        """Whether a visitor id may enter the sketches: it is known here, or its network may add a new one.

        False: the view counts, the visitor does not, until a later beacon of the same visitor finds
        budget again. A worker that restarts knows nobody, so a network with more present visitors than
        its budget is online in full only after some minutes; today and week have kept them.
        """
        networks = self._networks
        if not networks.limits.enabled or client.is_proxy or visitor in networks.known:
            return True
        if networks.new_visitors.spend(client.network, client.wide_network, self._monotonic()) > 0:
            return False
        networks.known.add(visitor)
        return True

    def check_read(self, client: Client) -> None:
        """Raise Refused(RATE_LIMITED) if the client's network has read the numbers too often."""
        if not client.is_proxy:
            self._charge(self._networks.reads, client)

    def busiest_network_share(self) -> float:
        """The part of the latest beacons that one network sent, 0 to 1; near 1: a proxy not trusted yet."""
        return self._busiest.share()

    def _charge(self, budget: Budget, client: Client) -> None:
        if not self._networks.limits.enabled:
            return
        wait_s = budget.spend(client.network, client.wide_network, self._monotonic())
        if wait_s > 0:
            raise Refused(Reason.RATE_LIMITED, retry_after_s=math.ceil(wait_s))


def _compile_rules(settings: Settings) -> Mapping[str, SiteRules]:
    return {site.id: SiteRules(site) for site in settings.sites.values()}


def _check_origin(origins: Origins, headers: Mapping[str, str], pixel: bool) -> None:
    """Origin decides alone where it is sent, else Referer; browsers let no page forge either."""
    if origin := headers.get(ORIGIN):
        accepted = origins.accepts(origin)
    elif referer := headers.get(REFERER):
        accepted = origins.accepts_referer(referer)
    # A page that sends no Referer is still known to be of the counter's own site, or of a sibling.
    elif pixel and headers.get(SEC_FETCH_SITE) in ("same-origin", "same-site"):
        accepted = True
    else:
        raise Refused(Reason.NO_ORIGIN)
    if not accepted:
        raise Refused(Reason.WRONG_ORIGIN)


def _is_prefetch(headers: Mapping[str, str]) -> bool:
    purpose = headers.get(SEC_PURPOSE) or headers.get(PURPOSE)
    return purpose is not None and any(word in purpose.lower() for word in EARLY_PURPOSES)
