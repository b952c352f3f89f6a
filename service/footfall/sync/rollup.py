"""The join from Redis to Postgres, site by site, every ten seconds; what only Postgres has goes back to Redis first.

It is the same union of day states (`day_state.py`) as the restore (`restore.py`), so two rollups at once, stale
snapshots, late commits and old dumps need no case of their own.
"""

import logging
import time
from dataclasses import dataclass
from datetime import date, timedelta

from footfall.errors import StoreBusy, StoreDamaged, StoreUnavailable
from footfall.log_throttle import ReportedFailures, some_of
from footfall.metrics.metrics import Metrics
from footfall.model.periods import Clock, local_day, week_of
from footfall.settings.settings import Settings, Site
from footfall.stores.postgres_store import PostgresStore
from footfall.stores.redis_store import RedisStore
from footfall.sync.restore import Restore, closed_through, first_needed_day
from footfall.sync.salts import Salts, oldest_week, salt_ends_s

logger = logging.getLogger(__name__)

FULL_EVERY_S = 3600
SKETCHES_KEPT = timedelta(days=35)
ATTEMPTS = 5
"""Snapshots of one site in one rollup; each one after the first follows a join into Redis."""
FAILURES_MAX = 5
"""Sites that may be left before a rollup stops: each may take a store's whole deadline."""


@dataclass(frozen=True, slots=True)
class RolledUp:
    """What the rollup of one site did."""

    site: str
    saved: int
    """Days whose state Postgres now has."""
    joined_back: int
    """Days of which Redis lacked something that Postgres had."""


