"""The rollup of many sites at once: one write to Redis, one transaction in Postgres, one write to Redis again.

A site that fails falls out of its group with the reason, and holds up no other site: where the transaction of a group
fails, each half of the group has one of its own. What one site needs beyond that, days that come back from Postgres
first, it gets once the others are done.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum, auto
from itertools import chain
from typing import TypeVar

from footfall.errors import StoreBusy, StoreRefused, StoreUnavailable
from footfall.metrics.metrics import Metrics
from footfall.model.clocks import Clock
from footfall.model.periods import week_of
from footfall.model.retention import Retention
from footfall.model.salt import salt_ends_s
from footfall.model.site_id import SiteId
from footfall.model.snapshot import SiteCopy, Snapshot, Turn
from footfall.settings.settings import Site
from footfall.stores.postgres_store import Saved
from footfall.stores.store_pair import StorePair
from footfall.sync.early_days import EarlyDays
from footfall.sync.repairs import Repairs

ATTEMPTS = 5
"""Snapshots of one site in one rollup; each one after the first follows a merge into Redis."""
HELD = "another session holds rows that this one needs"
REFUSED_MAX = 5
"""Sites of a group that Postgres may refuse one by one; the others that are left wait for the next rollup."""


@dataclass(frozen=True, slots=True)
class RolledUp:
    """What the rollup of one site did."""

    site_id: SiteId
    saved: int
    """Days whose state Postgres now has."""
    merged_back: int
    """Days of which Redis lacked something that Postgres had."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A site to roll up: its changed days, or all days."""

    site: Site
    all_days: bool
    is_due: bool = True
    """Whether Postgres is to look for what is over its time."""
    turn: Turn | None = None
    """What may be left to the other workers; None for nothing."""
    closed: tuple[str, str] = ("", "")
    """What Redis knows of the closed days once Postgres has nothing new of them: then only changes are rolled up."""


class LeftToAnother(Enum):
    """What became of a site that this worker did not look at."""

    RECENT = auto()
    """Another worker rolls it up now, or did a moment ago."""


Outcomes = dict[SiteId, RolledUp | LeftToAnother | Exception]
Result = TypeVar("Result")


