"""The join in both directions: Redis to Postgres is the rollup, Postgres to Redis the restore.

Both are the same union of day states (`day_state.py`), so two rollups at once, stale snapshots, late commits,
two restorers and old dumps need no case of their own.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta

from service.config import Settings, Site
from service.counts import Reading
from service.day_state import DayState
from service.errors import Reason, Refused, StoreUnavailable
from service.metrics import Metrics
from service.periods import CLOSING_DELAY, Clock, local_day, period_at, week_of
from service.postgres_store import PostgresStore
from service.redis_store import RedisStore
from service.salts import Salts, oldest_week, salt_ends_s

log = logging.getLogger(__name__)

FULL_EVERY_S = 3600
SKETCHES_KEPT = timedelta(days=35)
ATTEMPTS = 5
"""Snapshots of one site in one rollup; each one after the first follows a join into Redis."""
FAILURES_MAX = 5
"""Sites that may fail before a rollup stops: each may take Redis' whole deadline."""
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class RolledUp:
    """What the rollup of one site did."""

    site: str
    saved: int
    """Days whose state Postgres now has."""
    joined_back: int
    """Days of which Redis lacked something that Postgres had."""


def closed_through(site: Site, at_s: float) -> date:
    """Return the last day that is closed: two hours after its end its number moves from Redis to Postgres."""
    return local_day(at_s - CLOSING_DELAY.total_seconds(), site.zone) - DAY


def first_needed_day(site: Site, at_s: float) -> date:
    """Return the first day that has to be in Redis: of this week, or that is not closed."""
    return min(period_at(at_s, site.zone).week, closed_through(site, at_s) + DAY)


