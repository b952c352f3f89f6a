"""What the handlers of one worker use; `process/app.py` builds and closes it."""

from dataclasses import dataclass

from aiohttp import web

from footfall.delivery.reconciler import Reconciler
from footfall.delivery.recorder import Recorder
from footfall.display.counts_cache import CountsCache
from footfall.ingest.admission import Admission
from footfall.ingest.client_address import AddressResolver
from footfall.ingest.counting import Counting
from footfall.metrics.metrics import Metrics
from footfall.model.periods import Periods
from footfall.settings.settings import Settings
from footfall.stores.spool_store import Spool
from footfall.sync.restore import Restore
from footfall.sync.rollup import Rollup
from footfall.sync.salts import Salts


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one worker."""

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
    counting: Counting

    async def export(self) -> None:
        """Set the gauges of this worker's state; every worker does so regularly, as any may be asked for metrics."""
        self.counts_cache.export()
        self.metrics.network_share.set(self.admission.busiest_network_share())


SERVICES = web.AppKey("services", Services)
