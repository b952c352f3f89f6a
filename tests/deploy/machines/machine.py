"""A Debian that systemd-nspawn boots: systemd, journal and services as on a machine, without a network."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.deploy.machines.terminal import Terminal

BOOT_TIMEOUT_S = 120
LOOK_EVERY_S = 0.2
ON_SYSTEMD = Path("/run/systemd/system")


class Machine:
    """A booted machine in a folder; it is switched off at the end of the block."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0

    def boot(self) -> None:
        """Boot, and wait until all services have started; fail where one has not."""
        words = ["systemd-nspawn", f"--directory={self.root}", "--machine=footfall-test", "--boot", "--private-network"]
        words += ["--register=no", "--console=passive"] + ([] if ON_SYSTEMD.exists() else ["--keep-unit"])
        log = self.root.with_suffix(".boot.log").open("ab")
        self._nspawn = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + BOOT_TIMEOUT_S
        state = ""
        while time.monotonic() < end and state not in {"running", "degraded"}:
            time.sleep(LOOK_EVERY_S)
            assert self._nspawn.poll() is None, f"systemd-nspawn ended: {log.name}"
            self._init = self._first_child()
            if self._init:
                state = self.run("systemctl", "is-system-running", check=False).strip()
        assert state == "running", self.run("systemctl", "--failed", "--no-pager", check=False)

    def _first_child(self) -> int:
        """Return the number of the machine's first process, as this system counts; 0 if there is none yet."""
        assert self._nspawn is not None
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def enter(self, *words: str) -> list[str]:
        """Return the command that runs these words on the machine."""
        return ["nsenter", "--target", str(self._init), "--all", *words]

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command on the machine, and return what it printed."""
        done = subprocess.run(self.enter(*words), capture_output=True, text=True, check=False, timeout=BOOT_TIMEOUT_S)
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def from_outside(self, *words: str) -> str:
        """Run a program of this system in the network of the machine, and return what it printed."""
        command = ["nsenter", "--target", str(self._init), "--net", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def terminal(self, answers: Mapping[str, str]) -> Terminal:
        """Log in."""
        return Terminal(self.enter(), answers)

    def power_off(self) -> None:
        """Switch off in order, and wait for the end."""
        if self._nspawn is None:
            return
        if self._init:
            self.run("systemctl", "poweroff", check=False)
        try:
            self._nspawn.wait(BOOT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        self._nspawn, self._init = None, 0

    def reboot(self) -> None:
        """Switch off in order, and boot again."""
        self.power_off()
        self.boot()

    def __enter__(self) -> Self:
        self.boot()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None and self._init:
            sys.stderr.write(self.run("journalctl", "--no-pager", "--lines=40", check=False))
        self.power_off()


def fetch_packages(root: Path, packages: Sequence[str]) -> None:
    """Download what `apt install` of these packages needs without a network; "yes" is what an operator answers."""
    (root / "etc" / "apt" / "apt.conf.d" / "yes").write_text('APT::Get::Assume-Yes "true";\n')
    # A test's machine need not survive a power cut in the middle of apt.
    (root / "etc" / "dpkg" / "dpkg.cfg.d" / "quick").write_text("force-unsafe-io\n")
    for words in (("update",), ("install", "--download-only", *packages)):
        subprocess.run(["chroot", str(root), "apt-get", "--quiet=2", *words], check=True, stdout=subprocess.DEVNULL)
