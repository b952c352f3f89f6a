"""The pages whose beacons were refused: a host that is missing in `hosts`, or a mistyped `data-site`.

No visitor sees that mistake, so the log names such pages once a minute, and `footfall doctor` those of the last hour.
Strangers choose what stands here, so a site has few places: a page that was refused once gives way first.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from heapq import nlargest
from typing import NamedTuple

from footfall.errors import Reason
from footfall.ingest.origins import DEFAULT_PORTS, ORIGIN_MAX_CHARS, origin_of
from footfall.ingest.sender import Sender
from footfall.log_throttle import LogThrottle
from footfall.model.clocks import Clock
from footfall.model.hosts import FILE, canonical_host, split_port, without_www
from footfall.settings.messages import did_you_mean

logger = logging.getLogger(__name__)

PAGES_PER_SITE_MAX = 16
LISTED_MAX = 100
LOGGED_MAX = 3
REMEMBERED_S = 3600.0
SITE_MAX_CHARS = 32
NOT_PLAIN = re.compile("[^!-~]")
NOTED = frozenset({Reason.WRONG_ORIGIN, Reason.NO_ORIGIN, Reason.UNKNOWN_SITE})


class Page(NamedTuple):
    """A refused page: what it gives as its site, its origin ("" without one), and why it was refused."""

    site: str
    origin: str
    reason: str


class Refusals(NamedTuple):
    """How often a page was refused since it was seen first; seconds since the epoch."""

    page: Page
    times: int
    since_s: float
    last_s: float


class RefusedPages:
    """The refused pages of one worker, a few for each site and a few for all unknown sites together."""

    def __init__(self, sites: Iterable[str], clock: Clock) -> None:
        self._clock = clock
        self._tables: dict[str, dict[Page, Refusals]] = {site: {} for site in sites}
        self._of_unknown_sites: dict[Page, Refusals] = {}
        self._throttle = LogThrottle()
        self._logged_s = float("-inf")

    def note(self, reason: Reason, site: str, sender: Sender) -> None:
        """Record a refused beacon, and log the most frequent pages of the last minute once a minute."""
        if reason not in NOTED:
            return
        origin = sender.origin or origin_of(sender.referer or "")
        page = _page(site[:SITE_MAX_CHARS], origin[:ORIGIN_MAX_CHARS], reason)
        now_s = self._clock()
        table = self._tables.get(site, self._of_unknown_sites)
        known = table.get(page)
        if known is None and len(table) >= PAGES_PER_SITE_MAX:
            del table[min(table, key=lambda each: _worth(table[each], now_s))]
        table[page] = Refusals(page, known.times + 1 if known else 1, known.since_s if known else now_s, now_s)
        if times := self._throttle.happened():
            self._log(times, now_s)

    def last_hour(self) -> list[Refusals]:
        """Return the pages that were refused within the last hour, the most frequent first; at most `LISTED_MAX`."""
        return _most_frequent(self._since(self._clock() - REMEMBERED_S), LISTED_MAX)

    def _since(self, at_s: float) -> Iterable[Refusals]:
        for table in (*self._tables.values(), self._of_unknown_sites):
            yield from (refusals for refusals in table.values() if refusals.last_s >= at_s)

    def _log(self, times: int, now_s: float) -> None:
        recent = _most_frequent(self._since(self._logged_s), LOGGED_MAX)
        self._logged_s = now_s
        logger.warning(
            "Beacons of pages that are of no configured site were refused. If a page is yours, add its host to hosts of"
            " its site, or correct its data-site; footfall doctor lists such pages. times=%d pages=%s",
            times,
            ",".join(f"{each.page.origin or 'none'}(site={each.page.site},times={each.times})" for each in recent),
        )


def merged(of_workers: Iterable[Iterable[Refusals]]) -> list[Refusals]:
    """Return what several workers refused as one list, the most frequent page first."""
    together: dict[Page, Refusals] = {}
    for refusals in (each for one in of_workers for each in one):
        known = together.get(refusals.page)
        together[refusals.page] = (
            refusals
            if known is None
            else known._replace(
                times=known.times + refusals.times,
                since_s=min(known.since_s, refusals.since_s),
                last_s=max(known.last_s, refusals.last_s),
            )
        )
    return _most_frequent(together.values(), LISTED_MAX)


def advice(page: Page, sites: Mapping[str, object]) -> str:
    """Return what the operator of `sites` can do about a refused page, as a sentence without its full stop.

    >>> advice(Page("portal", "https://www.new.example.vn", "wrong_origin"), {"portal": None})
    'if the page is yours, add "new.example.vn" to hosts of [sites.portal]'
    >>> advice(Page("portl", "https://portal.example.vn", "unknown_site"), {"portal": None})
    'no site is called portl; did you mean portal? Correct data-site in the page, or add the site'
    """
    if page.reason == Reason.UNKNOWN_SITE:
        hint = did_you_mean(page.site, sites) or ";"
        end = "Correct" if hint.endswith("?") else "correct"
        return f"no site is called {page.site or 'so'}{hint} {end} data-site in the page, or add the site"
    if page.reason == Reason.NO_ORIGIN:
        return (
            'the page hides its address; put referrerpolicy="origin" into the tag of the image, or set'
            f" pixel_without_origin = true in [sites.{page.site}]"
        )
    if (host := _host_of(page.origin)) is None:
        return "this is the origin of no web page, and it cannot be counted"
    return f'if the page is yours, add "{host}" to hosts of [sites.{page.site}]'


def _host_of(origin: str) -> str | None:
    scheme, _, rest = origin.partition("://")
    if origin == "null" or scheme.lower() == "file":
        return FILE
    name, _ = split_port(rest)
    host = canonical_host(name) if name and scheme.lower() in DEFAULT_PORTS else None
    return without_www(host) if host else None


def _most_frequent(refusals: Iterable[Refusals], number: int) -> list[Refusals]:
    return nlargest(number, refusals, key=lambda each: (each.times, each.last_s))


def _worth(refusals: Refusals, now_s: float) -> tuple[bool, int, float]:
    return refusals.last_s > now_s - REMEMBERED_S, refusals.times, refusals.last_s


@lru_cache(maxsize=32)
def _page(site: str, origin: str, reason: Reason) -> Page:
    return Page(NOT_PLAIN.sub("?", site), NOT_PLAIN.sub("?", origin), reason.value)
