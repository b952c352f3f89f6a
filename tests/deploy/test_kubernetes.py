"""deploy/kubernetes/: what kubectl builds of it is right by Kubernetes' own schemas, and its parts fit each other."""

import copy
import re
import subprocess
from base64 import b64decode
from itertools import chain
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from footfall.process.worker_process import STOP_MAX_S
from footfall.settings.settings import FILE_VARIABLES, VARIABLES
from tests.support.kubernetes import (
    KUBERNETES,
    OLDEST_MINOR,
    Manifest,
    build,
    container_of,
    copy_to,
    image_environ,
    pod_of,
    the,
)
from tests.support.project import PROJECT

SECRETS = {
    "settings/secrets/redis_url": "rediss://footfall:secret@redis.example.vn:6379/0\n",
    "settings/secrets/postgres_url": "postgresql://footfall_service:secret@postgres.example.vn/footfall\n",
    "migrate/secrets/migrate_url": "postgresql://footfall_owner:secret@postgres.example.vn/footfall\n",
}
OPERATORS_KINDS = {"ServiceMonitor", "PrometheusRule"}
"""Kinds that the Prometheus Operator defines; Kubernetes itself has no schema of them."""
NEWEST = kubernetes_validate.latest_version()
Built = dict[str, list[Manifest]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's copy."""
    return copy_to(tmp_path_factory.mktemp("operator"), SECRETS)


@pytest.fixture(scope="module")
def built(folder: Path) -> Built:
    """What is applied, by the example's folders."""
    kustomizations = sorted(path.parent for path in (folder / "example").glob("*/kustomization.yaml"))
    found = {path.name: build(path) for path in kustomizations if path.name != "settings"}
    assert {"migrate", "service"} <= set(found)
    return found


def every(built: Built) -> list[Manifest]:
    return list(chain.from_iterable(built.values()))


def with_pods(built: Built) -> list[Manifest]:
    found = [one for one in every(built) if one["kind"] in ("StatefulSet", "Job")]
    assert len(found) == len(built)
    return found


@pytest.mark.parametrize("version", [f"1.{OLDEST_MINOR}", NEWEST])
def test_kubernetes_knows_every_field(built: Built, version: str) -> None:
    """A field that is misspelt, or stands in the wrong place, is dropped silently, or refused in the night."""
    for manifest in every(built):
        if manifest["kind"] not in OPERATORS_KINDS:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize(
    ("kind", "path", "wrong"),
    [
        pytest.param("StatefulSet", ("spec",), {"persistentVolumeClaimPolicy": {}}, id="an unknown field"),
        pytest.param(
            "StatefulSet", ("spec", "template", "spec"), {"terminationGracePeriodSeconds": "75s"}, id="a type"
        ),
        pytest.param("PodDisruptionBudget", ("spec",), {"selector": []}, id="another type"),
    ],
)
def test_a_manifest_with_a_mistake_is_noticed(
    built: Built, kind: str, path: tuple[str, ...], wrong: dict[str, object]
) -> None:
    """Otherwise the test above would be green whatever the files say."""
    manifest = copy.deepcopy(the(kind, built["service"]))
    place = manifest
    for name in path:
        place = place[name]
    place.update(wrong)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, NEWEST, strict=True)


def test_every_pod_finds_what_it_mounts(built: Built) -> None:
    """A pod whose Secret has another name waits for ever, and says so only in its events."""
    for manifests in built.values():
        generated = {
            one["metadata"]["name"]: one["data"] for one in manifests if one["kind"] in ("ConfigMap", "Secret")
        }
        (owner,) = [one for one in manifests if one["kind"] in ("StatefulSet", "Job")]
        files: set[str] = set()
        volumes = {volume["name"]: volume for volume in pod_of(owner)["volumes"]}
        volumes |= {claim["metadata"]["name"]: {} for claim in owner["spec"].get("volumeClaimTemplates", [])}
        container = container_of(owner)
        for mount in container["volumeMounts"]:
            volume = volumes.pop(mount["name"])
            source = volume.get("configMap", {}).get("name") or volume.get("secret", {}).get("secretName")
            if source:
                files |= {f"{mount['mountPath']}/{key}" for key in generated[source]}
        assert volumes == {}
        variables = dict(image_environ()) | {one["name"]: one["value"] for one in container["env"]}
        assert {variables[name] for name in variables if name in FILE_VARIABLES} <= files
        assert variables["FOOTFALL_CONFIG"] in files
        assert {name for name in variables if name.startswith("FOOTFALL_")} <= {
            *VARIABLES,
            *FILE_VARIABLES,
            "FOOTFALL_CONFIG",
        }


