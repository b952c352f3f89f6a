"""Notices when the clocks of this host and the stores are far apart: days begin by one, presence ends by another."""

import logging

from footfall.errors import StoreUnavailable
from footfall.model.clocks import Clock, MonotonicClock
from footfall.stores.store_pair import StorePair
from footfall.sync.event_book import EVERY_SITE, EventBook

logger = logging.getLogger(__name__)

APART_MAX_S = 60.0
"""Far beyond what slow answers explain; `footfall doctor` measures closely."""


class ClockWatch:
    """Compares the clocks now and then, and reports once when two of them part and once when they agree again."""

    def __init__(self, stores: StorePair, events: EventBook, clock: Clock, monotonic: MonotonicClock) -> None:
        self._stores = stores
        self._events = events
        self._clock = clock
        self._monotonic = monotonic
        self.apart: dict[str, float] = {}
        """The stores whose clock differs from this host's, and since when by a clock that only goes on."""

    async def step(self) -> None:
        """Compare both stores' clocks with this host's; a store that does not answer is left as it was."""
        for store in ("redis", "postgres"):
            try:
                ahead_s = await self._ahead_s(store)
            except StoreUnavailable as error:
                logger.debug("A clock could not be read. error=%s", error)
                continue
            if abs(ahead_s) > APART_MAX_S:
                if store not in self.apart:
                    logger.error(
                        "The clocks of this host and of a store differ: days and presence are wrong until they agree."
                        " Have all hosts set theirs by NTP. store=%s ahead_s=%.0f",
                        store,
                        ahead_s,
                    )
                self.apart.setdefault(store, self._monotonic())
            elif store in self.apart:
                self._events.note_lasting(f"{store}_clock_apart", self._monotonic() - self.apart.pop(store))
                logger.info("The clocks agree again. store=%s", store)

        for store in ("redis", "postgres"):
            lasts_s = {EVERY_SITE: self._monotonic() - self.apart[store]} if store in self.apart else {}
            self._events.note_running(f"{store}_clock_apart", lasts_s)

    async def _ahead_s(self, store: str) -> float:
        before_s = self._clock()
        if store == "redis":
            clocks_s = await self._stores.redis.clocks_s()
        else:
            clocks_s = [(await self._stores.postgres.facts()).clock_s]
        here_s = (before_s + self._clock()) / 2
        return max((clock_s - here_s for clock_s in clocks_s), key=abs)
