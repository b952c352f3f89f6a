"""Beacons that wait for their batch to be stored: their answer, and the bound on how many may wait."""

import asyncio
from collections.abc import Iterable
from enum import Enum, auto
from typing import NamedTuple

from footfall.errors import Reason, Refused
from footfall.metrics.metrics import Metrics
from footfall.model.batch import BATCH_MAX_VISITORS
from footfall.model.site_id import SiteId

SITE_SHARE = 4
"""One site may fill at most a quarter of the queue."""


class StoredIn(Enum):
    """Where a beacon is safe, and so how its page is answered."""

    REDIS = auto()
    """Counted: 200."""
    DISK = auto()
    """On this host's disk (fsynced); it will be counted once: 202."""


IN_REDIS = StoredIn.REDIS
"""The member by a name of its own: until Python 3.12 `StoredIn.REDIS` calls a function in Python."""
OUTCOMES = {StoredIn.REDIS: "counted", StoredIn.DISK: "spooled"}
"""Values of the metric's label."""


class View(NamedTuple):
    """A page that was opened."""

    page: str = ""
    """Empty for no page of the site."""
    id: bytes = b""
    """8 random bytes by which it is known when the page sends it again; empty where the page gave none."""
    is_repeat: bool = False
    """The page has sent it before, and got no answer."""


class SharedAnswer(asyncio.Future[StoredIn]):
    """The one answer that all beacons of a batch await: a StoredIn, or Refused is raised.

    They await it directly, because a shield for each would double the cost. Cancelling one waiter must not cancel
    the batch for the other waiters, so `cancel` does nothing; the cancelled waiter ends when the answer arrives.
    """

    def cancel(self, msg: object = None) -> bool:
        """Refuse to be cancelled."""
        del msg
        return False


class PendingBatch:
    """Beacons of one log that wait for a sequence number or for their batch to be stored."""

    __slots__ = (
        "answer",
        "beacons",
        "is_full",
        "pages",
        "previous_week_ids",
        "repeated_ids",
        "site_id",
        "view_ids",
        "views",
        "visitor_ids",
    )

    def __init__(self, site_id: SiteId) -> None:
        self.site_id = site_id
        self.answer = SharedAnswer(loop=asyncio.get_running_loop())
        self.visitor_ids: dict[bytes, None] = {}
        self.previous_week_ids: dict[bytes, None] = {}
        self.pages: dict[str, int] = {}
        """Views of each page."""
        self.view_ids: dict[bytes, str] = {}
        """Ids of views, and their pages."""
        self.repeated_ids: dict[bytes, None] = {}
        self.views = 0
        self.beacons = 0
        self.is_full = False
        """One script call takes no more visitors or ids of views."""

    def add(self, visitor_id: bytes | None, previous_week_id: bytes | None, view: View | None) -> None:
        """Add a beacon, a ping where there is no `view`; a view counts even without a visitor id."""
        if visitor_id is not None:
            self.visitor_ids[visitor_id] = None
            self.is_full = self.is_full or len(self.visitor_ids) >= BATCH_MAX_VISITORS
        if previous_week_id is not None:
            self.previous_week_ids[previous_week_id] = None
        if view is not None:
            page, view_id, is_repeat = view
            self.views += 1
            if page:
                self.pages[page] = self.pages.get(page, 0) + 1
            if view_id:
                self.view_ids[view_id] = page
                self.is_full = self.is_full or len(self.view_ids) >= BATCH_MAX_VISITORS
                if is_repeat:
                    self.repeated_ids[view_id] = None
        self.beacons += 1

    def take_out(self, view_ids: Iterable[bytes]) -> int:
        """Take out views that are counted already, and return how many; their visitors are present all the same."""
        before = self.views
        for page in [self.view_ids.pop(view_id) for view_id in view_ids if view_id in self.view_ids]:
            self.views -= 1
            if page:
                self.pages[page] -= 1
        self.pages = {page: views for page, views in self.pages.items() if views}
        self.repeated_ids = {view_id: None for view_id in self.repeated_ids if view_id in self.view_ids}
        return before - self.views


class BeaconQueue:
    """Counts the beacons of a worker that wait for an answer, bounds them, and answers them."""

    def __init__(self, beacons_max: int, metrics: Metrics) -> None:
        self._beacons_max = beacons_max
        self._site_max = beacons_max // SITE_SHARE
        self._metrics = metrics
        self._by_site: dict[SiteId, int] = {}
        self.beacons = 0
        """Beacons that wait for an answer now."""

    def enter(self, site_id: SiteId) -> None:
        """Count one more beacon; raises Refused(BUSY) where the queue, or the site's share of it, is full."""
        waiting = self._by_site.get(site_id, 0)
        if self.beacons >= self._beacons_max or waiting >= self._site_max:
            raise Refused(Reason.BUSY)
        self.beacons += 1
        self._by_site[site_id] = waiting + 1

    def answer(self, pending: PendingBatch, stored_in: StoredIn) -> None:
        """Answer all beacons of a batch that Redis or the disk has stored."""
        self._leave(pending)
        self._metrics.beacon(pending.site_id, OUTCOMES[stored_in], "").inc(pending.beacons)
        pending.answer.set_result(stored_in)

    def refuse(self, pending: PendingBatch, reason: Reason) -> None:
        """Refuse all beacons of a batch that neither Redis nor the disk has stored."""
        self._leave(pending)
        pending.answer.set_exception(Refused(reason))
        pending.answer.exception()  # every waiter may have disconnected

    def _leave(self, pending: PendingBatch) -> None:
        self.beacons -= pending.beacons
        self._by_site[pending.site_id] -= pending.beacons
