"""Why some sites fail in a step that the others pass: one entry a reason, for `/readyz`, a metric and the log."""

import re
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


def without_site(sentence: str, site_id: str) -> str:
    """Return a sentence about one site as the same sentence about any: many sites that fail alike are one failure.

    >>> without_site("redis: is not ready; site=portal", "portal")
    'redis: is not ready'
    >>> without_site("redis: holds another installation's state of portal", "portal")
    "redis: holds another installation's state"
    """
    return re.sub(rf"(; site=| of | for ){re.escape(site_id)}(?![\w-])", "", sentence)


def failures_by_reason(
    failed: Mapping[SiteId, Exception], since_s: Mapping[SiteId, float], now_s: float
) -> list[Failure]:
    """Return one entry for each reason; rows that are busy for a moment are none."""
    found: dict[str, Failure] = {}
    for site_id, error in failed.items():
        if isinstance(error, StoreBusy) and now_s - since_s[site_id] < BUSY_MAX_S:
            continue
        known = isinstance(error, StoreUnavailable)
        why = (
            without_site(str(error), site_id)
            if known
            else f"a fault in Footfall itself, see its log: {type(error).__name__}"
        )
        failure = found.setdefault(why, Failure(why, since_s[site_id], []))
        failure.site_ids.append(site_id)
        found[why] = replace(failure, since_s=min(since_s[site_id], failure.since_s))
    return list(found.values())
