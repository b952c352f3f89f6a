"""The manifests of deploy/kubernetes/, as an operator builds them, and their containers as processes."""

import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.project import PROJECT

KUBERNETES = PROJECT / "deploy" / "kubernetes"
OLDEST_MINOR = 27
"""The oldest minor version of Kubernetes, and of kubectl, that deploy/kubernetes/README.md names."""
Manifest = dict[str, Any]


def kubectl() -> str:
    """Return the program with which an operator builds; skip where there is none, or one that is too old."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("kubectl is not installed")
    client = json.loads(subprocess.check_output([program, "version", "--client", "--output=json"], timeout=30))
    minor = int(re.sub(r"\D", "", client["clientVersion"]["minor"]))
    if minor < OLDEST_MINOR:
        pytest.skip(f"kubectl is of 1.{minor}: 1.{OLDEST_MINOR} or newer is not installed")
    return program


def copy_to(folder: Path, secrets: Mapping[str, str]) -> Path:
    """Copy the folder as an operator does, and write the files of secrets that the README asks for."""
    copy = folder / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    for name, secret in secrets.items():
        file = copy / "example" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(secret)
    return copy


def build(folder: Path) -> list[Manifest]:
    """Return what `kubectl apply -k` would send to a cluster."""
    done = subprocess.run([kubectl(), "kustomize", folder], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def the(kind: str, manifests: list[Manifest], name: str = "") -> Manifest:
    """Return the one manifest of a kind, or the one of that name."""
    (found,) = [one for one in manifests if one["kind"] == kind and name in ("", one["metadata"]["name"])]
    return found


def pod_of(manifest: Manifest) -> Manifest:
    """Return the pod's specification in a StatefulSet or a Job."""
    pod: Manifest = manifest["spec"]["template"]["spec"]
    return pod


def container_of(manifest: Manifest) -> Manifest:
    """Return the one container of a StatefulSet or a Job."""
    (container,) = pod_of(manifest)["containers"]
    return dict(container)


def image_environ() -> Iterator[tuple[str, str]]:
    """Yield the variables that the image sets."""
    text = (PROJECT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    for line in re.findall(r"^ENV (.*)$", text.rpartition("\nFROM ")[2], flags=re.MULTILINE):
        for word in line.split():
            name, _, value = word.partition("=")
            yield name, value


@dataclass(frozen=True, slots=True)
class Container:
    """A container as this machine runs it: folders in place of its volumes, and an address of loopback."""

    words: tuple[str, ...]
    environ: dict[str, str]
    lifecycle: Manifest
    probes: Mapping[str, str]
    """The URL of each probe."""
    url: str
    """Where its port `http` answers."""

    @classmethod
    def of(
        cls, owner: Manifest, built: list[Manifest], folder: Path, volumes: Mapping[str, Path], host: str
    ) -> "Container":
        """Write below `folder` what the pod mounts of ConfigMaps and Secrets; `volumes` are the claimed ones."""
        container, mounted = container_of(owner), dict(volumes)
        for volume in pod_of(owner)["volumes"]:
            source = volume.get("configMap", {}).get("name") or volume.get("secret", {}).get("secretName")
            if source:
                mounted[volume["name"]] = _written(folder / volume["name"], source, built)
        paths = {
            one["mountPath"]: str(mounted[one["name"]]) for one in container["volumeMounts"] if one["name"] in mounted
        }
        variables = dict(image_environ()) | {one["name"]: one["value"] for one in container["env"]}
        environ = {name: _moved(value, paths) for name, value in variables.items() if name.startswith("FOOTFALL_")}
        environ = {name: value.replace("0.0.0.0:", f"{host}:") for name, value in environ.items()}
        # The program of the image's own environment, first in the path.
        environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        probes = {
            name: f"http://{host}:{ports[probe['httpGet']['port']]}{probe['httpGet']['path']}"
            for name, probe in container.items()
            if name.endswith("Probe")
        }
        assert container["securityContext"]["readOnlyRootFilesystem"]
        writable = [
            paths[one["mountPath"]]
            for one in container["volumeMounts"]
            if one["name"] in volumes and not one.get("readOnly")
        ]
        words = (*_read_only_but(writable), *(_moved(word, paths) for word in container["command"]))
        return cls(words, environ, container.get("lifecycle", {}), probes, f"http://{host}:{ports.get('http', '')}")


@cache
def _may_mount() -> bool:
    """Whether this account may change what a process of its own sees of the file system."""
    try:
        check = ["unshare", "--mount", "mount", "-o", "remount,bind,ro", "/"]
        return subprocess.run(check, capture_output=True, check=False, timeout=30).returncode == 0
    except FileNotFoundError:
        return False


def _read_only_but(folders: list[str]) -> tuple[str, ...]:
    """Return the words before a command that has a read-only file system, as in its container, but for some folders.

    Return none where only root may do this, and the tests have another account.
    """
    if not _may_mount():
        return ()
    opened = "".join(f" && mount -o remount,bind,rw {folder}" for folder in folders)
    bound = "".join(f"mount --bind {folder} {folder} && " for folder in folders)
    return "unshare", "--mount", "sh", "-c", f'{bound}mount -o remount,bind,ro /{opened} && exec "$@"', "sh"


def _written(folder: Path, source: str, built: list[Manifest]) -> Path:
    """Write the files of a ConfigMap or a Secret."""
    folder.mkdir(parents=True, exist_ok=True)
    (found,) = [one for one in built if one["kind"] in ("ConfigMap", "Secret") and one["metadata"]["name"] == source]
    for name, content in found["data"].items():
        (folder / name).write_bytes(b64decode(content) if found["kind"] == "Secret" else content.encode())
    return folder


def _moved(text: str, paths: Mapping[str, str]) -> str:
    for path, folder in paths.items():
        text = text.replace(path, folder)
    return text
