"""The join from Postgres to Redis: a site that is not ready, a day that Redis lacks, the salts in force.

It is the same union of day states as the rollup (`rollup.py`), the other way. Nothing half restored exists: a site is
joined and made ready in one script call, so it may be done by several workers at once, and by one that was stopped.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date, timedelta

from footfall.errors import Reason, Refused, StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.counts import Reading
from footfall.model.day_state import DayState
from footfall.model.periods import CLOSING_DELAY, Clock, local_day, period_at
from footfall.settings.settings import Site
from footfall.stores.postgres_store import PostgresStore
from footfall.stores.redis_store import RedisStore
from footfall.sync.salts import Salts, salt_ends_s

logger = logging.getLogger(__name__)

DAY = timedelta(days=1)


def closed_through(site: Site, at_s: float) -> date:
    """Return the last day that is closed: two hours after its end its number moves from Redis to Postgres."""
    return local_day(at_s - CLOSING_DELAY.total_seconds(), site.zone) - DAY


def first_needed_day(site: Site, at_s: float) -> date:
    """Return the first day that has to be in Redis: of this week, or that is not closed."""
    return min(period_at(at_s, site.zone).week, closed_through(site, at_s) + DAY)


class Restore:
    """Brings what Postgres has back into Redis."""

    def __init__(
        self, redis: RedisStore, postgres: PostgresStore, salts: Salts, metrics: Metrics, clock: Clock = time.time
    ) -> None:
        self._redis = redis
        self._postgres = postgres
        self._salts = salts
        self._metrics = metrics
        self._clock = clock
        self._foreign: set[str] = set()
        """Sites whose Redis was found to hold another installation's state: said once."""
        self._opening: dict[str, asyncio.Task[bool]] = {}
        self.changed: set[str] = set()
        """Sites in which Redis has something that Postgres may not have: the next rollup looks at them."""

    def note_change(self, site_id: str) -> None:
        """The next rollup looks at this site."""
        self.changed.add(site_id)

    async def open_site(self, site: Site) -> bool:
        """Make sure that `site` may be counted and its salts are known; False when Redis is another installation's.

        However many ask at once, it is done once. Raises StoreUnavailable.
        """
        task = self._opening.get(site.id)
        if task is None:
            task = self._opening[site.id] = asyncio.create_task(self._open(site))
            task.add_done_callback(lambda _: self._opening.pop(site.id, None))
        return await asyncio.shield(task)

    async def join_days(self, site: Site, days: Sequence[date]) -> dict[date, DayState]:
        """Bring days back into Redis with all that Postgres has of them; a day it does not have becomes empty.

        Returns what Postgres has.
        """
        known = {state.day: state for state in await self._postgres.days(site.id, days)}
        await self.join(site, [known.get(day, DayState(day, 0, None, {})) for day in days])
        return known

    async def join(self, site: Site, days: Sequence[DayState]) -> None:
        """Join days into Redis; StoreUnavailable where the site is not ready."""
        if not await self._redis.join(site.id, self._checked(site, days)):
            raise StoreUnavailable("redis", f"is not ready; site={site.id}")
        self._metrics.joined.labels("to_redis").inc(len(days))
        self.note_change(site.id)

    async def mend(self, site: Site) -> None:
        """Let go of what Redis cannot read of a site, so that it is joined from Postgres, and sent again, as if lost.

        While Postgres is away nothing is touched: it could not be brought back.
        """
        try:
            self._redis.installation = await self._postgres.installation()
            dropped = await self._redis.mend(site.id)
        except StoreUnavailable as error:
            logger.debug("Nothing can be mended now. site=%s error=%s", site.id, error)
            return
        if dropped:
            self._metrics.damaged.inc(len(dropped))
            logger.error(
                "Sketches in Redis were damaged and are dropped; what Postgres and the workers have of them comes back"
                " by itself. Check the memory and the disk of Redis. site=%s keys=%s",
                site.id,
                ",".join(dropped),
            )

    async def salt(self, site: Site, week: date) -> bytes:
        """Return the salt of `week`, asking the stores; Refused where they do not tell."""
        try:
            await self.open_site(site)
        except StoreUnavailable as error:
            logger.debug("A site could not be opened. site=%s error=%s", site.id, error)
        salt = self._salts.of(site, week)
        if salt is None:
            raise Refused(Reason.NOT_READY, retry_after_s=5)
        return salt

    async def saved_reading(self, site: Site) -> Reading:
        """Read what Postgres alone can say: not who is online, nor the union of the week."""
        now_s = self._clock()
        period = period_at(now_s, site.zone)
        through = closed_through(site, now_s)
        days, closed = await self._postgres.open_days(site.id, first_needed_day(site, now_s), through)
        today = [state for state in days if state.day == period.day]
        still_open = [state for state in days if state.day > through]
        return Reading(
            day_of=period.day,
            week_of=period.week,
            online=None,
            today_visitors=sum(state.visitors for state in today),
            today_views=sum(state.views for state in today),
            week_visitors=None,
            week_views=sum(state.views for state in days if state.day >= period.week),
            total_visitors=closed.visitors + sum(state.visitors for state in still_open),
            total_views=closed.views + sum(state.views for state in still_open),
            adjustments=closed.adjustments,
            revision=closed.revision,
            at_ms=closed.read_at_us // 1000,
        )

    async def close(self) -> None:
        """Wait for the openings that are on their way."""
        await asyncio.gather(*self._opening.values(), return_exceptions=True)

    async def _open(self, site: Site) -> bool:
        now_s = self._clock()
        await self._learn_saved_salts(site, now_s)
        offers = self._salts.offers(site, now_s)
        ends_s = {week: salt_ends_s(site, week) for week in offers}
        salts, opened = await self._redis.share_salts(site.id, offers, ends_s), True
        if salts is None:
            salts, opened = await self._restore(site, offers, ends_s)
        if opened:
            week = period_at(now_s, site.zone).week
            if week in self._salts.learn(site, salts):
                await self._flag(site, week)
        return opened

    async def _learn_saved_salts(self, site: Site, at_s: float) -> None:
        """Learn from Postgres what this worker does not know: Redis may be away, or may have lost its salts."""
        unknown = [week for week in self._salts.offers(site, at_s) if self._salts.of(site, week) is None]
        if unknown:
            with suppress(StoreUnavailable):
                self._salts.learn(site, await self._postgres.salts(site.id, unknown))

    async def _flag(self, site: Site, week: date) -> None:
        """Raise the alarm of a lost salt, and note it where operators look for corrections: in the journal, as 0."""
        self._salts.alarm(site, week)
        try:
            reason = "The key of the visitor hash was lost: visitors of this week count twice."
            await self._postgres.adjust(site.id, f"salt-lost-{week}", 0, reason)
        except StoreUnavailable as error:
            logger.warning(
                "The week could not be flagged in the journal. site=%s week=%s error=%s", site.id, week, error
            )

    async def _restore(
        self, site: Site, offers: dict[date, bytes], ends_s: dict[date, int]
    ) -> tuple[dict[date, bytes], bool]:
        """Join all days that matter from Postgres, then let the site be counted: one script call."""
        if not self._redis.installation:
            self._redis.installation = await self._postgres.installation()
        now_s = self._clock()
        week = period_at(now_s, site.zone).week
        had_salt = self._salts.of(site, week) is not None
        salts = await self._postgres.share_salts(site.id, offers)
        days, closed = await self._postgres.open_days(
            site.id, first_needed_day(site, now_s), closed_through(site, now_s)
        )
        if not had_salt and any(state.visitors for state in days if state.day >= week):
            await self._flag(site, week)  # neither store nor this worker remembers the key that counted them
        opened = await self._redis.join(
            site.id, self._checked(site, days), ready=True, closed=closed, salts=salts, salts_end_s=ends_s
        )
        if opened:
            self._foreign.discard(site.id)
            self._metrics.joined.labels("to_redis").inc(len(days))
            self.note_change(site.id)
            logger.info("Redis was joined from Postgres and is ready. site=%s days=%d", site.id, len(days))
        elif site.id not in self._foreign:
            self._foreign.add(site.id)
            logger.error(
                "Redis holds another installation: use an empty database, or its own Postgres. site=%s",
                site.id,
            )
        return salts, opened

    def _checked(self, site: Site, days: Sequence[DayState]) -> Iterable[DayState]:
        for state in days:
            if state.damaged:
                self._metrics.damaged.inc()
                logger.error(
                    "The sketch of a day in Postgres is damaged and was not used; its numbers are kept. site=%s day=%s",
                    site.id,
                    state.day,
                )
        return days