class Rollup:
    """Joins Redis and Postgres, site by site."""

    def __init__(
        self,
        settings: Settings,
        redis: RedisStore,
        postgres: PostgresStore,
        restore: Restore,
        salts: Salts,
        metrics: Metrics,
        clock: Clock = time.time,
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._postgres = postgres
        self._restore = restore
        self._salts = salts
        self._metrics = metrics
        self._clock = clock
        self._changed = restore.changed
        self._all_days: set[str] = set()
        """Sites of which the next rollup looks at all days, not only at those that changed."""
        self._full_after_s = 0.0
        self.left: dict[str, Exception] = {}
        """Sites that could not be rolled up, and why; the one that was tried last comes last."""
        self._failing = ReportedFailures()
        self._adjustments: dict[str, int] = {}
        self._incarnation = ""
        """Of Postgres, when it was last asked."""
        self._closed: dict[str, date] = {}
        """The last closed day of each site when it was last rolled up."""
        self.away_since_s: float | None = None
        """When Postgres stopped answering (seconds since the epoch), None while it answers."""

    async def step(self, *, everything: bool = False) -> list[RolledUp]:
        """Roll up the sites that changed; all of them at start, after Postgres was away, and hourly.

        Raises nothing: a site that fails is tried again next time.
        """
        now_s = self._clock()
        sites = list(self._settings.sites.values())
        self._salts.drop_old(self._settings.sites, now_s)
        try:
            await self._greet_postgres()
        except StoreUnavailable as error:
            self._postgres_is_away(error)
            return []
        if everything or now_s >= self._full_after_s:
            self._full_after_s = now_s + FULL_EVERY_S
            self._all_days = {site.id for site in sites}
        self._changed |= self._all_days | {site.id for site in sites if self._closes_a_day(site, now_s)}
        done: list[RolledUp] = []
        turn, left = self._in_turn(), 0
        for site in turn:
            self._changed.discard(site.id)  # what changes from here on is the next rollup's: a busy site always does
            try:
                with self._metrics.rollup_seconds.time():
                    done.append(await self.roll_up(site, all_days=site.id in self._all_days))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one site is not the others' concern
                self._changed.add(site.id)
                left += 1
                if not await self._leave(site, error) or left == FAILURES_MAX:
                    break
            else:
                self.left.pop(site.id, None)
                self._all_days.discard(site.id)
        if len(done) == len(turn):
            self._metrics.rollup_success.set(now_s)
        self._tell()
        return done

    def _in_turn(self) -> list[Site]:
        """The sites to roll up; those that were left last time hold up no other, nor each other."""
        late = [site_id for site_id in self.left if site_id in self._changed]
        return [self._settings.sites[site_id] for site_id in [*sorted(self._changed - self.left.keys()), *late]]

    async def _leave(self, site: Site, error: Exception) -> bool:
        """Leave a site for the next time; False where it is Postgres that failed, and not only this site in it."""
        if isinstance(error, StoreDamaged):
            await self._restore.mend(site)
        is_busy = isinstance(error, StoreBusy)  # no failure: another worker is at it
        if not is_busy:
            self._metrics.rollup_errors.inc()
        if not is_busy and isinstance(error, StoreUnavailable) and error.store == "postgres":
            try:
                await self._greet_postgres()
            except StoreUnavailable as away:
                self._postgres_is_away(away)
                return False
            if site.id not in self.left:
                self._full_after_s = 0.0  # the connection may have been lost, and commits with it
        known = self.left.pop(site.id, error)
        self.left[site.id] = known if is_busy else error
        return True

    def _tell(self) -> None:
        """Say which sites began to fail and which are well again: once each, however often they are tried."""
        failing = {site_id: error for site_id, error in self.left.items() if not isinstance(error, StoreBusy)}
        if began := self._failing.began(failing.keys()):
            error = failing[began[0]]
            logger.warning(
                "Sites cannot be rolled up and are tried again; until then their newest numbers are in Redis and in the"
                " workers only. `footfall doctor` checks the stores. sites=%s error=%r",
                some_of(began),
                error,
                exc_info=None if isinstance(error, StoreUnavailable) else error,
            )
        if ended := self._failing.ended(failing.keys()):
            logger.info("Sites are rolled up again. sites=%s", some_of(ended))

    async def roll_up(self, site: Site, *, all_days: bool = False) -> RolledUp:
        """Join what Redis has of `site` into Postgres, and first into Redis what only Postgres has.

        Raises StoreUnavailable; nothing is half done then.
        """
        joined_back = 0
        if all_days:
            await self._restore.open_site(site)  # shares next week's salt while there is still time
        for _ in range(ATTEMPTS):
            now_s = self._clock()
            offers = self._salts.offers(site, now_s)
            snapshot = await self._redis.snapshot(site.id, [oldest_week(site, now_s), *offers], all_days=all_days)
            if snapshot is None:
                if not await self._restore.open_site(site):
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
            await self._restore.join(site, saved.ahead)
            joined_back += len(ahead)
            all_days = True
        raise StoreUnavailable("redis", f"keeps losing what was joined into it; site={site.id}")

    async def _rewrite_redis_log(self) -> None:
        try:
            await self._redis.rewrite_log()
        except StoreUnavailable as error:
            logger.warning(
                "A key of the visitor hash was destroyed, but Redis does not rewrite its append-only file, where it"
                " can still be read: run BGREWRITEAOF. error=%s",
                error,
            )

    async def _greet_postgres(self) -> None:
        """Learn the installation, whether its data may have gone back, and which totals were adjusted meanwhile."""
        self._redis.installation = await self._postgres.installation()
        incarnation = await self._postgres.incarnation()
        if incarnation != self._incarnation:
            self._incarnation, self._full_after_s = incarnation, 0.0
        adjustments = await self._postgres.adjustment_counts()
        if adjustments != self._adjustments:
            sites = self._settings.sites
            self._changed |= {site for site in sites if adjustments.get(site) != self._adjustments.get(site)}
            self._adjustments = adjustments
        self._metrics.store_up.labels("postgres").set(1)
        if self.away_since_s is not None:
            logger.info(
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
            logger.error("Postgres does not answer; counting goes on and is rolled up later. error=%s", error)
