"""Which sites the next rollup looks at."""

from footfall.model.site_id import SiteId
from footfall.sync.changed_sites import ChangedSites

LIBRARY, MUSEUM, PORTAL = SiteId("library"), SiteId("museum"), SiteId("portal")


def test_sites_come_in_order_and_each_once() -> None:
    """A busy site changes a hundred times between two rollups, and costs one look."""
    changed = ChangedSites()
    changed.note_all([PORTAL, LIBRARY])
    changed.note(PORTAL)
    assert list(changed) == [LIBRARY, PORTAL]


def test_a_site_that_changes_during_its_rollup_is_for_the_next_one() -> None:
    """A rollup takes a site before it looks, so a beacon that comes after the look is not forgotten."""
    changed = ChangedSites()
    changed.note(PORTAL)
    changed.take(PORTAL)
    assert PORTAL not in changed
    changed.note(PORTAL)
    assert PORTAL in changed


def test_sites_may_change_while_a_rollup_visits_them() -> None:
    """Beacons come between any two sites of a rollup; a site that changes then has to wait for the next rollup."""
    changed = ChangedSites()
    changed.note_all([LIBRARY, PORTAL])
    visited = []
    for site_id in changed:
        changed.take(site_id)
        changed.note(MUSEUM)
        visited.append(site_id)
    assert visited == [LIBRARY, PORTAL]
    assert list(changed) == [MUSEUM]


def test_taking_a_site_that_did_not_change_does_nothing() -> None:
    """The rollup looks at all sites hourly, changed or not."""
    changed = ChangedSites()
    changed.take(PORTAL)
    assert list(changed) == []
