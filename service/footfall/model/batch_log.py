"""A worker's batch logs: small replicated logs, of which Redis and Postgres are folds. Pure.

The life of a batch:

    pending ──▶ numbered, retained ──▶ sent ──▶ acked (Redis has its seq) ──▶ durable (Postgres has it): forgotten
                      ▲                 │
                      └── sent again ───┘  no answer, GAP, or Redis fell back to an older seq
                      │
                      └──▶ spooled (on this host's disk, under the same seq) until it is durable

A batch carries the views of its log *so far*, so a store that has seq n of a log has all its views up to n. The
worker sends again from the seq that Redis names; there is no other repair.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from datetime import date
from enum import Enum, auto
from operator import attrgetter
from types import MappingProxyType

from footfall.model.batch import Answer, Batch
from footfall.model.pages import packed
from footfall.model.site_id import SiteId

_seq_of = attrgetter("seq")
NO_PAGES: Mapping[str, int] = MappingProxyType({})


class Need(Enum):
    """What has to happen before a log's next batch can be sent."""

    NOTHING = auto()
    RESTORE = auto()
    """Redis is not ready: restore it from Postgres."""
    MERGE = auto()
    """Redis lacks part of this day that this worker does not retain: merge the day from Postgres."""
    NEW_LOG = auto()
    """Another worker writes under this log's id (a cloned machine): the batch moves to another log."""


