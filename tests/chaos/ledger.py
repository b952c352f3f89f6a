"""The clients' knowledge: how each of their beacons was answered. Every store is compared with it. Pure."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

NO_CONNECTION = "no_connection"
"""Of a client that reached no service."""
NEVER_STORED = frozenset({"busy", "not_ready", "rate_limited", NO_CONNECTION})
"""Reasons of a 503 or 429 that is given before anything is stored; after any other one the beacon may count or not."""


class Outcome(StrEnum):
    """A client's knowledge of a beacon that it sent."""

    OK = "ok"
    """Answered 200 or 202: counts exactly once."""
    REFUSED = "refused"
    """Refused before anything was stored: counts zero times."""
    UNKNOWN = "unknown"
    """No answer, or an error: counts zero times or once."""


def outcome_of(status: int, reason: str) -> Outcome:
    """Return what an answer means for its client.

    >>> outcome_of(202, ""), outcome_of(503, "busy"), outcome_of(503, "spool_full")
    (<Outcome.OK: 'ok'>, <Outcome.REFUSED: 'refused'>, <Outcome.UNKNOWN: 'unknown'>)
    """
    if status in (200, 202):
        return Outcome.OK
    return Outcome.REFUSED if reason in NEVER_STORED else Outcome.UNKNOWN


@dataclass(slots=True)
class DayLedger:
    """The beacons of one site and one day."""

    views: Counter[Outcome] = field(default_factory=Counter)
    pages: defaultdict[str, Counter[Outcome]] = field(default_factory=lambda: defaultdict(Counter))
    """Views of each page."""
    visitors: dict[Outcome, set[str]] = field(default_factory=lambda: {outcome: set() for outcome in Outcome})
    """Addresses by the outcome of one of their beacons."""

    @property
    def views_min(self) -> int:
        """Return the page views that must be counted."""
        return self.views[Outcome.OK]

    @property
    def views_max(self) -> int:
        """Return the page views that may be counted."""
        return self.views[Outcome.OK] + self.views[Outcome.UNKNOWN]

    def distance(self, counted: int) -> int:
        """Return how far a number of counted views is outside of the possible; 0 is right.

        >>> ledger = DayLedger(views=Counter({Outcome.OK: 10, Outcome.UNKNOWN: 2}))
        >>> [ledger.distance(counted) for counted in (9, 10, 12, 15)]
        [-1, 0, 0, 3]
        """
        return _distance(self.views, counted)

    def page_distances(self, counted: Mapping[str, int]) -> dict[str, int]:
        """Return how far the views of each page are outside of the possible, for those that are."""
        pages = {page: _distance(self.pages[page], counted.get(page, 0)) for page in {*self.pages, *counted}}
        return {page: distance for page, distance in pages.items() if distance}


def _distance(views: Counter[Outcome], counted: int) -> int:
    least = views[Outcome.OK]
    return counted - least if counted < least else max(0, counted - least - views[Outcome.UNKNOWN])


class Ledger:
    """All beacons of a run, by site and by the day on which they were sent."""

    def __init__(self) -> None:
        self.days: defaultdict[tuple[str, date], DayLedger] = defaultdict(DayLedger)
        self.beacons: Counter[Outcome] = Counter()
        self.statuses: Counter[int] = Counter()
        """Answers by HTTP status; 0 stands for none."""

    def note(self, site: str, day: date, address: str, status: int, reason: str = "", page: str = "/") -> Outcome:
        """Record how a beacon was answered; status 0 is no answer, and an empty page is no view."""
        outcome = outcome_of(status, reason)
        self.statuses[status] += 1
        self.beacons[outcome] += 1
        entry = self.days[site, day]
        if page:
            entry.views[outcome] += 1
            entry.pages[page][outcome] += 1
        entry.visitors[outcome].add(address)
        return outcome

    @property
    def sent(self) -> int:
        """Return the number of all beacons."""
        return self.beacons.total()

    @property
    def acked(self) -> int:
        """Return the number of beacons that were answered 200 or 202."""
        return self.beacons[Outcome.OK]

    @property
    def server_errors(self) -> int:
        """Return the number of answers 500 and above."""
        return sum(count for status, count in self.statuses.items() if status >= 500)
