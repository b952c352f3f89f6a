"""The metrics that operators build their dashboards and alarms on."""

import re
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from footfall.errors import Reason
from footfall.metrics.metrics import Metrics
from footfall.model.counts import NUMBERS
from footfall.settings.settings import Settings
from tests.support.footfall import HOST, SITE, Footfall, running, settings_for

PROMISED = {
    "footfall_beacons_total": {"site", "outcome", "reason"},
    "footfall_request_seconds": {"route", "status"},
    "footfall_flushes_total": {"answer"},
    "footfall_batch_beacons": set[str](),
    "footfall_queue_beacons": set[str](),
    "footfall_retries_total": set[str](),
    "footfall_rollup_seconds": set[str](),
    "footfall_rollup_last_success_timestamp_seconds": set[str](),
    "footfall_visitors": {"site", "period"},
    "footfall_store_up": {"store"},
    "footfall_clock_skew_seconds": set[str](),
    "footfall_build_info": {"version"},
}
"""Names and labels that stay: renaming one silences an operator's alarm."""

CLOSED_SETS = {
    "site": {"portal", ""},
    "outcome": {"counted", "spooled", "ignored", "refused"},
    "reason": {"", *Reason},
    "answer": {"ok", "dup", "gap", "old", "notready", "error"},
    "period": set(NUMBERS),
    "store": {"redis", "postgres", "spool"},
    "step": {"copy", "quick_step", "measure", "export", "flush_metrics", "open_sites"},
    "direction": {"to_postgres", "to_redis"},
    "route": {"/seen", "/seen.gif", "/counts", "/counts.svg", "/counts.html", "/footfall.js", "/metrics", "other"},
    "number": {f"{period}_{what}" for period in ("today", "week", "total") for what in ("visitors", "views")},
}
"""Every value that each label may have, for the one site of these tests."""


@pytest.fixture
def declared() -> dict[str, tuple[str, set[str]]]:
    """Return HELP text and labels of every metric, by name."""
    declared = vars(Metrics(CollectorRegistry())).values()
    metrics = [metric for metric in declared if isinstance(metric, MetricWrapperBase)]
    return {
        family.name + ("_total" if family.type == "counter" else ""): (family.documentation, set(metric._labelnames))  # noqa: SLF001
        for metric in metrics
        for family in metric.describe()
    }


async def test_the_event_loop_goes_on_while_metrics_are_rendered() -> None:
    """With ten thousand sites it took two seconds: no beacon was answered, and the pod was taken for dead."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    threads = set[int]()

    class Slow(Collector):
        def collect(self) -> list[Metric]:
            threads.add(threading.get_ident())
            return []

    registry.register(Slow())
    threads.clear()
    assert b"footfall_build_info" in await metrics.render()
    assert "footfall_build_info" in {family.name for family in await metrics.collect()}
    assert threads
    assert threads.isdisjoint({threading.get_ident()})


def test_promised_names_and_labels_are_there(declared: dict[str, tuple[str, set[str]]]) -> None:
    """As deploy/METRICS.md lists them."""
    assert {name: declared[name][1] for name in PROMISED} == PROMISED


def test_every_help_text_explains(declared: dict[str, tuple[str, set[str]]]) -> None:
    """A help text is a sentence of its own, with the unit where the metric has one."""
    for name, (text, _) in declared.items():
        assert name.startswith(("footfall_", "process_"))
        assert len(text.split()) >= 4, name
        if name.endswith("_seconds"):
            assert re.search(r"second|clock", text.lower()), name


def test_no_histogram_is_kept_per_site(declared: dict[str, tuple[str, set[str]]]) -> None:
    """Fourteen time series per site and status would fill most of a Prometheus."""
    assert {name for name, (_, labels) in declared.items() if "site" in labels} == {
        "footfall_beacons_total",
        "footfall_visitors",
    }


async def provoke(footfall: Footfall) -> None:
    """Send a client's words to every place from which a label might be made."""
    words = "0f00tfa11"
    await footfall.see(page=f"/{words}", visitor=words)
    await footfall.send(site=words)
    await footfall.send(kind=words)
    await footfall.send(agent=f"{words}bot/1.0")
    await footfall.send(headers={"Origin": f"https://{words}.example", "Referer": words, words: words})
    for method in ("GET", "PUT", "OPTIONS"):
        await footfall.public.request(method, f"/{words}?site={words}&{words}=1")
    for path in ("/counts", "/seen.gif", "/counts.svg", "/counts.html"):
        await footfall.public.get(f"{path}?site={words}&lang={words}")
    await footfall.public.get("/footfall.js", headers={"If-None-Match": words})
    await footfall.services.rollup.step()


