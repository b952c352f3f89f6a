"""Which pages count by themselves, so that random paths fill neither the memory nor the table of a portal.

A page that is new to a worker costs its network a part of a budget; a page that is known costs nothing. Beyond the
budget, and beyond `pages_max` of a site and day, views count for the site and for the page `(other)`.
"""

from collections.abc import Iterable
from datetime import date

from footfall.ingest.client_address import Client
from footfall.ingest.rate_limits import NetworkLimits
from footfall.model.pages import OTHER

FAMILIAR_FACTOR = 4
"""Pages of earlier that are remembered, in `pages_max`: several workers may have brought some each."""


class SitePages:
    """The pages of one site that this worker has admitted today, and those that it knows from before."""

    def __init__(self, pages_max: int, site: bytes, networks: NetworkLimits) -> None:
        self._pages_max = pages_max
        self._site = site
        self._networks = networks
        self._day = date.min
        self._today: set[str] = set()
        self._familiar: set[str] = set()

    def admit(self, page: str, day: date, client: Client, now_s: float) -> str:
        """Return the page under which a view of `page` counts: itself, or `(other)`."""
        if day != self._day:
            self.learn(self._today)
            self._day, self._today = day, set()
        if page in self._today:
            return page
        if len(self._today) >= self._pages_max or not (page in self._familiar or self._spend(client, now_s)):
            return OTHER
        self._today.add(page)
        return page

    def counts(self, page: str) -> bool:
        """Return whether `page` counts by itself today."""
        return page in self._today

    def learn(self, pages: Iterable[str]) -> None:
        """Remember pages that are not new, such as those that Redis has when a worker starts."""
        if len(self._familiar) > FAMILIAR_FACTOR * self._pages_max:
            self._familiar = set()
        self._familiar.update(pages)

    def _spend(self, client: Client, now_s: float) -> bool:
        networks = self._networks
        if not networks.limits.enabled:
            return True
        budget = networks.proxy_new_pages if client.is_proxy else networks.new_pages
        return budget.spend(self._site, client, now_s) == 0
