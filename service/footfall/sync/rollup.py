"""The merge from Redis to Postgres, site by site, every ten seconds; what only Postgres has returns to Redis first.

It is the same union of day states (`day_state.py`) as the restore (`restore.py`), so two rollups at once, stale
snapshots, late commits and old dumps need no case of their own.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date

from footfall.errors import StoreBusy, StoreDamaged, StoreUnavailable
from footfall.log_throttle import ReportedFailures, some_of
from footfall.metrics.metrics import Metrics
from footfall.model.availability import UP, Availability, Away
from footfall.model.clocks import Clock
from footfall.model.periods import start_of, week_of
from footfall.model.retention import Retention
from footfall.model.salt import salt_ends_s
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from footfall.stores.store_pair import StorePair
from footfall.sync.repairs import Repairs
from footfall.sync.site_failures import Failure, failures_by_reason

logger = logging.getLogger(__name__)

FULL_EVERY_S = 3600
ATTEMPTS = 5
"""Snapshots of one site in one rollup; each one after the first follows a merge into Redis."""
EARLY_MAX_S = 3600
"""A worker whose clock is ahead by less may begin a day before the others do."""
DAY_AHEAD = "day_ahead"
"""Kind of the event; its detail is the day."""
FAILURES_MAX = 5
"""Sites that may fail before a rollup stops: each may take a store's whole deadline."""


@dataclass(frozen=True, slots=True)
class RolledUp:
    """What the rollup of one site did."""

    site_id: SiteId
    saved: int
    """Days whose state Postgres now has."""
    merged_back: int
    """Days of which Redis lacked something that Postgres had."""


