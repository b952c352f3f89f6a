"""Which sites are merged from Redis to Postgres, every ten seconds; `group_rollup.py` merges a group of them.

It is the same union of day states (`day_state.py`) as the restore (`restore.py`), so two rollups at once, stale
snapshots, late commits and old dumps need no case of their own.
"""

import logging
import random
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from hashlib import blake2b
from zoneinfo import ZoneInfo

from footfall.errors import StoreBusy, StoreDamaged, StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.availability import UP, Availability, Away
from footfall.model.clocks import Clock
from footfall.model.retention import Retention
from footfall.model.site_id import SiteId
from footfall.model.snapshot import Turn
from footfall.settings.settings import Site
from footfall.stores.closed_days import revision_of
from footfall.stores.store_pair import StorePair
from footfall.sync.group_rollup import GroupRollup, LeftToAnother, RolledUp, Wanted
from footfall.sync.repairs import Repairs
from footfall.sync.rollup_failures import RollupFailures, is_of_redis

logger = logging.getLogger(__name__)

FULL_EVERY_S = 3600
AT_ONCE = 0.0
"""When Postgres may have lost something just now: a look at all days of before does not serve."""
RECENT = 0.9
"""Part of the interval for which a rollup serves for all workers; the rest is for the time that a step takes."""
GROUP, GROUP_OF_ALL_DAYS = 200, 20
"""Sites in one transaction; a look at all days brings up to two weeks of each."""
FAILURES_MAX = 5
"""Groups that one server may fail before a rollup leaves its sites: each may take the server's whole deadline."""


