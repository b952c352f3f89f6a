"""Which sites are merged from Redis to Postgres, every ten seconds; `group_rollup.py` merges a group of them.

It is the same union of day states (`day_state.py`) as the restore (`restore.py`), so two rollups at once, stale
snapshots, late commits and old dumps need no case of their own.
"""

import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from zoneinfo import ZoneInfo

from footfall.errors import StoreBusy, StoreDamaged, StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.availability import UP, Availability, Away
from footfall.model.clocks import Clock
from footfall.model.retention import Retention
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site
from footfall.stores.store_pair import StorePair
from footfall.sync.group_rollup import GroupRollup, RolledUp, Wanted
from footfall.sync.repairs import Repairs
from footfall.sync.rollup_failures import RollupFailures

logger = logging.getLogger(__name__)

FULL_EVERY_S = 3600
GROUP, GROUP_OF_ALL_DAYS = 200, 20
"""Sites in one transaction; a look at all days brings up to two weeks of each."""
FAILURES_MAX = 5
"""Groups that one server may fail before a rollup leaves its sites: each may take the server's whole deadline."""


class Rollup:
    """Merges what Redis has into Postgres, group by group."""

    def __init__(
        self, sites: Iterable[Site], stores: StorePair, repairs: Repairs, metrics: Metrics, clock: Clock
    ) -> None:
        self._sites = {site.id: site for site in sites}
        self._stores = stores
        self._opener = repairs.opener
        self._restore = repairs.restore
        self._changed = repairs.changed
        self._events = repairs.events
        self._metrics = metrics
        self._clock = clock
        self._group = GroupRollup(stores, repairs, metrics, clock)
        self.failures = RollupFailures(metrics, clock)
        self.early_days = self._group.early_days.of_sites
        """Of each site, the days in Redis that have not come."""
        self.postgres: Availability = UP
        """Whether Postgres answers."""
        self._all_days: set[SiteId] = set()
        """Sites of which the next rollup looks at all days, not only at those that changed."""
        self._full_after_s = 0.0
        self._adjustments: Mapping[SiteId, int] = {}
        self._incarnation = ""
        """Of Postgres, when it was last asked."""
        self._closed: dict[SiteId, date] = {}
        """The last closed day of each site when it was last rolled up."""
        self._first = random.random()
        """Where this worker begins among the sites: other workers begin elsewhere."""

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
        closed = {zone: Retention.at(now_s, zone).closed_through for zone in {s.zone for s in self._sites.values()}}
        self._changed.note_all(s.id for s in self._sites.values() if self._closed.get(s.id) != closed[s.zone])
        done: list[RolledUp] = []
        failures: Counter[str] = Counter()
        for group in list(self._groups()):
            if failures["postgres"] >= FAILURES_MAX or isinstance(self.postgres, Away):
                break
            if failures[self._stores.redis.server_of(group[0].id)] < FAILURES_MAX:
                done += await self._roll_up_group(group, closed, failures)
        if not failures and not self.failures.errors:
            self._metrics.rollup_success.set(now_s)
        self.failures.report()
        return done

    async def roll_up(self, site: Site, *, all_days: bool = False) -> RolledUp:
        """Merge what Redis has of `site` into Postgres, and first into Redis what only Postgres has.

        Raises StoreUnavailable; nothing is half done then.
        """
        outcome = (await self._group.roll_up([Wanted(site, all_days)]))[site.id]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _groups(self) -> Iterator[Sequence[Site]]:
        """Divide the sites to roll up into groups on one server; those that failed come last, and each alone."""
        changed = list(self._changed)
        first = int(self._first * len(changed))
        groups: dict[tuple[str, bool], list[Site]] = {}
        for site_id in [*changed[first:], *changed[:first]]:
            if site_id not in self.failures.errors:
                kind = self._stores.redis.server_of(site_id), site_id in self._all_days
                groups.setdefault(kind, []).append(self._sites[site_id])
        for (_, all_days), sites in groups.items():
            size = GROUP_OF_ALL_DAYS if all_days else GROUP
            yield from (sites[at : at + size] for at in range(0, len(sites), size))
        yield from ([self._sites[site_id]] for site_id in self.failures.errors if site_id in self._changed)

    async def _roll_up_group(
        self, group: Sequence[Site], closed: Mapping[ZoneInfo, date], failures: Counter[str]
    ) -> list[RolledUp]:
        """Roll up a group, and count which servers failed it."""
        wanted = []
        for site in group:
            self._changed.take(site.id)
            is_due = self._closed.get(site.id) != closed[site.zone]
            wanted.append(Wanted(site, site.id in self._all_days, is_due))
        with self._metrics.rollup_seconds.time():
            outcomes = await self._group.roll_up(wanted)
        done: list[RolledUp] = []
        failed: dict[SiteId, Exception] = {}
        for site in group:
            match outcomes.get(site.id):
                case RolledUp() as outcome:
                    done.append(outcome)
                    self.failures.forget(site.id)
                    self._all_days.discard(site.id)
                    self._closed[site.id] = closed[site.zone]
                case None:  # it was not tried
                    self._changed.note(site.id)
                case error:
                    self._changed.note(site.id)
                    failed[site.id] = error
        failures.update({self._server(site_id, error) for site_id, error in failed.items()})
        await self._note_failures(failed)
        return done

    def _server(self, site_id: SiteId, error: Exception) -> str:
        """Return the server that failed a site; Postgres' name also for a fault of our own, which may be its work."""
        known = isinstance(error, StoreUnavailable) and error.store == "redis"
        return self._stores.redis.server_of(site_id) if known else "postgres"

    async def _note_failures(self, failed: Mapping[SiteId, Exception]) -> None:
        """Leave sites for the next time, and look whether Postgres failed as a whole, not only these sites in it."""
        for site_id, error in failed.items():
            if isinstance(error, StoreDamaged):
                await self._restore.mend(self._sites[site_id])
        of_postgres = [
            site_id
            for site_id, error in failed.items()
            if isinstance(error, StoreUnavailable) and error.store == "postgres" and not isinstance(error, StoreBusy)
        ]
        if of_postgres:
            try:
                await self._greet_postgres()
            except StoreUnavailable as away:
                self._mark_away(away)
                failed = {site_id: error for site_id, error in failed.items() if site_id not in of_postgres}
            else:
                if not set(of_postgres) <= self.failures.errors.keys():
                    self._full_after_s = 0.0  # the connection may have been lost, and commits with it
        for site_id, error in failed.items():
            self.failures.note(site_id, error)

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

    def _mark_up(self) -> None:
        self._metrics.store_up.labels("postgres").set(1)
        if isinstance(self.postgres, Away):
            away_s = self._clock() - self.postgres.since_s
            logger.info("Postgres takes copies again: all days are rolled up. away_s=%.0f", away_s)
            self._events.note_lasting("postgres_away", away_s)
            self._full_after_s = 0.0
        self.postgres = UP

    def _mark_away(self, error: StoreUnavailable) -> None:
        self._metrics.store_up.labels("postgres").set(0)
        if isinstance(self.postgres, Away):
            self.postgres = Away(self.postgres.since_s, str(error))  # a server that is back may refuse us
        else:
            self.postgres = Away(self._clock(), str(error))
            logger.error("Nothing is copied to Postgres; counting continues and is copied later. error=%s", error)
