"""The manifests of deploy/kubernetes/, as an operator builds them, and their containers as processes."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
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
        pytest.skip(f"kubectl is of 1.{minor}, and Footfall's files need 1.{OLDEST_MINOR} or newer")
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


def environ_of(container: Manifest, mounts: Mapping[str, Path], host: str) -> dict[str, str]:
    """Return the variables of a container: those of its image and its own.

    What is mounted at a path is in the folder that `mounts` names for it, and the listeners are on the address `host`.
    """
    own = {one["name"]: one["value"] for one in container["env"]}
    environ = {name: value for name, value in image_environ() if name.startswith("FOOTFALL_")} | own
    for path, folder in mounts.items():
        environ = {name: value.replace(path, str(folder)) for name, value in environ.items()}
    return {name: value.replace("0.0.0.0:", f"{host}:") for name, value in environ.items()}


def inherited() -> dict[str, str]:
    """Return this process's variables without settings of a Footfall."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FOOTFALL_")}
