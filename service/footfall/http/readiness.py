"""Whether a beacon can be answered 200 or 202 now, and every problem with its beginning."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date

from footfall.delivery.site_delivery import SiteDelivery
from footfall.errors import Refused, StoreUnavailable
from footfall.http.services import Services
from footfall.log_throttle import NAMES_MAX, some_of
from footfall.model.availability import UP, Away
from footfall.model.site_id import SiteId
from footfall.sync.site_failures import without_site


@dataclass(frozen=True, slots=True)
class Problem:
    """What an operator should know, and when it began (seconds since the epoch)."""

    what: str
    since_s: float


class Readiness:
    """Asks the stores as a beacon would, and remembers when each problem without a date was first seen."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._first_seen_s: dict[str, float] = {}

    async def look(self) -> tuple[bool, list[Problem]]:
        """Return whether any site takes beacons, and every problem; runs the record script in its check mode.

        A site takes beacons while the key of its visitor hash is known and either Redis or the spool stores them.
        One site is enough, so that a stuck site does not take the others out of the balancer. Without Postgres every
        beacon is still taken, so its absence is a problem but leaves the host ready.
        """
        services = self._services
        deliveries = list(services.recorder.sites.values())
        stuck = [delivery for delivery in deliveries if delivery.redis is not UP or not self._has_key(delivery)]
        for delivery in stuck[:1] or deliveries[:1]:
            await delivery.probe()
        keyless = await self._without_key(deliveries)
        refusal = await self._write_refusal([delivery for delivery in deliveries if delivery.redis is UP][:1])
        spool = await self._spool_trouble()
        ready = any(
            self._has_key(delivery) and ((delivery.redis is UP and not refusal) or not spool) for delivery in deliveries
        )
        troubles = [
            *self._site_troubles(refusal),
            *keyless,
            *self._proxy_troubles(),
            *self._clock_troubles(),
            *self._copy_troubles(),
            *self._failing_steps(),
            *self._spool_files(),
            *spool,
        ]
        return ready, self._dated(troubles)

    def _site_troubles(self, refused: list[tuple[str, str, float | None]]) -> Iterator[tuple[str, float | None]]:
        """Name the sites whose beacons Redis does not take: one cause is one problem, however many sites it has."""
        by_cause: dict[tuple[str, str], list[tuple[str, str, float | None]]] = {}
        away = (
            (delivery.site.id, delivery.redis.why, delivery.redis.since_s)
            for delivery in self._services.recorder.sites.values()
            if isinstance(delivery.redis, Away)
        )
        for trouble in (*away, *refused):
            # Behind the sentence stand the driver's words, in which each connection ends differently.
            cause = without_site(": ".join(trouble[1].split(": ")[:2]), trouble[0])
            server = self._services.stores.redis.server_of(SiteId(trouble[0]))
            by_cause.setdefault((server, cause), []).append(trouble)
        for (server, _), troubles in by_cause.items():
            ids, words, moments = zip(*troubles, strict=True)
            since_s = min((moment for moment in moments if moment is not None), default=None)
            whose = _sites(ids) if len(ids) <= NAMES_MAX else f"{len(ids)} sites of server {server}"
            yield f"redis takes no beacons of {whose}: {words[0]}", since_s

    async def _without_key(self, deliveries: list[SiteDelivery]) -> list[tuple[str, float | None]]:
        """Ask for the first key that is not known, as a beacon of its site does; a key that is found is no problem."""
        keyless = [delivery for delivery in deliveries if not self._has_key(delivery)]
        for delivery in keyless[:1]:
            await self._learn_key(delivery)
            if not self._has_key(delivery):
                names = _sites([delivery.site.id for delivery in keyless])
                return [(f"no key of the visitor hash is known for {names}", None)]
        return []

    def _proxy_troubles(self) -> Iterator[tuple[str, float | None]]:
        proxies = self._services.counting.proxies
        if proxies.since_s is not None:
            yield proxies.problem, proxies.since_s

    def _clock_troubles(self) -> Iterator[tuple[str, float | None]]:
        early: dict[date, list[str]] = {}
        for site_id, days in self._services.rollup.early_days.items():
            early.setdefault(max(days), []).append(site_id)
        for day, site_ids in early.items():
            has = "has" if len(site_ids) == 1 else "have"
            yield f"{_sites(site_ids)} {has} visitors on {day}, which has not come: a clock was ahead", None
        for store in sorted(self._services.clock_watch.apart):
            yield f"{store}: its clock and this host's differ; have all hosts set theirs by NTP", None

    def _copy_troubles(self) -> Iterator[tuple[str, float | None]]:
        if isinstance(away := self._services.log_rewrites.state, Away):
            yield f"redis does not rewrite its append-only file: {away.why}", away.since_s
        rollup = self._services.rollup
        if isinstance(away := rollup.postgres, Away):
            yield f"nothing is copied to PostgreSQL: {away.why}", away.since_s
            return
        for failure in rollup.failures.by_reason():
            yield f"not copied to PostgreSQL: sites {some_of(failure.site_ids)}: {failure.why}", failure.since_s
        for failure in self._services.page_folding.failures():
            yield f"old days of pages stay unfolded: sites {some_of(failure.site_ids)}: {failure.why}", failure.since_s

    async def _write_refusal(self, deliveries: list[SiteDelivery]) -> list[tuple[str, str, float | None]]:
        """Ask a Redis that answers whether it also takes writes; what one site learns holds for its server."""
        for delivery in deliveries:
            try:
                await self._services.stores.redis.check_writes(delivery.site.id)
            except StoreUnavailable as error:
                return [(delivery.site.id, str(error), None)]
        return []

    def _failing_steps(self) -> Iterator[tuple[str, float | None]]:
        for name, failing in self._services.failures.now.items():
            yield f"the background step {name} fails with {failing.why}; the log says where", failing.since_s

    def _spool_files(self) -> Iterator[tuple[str, float | None]]:
        """Name files that an operator should look at; beacons are taken all the same."""
        for trouble in self._services.spool.troubles:
            yield f"spool: {trouble}", None

    async def _spool_trouble(self) -> list[tuple[str, float | None]]:
        try:
            await self._services.spool.check()
        except StoreUnavailable as error:
            return [(str(error), None)]
        return []

    def _has_key(self, delivery: SiteDelivery) -> bool:
        _, period = self._services.periods.now(delivery.site.zone)
        return self._services.repairs.opener.salts.of(delivery.site, period.week) is not None

    async def _learn_key(self, delivery: SiteDelivery) -> None:
        """Ask the stores for the key, since no beacon comes while the balancer sends none."""
        _, period = self._services.periods.now(delivery.site.zone)
        with suppress(Refused):
            await self._services.repairs.opener.salt(delivery.site, period.week)

    def _dated(self, troubles: list[tuple[str, float | None]]) -> list[Problem]:
        now_s = self._services.periods.clock()
        self._first_seen_s = {what: self._first_seen_s.get(what, now_s) for what, _ in troubles}
        return [Problem(what, self._first_seen_s[what] if since_s is None else since_s) for what, since_s in troubles]


def _sites(ids: Sequence[str]) -> str:
    return f"{'site' if len(ids) == 1 else 'sites'} {some_of(ids)}"
