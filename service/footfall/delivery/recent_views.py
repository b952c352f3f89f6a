"""Views that this worker took in the last minutes: one that its page sends again gets the answer of its first time."""

from footfall.delivery.pending import SharedAnswer
from footfall.model.clocks import MonotonicClock
from footfall.model.site_id import SiteId

REMEMBERED_S = 180.0
"""Pages send a view again for a minute."""
VIEWS_MAX = 50_000
"""About 15 MB; beyond them the oldest is forgotten, and Redis alone knows it."""


class RecentViews:
    """Ids of views, in the order in which they came, and the answers that they get or got."""

    def __init__(self, monotonic: MonotonicClock) -> None:
        self._monotonic = monotonic
        self._answers: dict[tuple[SiteId, bytes], tuple[float, SharedAnswer]] = {}

    def answer(self, site_id: SiteId, view_id: bytes) -> SharedAnswer | None:
        """Return the answer of a view; None for one that is not known, or was refused and so may come again."""
        known = self._answers.get((site_id, view_id))
        if known is None or (known[1].done() and known[1].exception() is not None):
            return None
        return known[1]

    def remember(self, site_id: SiteId, view_id: bytes, answer: SharedAnswer) -> None:
        """Remember a view, and forget what is old."""
        now_s, answers = self._monotonic(), self._answers
        answers.pop((site_id, view_id), None)
        answers[site_id, view_id] = now_s, answer
        while len(answers) > VIEWS_MAX or now_s - next(iter(answers.values()))[0] > REMEMBERED_S:
            del answers[next(iter(answers))]
