"""How a child server runs: under which account, and whether it stops when this process dies."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from footfall.errors import Stop


@dataclass(frozen=True, slots=True)
class Launch:
    """One way to run a child: the words before its command, and the account that owns the process and its files."""

    before: tuple[str, ...] = ()
    account: pwd.struct_passwd | None = None  # None: this process's own
    passes_closed_folders: bool = False

    def popen(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        """Start `command` with its output appended to `log`, out of reach of the terminal's Ctrl-C."""
        account = None if self.before else self.account  # with words before the command, setpriv changes the account
        with log.open("ab") as output:
            return subprocess.Popen(
                [*self.before, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C must not reach the stores: the service drains into them before it stops them.
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )

    def own(self, path: Path) -> None:
        """Make `path` belong to the account of the server."""
        if self.account:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)


def choose_launch(binary: Path, folder: Path, stop_signal: signal.Signals) -> Launch:
    """Return the best way of this system to run `binary` on `folder`; each way is tried on `true` first.

    On Linux setpriv stops the child when this process is killed. By one capability it also lets another account
    through a closed folder such as /root; the alternative, opening that folder to every account, is worse.
    """
    return next(filter(_works, _launches(binary, folder, stop_signal)))


def _launches(binary: Path, folder: Path, stop_signal: signal.Signals) -> Iterator[Launch]:
    account = _server_account(folder)
    if setpriv := shutil.which("setpriv"):
        stop_with_us = f"--pdeathsig={stop_signal.name.removeprefix('SIG')}"
        if account is None:
            yield Launch((setpriv, stop_with_us))
        else:
            become = (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
            closed = account.pw_name == "nobody" and not (_passable(binary) and _passable(folder))
            # Without this bit, access() ignores the capabilities of an account other than root.
            keep = ("--ambient-caps=-all,+dac_override", "--securebits=+no_setuid_fixup") if closed else ()
            inherit = "--inh-caps=-all,+dac_override" if closed else "--inh-caps=-all"
            yield Launch((setpriv, stop_with_us, *become, inherit, *keep), account, closed)
            yield Launch(
                (setpriv, *become, inherit, *keep), account, closed
            )  # util-linux before 2.33 has no --pdeathsig
    yield Launch(account=account)


def _works(launch: Launch) -> bool:
    if not launch.before:
        return True
    return subprocess.run([*launch.before, "true"], capture_output=True, check=False).returncode == 0


def folder_owner(folder: Path) -> pwd.struct_passwd | None:
    """Return, as root, the ordinary account that owns `folder` or its nearest existing parent; else None.

    So the files that `sudo` makes in a user's folder belong to the user.
    """
    if os.geteuid() != 0:
        return None
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    uid = existing.stat().st_uid
    return pwd.getpwuid(uid) if uid != 0 else None


def _server_account(folder: Path) -> pwd.struct_passwd | None:
    """Return None for this process's account; as root, which PostgreSQL refuses, the folder's owner or `nobody`."""
    if os.geteuid() != 0:
        return None
    try:
        return folder_owner(folder) or pwd.getpwnam("nobody")
    except KeyError as missing:
        raise Stop("PostgreSQL refuses to run as root: start Footfall under an ordinary account") from missing


def _passable(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents) if folder.exists())
