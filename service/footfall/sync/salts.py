"""A worker's weekly keys of the visitor hash.

A salt is random, one per site and week. The first worker makes it, a week ahead, and shares it through Redis and
Postgres (`site_opener.py`). Redis destroys it by itself two hours after its week, the rollup destroys the copy in
Postgres, and each worker its own.
"""

import secrets
from collections.abc import Iterable, Mapping
from datetime import date

from footfall.model.retention import Retention
from footfall.model.salt import SALT_BYTES, Salt, salt_ends_s
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site


class Salts:
    """The salts that this worker knows; without one a beacon is refused, never counted under an invented one."""

    def __init__(self) -> None:
        self._keys: dict[tuple[SiteId, date], bytes] = {}

    def of(self, site: Site, week: date) -> bytes | None:
        """Return the salt of `week`, None where it is not known."""
        return self._keys.get((site.id, week))

    def offers(self, site: Site, weeks: Iterable[date]) -> list[Salt]:
        """Return what this worker proposes for some weeks: the salts that it knows, else new ones."""
        return [
            Salt(week, self.of(site, week) or secrets.token_bytes(SALT_BYTES), salt_ends_s(week, site.zone))
            for week in weeks
        ]

    def learn(self, site: Site, keys: Mapping[date, bytes]) -> set[date]:
        """Remember the salts in force; return the weeks whose salt differs from the one used until now."""
        replaced = {week for week, key in keys.items() if self._keys.get((site.id, week), key) != key}
        self._keys |= {(site.id, week): key for week, key in keys.items()}
        return replaced

    def destroy_old(self, sites: Mapping[SiteId, Site], at_s: float) -> None:
        """Destroy this worker's copies of salts whose time is over."""
        for site_id, week in list(self._keys):
            if week < Retention.at(at_s, sites[site_id].zone).salts_from:
                del self._keys[site_id, week]
