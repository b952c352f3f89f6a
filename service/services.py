"""What the handlers of one worker use; built and closed in `app.py`."""

from dataclasses import dataclass

from aiohttp import web

from service.admission import Admission
from service.board import Board
from service.config import Settings, Site
from service.identity import AddressResolver
from service.metrics import Metrics
from service.periods import Clock, Period, period_at
from service.reconciler import Reconciler
from service.recorder import Recorder
from service.rollup import Rollup
from service.salts import Salts
from service.spool import Spool


class Periods:
    """The current day of each site, worked out once a day."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._known: dict[str, Period] = {}

    def now(self, site: Site) -> tuple[float, Period]:
        """Return the moment (seconds since the epoch) and the site's period that holds it."""
        at_s = self.clock()
        period = self._known.get(site.id)
        if period is None or not period.holds(at_s):
            period = self._known[site.id] = period_at(at_s, site.zone)
        return at_s, period


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
    board: Board
    rollup: Rollup
    recorder: Recorder
    reconciler: Reconciler

    async def export(self) -> None:
        """Set the gauges that tell of a state; every worker does so regularly, whoever is asked for metrics."""
        self.board.export()
        self.metrics.network_share.set(self.admission.busiest_network_share())


SERVICES = web.AppKey("services", Services)
