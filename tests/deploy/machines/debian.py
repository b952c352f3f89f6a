"""A bare Debian 12 in a folder, made by debootstrap from the mirror that this machine's apt asks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

SUITE = "bookworm"
TRUSTED = ("etc/ssl/certs/ca-certificates.crt", "etc/pip.conf")
"""Files of this machine that say which package indexes it asks, and whom it believes."""


def need(*programs: str) -> None:
    """End with a sentence where a program is missing, or the account may not make such machines."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        sys.exit(f"Missing: {', '.join(missing)}. apt install buildah debootstrap openssl skopeo systemd-container")
    if os.geteuid() != 0:
        sys.exit("Only root may make a Debian in a folder.")


def step(sentence: str) -> None:
    """Print what has been shown."""
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def mirror() -> str:
    """Return the address from which this machine's apt installs Debian itself."""
    wanted = ("--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages", "Component: main")
    done = subprocess.run(["apt-get", "indextargets", *wanted], capture_output=True, text=True, check=True)
    found = [line.partition(" ") for line in done.stdout.splitlines()]
    own = {suite: address for address, _, suite in found if "-" not in suite}
    if not own:
        sys.exit("apt knows no mirror of Debian here: run apt-get update first.")
    return own.get(SUITE) or next(iter(own.values()))


def make_root(target: Path, packages: Iterable[str]) -> None:
    """Install Debian with these packages into an empty folder."""
    words = ("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", SUITE, str(target), mirror())
    log = target.with_suffix(".debootstrap.log")
    with log.open("w") as output:
        done = subprocess.run(words, stdout=output, stderr=output, check=False)
    if done.returncode:
        sys.exit(f"debootstrap failed. Its last lines:\n{log.read_text()[-2000:]}")
