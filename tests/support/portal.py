"""A site and its numbers, for tests of what people see."""

from datetime import date

from footfall.model.counts import Counts
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site

PORTAL = Site(id=SiteId("portal"), name="Portal", hosts=("portal.example.vn",))
COUNTS = Counts(
    site=SiteId("portal"),
    online=4,
    today=1373,
    week=None,
    total=1_373_876,
    views_today=118,
    measure="visitors",
    day_of=date(2026, 11, 23),
    week_of=date(2026, 11, 23),
    revision="one",
    as_of="2026-11-23T08:31:07.000+07:00",
    stale=False,
    poll_after_s=15,
    ping_after_s=60,
    language="vi",
    visitor_id="network",
    labels=(),
)
