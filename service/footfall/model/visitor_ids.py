"""The ids of a day's visitors, 16 bytes each, one after the other, as Postgres keeps them while they are few. Pure."""

import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise

ID_BYTES = 16


def in_order(ids: bytes) -> bytes:
    """Return the ids in their one order, so that equal sets are equal bytes; ValueError where they are no ids.

    >>> in_order(bytes(15) + b"b" + bytes(15) + b"a") == bytes(15) + b"a" + bytes(15) + b"b"
    True
    """
    if len(ids) % ID_BYTES:
        raise ValueError("ids")
    return b"".join(sorted(ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)))


def is_sound(ids: bytes) -> bool:
    """Tell whether these are ids in order, each once."""
    each = [ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)]
    return len(ids) % ID_BYTES == 0 and all(one < other for one, other in pairwise(each))


def checksum(ids: bytes | None, visitors: int, logs: Mapping[str, tuple[int, int]]) -> bytes:
    """Return 16 bytes that bind ids to their number and to the logs whose visitors they are.

    A day with other logs than these has visitors who are not among the ids.
    """
    known = hashlib.blake2b(ids or b"", digest_size=16)
    known.update(json.dumps([visitors, logs], sort_keys=True).encode())
    return known.digest()