class Rollup:
    """Merges what Redis has into Postgres, group by group."""

    def __init__(
        self,
        sites: Iterable[Site],
        stores: StorePair,
        repairs: Repairs,
        metrics: Metrics,
        clock: Clock,
        every_s: float = 0.0,
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
        self._recent_s = RECENT * every_s
        """How long another worker's rollup of a site serves for this one too."""
        self._worker = secrets.token_hex(8)
        self._all_days: dict[SiteId, float] = {}
        """Sites of which the next rollup looks at all days, not only at those that changed; and since when another
        worker's look at them serves as well."""
        self._full_after_s = float("-inf")
        self._adjustments: Mapping[SiteId, int] = {}
        self._incarnation = ""
        """Of Postgres, when it was last asked."""
        self._redis = ""
        """Which Redis it is, when it was last asked."""
        self._closed: dict[SiteId, date] = {}
        """The last closed day of each site when it was last rolled up."""
        self._first = random.random()
        """Where this worker begins among the sites: other workers begin elsewhere."""

    async def step(self, *, is_last: bool = False) -> list[RolledUp]:
        """Roll up the sites that changed; all of them at start, after Postgres was away, and hourly.

        A site that another worker rolled up a moment ago waits, unless this step is the last one of this worker.
        Raises nothing: a site that fails is tried again next time.
        """
        now_s = self._clock()
        self._opener.destroy_old_salts(self._sites)
        try:
            await self._greet_postgres()
        except StoreUnavailable as error:
            self._mark_away(error)
            return []
        await self._greet_redis()
        was_set_back = self._full_after_s > now_s + FULL_EVERY_S
        if now_s >= self._full_after_s or was_set_back:
            # A worker whose clock was ahead may have dropped sketches too early: it looks itself, whatever others did.
            serves_since_s = now_s if was_set_back or self._full_after_s == AT_ONCE else now_s - FULL_EVERY_S
            self._full_after_s = now_s + FULL_EVERY_S
            self._all_days = dict.fromkeys(self._sites, serves_since_s)
        self._changed.note_all(self._all_days)
        closed = {zone: Retention.at(now_s, zone).closed_through for zone in {s.zone for s in self._sites.values()}}
        self._changed.note_all(s.id for s in self._sites.values() if self._closed.get(s.id) != closed[s.zone])
        done: list[RolledUp] = []
        failures: Counter[str] = Counter()
        for group in self._groups(failures):
            if failures["postgres"] >= FAILURES_MAX or isinstance(self.postgres, Away):
                break
            if failures[self._stores.redis.server_of(group[0].id)] < FAILURES_MAX:
                wanted = [self._wanted(site, closed[site.zone], 0.0 if is_last else self._recent_s) for site in group]
                done += await self._roll_up_group(wanted, closed, failures)
        if not failures and not self.failures.errors:
            self._metrics.rollup_success.set(now_s)
        self.failures.report()
        return done

    async def roll_up(self, site: Site, *, all_days: bool = False) -> RolledUp:
        """Merge what Redis has of `site` into Postgres, and first into Redis what only Postgres has.

        Raises StoreUnavailable; nothing is half done then.
        """
        outcome = (await self._group.roll_up([Wanted(site, all_days)]))[site.id]
        if isinstance(outcome, RolledUp):
            return outcome
        raise outcome if isinstance(outcome, Exception) else StoreUnavailable("redis", "another worker rolls it up")

    def _groups(self, failures: Counter[str]) -> Iterator[Sequence[Site]]:
        """Divide the sites to roll up into groups on one server; those that failed come last.

        Of these one is tried alone; while they are well again, each group is twice the one before. So a site that keeps
        failing is mostly alone, and where a server was away all of its sites are copied soon after it is back.
        """
        changed = list(self._changed)
        first = int(self._first * len(changed))
        well = [site_id for site_id in [*changed[first:], *changed[:first]] if site_id not in self.failures.errors]
        failed = [site_id for site_id in self.failures.errors if site_id in self._changed]
        for size, sites in self._by_kind(well):
            yield from (sites[at : at + size] for at in range(0, len(sites), size))
        for size_max, sites in self._by_kind(failed):
            at, size = 0, 1
            while at < len(sites):
                failed_before = failures.total()
                yield sites[at : at + size]
                at, size = at + size, 1 if failures.total() > failed_before else min(2 * size, size_max)

    def _by_kind(self, site_ids: Iterable[SiteId]) -> Iterator[tuple[int, Sequence[Site]]]:
        """Divide sites by server and by whether all their days are wanted; yield each part with its largest group."""
        kinds: dict[tuple[str, bool], list[Site]] = {}
        for site_id in site_ids:
            kind = self._stores.redis.server_of(site_id), site_id in self._all_days
            kinds.setdefault(kind, []).append(self._sites[site_id])
        for (_, all_days), sites in kinds.items():
            yield GROUP_OF_ALL_DAYS if all_days else GROUP, sites

    async def _roll_up_group(
        self, group: Sequence[Wanted], closed: Mapping[ZoneInfo, date], failures: Counter[str]
    ) -> list[RolledUp]:
        """Roll up a group, and count which servers failed it."""
        for one in group:
            self._changed.take(one.site.id)
        with self._metrics.rollup_seconds.time():
            outcomes = await self._group.roll_up(group)
        done: list[RolledUp] = []
        failed: dict[SiteId, Exception] = {}
        for site in [one.site for one in group]:
            match outcomes.get(site.id):
                case RolledUp() as outcome:
                    done.append(outcome)
                    self.failures.forget(site.id)
                    self._all_days.pop(site.id, None)
                    self._closed[site.id] = closed[site.zone]
                case LeftToAnother.RECENT | None as outcome:
                    self._changed.note(site.id)
                    if outcome:  # Redis answers again; None was not tried
                        self.failures.forget(site.id)
                case error:
                    self._changed.note(site.id)
                    failed[site.id] = error
        failures.update({self._server(site_id, error) for site_id, error in failed.items()})
        await self._note_failures(failed)
        return done

    def _wanted(self, site: Site, closed_through: date, recent_s: float) -> Wanted:
        """Say what the rollup of a site is to do; one that failed in Postgres is left to no other worker."""
        turn = None
        if not self.failures.is_of_postgres(site.id):
            all_recent_s = self._clock() - self._all_days.get(site.id, 0.0)
            servers = blake2b(f"{self._redis} {self._incarnation}".encode(), digest_size=8).hexdigest()
            turn = Turn(self._worker, recent_s, servers, all_recent_s)
        revision = revision_of(self._stores.redis.installation, self._adjustments.get(site.id, 0))
        is_due = self._closed.get(site.id) != closed_through
        return Wanted(site, site.id in self._all_days, is_due, turn, (closed_through.isoformat(), revision))

    def _server(self, site_id: SiteId, error: Exception) -> str:
        """Return the server that failed a site."""
        return self._stores.redis.server_of(site_id) if is_of_redis(error) else "postgres"

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
                    self._full_after_s = AT_ONCE  # the connection may have been lost, and commits with it
        for site_id, error in failed.items():
            self.failures.note(site_id, error)

    async def _greet_postgres(self) -> None:
        """Learn the installation, whether Postgres' data may be older than before, and which totals were adjusted."""
        await self._stores.learn_installation()
        incarnation = await self._stores.postgres.incarnation()
        if incarnation != self._incarnation:
            self._incarnation, self._full_after_s = incarnation, float("-inf")
        adjustments = await self._stores.postgres.adjustment_counts()
        if adjustments != self._adjustments:
            before = self._adjustments
            self._changed.note_all(site for site in self._sites if adjustments.get(site) != before.get(site))
            self._adjustments = adjustments
        self._mark_up()

    async def _greet_redis(self) -> None:
        """Learn whether Redis may have lost data: a day that has not changed since is compared with all days only."""
        try:
            redis = await self._stores.redis.identity()
        except StoreUnavailable as error:
            logger.debug("Redis does not say which server it is. error=%s", error)
            return
        if redis != self._redis:
            self._redis, self._full_after_s = redis, float("-inf")

    def _mark_up(self) -> None:
        self._metrics.store_up.labels("postgres").set(1)
        if isinstance(self.postgres, Away):
            away_s = self._clock() - self.postgres.since_s
            logger.info("Postgres takes copies again: all days are rolled up. away_s=%.0f", away_s)
            self._events.note_lasting("postgres_away", away_s)
            self._full_after_s = AT_ONCE
        self.postgres = UP

    def _mark_away(self, error: StoreUnavailable) -> None:
        self._metrics.store_up.labels("postgres").set(0)
        if isinstance(self.postgres, Away):
            self.postgres = Away(self.postgres.since_s, str(error))  # a server that is back may refuse us
        else:
            self.postgres = Away(self._clock(), str(error))
            logger.error("Nothing is copied to Postgres; counting continues and is copied later. error=%s", error)
