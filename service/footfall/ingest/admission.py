"""Which beacons may count: those of the site's pages, within their network's budget, from people who do not opt out."""

import math
import time
from collections.abc import Callable, Iterable
from datetime import date
from functools import cached_property, lru_cache
from ipaddress import ip_address

from footfall.errors import Reason, Refused
from footfall.ingest.beacon import Beacon
from footfall.ingest.client_address import Client
from footfall.ingest.origins import Origins
from footfall.ingest.page_limits import SitePages
from footfall.ingest.rate_limits import Budget, BusiestNetwork, NetworkLimits
from footfall.ingest.robots import Robots
from footfall.ingest.sender import Sender
from footfall.settings.settings import Settings, Site

ADDRESSES_REMEMBERED_MAX = 4096
OPS_KEY = b"\xff\xff\xff\xff"
"""In place of a site's number, in the budget of what is asked of no site."""


class SiteRules:
    """The settings of one site about who counts, compiled once, and its pages."""

    def __init__(self, site: Site, number: int, networks: NetworkLimits) -> None:
        self.key = number.to_bytes(4)
        """The site in the keys of budgets: each site has its own budget for a network."""
        self.pages = SitePages(site.pages_max, self.key, networks)
        self.origins = Origins(site.hosts)
        self._takes_pixel_without_origin = site.pixel_without_origin
        self._excluded_networks = site.excluded_networks

    def accepts_page(self, referer: str | None, is_same_site: bool) -> bool:
        """Return whether a page without origin is of the site; raises Refused(NO_ORIGIN) where its site is unknown."""
        if referer:
            return self.origins.accepts_referer(referer)
        if is_same_site and self._takes_pixel_without_origin:
            return True
        raise Refused(Reason.NO_ORIGIN)

    def excludes(self, client: Client) -> bool:
        """Return whether the client is in a network that the site never counts, such as staff or monitors."""
        if not self._excluded_networks or not client.address:
            return False
        return self._is_excluded_cached(client.address)

    @cached_property
    def _is_excluded_cached(self) -> Callable[[bytes], bool]:
        return lru_cache(ADDRESSES_REMEMBERED_MAX)(self._is_excluded)

    def _is_excluded(self, packed: bytes) -> bool:
        address = ip_address(packed)
        return any(address in network for network in self._excluded_networks)


class Admission:
    """Decides about each beacon and each read, from what its own worker has seen."""

    def __init__(self, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._robots = Robots()
        self._busiest = BusiestNetwork()
        self._networks = NetworkLimits(settings.limits)
        self._rules = {
            site.id: SiteRules(site, number, self._networks) for number, site in enumerate(settings.sites.values())
        }

    def check(self, site: Site, beacon: Beacon, sender: Sender) -> Reason | None:
        """Return None if the beacon counts, else why it is ignored: OPT_OUT, EXCLUDED, PREFETCH, FRAMED or ROBOT.

        Raises Refused(NO_ORIGIN | WRONG_ORIGIN | RATE_LIMITED). A refused or ignored beacon leaves nothing behind but
        what its network has spent.
        """
        # Unpacking costs less than reading so many fields of a tuple by name.
        client, origin, referer, user_agent, is_same_site, opts_out, is_prefetch, signs = sender
        rules = self._rules[site.id]
        if not (rules.origins.accepts(origin) if origin else rules.accepts_page(referer, is_same_site)):
            raise Refused(Reason.WRONG_ORIGIN)
        if client.is_proxy:
            self._charge(self._networks.proxy_beacons, rules.key, client)
        else:
            self._busiest.saw(client.network)
            self._charge(self._networks.beacons, rules.key, client)
        # The script sends nothing for a visitor who opts out; the pixel, or an old copy of the script, still does.
        if opts_out:
            return Reason.OPT_OUT
        if rules.excludes(client):
            return Reason.EXCLUDED
        if is_prefetch:
            return Reason.PREFETCH
        if beacon.frames and not all(map(rules.origins.accepts, beacon.frames)):
            return Reason.FRAMED
        if signs or beacon.webdriver or self._robots.is_robot(user_agent):
            return Reason.ROBOT
        return None

    def may_add_visitor(self, site: Site, client: Client, visitor: bytes) -> bool:
        """Return whether a visitor id may enter the sketches: it is known here, or its network may add a new one.

        If not, the view counts without its visitor, until a later beacon of the same visitor finds budget again.
        A worker that restarts knows no visitor, so a network with more present visitors than its budget is online in
        full only after some minutes; the sketches of today and week still hold its visitors.
        """
        networks = self._networks
        if not networks.limits.enabled or visitor in networks.known:
            return True
        budget = networks.proxy_new_visitors if client.is_proxy else networks.new_visitors
        if budget.spend(self._rules[site.id].key, client, self._monotonic()) > 0:
            return False
        networks.known.add(visitor)
        return True

    def page_to_count(self, site: Site, page: str, day: date, client: Client) -> str:
        """Return the page under which a view of `page` counts: itself, or `(other)` beyond the bounds."""
        return self._rules[site.id].pages.admit(page, day, client, self._monotonic())

    def counts_page(self, site: Site, page: str) -> bool:
        """Return whether this worker counts `page` by itself today."""
        return self._rules[site.id].pages.counts(page)

    def learn_pages(self, site: Site, pages: Iterable[str]) -> None:
        """Remember pages that are not new, such as those that Redis has when a worker starts."""
        self._rules[site.id].pages.learn(pages)

    def check_read(self, site: Site, client: Client) -> None:
        """Raise Refused(RATE_LIMITED) if the client's network has read the site's numbers too often."""
        budget = self._networks.proxy_reads if client.is_proxy else self._networks.reads
        self._charge(budget, self._rules[site.id].key, client)

    def check_report(self, site: Site, client: Client) -> None:
        """Raise Refused(RATE_LIMITED) if the client's network asked too often for reports of the site, or to log in."""
        budget = self._networks.proxy_reports if client.is_proxy else self._networks.reports
        self._charge(budget, self._rules[site.id].key, client)

    def check_login(self, client: Client) -> None:
        """Raise Refused(RATE_LIMITED) if the client's network guessed too often at the token of the ops routes."""
        budget = self._networks.proxy_reports if client.is_proxy else self._networks.reports
        self._charge(budget, OPS_KEY, client)

    def busiest_network_share(self) -> float:
        """Return the busiest network's part of the latest beacons, 0 to 1; near 1 it is a proxy not trusted yet."""
        return self._busiest.share()

    def _charge(self, budget: Budget, site: bytes, client: Client) -> None:
        if not self._networks.limits.enabled:
            return
        wait_s = budget.spend(site, client, self._monotonic())
        if wait_s > 0:
            raise Refused(Reason.RATE_LIMITED, retry_after_s=math.ceil(wait_s))
