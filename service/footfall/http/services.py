"""What the handlers of one worker use; built and closed in `app.py`."""

import logging
from dataclasses import dataclass, field

from aiohttp import web

from footfall.delivery.reconciler import Reconciler
from footfall.delivery.recorder import Recorder
from footfall.display.counts_cache import CountsCache
from footfall.ingest.admission import Admission
from footfall.ingest.client_address import AddressResolver
from footfall.log_throttle import LogThrottle
from footfall.metrics.metrics import Metrics
from footfall.model.periods import Periods
from footfall.settings.settings import Settings
from footfall.stores.spool_store import Spool
from footfall.sync.restore import Restore
from footfall.sync.rollup import Rollup
from footfall.sync.salts import Salts

logger = logging.getLogger(__name__)

UNRESOLVED_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Services:
    """One worker's parts, wired."""

    settings: Settings
    metrics: Metrics
    periods: Periods
    resolver: AddressResolver
    admission: Admission
    salts: Salts
    spool: Spool
    counts_cache: CountsCache
    restore: Restore
    rollup: Rollup
    recorder: Recorder
    reconciler: Reconciler
    unresolved: LogThrottle = field(default_factory=lambda: LogThrottle(UNRESOLVED_EVERY_S))

    def note_unresolved(self) -> None:
        """Count a beacon that seems to come from a trusted proxy itself, and say so once an hour."""
        self.metrics.from_proxy.inc()
        times = self.unresolved.happened()
        if times and not self.settings.demo:  # the demo is looked at from its own machine
            logger.warning(
                "Beacons carry a trusted proxy's own address, so no limit by network holds for them: does it set %s?"
                " times=%d",
                self.settings.forwarded_header,
                times,
            )

    async def export(self) -> None:
        """Set the gauges that tell of a state; every worker does so regularly, whoever is asked for metrics."""
        self.counts_cache.export()
        self.metrics.network_share.set(self.admission.busiest_network_share())


SERVICES = web.AppKey("services", Services)
