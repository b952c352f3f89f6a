"""One entry in a folder's access list (POSIX ACL): a group may pass the folder, and sees nothing in it."""

import os
import struct
import sys
from errno import ENODATA, ENOTSUP
from pathlib import Path
from typing import NamedTuple

NAME = "system.posix_acl_access"
VERSION = struct.Struct("<I")
ENTRY = struct.Struct("<HHI")
OWNER, USER, GROUP, NAMED_GROUP, MASK, OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NO_ID = 0xFFFFFFFF
PASS = 0o1


class Entry(NamedTuple):
    """Rights of one kind of account; `id` is a number where the kind has many."""

    kind: int
    rights: int
    id: int = NO_ID


def let_pass(gid: int, folder: Path) -> None:
    """Let the group `gid` pass `folder`; the rights of all others stay. Raises OSError where lists are not known."""
    if sys.platform != "linux":
        raise OSError(ENOTSUP, os.strerror(ENOTSUP))
    before = _read(folder)
    after = _with_pass(before, gid)
    if after != before:
        os.setxattr(folder, NAME, VERSION.pack(2) + b"".join(ENTRY.pack(*entry) for entry in after))


def _with_pass(entries: list[Entry], gid: int) -> list[Entry]:
    """Return the list with the right of `gid`, in the order that the kernel asks for."""
    masked = {USER, GROUP, NAMED_GROUP}
    granted = [entry.rights for entry in entries if entry.kind in masked]
    mask = next((entry.rights for entry in entries if entry.kind == MASK), 0)
    if not any(entry.kind == MASK for entry in entries):
        mask = granted[0]
    # A wider mask must give no other account what the narrower one took away.
    kept = [
        entry._replace(rights=entry.rights & mask) if entry.kind in masked else entry
        for entry in entries
        if entry.kind != MASK and (entry.kind, entry.id) != (NAMED_GROUP, gid)
    ]
    return sorted(
        [*kept, Entry(NAMED_GROUP, PASS, gid), Entry(MASK, mask | PASS)], key=lambda entry: (entry.kind, entry.id)
    )


def _read(folder: Path) -> list[Entry]:
    """Return the access list of `folder`, or the list that its mode stands for."""
    try:
        stored = os.getxattr(folder, NAME)
    except OSError as error:
        if error.errno != ENODATA:
            raise
        mode = folder.stat().st_mode
        return [Entry(OWNER, mode >> 6 & 7), Entry(GROUP, mode >> 3 & 7), Entry(OTHERS, mode & 7)]
    return [Entry(*fields) for fields in ENTRY.iter_unpack(stored[VERSION.size :])]
