"""The files that an operator copies: the image, the compose file, the unit, the proxy and the alerts.

Where the program that reads a file is installed, it checks the file. These tests always check what must
not change.
"""

import configparser
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import chain, pairwise
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client import CollectorRegistry

from footfall.metrics.metrics import Metrics
from footfall.settings.settings import FILE_VARIABLES, VARIABLES, Settings
from footfall.settings.sources import CONFIG_VARIABLE
from tests.support.project import PROJECT

DEPLOY = PROJECT / "deploy"
DOCKERFILE = (PROJECT / "Dockerfile").read_text("utf-8")
COMPOSE = (DEPLOY / "compose.yaml").read_text("utf-8")
NGINX = (DEPLOY / "nginx.conf").read_text("utf-8")
UNIT = (DEPLOY / "footfall.service").read_text("utf-8")
ALERTS = (DEPLOY / "prometheus-alerts.yaml").read_text("utf-8")

ALARMS = (
    "footfall_store_up",
    "footfall_sites_not_ready",
    "footfall_spool_used_ratio",
    "footfall_newest_worker_start_timestamp_seconds",
    "footfall_rollup_last_success_timestamp_seconds",
    "footfall_rollup_errors_total",
    "footfall_sites_not_copied",
    "footfall_sites_not_folded",
    "footfall_lost_batches_total",
    "footfall_forgotten_batches_total",
    "footfall_damaged_sketches_total",
    "footfall_corrected_counts_total",
    "footfall_salts_lost_total",
    "footfall_clock_skew_seconds",
    "footfall_early_days",
    "footfall_busiest_network_share",
    "footfall_unresolved_clients_total",
    "footfall_loop_lag_seconds",
    "footfall_failing_steps",
    "footfall_damaged_batches_total",
    "footfall_damaged_spool_files_total",
)
"""Metrics that are 0, or near now, while all is well."""


def test_an_audit_that_looked_nothing_up_fails(tmp_path: Path) -> None:
    """Behind a mirror without the vulnerability service pip-audit skips every package, and ends well unless strict."""
    tools = tmp_path / ".venv-tools" / "bin"
    tools.mkdir(parents=True)
    (tmp_path / ".venv-tools" / "done").touch()
    (tools / "pip-audit").write_text(
        '#!/bin/sh\n# As the real one, when each look-up answers "not found".\n'
        'case " $* " in *" --strict "*) exit 1;; *) exit 0;; esac\n'
    )
    (tools / "pip-audit").chmod(0o755)
    audit = subprocess.run(["make", "-f", str(PROJECT / "Makefile"), "audit"], check=False, cwd=tmp_path)
    assert audit.returncode != 0


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Return the instructions of a Dockerfile, with continued lines joined and without comments."""
    lines = [line for line in dockerfile.splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, " ".join(rest.split())


def yaml_lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield the mappings of a YAML file, as (dotted path, value on the same line); enough for our own files."""
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        if match := re.match(r"( *)(?:- )?([\w-]+):(?: (.*))?$", line):
            depth = line.index(match[2])
            path = [part for part in path if part[0] < depth] + [(depth, match[2])]
            yield ".".join(name for _, name in path), match[3] or ""


class OpsListener(HTTPServer):
    """Answers /healthz with `status`, on a port of its own."""

    status = 200

    class Answer(BaseHTTPRequestHandler):
        """Handles one request."""

        def do_GET(self) -> None:
            """Answer the request."""
            assert isinstance(self.server, OpsListener)
            self.send_response(self.server.status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""


@pytest.fixture
def ops_listener() -> Iterator[OpsListener]:
    """Run one server for this test."""
    with OpsListener(("127.0.0.1", 0), OpsListener.Answer) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "exit_status"), [(200, 0), (401, 0), (503, 1)])
def test_the_image_is_healthy_while_its_process_answers(
    ops_listener: OpsListener, status: int, exit_status: int
) -> None:
    """A token on the ops listener must not make an orchestrator restart a good container."""
    ops_listener.status = status
    (check,) = [rest for name, rest in instructions(DOCKERFILE) if name == "HEALTHCHECK"]
    command = json.loads(check.partition("CMD ")[2])
    environ = {"FOOTFALL_OPS_LISTEN": f"0.0.0.0:{ops_listener.server_port}"}
    done = subprocess.run([sys.executable, *command[1:]], env=environ, check=False, timeout=30)
    assert (command[0], done.returncode) == ("python", exit_status)