class Rollup:
    """Joins Redis and Postgres, site by site."""

    def __init__(
        self,
        settings: Settings,
        redis: RedisStore,
        postgres: PostgresStore,
        salts: Salts,
        metrics: Metrics,
        clock: Clock = time.time,
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._postgres = postgres
        self._salts = salts
        self._metrics = metrics
        self._clock = clock
        self._changed: set[str] = set()
        self._full_after_s = 0.0
        self._adjustments: dict[str, int] = {}
        self._closed: dict[str, date] = {}
        """The last closed day of each site when it was last rolled up."""
        self._foreign: set[str] = set()
        """Sites whose Redis was found to hold another installation's state: said once."""
        self._opening: dict[str, asyncio.Task[bool]] = {}
        self.away_since_s: float | None = None
        """When Postgres stopped answering (seconds since the epoch), None while it answers."""

    def note_change(self, site_id: str) -> None:
        """The next rollup looks at this site."""
        self._changed.add(site_id)

    async def step(self, *, everything: bool = False) -> list[RolledUp]:
        """Roll up the sites that changed; all of them at start, after Postgres was away, and hourly.

        Raises nothing: a site that fails is tried again next time.
        """
        now_s = self._clock()
        self._salts.drop_old(self._settings.sites, now_s)
        try:
            await self._greet_postgres()
        except StoreUnavailable as error:
            self._postgres_is_away(error)
            return []
        full = everything or now_s >= self._full_after_s
        self._changed |= {site.id for site in self._settings.sites.values() if full or self._closes_a_day(site, now_s)}
        waiting, self._changed = self._changed, set()
        done: list[RolledUp] = []
        failed = 0
        for site_id in sorted(waiting & set(self._settings.sites)):
            try:
                with self._metrics.rollup_seconds.time():
                    done.append(await self.roll_up(self._settings.sites[site_id], all_days=full))
            except StoreUnavailable as error:
                self._changed.add(site_id)
                self._metrics.rollup_errors.inc()
                failed += 1
                if error.store == "postgres":
                    self._postgres_is_away(error)
                if error.store == "postgres" or failed == FAILURES_MAX:
                    self._changed |= waiting
                    return done
                log.debug("A site could not be rolled up; it is tried again. site=%s error=%s", site_id, error)
        if not failed:  # what changed meanwhile is the next rollup's: a busy site always does
            if full:
                self._full_after_s = now_s + FULL_EVERY_S
            self._metrics.rollup_success.set(now_s)
        return done

    async def roll_up(self, site: Site, *, all_days: bool = False) -> RolledUp:
        """Join what Redis has of `site` into Postgres, and first into Redis what only Postgres has.

        Raises StoreUnavailable; nothing is half done then.
        """
        joined_back = 0
        if all_days:
            await self.open_site(site)  # shares next week's salt while there is still time
        for _ in range(ATTEMPTS):
            now_s = self._clock()
            offers = self._salts.offers(site, now_s)
            snapshot = await self._redis.snapshot(site.id, [oldest_week(site, now_s), *offers], all_days=all_days)
            if snapshot is None:
                if not await self.open_site(site):
                    raise StoreUnavailable("redis", f"holds another installation's state of {site.id}")
                continue
            through = closed_through(site, now_s)
            saved = await self._postgres.save(
                site.id,
                snapshot.days,
                snapshot.salts,
                present=snapshot.present,
                needed_from=first_needed_day(site, now_s),
                closed_through=through,
                salts_from=oldest_week(site, now_s),
                sketches_from=local_day(now_s, site.zone) - SKETCHES_KEPT,
            )
            if saved.salts_destroyed:
                await self._rewrite_redis_log()
            ahead = {state.day for state in saved.ahead}
            confirmed = {day: changes for day, changes in snapshot.changes.items() if day not in ahead}
            # A worker whose clock is behind still reads the old week for a while.
            week_ends = {day: salt_ends_s(site, week_of(day)) for day in snapshot.present}
            await self._redis.confirm(site.id, confirmed, saved.closed, week_ends)
            self._metrics.joined.labels("to_postgres").inc(
                len(snapshot.days) - len(ahead.intersection(snapshot.present))
            )
            if not ahead:
                self._closed[site.id] = through
                return RolledUp(site.id, len(snapshot.days), joined_back)
            await self._join_into_redis(site, saved.ahead)
            joined_back += len(ahead)
            all_days = True
        raise StoreUnavailable("redis", f"keeps losing what was joined into it; site={site.id}")

    async def join_days(self, site: Site, days: Sequence[date]) -> dict[date, DayState]:
        """Bring days back into Redis with all that Postgres has of them; a day it does not have becomes empty.

        Returns what Postgres has.
        """
        known = {state.day: state for state in await self._postgres.days(site.id, days)}
        await self._join_into_redis(site, [known.get(day, DayState(day, 0, None, {})) for day in days])
        return known

    async def open_site(self, site: Site) -> bool:
        """Make sure that `site` may be counted and its salts are known; False when Redis is another installation's.

        However many ask at once, it is done once. Raises StoreUnavailable.
        """
        task = self._opening.get(site.id)
        if task is None:
            task = self._opening[site.id] = asyncio.create_task(self._open(site))
            task.add_done_callback(lambda _: self._opening.pop(site.id, None))
        return await asyncio.shield(task)

    async def salt(self, site: Site, week: date) -> bytes:
        """Return the salt of `week`, asking the stores; Refused where they do not tell."""
        try:
            await self.open_site(site)
        except StoreUnavailable as error:
            log.debug("A site could not be opened. site=%s error=%s", site.id, error)
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
            log.warning("The week could not be flagged in the journal. site=%s week=%s error=%s", site.id, week, error)

    async def _rewrite_redis_log(self) -> None:
        try:
            await self._redis.rewrite_log()
        except StoreUnavailable as error:
            log.warning(
                "A key of the visitor hash was destroyed, but Redis does not rewrite its append-only file, where it"
                " can still be read: run BGREWRITEAOF. error=%s",
                error,
            )

    async def _restore(
        self, site: Site, offers: dict[date, bytes], ends_s: dict[date, int]
    ) -> tuple[dict[date, bytes], bool]:
        """Join all days that matter from Postgres, then let the site be counted: one script call."""
        if not self._redis.installation:
            await self._greet_postgres()
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
            log.info("Redis was joined from Postgres and is ready. site=%s days=%d", site.id, len(days))
        elif site.id not in self._foreign:
            self._foreign.add(site.id)
            log.error(
                "Redis holds another installation: use an empty database, or its own Postgres. site=%s",
                site.id,
            )
        return salts, opened

    async def _join_into_redis(self, site: Site, days: Sequence[DayState]) -> None:
        if not await self._redis.join(site.id, self._checked(site, days)):
            raise StoreUnavailable("redis", f"is not ready; site={site.id}")
        self._metrics.joined.labels("to_redis").inc(len(days))
        self.note_change(site.id)

    def _checked(self, site: Site, days: Sequence[DayState]) -> Iterable[DayState]:
        for state in days:
            if state.damaged:
                self._metrics.damaged.inc()
                log.error(
                    "The sketch of a day in Postgres is damaged and was not used; its numbers are kept. site=%s day=%s",
                    site.id,
                    state.day,
                )
        return days

    async def _greet_postgres(self) -> None:
        """Learn the installation, and which totals were adjusted meanwhile."""
        self._redis.installation = await self._postgres.installation()
        adjustments = await self._postgres.adjustment_counts()
        if adjustments != self._adjustments:
            sites = adjustments.keys() | self._adjustments.keys()
            self._changed |= {site for site in sites if adjustments.get(site) != self._adjustments.get(site)}
            self._adjustments = adjustments
        self._metrics.store_up.labels("postgres").set(1)
        if self.away_since_s is not None:
            log.info(
                "Postgres answers again: all days are rolled up. away_s=%.0f",
                self._clock() - self.away_since_s,
            )
            self.away_since_s = None
            self._full_after_s = 0.0

    def _closes_a_day(self, site: Site, at_s: float) -> bool:
        return closed_through(site, at_s) != self._closed.get(site.id)

    def _postgres_is_away(self, error: StoreUnavailable) -> None:
        self._metrics.store_up.labels("postgres").set(0)
        if self.away_since_s is None:
            self.away_since_s = self._clock()
            log.error("Postgres does not answer; counting goes on and is rolled up later. error=%s", error)