def test_only_the_migration_has_the_owners_password(built: Built) -> None:
    """An intruder in a pod that the internet reaches must not own the tables."""
    owners = {
        name
        for name, manifests in built.items()
        for secret in manifests
        if secret["kind"] == "Secret"
        and SECRETS["migrate/secrets/migrate_url"].encode() in map(b64decode, secret["data"].values())
    }
    assert owners == {"migrate"}


def test_changed_settings_replace_the_pods(tmp_path: Path) -> None:
    """Settings that changed beside running pods would take effect at some later restart, one by one."""
    copied = copy_to(tmp_path, SECRETS)
    before = pod_of(the("StatefulSet", build(copied / "example/service")))["volumes"]
    settings = copied / "example/settings/footfall.toml"
    settings.write_text(settings.read_text().replace("[sites.portal]", "poll_after_s = 77\n[sites.portal]"))
    (copied / "example/settings/secrets/redis_url").write_text("redis://other\n")
    after = pod_of(the("StatefulSet", build(copied / "example/service")))["volumes"]
    changed = [one["name"] for one, other in zip(before, after, strict=True) if one != other]
    assert changed == ["settings", "stores"]


def test_the_version_of_the_image_stands_in_one_place(folder: Path, built: Built) -> None:
    """A migration of one version beside a service of another is the very mistake that its order should prevent."""
    named = re.findall(r"newTag: (\S+)", "".join(path.read_text() for path in folder.rglob("*.yaml")))
    assert len(named) == 1
    assert {container_of(one)["image"] for one in with_pods(built)} == {f"footfall:{named[0]}"}


