"""The state of an installation as one value: what `/status` answers and `footfall status` shows."""

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psutil

from footfall import __version__
from footfall.delivery.site_delivery import SiteDelivery
from footfall.http.readiness import Readiness
from footfall.http.services import Services
from footfall.ingest.refused_pages import Page, Refusals, advice, merged
from footfall.model.availability import UP
from footfall.model.counts import NUMBERS, Counts
from footfall.settings.settings import Site

READ_AT_ONCE = 50
STORES = ("redis", "postgres", "spool")


def own_report(services: Services) -> dict[str, Any]:
    """Return what the other workers need of this one to answer for it."""
    return {
        "pid": os.getpid(),
        "version": __version__,
        "started_s": psutil.Process().create_time(),
        "refused": [refusals._asdict() for refusals in services.counting.refused_pages.last_hour()],
    }


async def report(services: Services) -> None:
    """Write this worker's report, which every worker does regularly."""
    services.metrics.reports.write(own_report(services))


async def look(services: Services, readiness: Readiness) -> dict[str, Any]:
    """Return the state of all workers, both stores, the spool and every site, with moments in UTC (RFC 3339)."""
    await report(services)
    ready, problems = await readiness.look()
    samples = await _samples(services)
    reports = services.metrics.reports.read()
    copied_s = samples.get("footfall_rollup_last_success_timestamp_seconds", 0.0)
    return {
        "status": "unavailable" if not ready else "degraded" if problems else "ok",
        "version": __version__,
        "demo": services.settings.demo,
        "now": utc(services.periods.clock()),
        "sites": await _sites(services),
        "stores": {store: samples.get(f"footfall_store_up.{store}", 1.0) == 1.0 for store in STORES},
        "spool_bytes": int(samples.get("footfall_spool_bytes", 0)),
        "spool_max_bytes": services.settings.spool_max_bytes * len(reports),
        "copied": utc(copied_s) if copied_s else None,
        "workers": [
            {"pid": each["pid"], "version": each["version"], "started": utc(each["started_s"])} for each in reports
        ],
        "workers_configured": int(samples.get("footfall_workers_configured", 0)),
        "problems": [{"what": problem.what, "since": utc(problem.since_s)} for problem in problems],
        "refused": [_refusal(services, refusals) for refusals in _refused(reports)],
    }


def utc(at_s: float) -> str:
    """Return a moment as RFC 3339 writes it, to the second."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")


async def _sites(services: Services) -> list[dict[str, Any]]:
    """Return every site with its numbers, read some at a time: ten thousand at once would hold up the beacons."""
    found: list[dict[str, Any]] = []
    deliveries = list(services.recorder.sites.values())
    for first in range(0, len(deliveries), READ_AT_ONCE):
        some = deliveries[first : first + READ_AT_ONCE]
        shown = await asyncio.gather(*(_shown(services, delivery) for delivery in some))
        found += [_site(delivery.site, counts) for delivery, counts in zip(some, shown, strict=True)]
    return found


async def _shown(services: Services, delivery: SiteDelivery) -> Counts:
    """Return the numbers of a site; those that are known while Redis is away, because each look would wait for it."""
    if delivery.redis is UP:
        return (await services.counts_cache.counts(delivery.site)).counts
    return services.counts_cache.shown(delivery.site).stale.counts


def _site(site: Site, counts: Counts) -> dict[str, Any]:
    return {
        "id": site.id,
        "name": site.name,
        "measure": site.measure,
        **{name: getattr(counts, name) for name in NUMBERS},
        "as_of": counts.as_of,
        "stale": counts.stale,
    }


async def _samples(services: Services) -> Mapping[str, float]:
    """Return the gauges of all workers together; those of a store under its name."""
    return {
        ".".join([sample.name, *filter(None, [sample.labels.get("store")])]): sample.value
        for family in await services.metrics.collect()
        if family.type == "gauge" and family.name != "footfall_visitors"
        for sample in family.samples
    }


def _refused(reports: list[dict[str, Any]]) -> list[Refusals]:
    return merged(
        [Refusals(Page(*each["page"]), each["times"], each["since_s"], each["last_s"]) for each in one["refused"]]
        for one in reports
    )


def _refusal(services: Services, refusals: Refusals) -> dict[str, Any]:
    page = refusals.page
    return {
        "site": page.site,
        "origin": page.origin,
        "reason": page.reason,
        "times": refusals.times,
        "since": utc(refusals.since_s),
        "last": utc(refusals.last_s),
        "advice": advice(page, services.settings.sites),
    }
