"""A worker's logs: small replicated logs, of which Redis and Postgres are folds. Pure.

The life of a batch:

    gathered ──▶ numbered, kept ──▶ sent ──▶ applied (Redis has its number) ──▶ durable (Postgres has it): forgotten
                      ▲               │
                      └── sent again ─┘  no answer, GAP, or Redis fell back to an older number
                      │
                      └──▶ spooled (on this host's disk, under the same number) until it is durable

A batch never changes and never moves to another number. It carries the views of its log *so far*, so whoever
holds number n of a log holds all its views up to n. What Redis lacks is sent again from the number that Redis
names; there is no other repair.
"""

from bisect import bisect_right
from collections import deque
from datetime import date
from enum import Enum, StrEnum, auto
from operator import attrgetter
from typing import NamedTuple

BATCH_MAX_VISITORS = 2000
"""Keeps one script call short (about a millisecond) and far from Lua's limit of 8,000 values."""

BATCH_OVERHEAD_BYTES = 400
"""Measured weight of a kept batch besides its packed ids."""

_number_of = attrgetter("seq")


class Batch(NamedTuple):
    """The beacons of one log that reach Redis in one script call."""

    site: str
    day: date
    log: str
    seq: int
    views: int
    """Page views of the log so far, this batch included."""
    seen_ms: int
    """When its beacons were seen, milliseconds since the epoch."""
    visitors: bytes
    """Visitor ids, 16 bytes each."""
    gone: bytes = b""
    """Visitor ids to forget as online: last week's ids of visitors who are in this batch."""
    beacons: int = 0

    @property
    def size_bytes(self) -> int:
        """What it costs to keep."""
        return len(self.visitors) + len(self.gone) + BATCH_OVERHEAD_BYTES


class Answer(StrEnum):
    """What the record script did with a batch."""

    OK = "ok"
    DUP = "dup"
    GAP = "gap"
    OLD = "old"
    NOTREADY = "notready"


class Need(Enum):
    """What has to happen before a log's next batch can be sent."""

    NOTHING = auto()
    RESTORE = auto()
    """Redis is not ready: join it from Postgres."""
    JOIN = auto()
    """Redis lacks something of this day that is not kept here: join the day from Postgres."""
    NEW_LOG = auto()
    """Somebody else writes under this log's id (a cloned machine): the batch moves to another log."""


