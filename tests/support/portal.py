"""A site and its numbers, for tests of what people see."""

from datetime import date

from footfall.model.counts import Counts, Form
from footfall.model.site_id import SiteId
from footfall.settings.settings import Site

PORTAL = Site(id=SiteId("portal"), name="Portal", hosts=("portal.example.vn",))
FORM = Form(
    site=SiteId("portal"),
    measure="visitors",
    poll_after_s=15,
    ping_after_s=60,
    language="vi",
    visitor_id="network",
)
COUNTS = Counts(
    form=FORM,
    online=4,
    today=1373,
    week=None,
    total=1_373_876,
    views_today=118,
    day_of=date(2026, 11, 23),
    week_of=date(2026, 11, 23),
    revision="one",
    as_of="2026-11-23T08:31:07.000+07:00",
    stale=False,
)
