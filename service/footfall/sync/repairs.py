"""What brings a site's state in Redis up to date again."""

from dataclasses import dataclass

from footfall.metrics.metrics import Metrics
from footfall.model.clocks import Clock
from footfall.stores.store_pair import StorePair
from footfall.sync.changed_sites import ChangedSites
from footfall.sync.event_book import EventBook
from footfall.sync.restore import Restore
from footfall.sync.salts import Salts
from footfall.sync.site_opener import SiteOpener


@dataclass(frozen=True, slots=True)
class Repairs:
    """The repairs of one worker, shared by its deliveries and its rollup."""

    opener: SiteOpener
    restore: Restore
    changed: ChangedSites
    events: EventBook

    @classmethod
    def between(cls, stores: StorePair, metrics: Metrics, clock: Clock) -> "Repairs":
        """Build the repairs between two stores."""
        changed, events = ChangedSites(), EventBook(stores.postgres, metrics, clock)
        restore = Restore(stores, changed, events, metrics, clock)
        return cls(SiteOpener(stores, restore, Salts(), events, metrics, clock), restore, changed, events)
