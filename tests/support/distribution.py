"""An installable release: one archive with Footfall's wheel and all locked wheels, for machines without internet.

python -m tests.support.distribution        makes dist/footfall-VERSION-linux.tar.gz; `make dist` is this
python -m tests.support.distribution --here    only for this Python and machine

Where dpkg-deb is, it makes a Debian package of the same files, too.
"""

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from footfall import __version__
from tests.support.debian_package import make_package
from tests.support.manual import manual
from tests.support.project import PROJECT

DIST = PROJECT / "dist"
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
"""Of wheels that run on Debian 12, Ubuntu 22.04 and RHEL 9, or newer."""
SHELLS = {"bash": "footfall.bash", "zsh": "_footfall", "fish": "footfall.fish"}


def build(target: Path, targets: Iterable[tuple[str, str]]) -> Path:
    """Make the archive in `target` for these Pythons and machines, and return its path."""
    name = f"footfall-{__version__}"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / name
        wheels = root / "wheels"
        wheels.mkdir(parents=True)
        # The build back end is of the development environment, which is locked with hashes.
        _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(PROJECT))
        [own] = wheels.iterdir()
        shutil.copy(own, target)
        requirements = locked()
        (root / "requirements.txt").write_text(requirements)
        for python, machine in targets:
            _download(root / "requirements.txt", wheels, python, machine)
        own_hash = hashlib.sha256(own.read_bytes()).hexdigest()
        (root / "requirements.txt").write_text(f"{requirements}footfall=={__version__} --hash=sha256:{own_hash}\n")
        _add_files(root)
        sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(root)}" for file in _files(root)]
        (root / "SHA256SUMS").write_text("\n".join(sums) + "\n")
        archive = target / f"{name}-linux.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(root, name, filter=_as_root)
        if shutil.which("dpkg-deb"):
            make_package(root, target / f"footfall_{__version__}_all.deb")
    (target / f"{archive.name}.sha256").write_text(
        f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  {archive.name}\n"
    )
    return archive


def locked() -> str:
    """Return the requirements of production for any Python on Linux.

    A marker about the Python is taken out: pip would decide it by the Python that makes the archive. Debian 12 has
    3.11.2, which needs a package that 3.11.3 does not.
    """
    entries = re.split(r"\n(?=\S)", (PROJECT / "requirements.lock").read_text())
    wanted = [entry for entry in entries if not entry.startswith("#") and "sys_platform == 'win32'" not in entry]
    return (
        "\n".join(re.sub(r" ; (python_full_version|python_version|sys_platform)[^\\\n]*", " ", e) for e in wanted)
        + "\n"
    )


def _download(requirements: Path, wheels: Path, python: str, machine: str) -> None:
    platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_{machine}")]
    _pip(
        *("download", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(requirements)),
        *("--implementation", "cp", "--python-version", python, "--dest", str(wheels)),
        *platforms,
        tries=3,  # pip asks again for a file, but not for the rest of one that broke off
    )


def _add_files(root: Path) -> None:
    copy_deploy(PROJECT / "deploy", root / "deploy")
    shutil.move(root / "deploy" / "install.sh", root / "install.sh")
    (root / "sql").mkdir()
    for file in ("sql/roles.sql", "CHANGELOG.md", "LICENSE"):
        shutil.copy(PROJECT / file, root / file)
    (root / "man").mkdir()
    (root / "man" / "footfall.1").write_text(manual())
    (root / "completion").mkdir()
    for shell, file in SHELLS.items():
        (root / "completion" / file).write_text(completion(shell))


def copy_deploy(source: Path, target: Path) -> None:
    """Copy the files for operators, without the passwords that a compose project keeps beside them."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("secrets", "*.env"))


def completion(shell: str) -> str:
    """Return the script with which a shell completes `footfall`, as the program itself prints it."""
    environ = os.environ | {
        "_FOOTFALL_COMPLETE": f"source_{shell}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "footfall"], env=environ, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def _files(root: Path) -> list[Path]:
    return sorted(file for file in root.rglob("*") if file.is_file())


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def _pip(*words: str, tries: int = 1) -> None:
    command = [sys.executable, "-m", "pip", words[0], "--quiet", "--disable-pip-version-check", *words[1:]]
    for _ in range(tries - 1):
        if subprocess.run(command, check=False).returncode == 0:
            return
    subprocess.run(command, check=True)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--here", action="store_true", help="only for this Python and machine")
    options.add_argument("--into", type=Path, default=DIST, help="folder of the archive; default: dist")
    given = options.parse_args()
    here = [(f"{sys.version_info.major}.{sys.version_info.minor}", platform.machine())]
    everywhere = [(python, machine) for machine in MACHINES for python in PYTHONS]
    print(build(given.into, here if given.here else everywhere))
