"""Which sites cannot be rolled up, why, and since when: for the next turn, `/readyz`, a metric and the log."""

import logging

from footfall.errors import StoreBusy, StoreUnavailable
from footfall.log_throttle import ReportedFailures, some_of
from footfall.metrics.metrics import Metrics
from footfall.model.clocks import Clock
from footfall.model.site_id import SiteId
from footfall.sync.site_failures import Failure, failures_by_reason

logger = logging.getLogger(__name__)


def is_of_redis(error: Exception) -> bool:
    """Return whether Redis failed a rollup; a fault of our own counts as Postgres', whose work it may be."""
    return isinstance(error, StoreUnavailable) and error.store == "redis"


class RollupFailures:
    """The sites whose last rollup failed."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self.errors: dict[SiteId, Exception] = {}
        """Why each of them failed; the one that was tried last comes last."""
        self._since_s: dict[SiteId, float] = {}
        self._reported = ReportedFailures()

    def note(self, site_id: SiteId, error: Exception) -> None:
        """Note that a site failed; one that is busy keeps the reason of an earlier failure."""
        known = self.errors.pop(site_id, error)
        is_busy = isinstance(error, StoreBusy)  # no failure: another worker is rolling it up
        self.errors[site_id] = known if is_busy else error
        self._since_s.setdefault(site_id, self._clock())
        if not is_busy:
            self._metrics.rollup_errors.inc()

    def forget(self, site_id: SiteId) -> None:
        """Note that a site was rolled up."""
        self.errors.pop(site_id, None)
        self._since_s.pop(site_id, None)

    def is_of_postgres(self, site_id: SiteId) -> bool:
        """Return whether the last rollup of a site failed after Redis had answered, by a fault of ours too."""
        error = self.errors.get(site_id)
        return error is not None and not is_of_redis(error)

    def by_reason(self) -> list[Failure]:
        """Return why sites cannot be copied, one entry a reason; rows that are busy for a moment are no failure."""
        return failures_by_reason(self.errors, self._since_s, self._clock())

    def report(self) -> None:
        """Log which sites began to fail and which recovered: one line each, however often they are tried."""
        failing = {site_id: self.errors[site_id] for failure in self.by_reason() for site_id in failure.site_ids}
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