class BatchLog:
    """The numbered batches of one worker for one site and one day.

    Five sequence numbers tell how far it is: `assigned` to a batch, `stored` in memory or on the disk (may be sent),
    `sent`, `acked` by Redis, `durable` in Postgres. `acked` falls when Redis loses data, and sending continues from
    there. A log `on_disk` has its batches in the spool; `retained` then holds only the page being sent.
    """

    __slots__ = (
        "_loaded_after",
        "_sent_views",
        "acked",
        "assigned",
        "day",
        "durable",
        "log_id",
        "merged",
        "on_disk",
        "pages",
        "retained",
        "retained_bytes",
        "sent",
        "sent_batch_views",
        "site_id",
        "skip_gap",
        "stored",
        "views",
    )

    def __init__(self, site_id: SiteId, day: date, log_id: str, *, on_disk: bool = False) -> None:
        self.site_id = site_id
        self.day = day
        self.log_id = log_id
        self.on_disk = on_disk
        self.retained: deque[Batch] = deque()
        self.retained_bytes = 0
        self.assigned = self.stored = self.sent = self.acked = self.durable = 0
        self.views = self._sent_views = 0
        self.pages: dict[str, int] = {}
        """Views of each page so far."""
        self.sent_batch_views = 0
        """Page views that batch `sent` added to those before it."""
        self._loaded_after = 0
        """Seq after which the page in memory was read from the disk."""
        self.merged: int | None = None
        """Seq that Postgres had when the day was merged into Redis; None if it was not, or long ago."""
        self.skip_gap = False
        """The next batch may skip the seqs before it, which no store has any more."""

    @classmethod
    def adopted(cls, site_id: SiteId, day: date, log_id: str, last_seq: int, views: int) -> "BatchLog":
        """Continue a log from the spool of a worker that has ended and may have sent all of it."""
        log = cls(site_id, day, log_id, on_disk=True)
        log.assigned = log.stored = log.sent = last_seq
        log.views = log._sent_views = views
        return log

    def append(
        self,
        views: int,
        visitor_ids: bytes,
        previous_week_ids: bytes,
        seen_ms: int,
        beacons: int,
        pages: Mapping[str, int] = NO_PAGES,
    ) -> Batch:
        """Assign the next seq to some beacons, with the views of each page among them.

        A seq is used once, even if its batch is never stored.
        """
        self.assigned += 1
        self.views += views
        so_far = self.pages
        touched = {page: so_far.get(page, 0) + added for page, added in pages.items()}
        so_far.update(touched)
        return Batch(
            self.site_id,
            self.day,
            self.log_id,
            self.assigned,
            self.views,
            seen_ms,
            visitor_ids,
            previous_week_ids,
            beacons,
            packed(touched) if touched else b"",
        )

    def with_all_pages(self, batch: Batch) -> Batch:
        """Return a batch that follows lost ones, with the views of every page: it brings what they would have."""
        return batch._replace(pages=packed(self.pages)) if self.pages else batch

    def retain(self, batch: Batch) -> None:
        """Retain a batch in memory until it is durable; it may be sent now."""
        self.retained.append(batch)
        self.retained_bytes += batch.size_bytes
        self.stored = batch.seq

    def mark_stored(self) -> None:
        """Record that the disk has every assigned batch; they may be sent now."""
        self.stored = self.assigned

    def withdraw_unstored(self) -> None:
        """Withdraw seqs that may or may not be on the disk. The log must not be appended to again."""
        self.assigned = self.stored

    def cut_missing_end(self) -> int:
        """Give up batches at the end that the disk has lost; return how many. The log must not be appended to again."""
        lost = self.stored - max(self.acked, self.durable)
        self.stored -= lost
        self.assigned = self.stored
        return lost

    def withdraw(self, batch: Batch, pages: Mapping[str, int]) -> None:
        """Take back the newest batch, and the views of pages that it brought: Redis refused it, nothing else has it."""
        self.retained.remove(batch)
        self.retained_bytes -= batch.size_bytes
        self.assigned = self.stored = self.sent = batch.seq - 1
        self._sent_views -= self.sent_batch_views
        self.views -= self.sent_batch_views
        for page, views in pages.items():
            self.pages[page] -= views
            if not self.pages[page]:
                del self.pages[page]

    def load_page(self, page: list[Batch]) -> None:
        """Hold a page of what the disk has after `acked`, as far as it was read."""
        self.retained = deque(page)
        self.retained_bytes = sum(batch.size_bytes for batch in page)
        self._loaded_after = self.acked

    def unload_page(self) -> None:
        """Release the page; the disk still has it."""
        self.retained.clear()
        self.retained_bytes = 0

    def retain_again(self, page: list[Batch]) -> None:
        """Retain what was forgotten to free memory and is on the disk too."""
        first = self.retained[0].seq if self.retained else self.stored + 1
        found = [batch for batch in page if max(self.acked, self.durable) < batch.seq < first]
        self.retained.extendleft(reversed(found))
        self.retained_bytes += sum(batch.size_bytes for batch in found)

    @property
    def is_behind(self) -> bool:
        """Whether Redis lacks batches that it can get only from here; what is durable it gets from Postgres."""
        return max(self.acked, self.durable) < self.stored

    def next_batch(self) -> Batch | None:
        """Return the first retained batch that Redis lacks.

        Its seq is `acked + 1`, unless those in between are not retained (`gap_before` counts them).
        """
        if not self.retained or self.retained[-1].seq <= self.acked:
            return None
        return self.retained[bisect_right(self.retained, self.acked, key=_seq_of)]

    def gap_before(self, batch: Batch) -> int:
        """Count the seqs between what Redis has and `batch`."""
        return batch.seq - self.acked - 1

    def mark_sent(self, batch: Batch) -> bool:
        """Record that `batch` is being sent; return whether for the first time."""
        is_first_time = batch.seq > self.sent
        if is_first_time:
            self.sent_batch_views = batch.views - self._sent_views
            self.sent, self._sent_views = batch.seq, batch.views
        return is_first_time

    def mark_answered(self, batch: Batch, answer: Answer, acked: int, *, is_first_time: bool) -> Need:
        """Record Redis' answer to `batch`; return what is needed before the next one is sent."""
        match answer:
            case Answer.OK:
                self.mark_acked(batch.seq)
                return Need.NOTHING
            case Answer.DUP if is_first_time:
                return Need.NEW_LOG
            case Answer.DUP:
                self.mark_acked(acked)
                return Need.NOTHING
            case Answer.GAP:
                self.acked = acked
                if self._has_following():
                    return Need.NOTHING
                # Redis may have lost data again since the merge: then it has less than Postgres had.
                self.skip_gap = self.merged is not None and acked >= self.merged
                return Need.NOTHING if self.skip_gap else Need.MERGE
            case Answer.OLD:
                return Need.MERGE
            case Answer.NOTREADY:
                return Need.RESTORE
            case Answer.SEEN:
                return Need.NOTHING

    def mark_unanswered(self) -> None:
        """Withdraw the leave to skip a gap: without an answer, the next one may come from another Redis."""
        self.merged, self.skip_gap = None, False

    def mark_acked(self, seq: int) -> None:
        """Record that Redis has `seq`: sending continues after it."""
        self.acked = min(seq, self.sent)  # a seq that was never sent is another worker's
        self.merged, self.skip_gap = None, False

    def mark_durable(self, seq: int) -> None:
        """Record that Postgres has `seq`, and forget the batches up to it."""
        self.durable = max(self.durable, min(seq, self.sent))
        while self.retained and self.retained[0].seq <= self.durable:
            self.retained_bytes -= self.retained.popleft().size_bytes

    def forget_oldest(self) -> Batch | None:
        """Forget the oldest retained batch if Redis has it; return it, None where there is none to forget."""
        if not self.retained or self.retained[0].seq > self.acked:
            return None
        forgotten = self.retained.popleft()
        self.retained_bytes -= forgotten.size_bytes
        return forgotten

    def take_out(self, batch: Batch) -> None:
        """Count `batch` as acked without Redis: its seq belongs to another worker, and another log carries it."""
        self.mark_acked(batch.seq)
        if not self.on_disk:
            self.retained.remove(batch)
            self.retained_bytes -= batch.size_bytes

    def _has_following(self) -> bool:
        """Whether the batch after `acked` is retained, or may be on the disk."""
        if self.on_disk and self.acked < self._loaded_after:
            return True
        following = self.next_batch()
        return following is not None and not self.gap_before(following)
