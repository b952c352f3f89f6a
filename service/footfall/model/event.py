"""What an honest report about a site must mention."""

from dataclasses import dataclass
from datetime import datetime, timedelta

RUNNING_EVERY_S = 60.0
"""How often a worker says again that something goes on."""
SILENT_MAX = timedelta(seconds=3 * RUNNING_EVERY_S)
"""What no worker has mentioned for so long counts as over: the worker may have died."""


@dataclass(frozen=True, slots=True)
class Event:
    """A key that was lost, batches that were lost, a store that was away, ..."""

    kind: str
    detail: str
    at: datetime
    """When it was recorded first."""
    began: datetime | None = None
    """Of what lasted; None for a moment."""
    ended: datetime | None = None
    """The last moment at which it is known to have lasted."""
    site_id: str = ""
    """`*` for every site."""
    running: bool = False
    """Whether a worker said at `ended` that it goes on."""

    def goes_on(self, now: datetime) -> bool:
        """Return whether it lasts still, as far as the workers have said lately."""
        return self.running and self.ended is not None and now - self.ended <= SILENT_MAX
