"""How a child server starts: under which account, without capabilities, and whether it stops when this process dies."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from footfall.embedded.accounts import Account
from footfall.signals import default_signals


@dataclass(frozen=True, slots=True)
class Launch:
    """One way to run a child: setpriv with its options, and the account that owns the process and its files."""

    setpriv: tuple[str, ...] = ()
    account: Account | None = None  # None: this process's own

    def words(self) -> tuple[str, ...]:
        """Return the words before a command; empty where there is no setpriv."""
        if not self.setpriv or self.account is None:
            return self.setpriv
        become = (f"--reuid={self.account.uid}", f"--regid={self.account.gid}", "--clear-groups")
        return (*self.setpriv, *become, "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all")

    def popen(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        """Start `command` with its output appended to `log`, out of reach of the terminal's Ctrl-C."""
        account = None if self.setpriv else self.account  # setpriv changes the account by itself
        with log.open("ab") as output, default_signals():
            return subprocess.Popen(
                [*self.words(), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C must not reach the stores: the service drains into them before it stops them.
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                umask=0o077,
            )


def choose_launch(account: Account | None, stop_signal: signal.Signals) -> Launch:
    """Return the best way of this system to run a child under `account`; each way is tried on `true` first.

    On Linux setpriv takes all capabilities and the ways to gain one, and stops the child when this process is killed.
    """
    return next(filter(_works, _launches(account, stop_signal)))


def _launches(account: Account | None, stop_signal: signal.Signals) -> Iterator[Launch]:
    if setpriv := shutil.which("setpriv"):
        bare = (setpriv, "--no-new-privs")
        yield Launch((*bare, f"--pdeathsig={stop_signal.name.removeprefix('SIG')}"), account)
        yield Launch(bare, account)  # util-linux before 2.33 has no --pdeathsig
    yield Launch(account=account)


def _works(launch: Launch) -> bool:
    if not launch.setpriv:
        return True
    return subprocess.run([*launch.words(), "true"], capture_output=True, check=False).returncode == 0
