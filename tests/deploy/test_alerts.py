"""The alerts, each fired by its condition alone, and outages played through: promtool and Alertmanager of Debian."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.support.patience import PATIENCE_S
from tests.support.ports import free_port
from tests.support.project import PROJECT

DEPLOY = PROJECT / "deploy"
LOOKS = 50 * PATIENCE_S
"""At Alertmanager, every fiftieth of a second."""
RULES = DEPLOY / "prometheus-alerts.yaml"
ALERTMANAGER = DEPLOY / "alertmanager.yaml"
NAMES = re.findall(r"- alert: (\w+)", RULES.read_text())
HOURS = 3
"""How long each story lasts; a sample every half minute."""

Story = Mapping[str, str]
"""Series and their values, in promtool's notation."""


def samples(minutes: float) -> int:
    """Return the number of samples in some minutes, less the first one."""
    return int(minutes * 2) - 1


def steady(value: float) -> str:
    return f"{value}+0x{samples(HOURS * 60)}"


def changed(before: float, at_min: float, value: float, until_min: float = HOURS * 60) -> str:
    """Return a value that is another one from `at_min` to `until_min`."""
    rest = f" {before}+0x{samples(HOURS * 60 - until_min)}" if until_min < HOURS * 60 else ""
    return f"{before}+0x{samples(at_min)} {value}+0x{samples(until_min - at_min)}{rest}"


def counting(at_min: float, each: float, until_min: float = HOURS * 60) -> str:
    """Return a counter that grows by `each` at every sample between these minutes."""
    grown = f"{each}+{each}x{samples(until_min - at_min)}"
    last = each * (samples(until_min - at_min) + 1)
    rest = f" {last}+0x{samples(HOURS * 60 - until_min)}" if until_min < HOURS * 60 else ""
    return f"0+0x{samples(at_min)} {grown}{rest}"


def clock(stops_min: float, goes_on_min: float = HOURS * 60) -> str:
    """Return a moment that is now until it stands still, and is now again after that."""
    last = 30 * samples(stops_min)
    rest = ""
    if goes_on_min < HOURS * 60:
        rest = f" {int(goes_on_min * 60)}+30x{samples(HOURS * 60 - goes_on_min)}"
    return f"0+30x{samples(stops_min)} {last}+0x{samples(goes_on_min - stops_min)}{rest}"


UP = 'up{job="footfall",instance="a"}'
REDIS, POSTGRES, SPOOL = (f'footfall_store_up{{store="{store}"}}' for store in ("redis", "postgres", "spool"))
SERVING = 'footfall_workers{instance="a"}'
STARTED = "footfall_newest_worker_start_timestamp_seconds"
ROLLED_UP = 'footfall_rollup_last_success_timestamp_seconds{instance="a"}'
REFUSED = 'footfall_beacons_total{site="portal",outcome="refused",reason="%s"}'
COUNTED = 'footfall_beacons_total{site="portal",outcome="counted",reason=""}'
WELL: Story = {
    UP: steady(1),
    REDIS: steady(1),
    POSTGRES: steady(1),
    SPOOL: steady(1),
    STARTED: steady(1),
    SERVING: steady(2),
    'footfall_workers_configured{instance="a"}': steady(2),
    ROLLED_UP: f"0+30x{samples(HOURS * 60)}",
    "footfall_sites_not_ready": steady(0),
    "footfall_sites_not_copied": steady(0),
    "footfall_sites_not_folded": steady(0),
    "footfall_rollup_errors_total": steady(0),
    "footfall_spool_used_ratio": steady(0.001),
    "footfall_loop_lag_seconds": steady(0.01),
    "footfall_busiest_network_share": steady(0.1),
    "footfall_clock_skew_seconds": steady(0.1),
    'footfall_failing_steps{step="rollup"}': steady(0),
    REFUSED % "spool_full": steady(0),
    COUNTED: f"0+10x{samples(HOURS * 60)}",
}