class GroupRollup:
    """Merges what Redis has of some sites into Postgres, and first into Redis what only Postgres has."""

    def __init__(self, stores: StorePair, repairs: Repairs, metrics: Metrics, clock: Clock) -> None:
        self._stores = stores
        self._opener = repairs.opener
        self._restore = repairs.restore
        self._metrics = metrics
        self._clock = clock
        self._present: dict[SiteId, Sequence[date]] = {}
        """The days that Redis had of each site at its last rollup here: a day that is missing may be lost."""
        self.early_days = EarlyDays(repairs.events, metrics, clock)

    async def roll_up(self, wanted: Iterable[Wanted]) -> Outcomes:
        """Roll up some sites; return what became of each: a site that was not tried is missing.

        Of a site that failed nothing is half done.
        """
        outcomes: Outcomes = {}
        merged_back: Counter[SiteId] = Counter()
        left = {one.site.id: one for one in wanted}
        for _ in range(ATTEMPTS):
            copies = await self._look(left, outcomes)
            saved = await self._save(list(copies.values()), outcomes)
            confirming = {
                site_id: self._confirm(left[site_id], copies[site_id], of_site) for site_id, of_site in saved.items()
            }
            ahead = await _each(confirming, outcomes)
            for site_id, days in ahead.items():
                if days:
                    merged_back[site_id] += days
                    left[site_id] = replace(left[site_id], all_days=True, turn=None)
                else:
                    outcomes[site_id] = RolledUp(site_id, len(copies[site_id].snapshot.days), merged_back[site_id])
            over = outcomes.keys() | (copies.keys() - saved.keys())  # some may not have been tried
            left = {site_id: one for site_id, one in left.items() if site_id not in over}
            if not left:
                break
        for site_id in left:
            outcomes[site_id] = StoreUnavailable("redis", f"keeps losing what was merged into it; site={site_id}")
        return outcomes

    async def _look(self, wanted: Mapping[SiteId, Wanted], outcomes: Outcomes) -> dict[SiteId, SiteCopy]:
        """Look at each site in Redis; one that is not ready is opened, and has no copy yet."""
        found = await _each({site_id: self._copy(one) for site_id, one in wanted.items()}, outcomes)
        copies: dict[SiteId, SiteCopy] = {}
        for site_id, copy in found.items():
            if copy is None:
                continue
            if copy.snapshot.is_recent:
                outcomes[site_id] = LeftToAnother.RECENT
            elif wanted[site_id].turn and self._is_at_rest(wanted[site_id], copy.snapshot):
                outcomes[site_id] = RolledUp(site_id, 0, 0)
            else:
                copies[site_id] = copy
        return copies

    def _is_at_rest(self, wanted: Wanted, snapshot: Snapshot) -> bool:
        """Whether Postgres has nothing new, neither for Redis nor from it, as far as this worker knows."""
        is_whole = self._present.setdefault(wanted.site.id, snapshot.present) == snapshot.present
        return is_whole and not (snapshot.all_days or snapshot.days) and snapshot.closed == wanted.closed

    async def _copy(self, wanted: Wanted) -> SiteCopy | None:
        site = wanted.site
        if wanted.all_days:
            await self._opener.open(site)  # shares next week's salt while there is still time
        retention = Retention.at(self._clock(), site.zone)
        snapshot = await self._stores.redis.snapshot(
            site.id, retention.weeks, all_days=wanted.all_days, turn=wanted.turn
        )
        if snapshot is None:
            if not await self._opener.open(site):
                raise StoreUnavailable("redis", f"holds another installation's state of {site.id}")
            return None
        if not snapshot.is_recent:
            await self.early_days.note(site, snapshot.present)
        return SiteCopy(site.id, snapshot, retention, wanted.is_due or snapshot.all_days)

    async def _save(self, copies: Sequence[SiteCopy], outcomes: Outcomes) -> dict[SiteId, Saved]:
        """Save the copies together and, where that fails, each half of them; return what became of those that could.

        Where Postgres does not answer, the copies fail together; when it has refused some of them alone, the others
        are left as they are.
        """
        saved: dict[SiteId, Saved] = {}
        left, refused = [copies] if copies else [], 0
        while left and refused < REFUSED_MAX:
            some = left.pop()
            try:
                of_some = await self._stores.postgres.save(some)
            except Exception as error:  # noqa: BLE001 - one site's fault, whatever it is, must not stop the others
                half = len(some) // 2
                if _is_silence(error):
                    outcomes |= {copy.site_id: error for copy in chain(some, *left)}
                    break
                if half:
                    left += [some[half:], some[:half]]
                else:
                    refused += 1
                    outcomes[some[0].site_id] = error
            else:
                saved |= of_some
                held = {copy.site_id for copy in some} - of_some.keys()
                outcomes |= {site_id: StoreBusy("postgres", HELD) for site_id in held}
        return saved

    async def _confirm(self, wanted: Wanted, copy: SiteCopy, saved: Saved) -> int:
        """Confirm a copy in Redis, and merge into it what Postgres has more; return how many days that were."""
        site, snapshot = wanted.site, copy.snapshot
        ahead = {state.day for state in saved.ahead}
        # A change of a week that lacks a day stays, so that the next rollup finds the lack if this one ends here.
        lacking = {week_of(day) for day in ahead}
        confirmed = {day: change for day, change in snapshot.changes.items() if week_of(day) not in lacking}
        # A worker whose clock is behind still reads the old week for a while.
        week_ends = {day: salt_ends_s(week_of(day), site.zone) for day in snapshot.present}
        # Days that a clock ahead had closed are opened again only where Redis has all of them.
        closed = replace(saved.closed, today=date.max) if ahead else saved.closed
        # Its pages first: a day whose pages are not confirmed does not expire.
        await self._stores.redis.confirm_pages(site.id, snapshot.pages)
        await self._stores.redis.confirm(
            site.id, confirmed, closed, week_ends, self._looked_at_all(wanted, snapshot) if not ahead else ""
        )
        self._metrics.merged.labels("to_postgres").inc(len(snapshot.days) - len(ahead & week_ends.keys()))
        self._present[site.id] = snapshot.present
        if ahead:
            await self._restore.merge(site, saved.ahead)
        return len(ahead)

    @staticmethod
    def _looked_at_all(wanted: Wanted, snapshot: Snapshot) -> str:
        return wanted.turn.looked_at_all(snapshot.moment_us) if wanted.turn and snapshot.all_days else ""


async def _each(calls: Mapping[SiteId, Awaitable[Result]], outcomes: Outcomes) -> dict[SiteId, Result]:
    """Await one call for each site, all together; the failure of a call is what became of its site."""
    results: dict[SiteId, Result] = {}
    for site_id, result in zip(calls, await asyncio.gather(*calls.values(), return_exceptions=True), strict=True):
        if isinstance(result, Exception):
            outcomes[site_id] = result
        elif isinstance(result, BaseException):
            raise result
        else:
            results[site_id] = result
    return results


def _is_silence(error: Exception) -> bool:
    """Whether Postgres gave no answer, which a smaller transaction would not get either."""
    return isinstance(error, StoreUnavailable) and not isinstance(error, StoreBusy | StoreRefused)