async def test_labels_come_from_closed_sets_whatever_a_client_sends(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """A label made of a request lets any client fill the monitoring system, and shows what must not be kept."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        await provoke(footfall)
        text = await (await footfall.ops.get("/metrics")).text()
        assert "0f00tfa11" not in text
        assert "203.0.113" not in text
        ours = [family for family in text_string_to_metric_families(text) if family.name.startswith("footfall_")]
        for family in ours:
            for sample in family.samples:
                for label, value in sample.labels.items():
                    assert label in {"le", "status", "version"} or value in CLOSED_SETS[label], sample


async def test_the_numbers_shown_are_exported_by_site_and_period(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """A dashboard of all portals needs no other source; it shows the processes' basic figures too."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        await footfall.see()
        await footfall.see(address="203.0.113.8", kind="ping")
        text = await (await footfall.ops.get("/metrics")).text()
        for period, number in (("online", 2), ("today", 2), ("week", 2), ("total", 2), ("views_today", 1)):
            assert footfall.metric("footfall_visitors", site="portal", period=period) == number
        assert footfall.metric("footfall_beacons_total", site="portal", outcome="counted", reason="") == 2
        assert footfall.metric("footfall_flushes_total", answer="ok") == 2
        assert footfall.metric("footfall_store_up", store="redis") == 1
        assert "process_resident_memory_bytes" in text


async def test_sites_without_series_of_their_own_share_them_and_refusals_are_still_seen(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """Ten thousand sites were 2.7 MB at every scrape; the alert on refused beacons must not need them."""
    sites = {site_id: {"name": "Cổng thử", "hosts": [HOST]} for site_id in (SITE, "nearby")}
    settings = settings_for(redis_url, postgres_url, tmp_path, sites=sites, metrics_per_site="off")
    async with running(settings) as footfall:
        for site_id in sites:
            await footfall.see(site=site_id)
        footfall.services.counting.note_refusal(Reason.BUSY, SITE)
        await footfall.send(site="nope")
        await footfall.services.export()
        text = await (await footfall.ops.get("/metrics")).text()
    assert {line for line in text.splitlines() if re.match(r"footfall_(beacons_total|visitors)\{", line)} == {
        'footfall_beacons_total{outcome="counted",reason="",site="(all)"} 2.0',
        'footfall_beacons_total{outcome="refused",reason="busy",site="(all)"} 1.0',
        'footfall_beacons_total{outcome="refused",reason="unknown_site",site=""} 1.0',
    }


@pytest.mark.parametrize(
    ("setting", "sites", "has"), [("auto", 1000, True), ("auto", 1001, False), ("on", 1001, True), ("off", 1, False)]
)
def test_series_of_each_site_are_left_out_where_they_are_too_many(setting: str, sites: int, has: bool) -> None:
    """A small installation sees each portal without a setting, a large one is scraped without one."""
    of_sites = {f"site-{number}": {"name": "Cổng thử", "hosts": [HOST]} for number in range(sites)}
    settings = Settings.model_validate({"sites": of_sites, "metrics_per_site": setting})
    assert settings.has_metrics_per_site is has


async def test_a_beacon_is_counted_in_one_outcome(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    """The sum of the outcomes is the number of beacons, so a dashboard can show a share of refusals."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        statuses = [
            (await footfall.send()).status,
            (await footfall.send(webdriver=True)).status,
            (await footfall.send(site="nope")).status,
            (await footfall.send(headers={"Origin": "https://evil.example"})).status,
            (await footfall.send(page="x" * 5000)).status,
            (await footfall.public.post("/seen", data=b"{")).status,
            (await footfall.public.get("/seen.gif?site=nope")).status,
        ]
        assert statuses == [200, 200, 404, 403, 413, 400, 404]
        counted = {
            (sample.labels["outcome"], sample.labels["reason"]): sample.value
            for family in footfall.services.metrics.beacons.collect()
            for sample in family.samples
            if sample.name == "footfall_beacons_total"
        }
        assert counted == {
            ("counted", ""): 1,
            ("ignored", "robot"): 1,
            ("refused", "unknown_site"): 2,
            ("refused", "wrong_origin"): 1,
            ("refused", "too_large"): 1,
            ("refused", "bad_json"): 1,
        }