FIRES: dict[str, tuple[Story, float]] = {
    "FootfallDown": ({UP: changed(1, 10, 0)}, 12),
    "FootfallRestarts": ({STARTED: f"1+0x{samples(10)} 1+30x{samples(HOURS * 60 - 10)}"}, 14),
    "FootfallWorkersMissing": ({SERVING: changed(2, 10, 1)}, 16),
    "FootfallSlow": ({"footfall_loop_lag_seconds": changed(0.01, 10, 2)}, 12),
    "FootfallRefusesBeacons": ({REFUSED % "spool_full": counting(10, 1)}, 14),
    "FootfallInternalFault": ({"footfall_internal_faults_total": counting(10, 1, 11)}, 13),
    "FootfallRedisLogNotRewritten": ({"footfall_redis_log_rewritten_timestamp_seconds": steady(-108000)}, 90),
    "FootfallRedisAway": ({REDIS: changed(1, 10, 0)}, 12),
    "FootfallSiteNotReady": ({"footfall_sites_not_ready": changed(0, 10, 1)}, 13),
    "FootfallSpoolBroken": ({SPOOL: changed(1, 10, 0)}, 12),
    "FootfallSpoolFills": ({"footfall_spool_used_ratio": changed(0.01, 10, 0.6)}, 12),
    "FootfallPostgresAway": ({POSTGRES: changed(1, 10, 0)}, 21),
    "FootfallRollupLate": ({'footfall_rollup_last_success_timestamp_seconds{instance="b"}': clock(10)}, 27),
    "FootfallRollupFails": ({"footfall_rollup_errors_total": counting(10, 1)}, 27),
    "FootfallSitesNotCopied": ({"footfall_sites_not_copied": changed(0, 10, 3)}, 21),
    "FootfallPagesNotFolded": ({"footfall_sites_not_folded": changed(0, 10, 1)}, 71),
    "FootfallBatchesLost": ({"footfall_lost_batches_total": counting(10, 1, 11)}, 13),
    "FootfallBatchesForgotten": ({"footfall_forgotten_batches_total": counting(10, 1, 11)}, 13),
    "FootfallSaltLost": ({"footfall_salts_lost_total": counting(10, 1, 11)}, 13),
    "FootfallSketchDamaged": ({"footfall_damaged_sketches_total": counting(10, 1, 11)}, 13),
    "FootfallSpoolDamaged": ({"footfall_damaged_batches_total": counting(10, 1, 11)}, 13),
    "FootfallSpoolFileDamaged": ({"footfall_damaged_spool_files_total": counting(10, 1, 11)}, 13),
    "FootfallStepFails": ({'footfall_failing_steps{step="rollup"}': changed(0, 10, 1)}, 13),
    "FootfallCountsCorrected": ({'footfall_corrected_counts_total{number="today"}': counting(10, 1)}, 27),
    "FootfallClockSkew": ({"footfall_clock_skew_seconds": changed(0.1, 10, -3)}, 21),
    "FootfallClockAhead": ({"footfall_early_days": changed(0, 10, 1)}, 11),
    "FootfallRefusesPages": ({REFUSED % "wrong_origin": counting(10, 5)}, 40),
    "FootfallProxyNotTrusted": ({"footfall_busiest_network_share": changed(0.1, 10, 0.95)}, 41),
    "FootfallProxySendsNoAddress": ({"footfall_unresolved_clients_total": counting(10, 1)}, 42),
}
"""A story of one condition for each alert, and a minute at which that alert alone fires."""

Moment = tuple[float, str, str]
"""A minute, what is heard then, and what fires too and is kept quiet; names without "Footfall"."""

