"""Why some sites fail in a step that the others pass: one entry a reason, for `/readyz`, a metric and the log."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from footfall.errors import StoreBusy, StoreUnavailable
from footfall.model.site_id import SiteId

BUSY_MAX_S = 60
"""Another worker holds the rows of a site for seconds; a session that holds them longer is a failure."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why some sites fail, and since when (seconds since the epoch)."""

    why: str
    since_s: float
    site_ids: list[SiteId]


def failures_by_reason(
    failed: Mapping[SiteId, Exception], since_s: Mapping[SiteId, float], now_s: float
) -> list[Failure]:
    """Return one entry for each reason; rows that are busy for a moment are none."""
    found: dict[str, Failure] = {}
    for site_id, error in failed.items():
        if isinstance(error, StoreBusy) and now_s - since_s[site_id] < BUSY_MAX_S:
            continue
        known = isinstance(error, StoreUnavailable)
        why = str(error) if known else f"a fault in Footfall itself, see its log: {type(error).__name__}"
        failure = found.setdefault(why, Failure(why, since_s[site_id], []))
        failure.site_ids.append(site_id)
        found[why] = replace(failure, since_s=min(since_s[site_id], failure.since_s))
    return list(found.values())