def test_the_image_has_what_is_locked_and_nothing_that_is_embedded() -> None:
    """An image is rebuilt for years: without hashes each build could have other packages."""
    found = list(instructions(DOCKERFILE))
    installs = [rest for name, rest in found if name == "RUN" and "pip install" in rest]
    assert installs
    assert all("--require-hashes -r /build/requirements.lock" in install for install in installs)
    copied = [rest.split()[:-1] for name, rest in found if name == "COPY" and not rest.startswith("--from")]
    allowed = (PROJECT / ".dockerignore").read_text("utf-8").splitlines()
    for source in chain.from_iterable(copied):
        assert (PROJECT / source).exists()
        assert any(source == line[1:] or Path(source).match(line[1:]) for line in allowed if line[0] == "!")
    assert "embedded" not in (PROJECT / "requirements.lock").read_text("utf-8")


def test_the_image_does_not_run_as_root() -> None:
    """The container runs as the last USER; an orchestrator can check a number."""
    users = [rest for name, rest in instructions(DOCKERFILE) if name == "USER"]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", users[-1])
    assert ("STOPSIGNAL", "SIGTERM") in instructions(DOCKERFILE)


def test_a_visible_page_finds_its_connection_to_nginx_at_each_ping() -> None:
    """With 30 seconds every ping of every visible page came on a new connection, with a TLS handshake."""
    of_clients = NGINX.partition("\nserver {")[2]
    [kept_s] = re.findall(r"^    keepalive_timeout (\d+)s;", of_clients, re.MULTILINE)
    assert int(kept_s) > Settings.model_fields["ping_after_s"].default


@pytest.mark.parametrize("text", [DOCKERFILE, COMPOSE, UNIT, NGINX, ALERTS])
def test_every_variable_that_is_named_is_a_setting(text: str) -> None:
    """A misspelt variable stops the start, on the operator's machine."""
    known = {*VARIABLES, *FILE_VARIABLES, CONFIG_VARIABLE}
    assert set(re.findall(r"FOOTFALL_[A-Z_]+[A-Z]", text)) <= known


def test_the_compose_file_publishes_only_what_a_proxy_needs() -> None:
    """The outside must not reach the stores and the ops listener."""
    assert re.findall(r'^ +- "(\S+:\d+)"$', COMPOSE, flags=re.MULTILINE) == ["127.0.0.1:8080:8080"]
    paths = [path for path, _ in yaml_lines(COMPOSE)]
    assert [path for path in paths if path.endswith(".ports")] == ["services.footfall.ports"]


def test_the_compose_file_declares_what_its_services_use() -> None:
    """Compose refuses a file with an undefined name; this test finds it without Compose."""
    values = dict(yaml_lines(COMPOSE))
    declared = {
        name: {path.split(".")[1] for path in values if path.startswith(f"{name}.")} for name in ("services", "secrets")
    }
    used = {word.strip() for items in re.findall(r"secrets: \[([^\]]+)\]", COMPOSE) for word in items.split(",")}
    assert used == declared["secrets"]
    assert declared["services"] == {"redis", "postgres", "migrate", "footfall"}
    volumes = {path.split(".")[1] for path in values if re.fullmatch(r"volumes\.\w+", path)}
    assert volumes == set(re.findall(r"^ +- (\w+):/", COMPOSE, flags=re.MULTILINE))
    images = {path: value for path, value in values.items() if path.endswith(".image")}
    assert all(":" in image or image == "footfall" for image in images.values()), images


def test_the_redis_of_the_compose_file_keeps_what_it_is_given() -> None:
    """Without an append-only file, or with eviction, Redis could lose what was answered 200."""
    words = re.findall(r'^ +- "?([^"\n]*)"?$', COMPOSE, flags=re.MULTILINE)
    options = dict(pairwise(words))
    assert (options["--appendonly"], options["--maxmemory-policy"]) == ("yes", "noeviction")


