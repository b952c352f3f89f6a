"""A batch: the beacons of one log that reach Redis in one script call, and what Redis answers. Pure."""

from datetime import date
from enum import StrEnum
from typing import NamedTuple

from footfall.model.site_id import SiteId

BATCH_MAX_VISITORS = 2000
"""Keeps one script call short (about a millisecond) and far from Lua's limit of 8,000 values."""

VIEW_ID_BYTES = 8

BATCH_OVERHEAD_BYTES = 400
"""Measured weight of a retained batch besides its packed ids."""


class Batch(NamedTuple):
    """Beacons under one sequence number. A batch never changes and never moves to another number."""

    site_id: SiteId
    day: date
    log_id: str
    seq: int
    """Number within the log, from 1."""
    views: int
    """Page views of the log so far, this batch included."""
    seen_ms: int
    """When its beacons were seen, milliseconds since the epoch, by Redis' clock."""
    visitor_ids: bytes
    """16 bytes each."""
    previous_week_ids: bytes = b""
    """Last week's ids of visitors who are in this batch: they are removed from `online`. 16 bytes each."""
    beacons: int = 0
    pages: bytes = b""
    """For every page that it touches, the views that the log has of it so far; see `model/pages.py`."""
    view_ids: bytes = b""
    """Random ids of its views, which Redis remembers for minutes; the disk never has them. 8 bytes each."""
    repeated_ids: bytes = b""
    """Those that a page has sent before."""
    may_be_applied: bool = False
    """Redis must take it as it is, because it was sent before or its beacons are answered."""

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        packed = self.visitor_ids, self.previous_week_ids, self.pages, self.view_ids, self.repeated_ids
        return sum(map(len, packed)) + BATCH_OVERHEAD_BYTES


class Answer(StrEnum):
    """What the record script did with a batch."""

    OK = "ok"
    """Applied."""
    DUP = "dup"
    """Applied before; nothing changed."""
    GAP = "gap"
    """Refused: the number before it is missing."""
    OLD = "old"
    """Refused: its day is closed and no longer in Redis."""
    SEEN = "seen"
    """Refused: another batch has counted views of it."""
    NOTREADY = "notready"
    """Refused: Redis has lost the site's state."""