class Log:
    """The numbered batches of one worker for one site and one day.

    `written` is the last number that may be sent, `sent` the last one that was; `applied` and `durable` are what
    Redis and Postgres were last heard to have. `applied` may fall when Redis loses data, and sending then simply goes
    on from there. A log `on_disk` has its batches in the spool, and `kept` holds only the page of them being sent.
    """

    __slots__ = (
        "applied",
        "brought",
        "day",
        "durable",
        "hole",
        "id",
        "joined",
        "kept",
        "numbered",
        "on_disk",
        "page_after",
        "sent",
        "sent_views",
        "site",
        "views",
        "written",
    )

    def __init__(self, site: str, day: date, log_id: str, *, on_disk: bool = False) -> None:
        self.site = site
        self.day = day
        self.id = log_id
        self.on_disk = on_disk
        self.kept: deque[Batch] = deque()
        self.numbered = self.written = self.sent = self.applied = self.durable = 0
        self.views = self.sent_views = 0
        self.brought = 0
        """Page views that batch `sent` added to those before it."""
        self.page_after = 0
        """Number after which the page was read from the disk."""
        self.joined: int | None = None
        """What Postgres had of this log when its day was joined into Redis; None when it was not, or long ago."""
        self.hole = False
        """The next batch goes out with leave to skip the numbers before it, which nobody has any more."""

    @classmethod
    def left_behind(cls, site: str, day: date, log_id: str, last: int, views: int) -> "Log":
        """Go on with a log in the spool of a worker that is gone; all of it may have been sent."""
        orphan = cls(site, day, log_id, on_disk=True)
        orphan.numbered = orphan.written = orphan.sent = last
        orphan.views = orphan.sent_views = views
        return orphan

    def number(self, views: int, visitors: bytes, gone: bytes, seen_ms: int, beacons: int) -> Batch:
        """Give the next number to some beacons. A number is used once, even if its batch is never stored."""
        self.numbered += 1
        self.views += views
        return Batch(self.site, self.day, self.id, self.numbered, self.views, seen_ms, visitors, gone, beacons)

    def keep(self, batch: Batch) -> None:
        """Keep a batch in memory until Postgres has its number; it may be sent now."""
        self.kept.append(batch)
        self.written = batch.seq

    def stored(self) -> None:
        """Take note that all numbered batches are on the disk; they may be sent now."""
        self.written = self.numbered

    def not_stored(self) -> None:
        """Give up numbers of which nobody knows whether they are on the disk. The log must not be written to again."""
        self.numbered = self.written

    def disk_ends(self) -> int:
        """Give up the rest of a log that the disk has no more; return how many batches. It must not grow again."""
        lost = self.written - max(self.applied, self.durable)
        self.written -= lost
        self.numbered = self.written
        return lost

    def turn_page(self, page: list[Batch]) -> None:
        """Keep what the disk has after `applied`, as far as it was read."""
        self.kept = deque(page)
        self.page_after = self.applied

    def put_back(self, page: list[Batch]) -> int:
        """Keep again what was forgotten for room and is on the disk too; return the bytes that it takes."""
        first = self.kept[0].seq if self.kept else self.written + 1
        found = [batch for batch in page if max(self.applied, self.durable) < batch.seq < first]
        self.kept.extendleft(reversed(found))
        return sum(batch.size_bytes for batch in found)

    @property
    def behind(self) -> bool:
        """Whether Redis lacks batches that it can only get from here; what Postgres has, it gets from there."""
        return max(self.applied, self.durable) < self.written

    def next_batch(self) -> Batch | None:
        """Return the first kept batch that Redis lacks.

        Its number is `applied + 1`, unless those in between are not kept here (`skips` tells).
        """
        if not self.kept or self.kept[-1].seq <= self.applied:
            return None
        return self.kept[bisect_right(self.kept, self.applied, key=_number_of)]

    def skips(self, batch: Batch) -> int:
        """Count the numbers between what Redis has and `batch`."""
        return batch.seq - self.applied - 1

    def sending(self, batch: Batch) -> bool:
        """Take note that `batch` goes out, and tell whether it does so for the first time."""
        first_time = batch.seq > self.sent
        if first_time:
            self.brought = batch.views - self.sent_views
            self.sent, self.sent_views = batch.seq, batch.views
        return first_time

    def answered(self, batch: Batch, answer: Answer, applied: int, *, first_time: bool) -> Need:
        """Take note of Redis' answer to `batch` and say what is needed before the next one."""
        match answer:
            case Answer.OK:
                self.redis_has(batch.seq)
                return Need.NOTHING
            case Answer.DUP if first_time:
                return Need.NEW_LOG
            case Answer.DUP:
                self.redis_has(applied)
                return Need.NOTHING
            case Answer.GAP:
                self.applied = applied
                if self._has_following():
                    return Need.NOTHING
                # Redis may have lost data again since the join: then it has less than Postgres had.
                self.hole = self.joined is not None and applied >= self.joined
                return Need.NOTHING if self.hole else Need.JOIN
            case Answer.OLD:
                return Need.JOIN
            case Answer.NOTREADY:
                return Need.RESTORE

    def unanswered(self) -> None:
        """No answer came, so Redis may be another one next time: what was found out about a gap is void."""
        self.joined, self.hole = None, False

    def redis_has(self, number: int) -> None:
        """Redis was heard to have this number: sending goes on after it."""
        self.applied = min(number, self.sent)  # what was never sent is somebody else's
        self.joined, self.hole = None, False

    def postgres_has(self, number: int) -> int:
        """Postgres was heard to have this number; forget what it has and return the bytes that became free."""
        self.durable = max(self.durable, min(number, self.sent))
        free = 0
        while self.kept and self.kept[0].seq <= self.durable:
            free += self.kept.popleft().size_bytes
        return free

    def forget_oldest(self) -> Batch | None:
        """Drop the oldest kept batch if Redis has it; None when there is none to drop."""
        return self.kept.popleft() if self.kept and self.kept[0].seq <= self.applied else None

    def take_out(self, batch: Batch) -> None:
        """Count `batch` as sent: its number belongs to somebody else, and it gets one of another log."""
        self.redis_has(batch.seq)
        if not self.on_disk:
            self.kept.remove(batch)

    def _has_following(self) -> bool:
        """Whether the batch after `applied` is kept here, or may be on the disk."""
        if self.on_disk and self.applied < self.page_after:
            return True
        following = self.next_batch()
        return following is not None and not self.skips(following)