def test_nothing_dumps_its_memory() -> None:
    """A core dump holds the keys of the visitor hash and the addresses of the moment."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(UNIT)
    service = unit["Service"]
    assert (service["LimitCORE"], service["MemorySwapMax"]) == ("0", "0")
    assert (service["NoNewPrivileges"], service["ProtectSystem"], service["CapabilityBoundingSet"]) == (
        "yes",
        "strict",
        "",
    )
    assert service["RestartPreventExitStatus"] == "2"
    assert len(re.findall(r"ulimits:\n +core: 0$", COMPOSE, flags=re.MULTILINE)) == 3


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """systemd ignores unknown directives, and their hardening with them; systemd-analyze reports them."""
    unit, listener = tmp_path / "footfall.service", tmp_path / "footfall.socket"
    listener.write_text((DEPLOY / "footfall.socket").read_text("utf-8"))
    # On the operator's machine, only the program and the signal's sender have other paths.
    unit.write_text(UNIT.replace("/opt/footfall/bin/footfall", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", unit, listener], capture_output=True, text=True, check=False, timeout=30
    )
    assert [line for line in done.stderr.splitlines() if "footfall." in line] == []


def test_a_start_and_a_reload_with_bad_settings_fail() -> None:
    """Both ended well, and the mistake stood in a log that the operator had no reason to read."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(UNIT)
    assert unit["Service"]["Type"] == "notify"
    reloads = re.findall(r"^ExecReload=(.*)$", UNIT, flags=re.MULTILINE)
    assert reloads == ["/opt/footfall/bin/footfall check --running $MAINPID", '/bin/sh -c "kill -HUP ${MAINPID}"']


def test_every_alarm_has_an_alert_and_every_alert_a_metric() -> None:
    """An alarm without an alert is only a log line; an alert on a renamed metric never fires."""
    registry = CollectorRegistry()
    Metrics(registry)
    declared = {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}
    expressions = [value for path, value in yaml_lines(ALERTS) if path.endswith(".expr")]
    used = set(re.findall(r"footfall_[a-z_]+", " ".join(expressions)))
    assert used <= declared
    assert set(ALARMS) <= used


def test_every_alert_says_what_to_do() -> None:
    """At night, a reader who does not know the code needs the action."""
    alerts = re.split(r"^ +- alert: ", ALERTS, flags=re.MULTILINE)[1:]
    names = [alert.partition("\n")[0] for alert in alerts]
    assert len(names) == len(set(names))
    for alert in alerts:
        keys = [path.rpartition(".")[2] for path, _ in yaml_lines(alert)]
        assert [keys.count(key) for key in ("expr", "labels", "summary", "action")] == [1, 1, 1, 1], alert
        assert re.search(r"labels: \{severity: (page|ticket)\}", alert), alert


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_the_alerts() -> None:
    """The expressions are a language of their own."""
    command = ["promtool", "check", "rules", str(DEPLOY / "prometheus-alerts.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


REFUSED_PAGES = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'footfall_beacons_total{{site="portal",outcome="refused",reason="wrong_origin"}}'
        values: "0+{wrong}x120"
      - {{series: 'footfall_beacons_total{{site="portal",outcome="counted",reason=""}}', values: "0+10x120"}}
      - series: 'footfall_beacons_total{{site="",outcome="refused",reason="unknown_site"}}'
        values: "0+{unknown}x120"
    alert_rule_test:
      - eval_time: 2h
        alertname: FootfallRefusesPages
        exp_alerts: {alerts}
"""


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    ("wrong", "unknown", "sites"),
    [
        pytest.param(0.5, 0, [], id="a few copies of the portal"),
        pytest.param(5, 0, ["site portal is"], id="a host is missing"),
        pytest.param(0, 1, ["a site that is not configured is"], id="a mistyped site"),
    ],
)
def test_a_host_that_is_missing_in_the_settings_wakes_someone(
    wrong: float, unknown: float, sites: list[str], tmp_path: Path
) -> None:
    """No visitor sees it, and the numbers are only lower than they should be."""
    labels = {"site portal is": {"site": "portal", "severity": "ticket"}}
    (rule,) = re.findall(r"- alert: FootfallRefusesPages\n.*?action: ([^\n]+)", ALERTS, flags=re.DOTALL)
    alerts = [
        {
            "exp_labels": labels.get(site, {"severity": "ticket"}),
            "exp_annotations": {"summary": f"Pages that name {site.removesuffix(' is')} are refused", "action": rule},
        }
        for site in sites
    ]
    test = tmp_path / "test.yaml"
    rules = json.dumps(str(DEPLOY / "prometheus-alerts.yaml"))
    test.write_text(REFUSED_PAGES.format(rules=rules, wrong=wrong, unknown=unknown, alerts=json.dumps(alerts)))
    done = subprocess.run(["promtool", "test", "rules", test], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
