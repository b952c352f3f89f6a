"""Programs under another account than the tests' own: what it can run, what it may do."""

import os
import pwd
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.project import PROJECT


class Python(NamedTuple):
    """The words that start a Python, and the variables with which it finds Footfall and its libraries."""

    words: tuple[str, ...]
    environ: dict[str, str]


def python_of(user: str | None) -> Python:
    """Return a Python that runs as `user`, None for the tests' own account; skip the test where there is none.

    The tests' own Python may stand in a closed folder, such as root's home. Then it is mounted elsewhere, for this one
    process and its children.
    """
    if user is None:
        return Python((sys.executable,), {})
    for python in _pythons(user):
        command = [*python.words, "-c", "import footfall.process.app"]
        if not subprocess.run(
            command, cwd=PROJECT, env=os.environ | python.environ, capture_output=True, check=False
        ).returncode:
            return python
    return pytest.skip(f"the account {user} cannot reach this Python, and nothing can be mounted here")


def _pythons(user: str) -> Iterator[Python]:
    account = pwd.getpwnam(user)
    become = ("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
    yield Python((*become, sys.executable), {})
    folder = Path(sys.base_prefix).resolve()
    program = Path("/mnt") / Path(sys.executable).resolve().relative_to(folder)
    mounted = ("unshare", "--mount", "sh", "-c", f'mount --bind "{folder}" /mnt && exec "$@"', "sh")
    paths = os.pathsep.join((str(PROJECT / "service"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    yield Python((*mounted, *become, str(program)), {"PYTHONPATH": paths, "LD_LIBRARY_PATH": "/mnt/lib"})


def rights(pid: int) -> dict[str, str]:
    """Return the lines of /proc/PID/status: `Uid`, `CapEff`, `NoNewPrivs` and others."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