def test_labels_lead_to_the_pods_of_the_service_alone(built: Built) -> None:
    """A Service that also finds a finished Job, or no pod at all, sends visitors nowhere."""
    service = built["service"]
    pods = {one["kind"]: one["spec"]["template"]["metadata"]["labels"] for one in with_pods(built)}
    ports = {port["name"] for port in container_of(the("StatefulSet", service))["ports"]}

    def found_by(selector: Manifest) -> set[str]:
        return {kind for kind, labels in pods.items() if selector.items() <= labels.items()}

    services = {one["metadata"]["name"]: one for one in service if one["kind"] == "Service"}
    for one in services.values():
        assert found_by(one["spec"]["selector"]) == {"StatefulSet"}
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports
    spec = the("StatefulSet", service)["spec"]
    assert services[spec["serviceName"]]["spec"]["clusterIP"] == "None"
    spreads = [spread["labelSelector"] for spread in pod_of(the("StatefulSet", service))["topologySpreadConstraints"]]
    for selector in [spec["selector"], the("PodDisruptionBudget", service)["spec"]["selector"], *spreads]:
        assert found_by(selector["matchLabels"]) == {"StatefulSet"}
    (rule,) = the("Ingress", service)["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    backend = path["backend"]["service"]
    offered = {port["name"]: port["targetPort"] for port in services[backend["name"]]["spec"]["ports"]}
    assert offered[backend["port"]["name"]] == "http"
    assert rule["host"] in the("ConfigMap", service)["data"]["footfall.toml"]
    allowed = [
        port["port"] for ingress in the("NetworkPolicy", service)["spec"]["ingress"] for port in ingress["ports"]
    ]
    assert sorted(allowed) == sorted(ports)


def test_the_ports_are_those_on_which_the_image_listens(built: Built) -> None:
    """A probe on another port restarts a good pod for ever."""
    container = container_of(the("StatefulSet", built["service"]))
    environ = dict(image_environ())
    listens = {environ[name].rpartition(":")[2] for name in ("FOOTFALL_LISTEN", "FOOTFALL_OPS_LISTEN")}
    assert {str(port["containerPort"]) for port in container["ports"]} == listens
    names = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in names


def test_a_pod_has_the_time_that_footfall_takes_to_stop(built: Built) -> None:
    """A pod that is killed before it has written its spool loses what only its memory had."""
    pod = pod_of(the("StatefulSet", built["service"]))
    word, seconds = container_of(the("StatefulSet", built["service"]))["lifecycle"]["preStop"]["exec"]["command"]
    assert word == "sleep"
    assert pod["terminationGracePeriodSeconds"] == 75 > int(seconds) + STOP_MAX_S


def test_a_volume_outlives_its_pod(built: Built) -> None:
    """An emptyDir is removed with its pod, and with it the beacons that were answered 202 while Redis hung."""
    spec = the("StatefulSet", built["service"])["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    (claim,) = spec["volumeClaimTemplates"]
    container = container_of(the("StatefulSet", built["service"]))
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts[dict(image_environ())["FOOTFALL_DATA_DIR"]] == claim["metadata"]["name"]


def test_no_pod_may_do_more_than_it_needs(built: Built) -> None:
    """The level "restricted" of Kubernetes' Pod Security Standards, and a file system that cannot be written."""
    for owner in with_pods(built):
        pod, container = pod_of(owner), container_of(owner)
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        user = re.findall(r"^USER (\d+):(\d+)$", (PROJECT / "Dockerfile").read_text(), flags=re.MULTILINE)[-1]
        assert (str(pod["securityContext"]["runAsUser"]), str(pod["securityContext"]["fsGroup"])) == user
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"emptyDir", "configMap", "secret", "persistentVolumeClaim", "name"} >= {
            key for volume in pod["volumes"] for key in volume
        }
        assert "memory" in container["resources"]["limits"]
        assert container["command"][-1].startswith("ulimit -c 0 && ")
    # Without a limit of processors, "auto" is one worker for each processor of the node, in the same memory.
    service = container_of(the("StatefulSet", built["service"]))
    assert ("auto" in str(service["env"]), "cpu" in service["resources"]["limits"]) == (True, True)


def test_prometheus_has_the_alerts_and_finds_the_pods(built: Built, tmp_path: Path) -> None:
    """Alerts that ask for another job than the one that is scraped are silent for ever."""
    rule, monitor = the("PrometheusRule", built["service"]), the("ServiceMonitor", built["service"])
    alerts = yaml.safe_load((PROJECT / "deploy/prometheus-alerts.yaml").read_text("utf-8"))
    assert rule["spec"] == alerts
    (found,) = [
        one
        for one in built["service"]
        if one["kind"] == "Service"
        and monitor["spec"]["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
    ]
    assert found["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "footfall"
    assert 'up{job="footfall"}' in str(alerts)
    (endpoint,) = monitor["spec"]["endpoints"]
    assert {port["name"]: port["targetPort"] for port in found["spec"]["ports"]}[endpoint["port"]] == "ops"
    assert endpoint["path"] == "/metrics"
    assert found["spec"]["publishNotReadyAddresses"] is True
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    try:
        command = ["promtool", "check", "rules", str(tmp_path / "rules.yaml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        pytest.skip("promtool is not installed")
    assert done.returncode == 0, done.stderr


def test_the_steps_of_the_readme_fit_the_files(built: Built) -> None:
    """An operator follows them word by word, some of them in the night."""
    steps = (KUBERNETES / "README.md").read_text("utf-8")
    assert set(re.findall(r"> example/(\S+)$", steps, flags=re.MULTILINE)) == set(SECRETS)
    assert set(re.findall(r"apply -k example/(\w+)", steps)) == set(built)
    names = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in every(built)}
    named = {f"{kind}/{name}" for kind, name in re.findall(r"\b(job|statefulset)[/ ](footfall[a-z-]*)", steps)}
    assert {"statefulset/footfall", "job/footfall-migrate", "job/footfall-handover"} == named <= names
    pods = the("StatefulSet", built["service"])
    (claim,) = pods["spec"]["volumeClaimTemplates"]
    prefix = f"{claim['metadata']['name']}-{pods['metadata']['name']}-"
    handed = [one["persistentVolumeClaim"]["claimName"] for one in pod_of(the("Job", built["handover"]))["volumes"][:2]]
    assert all(name.startswith(prefix) for name in [*handed, *re.findall(r"delete pvc (\S+?)`?[\s.]", steps)])
    for mount in re.findall(r"footfall-0:(\S+)/brought", steps):
        assert mount == dict(image_environ())["FOOTFALL_DATA_DIR"]


def test_the_files_name_no_registry() -> None:
    """Where an image lies is the operator's to say."""
    for path in KUBERNETES.rglob("*.yaml"):
        images = re.findall(r"(?:image|newName): (\S+)", path.read_text("utf-8"))
        assert set(images) <= {"footfall"}, path
