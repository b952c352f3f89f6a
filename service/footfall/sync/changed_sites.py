"""The sites of which Redis has something that Postgres may lack: the next rollup looks at them."""

from collections.abc import Iterable, Iterator

from footfall.model.site_id import SiteId


class ChangedSites:
    """Each part that changes a site in Redis notes it here; the rollup takes it."""

    def __init__(self) -> None:
        self._site_ids: set[SiteId] = set()

    def __iter__(self) -> Iterator[SiteId]:
        """Iterate over a copy, in order."""
        return iter(sorted(self._site_ids))

    def __contains__(self, site_id: object) -> bool:
        return site_id in self._site_ids

    def note(self, site_id: SiteId) -> None:
        """Have the next rollup look at a site."""
        self._site_ids.add(site_id)

    def note_all(self, site_ids: Iterable[SiteId]) -> None:
        """Have the next rollup look at these sites."""
        self._site_ids.update(site_ids)

    def take(self, site_id: SiteId) -> None:
        """Begin the rollup of a site: changes from here on are for the next rollup, and a busy site always changes."""
        self._site_ids.discard(site_id)