OUTAGES: dict[str, tuple[Story, list[Moment]]] = {
    "all is well": (WELL, [(30, "", ""), (170, "", "")]),
    "Redis is away for an hour, with 104 portals": (
        {
            REDIS: changed(1, 10, 0, 70),
            "footfall_sites_not_ready": changed(0, 10, 104, 70),
            "footfall_sites_not_copied": changed(0, 10, 104, 70),
            "footfall_rollup_errors_total": counting(10, 104, 70),
            ROLLED_UP: clock(10, 70),
            "footfall_spool_used_ratio": changed(0.01, 40, 0.6, 70),
        },
        [
            (10.5, "", ""),
            (11.5, "RedisAway", ""),
            (13, "RedisAway", "SiteNotReady"),
            (30, "RedisAway", "SiteNotReady SitesNotCopied RollupLate"),
            (65, "RedisAway", "SiteNotReady SitesNotCopied RollupLate SpoolFills"),
            (71, "", ""),
            (80, "", ""),
            (100, "", ""),
        ],
    ),
    "Redis is away until the spool is full": (
        {
            REDIS: changed(1, 10, 0),
            "footfall_spool_used_ratio": changed(0.5, 60, 1),
            SPOOL: changed(1, 60, 0),
            REFUSED % "spool_full": counting(60, 5),
        },
        [(30, "RedisAway", ""), (65, "RedisAway SpoolBroken", "SpoolFills RefusesBeacons")],
    ),
    "PostgreSQL is away for two hours": (
        {
            POSTGRES: changed(1, 10, 0, 130),
            "footfall_sites_not_copied": changed(0, 10, 104, 130),
            "footfall_rollup_errors_total": counting(10, 104, 130),
            "footfall_forgotten_batches_total": counting(100, 1, 130),
            ROLLED_UP: clock(10, 130),
        },
        [
            (15, "", ""),
            (21, "PostgresAway", "SitesNotCopied"),
            (60, "PostgresAway", "SitesNotCopied RollupLate"),
            (129, "PostgresAway", "SitesNotCopied RollupLate BatchesForgotten"),
        ],
    ),
    "the host is away": ({UP: changed(1, 10, 0)}, [(10.5, "", ""), (12, "Down", ""), (60, "Down", "")]),
    "Prometheus was not given the job": ({UP: "_"}, [(2, "Down", "")]),
    "it ends and starts again and again": (
        {
            UP: f"1+0x{samples(10)} " + " ".join("0 1" for _ in range(60)),
            STARTED: f"1+0x{samples(10)} " + " ".join(f"_ {600 + 60 * number}" for number in range(60)),
            "footfall_loop_lag_seconds": changed(0.01, 10, 2),
        },
        [(9, "", ""), (16, "Restarts", "Slow"), (60, "Restarts", "Slow")],
    ),
    "a reload replaces the workers": (
        {STARTED: f"1+0x{samples(10)} 600 620 640+0x{samples(300)}"},
        [(11, "", ""), (15, "", "")],
    ),
    "a worker ends, and its start takes minutes": (
        {SERVING: changed(2, 10, 1, 14), STARTED: f"1+0x{samples(10)} 600+0x{samples(300)}"},
        [(13, "", ""), (16, "", "")],
    ),
    "a worker ends again and again after a slow start": (
        {
            SERVING: changed(2, 10, 1),
            STARTED: f"1+0x{samples(10)} 1+30x{samples(HOURS * 60 - 10)}",
        },
        [(14, "Restarts", ""), (30, "Restarts", "WorkersMissing")],
    ),
    "one of two hosts copies nothing": (
        {'footfall_rollup_last_success_timestamp_seconds{instance="b"}': clock(10)},
        [(20, "", ""), (27, "RollupLate", "")],
    ),
    "a host has not copied yet": ({ROLLED_UP: steady(0)}, [(60, "", "")]),
    "Redis is another installation's": (
        {
            "footfall_sites_not_ready": changed(0, 10, 104),
            "footfall_sites_not_copied": changed(0, 10, 104),
            "footfall_rollup_errors_total": counting(10, 104),
            "footfall_spool_used_ratio": changed(0.01, 60, 0.6),
            ROLLED_UP: clock(10),
        },
        [
            (13, "SiteNotReady", ""),
            (30, "SiteNotReady", "SitesNotCopied RollupFails RollupLate"),
            (65, "SiteNotReady", "SitesNotCopied RollupFails RollupLate SpoolFills"),
        ],
    ),
    "Redis goes back a little, and two minutes later has all again": (
        {'footfall_corrected_counts_total{number="today"}': counting(10, 1, 12)},
        [(12, "", ""), (26, "", "")],
    ),
    "a disk damages a file of the spool": (
        {
            "footfall_damaged_spool_files_total": counting(10, 1, 11),
            "footfall_damaged_batches_total": counting(20, 1, 21),
            "footfall_lost_batches_total": counting(10, 1, 21),
        },
        [(15, "SpoolFileDamaged", "BatchesLost"), (30, "SpoolDamaged", "SpoolFileDamaged BatchesLost")],
    ),
    "a site is refused by PostgreSQL": (
        {
            "footfall_sites_not_copied": changed(0, 10, 1),
            "footfall_rollup_errors_total": counting(10, 1),
            ROLLED_UP: clock(10),
        },
        [(15, "", ""), (30, "SitesNotCopied", "RollupFails RollupLate")],
    ),
}


AT_THE_START = {
    "InternalFault": "internal_faults",
    "BatchesLost": "lost_batches",
    "SaltLost": "salts_lost",
    "SketchDamaged": "damaged_sketches",
    "SpoolDamaged": "damaged_batches",
    "SpoolFileDamaged": "damaged_spool_files",
}
"""What a host may find at its start, before Prometheus has a sample of its counters."""
STARTS: dict[str, tuple[Story, list[Moment]]] = {
    "a new host has counted losses when it is first asked": (
        {
            f'footfall_{metric}_total{{instance="b"}}': f"_x{samples(10) + 1} 1+0x{samples(HOURS * 60 - 10)}"
            for metric in AT_THE_START.values()
        },
        [(9, "", ""), (11, " ".join(AT_THE_START), ""), (69, " ".join(AT_THE_START), ""), (75, "", "")],
    ),
}


def names(words: str) -> set[str]:
    return {f"Footfall{word}" for word in words.split()}


