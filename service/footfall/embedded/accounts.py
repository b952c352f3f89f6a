"""The accounts of the child servers: as root an account of their own, else the one that runs this process."""

import hashlib
import os
import pwd
from dataclasses import dataclass
from grp import getgrgid
from pathlib import Path

from footfall.embedded.access_list import let_pass
from footfall.errors import Stop

OWN_NUMBERS = range(60_600, 61_184)
"""Numbers of accounts that Debian and systemd leave free, and that a container with 65,536 accounts has.

A number needs no entry in /etc/passwd, so it is there where no account can be made, such as in a read-only container.
"""


@dataclass(frozen=True, slots=True)
class Account:
    """The owner of a process and its files."""

    uid: int
    gid: int
    own: bool = False
    """Whether it is an account that nothing but the servers of one data folder has."""


def server_account(folder: Path) -> Account | None:
    """Return None for this process's account; as root, which PostgreSQL refuses, the folder's owner or an own account.

    No user and no other program has the number of an own account; another data folder has another one, by all odds.
    """
    if os.geteuid() != 0:
        return None
    return folder_owner(folder) or _own_account(folder)


def setup_account(account: Account | None) -> Account | None:
    """Return the account that makes a cluster for `account`; raises Stop where there is none.

    PostgreSQL's initdb refuses an account without an entry in /etc/passwd. `nobody` has one; the group of `account`
    keeps other processes of `nobody` out of the folder, and from tracing initdb.
    """
    if account is None or not account.own:
        return account
    if (nobody := _nobody()) is None:
        raise Stop("PostgreSQL refuses to run as root: start Footfall under an ordinary account")
    return Account(nobody, account.gid)


def folder_owner(folder: Path) -> Account | None:
    """Return, as root, the ordinary account that owns `folder` or its nearest existing parent; else None.

    So the files that `sudo` makes in a user's folder belong to the user.
    """
    if os.geteuid() != 0:
        return None
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    uid = existing.stat().st_uid
    if uid in {0, _nobody()}:
        return None
    try:
        return Account(uid, pwd.getpwuid(uid).pw_gid)
    except KeyError as missing:
        if uid in OWN_NUMBERS:
            return None
        raise Stop(f"{existing} belongs to the account {uid}, which this system does not know") from missing


def former_owners() -> set[int]:
    """Return the accounts that own the servers' files after an earlier start as root, of this version or of others."""
    return {0, *OWN_NUMBERS} | ({nobody} if (nobody := _nobody()) is not None else set())


def move(tree: Path, account: Account) -> None:
    """Give `account` what the owner of `tree` has in it; follow no links, and leave what others own.

    The folder itself comes last, so that a move that was cut short begins again.
    """
    former = tree.lstat().st_uid
    for _, folders, files, inside in os.fwalk(tree, topdown=False):
        for name in (*folders, *files):
            if os.stat(name, dir_fd=inside, follow_symlinks=False).st_uid == former:
                os.chown(name, account.uid, account.gid, dir_fd=inside, follow_symlinks=False)
    os.chown(tree, account.uid, account.gid, follow_symlinks=False)


def let_reach(account: Account | None, program: Path, *folders: Path) -> None:
    """Let an own account's group pass the closed folders above `program` and `folders`, such as /root; no others pass.

    Raises Stop where `program` itself is closed, and where the file system keeps no access lists.
    """
    if account is None or not account.own:
        return
    if program.stat().st_mode & 0o005 != 0o005:
        raise Stop(
            f"only root may run {program}, and the embedded servers do not run as root: "
            f"chmod -R go+rX {Path(*program.parts[:-4])}, or start Footfall under an ordinary account"
        )
    names = (name for path in (program, *folders) for name in (path.absolute(), path.resolve()))
    above = {parent for name in names for parent in name.parents}
    for parent in sorted(above):
        if not parent.stat().st_mode & 0o001:
            try:
                let_pass(account.gid, parent)
            except OSError as error:
                raise Stop(
                    f"the account of the embedded servers cannot pass the closed folder {parent} ({error.strerror}): "
                    "move Footfall to a folder that every account may pass, or start it under an ordinary account"
                ) from error


def own_name() -> str:
    """Return the name of this process's account; raises Stop where it has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as missing:
        raise Stop(f"PostgreSQL refuses the account {os.geteuid()}, which has no entry in /etc/passwd") from missing


def _own_account(folder: Path) -> Account:
    first = int.from_bytes(hashlib.sha256(os.fsencode(folder.resolve())).digest()[:8]) % len(OWN_NUMBERS)
    for number in (*OWN_NUMBERS[first:], *OWN_NUMBERS[:first]):
        if _is_free(number):
            return Account(number, number, own=True)
    raise Stop("PostgreSQL refuses to run as root, and no account is free: start Footfall under an ordinary account")


def _is_free(number: int) -> bool:
    for look_up in (pwd.getpwuid, getgrgid):
        try:
            look_up(number)
        except KeyError:
            continue
        return False
    return True


def _nobody() -> int | None:
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return None
