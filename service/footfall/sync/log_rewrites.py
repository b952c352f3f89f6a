"""Has Redis rewrite its append-only file once a day: until then the file keeps every visitor id beside the salt.

Each command that Redis ran stands in that file, with the ids that it added, and so do destroyed salts. A rewrite
leaves only what the keys hold now. A rewrite is due in each time zone of the sites ten minutes after the moment at
which days close and salts end, two hours after midnight, which is also a quiet hour. Installations that share a host
are spread over 20 minutes more.

Redis keeps when the last rewrite was asked for, so that one worker of all asks, and a missed one is made up for.
"""

import logging
from collections.abc import Iterable
from zlib import crc32

from footfall.errors import StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.availability import UP, Availability, Away
from footfall.model.clocks import Clock
from footfall.model.periods import CLOSING_DELAY, local_day, start_of
from footfall.model.retention import DAY
from footfall.settings.settings import Site
from footfall.stores.redis_store import RedisStore

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 60.0
MARGIN_S = 600
"""By then Redis has removed the keys that expired."""
SPREAD_S = 1200
OVERDUE_S = 2 * 3600.0
CLOCKS_APART_MAX_S = 3600.0


class LogRewrites:
    """Asks for the rewrites, and knows whether they succeed."""

    def __init__(self, sites: Iterable[Site], redis: RedisStore, metrics: Metrics, clock: Clock) -> None:
        sites = list(sites)
        self._zones = list({site.time_zone: site.zone for site in sites}.values())
        self._delay_s = CLOSING_DELAY.total_seconds() + MARGIN_S
        self._delay_s += crc32(" ".join(sorted(site.id for site in sites)).encode()) % SPREAD_S
        self._redis = redis
        self._metrics = metrics
        self._clock = clock
        self._look_at_s = float("-inf")
        self._asked_at_s: float | None = None
        """When this worker asked for a rewrite whose end it has not seen yet."""
        self._unfulfilled_since_s: float | None = None
        """When this worker first saw the rewrite that is due now."""
        self.state: Availability = UP
        """Whether the file is rewritten as it should be; this worker's own view."""

    async def step(self) -> None:
        """Ask for a rewrite if one is due, or look how the one that was asked for ended; raises nothing."""
        now_s = self._clock()
        # A clock that was set back must not stop the looks.
        if self._look_at_s - LOOK_EVERY_S <= now_s < self._look_at_s:
            return
        self._look_at_s = now_s + LOOK_EVERY_S
        try:
            await self._look(now_s)
        except StoreUnavailable:
            return  # others report that Redis is away

    async def _look(self, now_s: float) -> None:
        servers = await self._redis.facts()
        if not any(facts.aof for facts in servers):
            self._asked_at_s = None
            self._metrics.log_rewritten.set(now_s)
            self._note_success()
            return
        if any(facts.aof_rewriting for facts in servers):
            return
        if self._asked_at_s is not None:
            asked_at_s, self._asked_at_s = self._asked_at_s, None
            if not all(facts.aof_rewrite_ok for facts in servers):
                self._note_failure("the rewrite failed; Redis' log says why", now_s)
                return
            await self._redis.note_rewritten(asked_at_s)
        rewritten_at_s = await self._redis.rewritten_at_s()
        self._metrics.log_rewritten.set(rewritten_at_s)
        if self.due_s(now_s) <= rewritten_at_s <= now_s + CLOCKS_APART_MAX_S:
            self._note_success()
            return
        if self._unfulfilled_since_s is None:
            self._unfulfilled_since_s = now_s
        if await self._redis.claim_rewrite():
            await self._ask(now_s)
        elif now_s - self._unfulfilled_since_s > OVERDUE_S:
            self._note_failure("it is overdue, although a worker asked for it", now_s)

    async def _ask(self, now_s: float) -> None:
        try:
            await self._redis.rewrite_log()
        except StoreUnavailable as error:
            self._note_failure(error.sentence, now_s)
        else:
            self._asked_at_s = now_s

    def due_s(self, now_s: float) -> float:
        """Return the latest moment at which a rewrite was due, seconds since the epoch."""
        moments = []
        for zone in self._zones:
            today = local_day(now_s, zone)
            moments += [start_of(day, zone) + self._delay_s for day in (today, today - DAY)]
        return max(moment for moment in moments if moment <= now_s)

    def _note_failure(self, why: str, now_s: float) -> None:
        if self.state is UP:
            self.state = Away(now_s, why)
            logger.warning(
                "Redis does not rewrite its append-only file, in which ids of visitors stay readable beside the salt:"
                " run BGREWRITEAOF every day. error=%s",
                why,
            )

    def _note_success(self) -> None:
        self._unfulfilled_since_s = None
        if self.state is not UP:
            self.state = UP
            logger.info("Redis rewrites its append-only file again.")