def promtool_test(story: Story, moments: list[tuple[float, set[str]]]) -> dict[str, object]:
    """Return one of promtool's tests: at these minutes exactly these alerts fire."""
    series = dict(WELL) | dict(story)
    return {
        "interval": "30s",
        "input_series": [{"series": key, "values": values} for key, values in series.items() if values != "_"],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{int(minute * 60)}s",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(fired)],
            }
            for minute, fired in moments
        ],
    }


@pytest.mark.timeout(180)
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_each_alert_fires_for_its_condition_alone_and_outages_name_their_cause(tmp_path: Path) -> None:
    """RollupFails came before RedisAway, SpoolFills was silent with a smaller limit, a crash loop woke no one."""
    assert sorted(FIRES) == sorted(NAMES)
    tests = [promtool_test(story, [(minute, {name})]) for name, (story, minute) in FIRES.items()]
    for story, moments in (OUTAGES | STARTS).values():
        tests.append(promtool_test(story, [(minute, names(heard) | names(quiet)) for minute, heard, quiet in moments]))
    file = tmp_path / "tests.yaml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "30s", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_the_scrape_example(tmp_path: Path) -> None:
    """Its job has the name that alerts ask for, and its token is the one of the settings."""
    (tmp_path / "footfall-alerts.yaml").write_text(RULES.read_text())
    (tmp_path / "footfall-token").write_text("token")
    text = (DEPLOY / "prometheus.yaml").read_text()
    assert "job_name: footfall\n" in text
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/", f"{tmp_path}/"))
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alertmanager(servers_folder: Path) -> AsyncIterator[str]:
    """Run Alertmanager with the file of `deploy/`, and yield the URL of its API."""
    program = shutil.which("prometheus-alertmanager")
    if program is None:
        pytest.skip("prometheus-alertmanager is not installed")
    port = free_port()
    options = (
        f"--config.file={ALERTMANAGER}",
        f"--storage.path={servers_folder / 'alertmanager'}",
        "--cluster.listen-address=",
    )
    process = await asyncio.create_subprocess_exec(
        program, *options, f"--web.listen-address=127.0.0.1:{port}", stderr=asyncio.subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}/api/v2"
    try:
        async with aiohttp.ClientSession() as http:
            for _ in range(LOOKS):
                with suppress(aiohttp.ClientError):
                    async with http.get(f"{url}/status") as answer:
                        if answer.status == 200:
                            break
                await asyncio.sleep(0.02)
        yield url
    finally:
        process.terminate()
        await process.wait()


def labels_of(alert: str) -> dict[str, str]:
    """Return the labels that an alert of the rules has, as far as they decide who hears it."""
    rule = RULES.read_text().partition(f"- alert: {alert}\n")[2].partition("- alert:")[0]
    [severity] = re.findall(r"severity: (\w+)", rule)
    return {"alertname": alert, "severity": severity, "reason": "spool_full"}


@pytest.mark.asyncio(loop_scope="module")
async def test_one_cause_is_one_page(alertmanager: str) -> None:
    """An outage of Redis woke people five times, and the first page named a consequence."""
    async with aiohttp.ClientSession() as http:
        for story, (_, moments) in OUTAGES.items():
            for minute, heard, quiet in moments:
                fired = sorted(names(heard) | names(quiet))
                at = {"story": f"{story} {minute}"}
                # "equal" is empty, so the alerts of one moment must end before those of the next.
                await post(http, alertmanager, fired, {"endsAt": "2100-01-01T00:00:00Z"}, at)
                assert await heard_of(http, alertmanager, at, names(heard)) == names(heard), (story, minute)
                await post(http, alertmanager, fired, {"endsAt": "2001-01-01T00:00:00Z"}, at)


async def post(
    http: aiohttp.ClientSession, url: str, alerts: list[str], ends: Mapping[str, str], at: Mapping[str, str]
) -> None:
    body = [{"labels": labels_of(alert) | dict(at), "startsAt": "2000-01-01T00:00:00Z", **ends} for alert in alerts]
    async with http.post(f"{url}/alerts", json=body) as answer:
        assert answer.status == 200, await answer.text()


async def heard_of(http: aiohttp.ClientSession, url: str, at: Mapping[str, str], expected: set[str]) -> set[str]:
    """Return the alerts that are not kept quiet; Alertmanager knows an alert that keeps others quiet a moment later."""
    heard: set[str] = set()
    for _ in range(LOOKS):
        async with http.get(
            f"{url}/alerts", params={"filter": f'story="{at["story"]}"', "inhibited": "false"}
        ) as answer:
            heard = {alert["labels"]["alertname"] for alert in await answer.json()}
        if heard == expected:
            break
        await asyncio.sleep(0.02)
    return heard
