"""What one worker is writing: per site its logs, what gathers for them, and who waits for an answer."""

import asyncio
import secrets
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import Enum, auto

from footfall.errors import Reason, Refused
from footfall.metrics.metrics import Metrics
from footfall.model.batch_log import BATCH_MAX_VISITORS, Batch, Log
from footfall.settings.settings import Site


def new_log_id() -> str:
    """Draw an id that no other worker uses: 64 random bits, in hex."""
    return secrets.token_hex(8)


class StoredIn(Enum):
    """Where a beacon is safe, and so what its page is answered."""

    REDIS = auto()
    """Counted: 200."""
    DISK = auto()
    """On this host's disk (fsynced); it will be counted once: 202."""


OUTCOMES = {StoredIn.REDIS: "counted", StoredIn.DISK: "spooled"}
"""Values of the metric's label."""


class SharedAnswer(asyncio.Future[StoredIn]):
    """The one answer that all beacons of a batch await directly, which a shield for each would double in cost.

    One that is cancelled, because its client's time is over, must not cancel it for the others: it is itself
    cancelled once the answer is there.
    """

    def cancel(self, msg: object = None) -> bool:
        """Refuse."""
        del msg
        return False


@dataclass(slots=True)
class Gathered:
    """Beacons of one log that are not numbered yet, and the answer that they wait for.

    The answer is a StoredIn or a Refused.
    """

    done: SharedAnswer
    visitors: dict[bytes, None] = field(default_factory=dict)
    gone: dict[bytes, None] = field(default_factory=dict)
    views: int = 0
    beacons: int = 0


class Writer:
    """One log, what gathers for it, and the one task that may send it."""

    __slots__ = ("cleared", "gathered", "log", "sending", "spilled", "unanswered", "waiting")

    def __init__(self, log: Log) -> None:
        self.log = log
        self.gathered: deque[Gathered] = deque()
        self.waiting: dict[int, Gathered] = {}
        """Numbered batches whose beacons wait for their answer."""
        self.sending: asyncio.Task[None] | None = None
        self.spilled = 0
        """Last number of a log in memory that is on the disk too; 0 when none is."""
        self.cleared = 0
        """Number up to which the disk was told to drop its batches."""
        self.unanswered = 0
        """Number of the batch to which no answer came, 0 when there is none."""

    def gather(self, visitor_id: bytes | None, previous_week_id: bytes | None, *, is_view: bool) -> Gathered:
        """Add a beacon to the batch that gathers; it counts its view even without a visitor id."""
        if not self.gathered or len(self.gathered[-1].visitors) >= BATCH_MAX_VISITORS:
            self.gathered.append(Gathered(SharedAnswer(loop=asyncio.get_running_loop())))
        gathered = self.gathered[-1]
        if visitor_id is not None:
            gathered.visitors[visitor_id] = None
        if previous_week_id is not None:
            gathered.gone[previous_week_id] = None
        gathered.views += is_view
        gathered.beacons += 1
        return gathered

    def number(self, seen_ms: int) -> tuple[Batch, Gathered] | None:
        """Turn what has gathered into the log's next batch; None when nothing has."""
        if not self.gathered:
            return None
        gathered = self.gathered.popleft()
        visitors, gone = b"".join(gathered.visitors), b"".join(gathered.gone)
        return self.log.number(gathered.views, visitors, gone, seen_ms, gathered.beacons), gathered

    def hand_over(self, other: "Writer") -> None:
        """Let what has gathered go with another log."""
        other.gathered.extend(self.gathered)
        self.gathered.clear()

    def on_disk_too(self, first: int, last: int) -> None:
        """Take note that batches in memory were also put on the disk, which is to drop them once they are durable."""
        self.spilled = last
        self.cleared = min(self.cleared, first - 1)

    @property
    def uses_disk(self) -> bool:
        """Whether batches of it may be on the disk."""
        return self.log.on_disk or self.spilled > 0

    @property
    def idle(self) -> bool:
        """Whether nothing of it is left to do: all that it keeps is in Postgres and off the disk, and nobody waits."""
        log = self.log
        if log.on_disk:
            done = log.durable == log.numbered == self.cleared
        else:
            done = not log.kept and self.cleared >= self.spilled
        return done and not (self.gathered or self.waiting or self.sending)


class SiteWriters:
    """The logs of one site, and whether its beacons go to Redis or to the spool."""

    __slots__ = ("away_since_s", "live", "others", "queued", "site", "spooling", "why_away")

    def __init__(self, site: Site) -> None:
        self.site = site
        self.live: dict[date, Writer] = {}
        self.spooling: dict[date, Writer] = {}
        self.others: list[Writer] = []
        """Logs that get no new beacons: adopted from a worker that is gone, or replaced."""
        self.queued = 0
        self.away_since_s: float | None = None
        """Since when Redis takes no beacons of this site (seconds since the epoch)."""
        self.why_away = ""

    def __iter__(self) -> Iterator[Writer]:
        """All writers, those that beacons wait for first."""
        yield from [*self.live.values(), *self.spooling.values(), *self.others]

    def live_writer(self, day: date) -> Writer:
        """The log that goes to Redis directly."""
        return self.live.get(day) or self.live.setdefault(day, Writer(Log(self.site.id, day, new_log_id())))

    def spool_writer(self, day: date) -> Writer:
        """The log that goes to the disk first."""
        known = self.spooling.get(day)
        return known or self.spooling.setdefault(day, Writer(Log(self.site.id, day, new_log_id(), on_disk=True)))

    def set_aside(self, writer: Writer) -> None:
        """Give a log no new beacons any more; the next one starts a new log."""
        for writers in (self.live, self.spooling):
            if writers.get(writer.log.day) is writer:
                del writers[writer.log.day]
                if not writer.idle:
                    self.others.append(writer)

    def retire(self, today: date) -> None:
        """Let go of logs that are done: all in Postgres, and no beacon will come for them."""
        for writers in (self.live, self.spooling):
            for day in [day for day, writer in writers.items() if day < today and writer.idle]:
                del writers[day]
        self.others = [writer for writer in self.others if not writer.idle]


class Queue:
    """The beacons of a worker that wait for an answer, and their answers."""

    def __init__(self, sites: Mapping[str, SiteWriters], metrics: Metrics) -> None:
        self._sites = sites
        self._metrics = metrics
        self.beacons = 0

    def answer(self, site_id: str, gathered: Gathered, stored_in: StoredIn) -> None:
        """Tell all who share a batch that it is in Redis, or on the disk."""
        self._leave(site_id, gathered)
        self._metrics.beacon(site_id, OUTCOMES[stored_in], "").inc(gathered.beacons)
        gathered.done.set_result(stored_in)

    def refuse(self, site_id: str, gathered: Gathered) -> None:
        """Tell all who share a batch that neither Redis nor the disk has taken it."""
        self._leave(site_id, gathered)
        gathered.done.set_exception(Refused(Reason.SPOOL_FULL, retry_after_s=10))
        gathered.done.exception()  # its callers may all have gone

    def _leave(self, site_id: str, gathered: Gathered) -> None:
        self.beacons -= gathered.beacons
        self._sites[site_id].queued -= gathered.beacons
