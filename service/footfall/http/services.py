"""What the handlers of one worker use; `process/app.py` builds and closes it."""

import asyncio
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from footfall.background import StepFailures, run_each
from footfall.delivery.outage import Outage
from footfall.delivery.reconciler import Reconciler
from footfall.delivery.recorder import Recorder
from footfall.display.counts_cache import CountsCache
from footfall.display.page_views import PageViews
from footfall.ingest.admission import Admission
from footfall.ingest.client_address import AddressResolver
from footfall.ingest.counting import Counting
from footfall.metrics.metrics import Metrics
from footfall.model.availability import Away
from footfall.model.periods import Periods
from footfall.settings.settings import Settings
from footfall.stores.history import History
from footfall.stores.report_tokens import ReportTokens
from footfall.stores.sites_history import SitesHistory
from footfall.stores.spool_store import Spool
from footfall.stores.store_pair import StorePair
from footfall.sync.clock_watch import ClockWatch
from footfall.sync.log_rewrites import LogRewrites
from footfall.sync.page_folding import PageFolding
from footfall.sync.repairs import Repairs
from footfall.sync.rollup import Rollup

LEAVING_MAX_S = 20.0
"""For the last rollup: service managers kill what has not ended after a minute or so."""


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one worker."""

    settings: Settings
    metrics: Metrics
    periods: Periods
    resolver: AddressResolver
    admission: Admission
    spool: Spool
    stores: StorePair
    history: History
    sites_history: SitesHistory
    report_tokens: ReportTokens
    counts_cache: CountsCache
    page_views: PageViews
    repairs: Repairs
    rollup: Rollup
    log_rewrites: LogRewrites
    page_folding: PageFolding
    recorder: Recorder
    outage: Outage
    reconciler: Reconciler
    counting: Counting
    failures: StepFailures
    clock_watch: ClockWatch
    leaving_max_s: float = LEAVING_MAX_S

    async def copy(self) -> None:
        """Copy what changed to Postgres, then bring this worker's logs in step with both stores."""
        await run_each(
            self.rollup.step,
            self.reconciler.step,
            self.log_rewrites.step,
            self.page_folding.step,
            self.repairs.events.write,
            self.repairs.restore.report,
        )

    async def watch_redis(self) -> None:
        """Log an outage of Redis when it begins and when it is over."""
        deliveries = self.recorder.sites.values()
        self.outage.look({each.site.id: each.redis for each in deliveries if isinstance(each.redis, Away)})

    async def secure(self) -> None:
        """Leave nothing in memory alone: send what waits, and put on the disk what Postgres may lack.

        From then on Postgres gets `leaving_max_s`: a worker that is killed before it has put its batches on the disk
        loses what Redis loses.
        """
        asyncio.get_running_loop().call_later(self.leaving_max_s, self.stores.postgres.give_up)
        await run_each(self.recorder.settle, self.reconciler.put_on_disk)

    async def leave(self) -> None:
        """Copy what is left to Postgres, as far as it takes that now, and drop from the disk what it has then."""
        self.outage.close()
        await self.secure()
        await run_each(
            partial(self.rollup.step, is_last=True),
            self.reconciler.close,
            self.repairs.events.write,
        )

    async def export(self) -> None:
        """Set the gauges of this worker's state; every worker does so regularly, as any may be asked for metrics."""
        self.counts_cache.export()
        self.metrics.network_share.set(self.admission.busiest_network_share())


SERVICES = web.AppKey("services", Services)
