"""What brings a site's state in Redis up to date again."""

from dataclasses import dataclass

from footfall.sync.changed_sites import ChangedSites
from footfall.sync.restore import Restore
from footfall.sync.site_opener import SiteOpener


@dataclass(frozen=True, slots=True)
class Repairs:
    """The repairs of one worker, shared by its deliveries and its rollup."""

    opener: SiteOpener
    restore: Restore
    changed: ChangedSites
