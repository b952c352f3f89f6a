"""What happens to a beacon: the use case behind `POST /seen`, callable without HTTP.

`Beacon` is what the page says, `Sender` who sent it. The order of the checks is the order of their cost, so that a
flood of refused beacons stays cheap.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from footfall.delivery.pending import IN_REDIS, View
from footfall.delivery.recorder import Recorder
from footfall.errors import Reason, Refused
from footfall.ingest.admission import Admission
from footfall.ingest.beacon import A_VIEW, Beacon
from footfall.ingest.client_address import Client
from footfall.ingest.pages import normalise_page
from footfall.ingest.proxy_watch import ProxyWatch
from footfall.ingest.refused_pages import RefusedPages
from footfall.ingest.sender import Sender
from footfall.ingest.visitor import visitor_id
from footfall.metrics.metrics import Metrics
from footfall.model.periods import Periods
from footfall.model.retention import WEEK
from footfall.settings.settings import Site
from footfall.sync.site_opener import SiteOpener


@dataclass(frozen=True, slots=True)
class Counted:
    """The beacon is in Redis, and the numbers of its site include it."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """The beacon is on this host's disk (fsynced) and will be in Redis once; the numbers do not include it yet."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """The beacon may not be counted, and nothing of it was stored: OPT_OUT, EXCLUDED, PREFETCH, FRAMED or ROBOT."""

    reason: Reason


COUNTED, SPOOLED = Counted(), Spooled()
NO_PAGE = View()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """Counts the beacons of one worker; the fields are what a beacon passes."""

    sites: Mapping[str, Site]
    admission: Admission
    periods: Periods
    opener: SiteOpener
    recorder: Recorder
    metrics: Metrics
    proxies: ProxyWatch
    refused_pages: RefusedPages

    async def count_beacon(self, beacon: Beacon, sender: Sender) -> Counted | Spooled | Ignored:
        """Count one beacon now; return once it is stored.

        Raises Refused(UNKNOWN_SITE | NO_ORIGIN | WRONG_ORIGIN | RATE_LIMITED | NOT_READY | BUSY | SPOOL_FULL), and
        then nothing of the beacon was stored. Every outcome is in the metrics.
        """
        site = self.sites.get(beacon.site)
        if site is None:
            self.note_refusal(Reason.UNKNOWN_SITE)
            self.refused_pages.note(Reason.UNKNOWN_SITE, beacon.site, sender)
            raise Refused(Reason.UNKNOWN_SITE)
        try:
            ignored = self.admission.check(site, beacon, sender)
            if ignored is not None:
                self.metrics.beacon(site.id, "ignored", ignored).inc(1)
                return Ignored(ignored)
            client, agent = sender.client, sender.user_agent
            at_s, period = self.periods.now(site.zone)
            if client.is_proxy:
                self.proxies.saw_proxy(at_s)
            elif self.proxies.since_s is not None:
                self.proxies.saw_client(at_s)
            salt = self.opener.salts.of(site, period.week) or await self.opener.salt(site, period.week)
            own_id = beacon.visitor if site.visitor_id == "browser" else None
            visitor = visitor_id(salt, client, agent, own_id)
            previous_week_id = None
            if at_s - period.start_s < site.online_window_s and period.day == period.week:
                # The salt has just changed: without this, a visitor present at the turn is online under both ids.
                last_salt = self.opener.salts.of(site, period.week - WEEK)
                previous_week_id = visitor_id(last_salt, client, agent, own_id) if last_salt else None
            stored_in = await self.recorder.record(
                site,
                period.day,
                visitor if self.admission.may_add_visitor(site, client, visitor) else None,
                previous_week_id,
                self._viewed(site, beacon, period.day, client) if beacon.kind is A_VIEW else None,
            )
        except Refused as refused:
            if sender.client.is_proxy and refused.reason is Reason.RATE_LIMITED:
                self.proxies.saw_proxy(self.periods.clock())
            self.note_refusal(refused.reason, site.id)
            self.refused_pages.note(refused.reason, site.id, sender)
            raise
        return COUNTED if stored_in is IN_REDIS else SPOOLED

    def _viewed(self, site: Site, beacon: Beacon, day: date, client: Client) -> View:
        """Return the view, of the page under which it counts."""
        page = normalise_page(beacon.page, site) if beacon.page else None
        if page is None:
            return View("", beacon.view, beacon.again) if beacon.view else NO_PAGE
        return View(self.admission.page_to_count(site, page, day, client), beacon.view, beacon.again)

    def note_refusal(self, reason: Reason, site_id: str = "") -> None:
        """Count a refused beacon; of an unknown site the label is empty, since clients must not name metrics."""
        self.metrics.beacon(site_id, "refused", reason).inc(1)