class Rollup:
    """Merges what Redis has into Postgres, site by site."""

    def __init__(
        self, sites: Iterable[Site], stores: StorePair, repairs: Repairs, metrics: Metrics, clock: Clock
    ) -> None:
        self._sites = {site.id: site for site in sites}
        self._stores = stores
        self._opener = repairs.opener
        self._restore = repairs.restore
        self._changed = repairs.changed
        self._metrics = metrics
        self._clock = clock
        self.postgres: Availability = UP
        """Whether Postgres answers."""
        self._all_days: set[SiteId] = set()
        """Sites of which the next rollup looks at all days, not only at those that changed."""
        self._full_after_s = 0.0
        self.failed: dict[SiteId, Exception] = {}
        """Sites that could not be rolled up, and why; the one that was tried last comes last."""
        self._failed_since_s: dict[SiteId, float] = {}
        self._reported = ReportedFailures()
        self._adjustments: Mapping[SiteId, int] = {}
        self._incarnation = ""
        """Of Postgres, when it was last asked."""
        self.early_days: dict[SiteId, set[date]] = {}
        """Of each site, the days in Redis that have not come."""
        self._closed: dict[SiteId, date] = {}
        """The last closed day of each site when it was last rolled up."""

    async def step(self) -> list[RolledUp]:
        """Roll up the sites that changed; all of them at start, after Postgres was away, and hourly.

        Raises nothing: a site that fails is tried again next time.
        """
        now_s = self._clock()
        self._opener.destroy_old_salts(self._sites)
        try:
            await self._greet_postgres()
        except StoreUnavailable as error:
            self._mark_away(error)
            return []
        if now_s >= self._full_after_s or self._full_after_s > now_s + FULL_EVERY_S:  # a clock that was set back
            self._full_after_s = now_s + FULL_EVERY_S
            self._all_days = set(self._sites)
        self._changed.note_all(self._all_days)
        self._changed.note_all(site.id for site in self._sites.values() if self._closes_a_day(site, now_s))
        done: list[RolledUp] = []
        turn, failures = self._in_turn(), 0
        for site in turn:
            self._changed.take(site.id)
            try:
                with self._metrics.rollup_seconds.time():
                    done.append(await self.roll_up(site, all_days=site.id in self._all_days))
            except Exception as error:  # noqa: BLE001 - one site's failure, whatever it is, must not stop the others
                self._changed.note(site.id)
                failures += 1
                if not await self._note_failure(site, error) or failures == FAILURES_MAX:
                    break
            else:
                self.failed.pop(site.id, None)
                self._failed_since_s.pop(site.id, None)
                self._all_days.discard(site.id)
        if len(done) == len(turn):
            self._metrics.rollup_success.set(now_s)
        self._report_failures()
        return done

    def failures(self) -> list[Failure]:
        """Return why sites cannot be copied, one entry a reason; rows that are busy for a moment are no failure."""
        return failures_by_reason(self.failed, self._failed_since_s, self._clock())

    async def roll_up(self, site: Site, *, all_days: bool = False) -> RolledUp:
        """Merge what Redis has of `site` into Postgres, and first into Redis what only Postgres has.

        Raises StoreUnavailable; nothing is half done then.
        """
        merged_back = 0
        if all_days:
            await self._opener.open(site)  # shares next week's salt while there is still time
        for _ in range(ATTEMPTS):
            retention = Retention.at(self._clock(), site.zone)
            snapshot = await self._stores.redis.snapshot(site.id, retention.weeks, all_days=all_days)
            if snapshot is None:
                if not await self._opener.open(site):
                    raise StoreUnavailable("redis", f"holds another installation's state of {site.id}")
                continue
            saved = await self._stores.postgres.save(site.id, snapshot, retention)
            ahead = {state.day for state in saved.ahead}
            await self._note_early_days(site, snapshot.present)
            confirmed = {day: change for day, change in snapshot.changes.items() if day not in ahead}
            # A worker whose clock is behind still reads the old week for a while.
            week_ends = {day: salt_ends_s(week_of(day), site.zone) for day in snapshot.present}
            # Days that a clock ahead had closed are opened again only where Redis has all of them.
            closed = replace(saved.closed, today=date.max) if ahead else saved.closed
            # Its pages first: a day whose pages are not confirmed does not expire.
            await self._stores.redis.confirm_pages(site.id, snapshot.pages)
            await self._stores.redis.confirm(site.id, confirmed, closed, week_ends)
            self._metrics.merged.labels("to_postgres").inc(len(snapshot.days) - len(ahead & week_ends.keys()))
            if not ahead:
                self._closed[site.id] = retention.closed_through
                return RolledUp(site.id, len(snapshot.days), merged_back)
            await self._restore.merge(site, saved.ahead)
            merged_back += len(ahead)
            all_days = True
        raise StoreUnavailable("redis", f"keeps losing what was merged into it; site={site.id}")

    async def _note_early_days(self, site: Site, present: Iterable[date]) -> None:
        """Report days that have not come: a clock was ahead, and what it counted there is right only in the total."""
        early = {day for day in present if start_of(day, site.zone) > self._clock() + EARLY_MAX_S}
        known = self.early_days.pop(site.id, set())
        if early:
            self.early_days[site.id] = early
        elif known:
            logger.info("No day is ahead of the calendar any more. site=%s", site.id)
        self._metrics.early_days.set(sum(map(len, self.early_days.values())))
        if early - known:
            logger.error(
                "Visitors were counted on days that have not come: a clock was ahead. They are in the total, and on no"
                " other day. Have all hosts set their clocks by NTP. site=%s days=%s",
                site.id,
                some_of([day.isoformat() for day in sorted(early)]),
            )
        for day in sorted(early - known):
            await self._stores.postgres.record_event(site.id, DAY_AHEAD, day.isoformat())

    def _in_turn(self) -> list[Site]:
        """Return the sites to roll up; those that failed last time come last, so that they hold up no other site."""
        late = [site_id for site_id in self.failed if site_id in self._changed]
        return [self._sites[site_id] for site_id in [*(s for s in self._changed if s not in self.failed), *late]]

    async def _note_failure(self, site: Site, error: Exception) -> bool:
        """Leave a site for the next time; return False where Postgres failed as a whole, not only this site in it."""
        if isinstance(error, StoreDamaged):
            await self._restore.mend(site)
        is_busy = isinstance(error, StoreBusy)  # no failure: another worker is rolling it up
        if not is_busy:
            self._metrics.rollup_errors.inc()
        if not is_busy and isinstance(error, StoreUnavailable) and error.store == "postgres":
            try:
                await self._greet_postgres()
            except StoreUnavailable as away:
                self._mark_away(away)
                return False
            if site.id not in self.failed:
                self._full_after_s = 0.0  # the connection may have been lost, and commits with it
        known = self.failed.pop(site.id, error)
        self.failed[site.id] = known if is_busy else error
        self._failed_since_s.setdefault(site.id, self._clock())
        return True

    def _report_failures(self) -> None:
        """Log which sites began to fail and which recovered: one line each, however often they are tried."""
        failing = {site_id: self.failed[site_id] for failure in self.failures() for site_id in failure.site_ids}
        self._metrics.sites_not_copied.set(len(failing))
        if began := self._reported.began(failing.keys()):
            error = failing[SiteId(began[0])]
            logger.warning(
                "Sites cannot be rolled up and are tried again; until then their newest numbers are in Redis and in the"
                " workers only. `footfall doctor` checks the stores. sites=%s error=%r",
                some_of(began),
                error,
                exc_info=None if isinstance(error, StoreUnavailable) else error,
            )
        if ended := self._reported.ended(failing.keys()):
            logger.info("Sites are rolled up again. sites=%s", some_of(ended))

    async def _greet_postgres(self) -> None:
        """Learn the installation, whether Postgres' data may be older than before, and which totals were adjusted."""
        await self._stores.learn_installation()
        incarnation = await self._stores.postgres.incarnation()
        if incarnation != self._incarnation:
            self._incarnation, self._full_after_s = incarnation, 0.0
        adjustments = await self._stores.postgres.adjustment_counts()
        if adjustments != self._adjustments:
            before = self._adjustments
            self._changed.note_all(site for site in self._sites if adjustments.get(site) != before.get(site))
            self._adjustments = adjustments
        self._mark_up()

    def _closes_a_day(self, site: Site, at_s: float) -> bool:
        return Retention.at(at_s, site.zone).closed_through != self._closed.get(site.id)

    def _mark_up(self) -> None:
        self._metrics.store_up.labels("postgres").set(1)
        if isinstance(self.postgres, Away):
            away_s = self._clock() - self.postgres.since_s
            logger.info("Postgres takes copies again: all days are rolled up. away_s=%.0f", away_s)
            self._full_after_s = 0.0
        self.postgres = UP

    def _mark_away(self, error: StoreUnavailable) -> None:
        self._metrics.store_up.labels("postgres").set(0)
        if isinstance(self.postgres, Away):
            self.postgres = Away(self.postgres.since_s, str(error))  # a server that is back may refuse us
        else:
            self.postgres = Away(self._clock(), str(error))
            logger.error("Nothing is copied to Postgres; counting continues and is copied later. error=%s", error)
