"""Reads the rows of a damaged SQLite file from its bytes, without its structure.

A damaged byte in a page's head, in a pointer or in a log hides rows from SQLite that are whole. A row of the spool has
a checksum of its own. So every place that looks like the head of a row is tried, in every page of the file and of the
log beside it, and the checksum decides. What is lost is the row that the damage stands in.

The format: https://www.sqlite.org/fileformat2.html (records 2.1, overflow 1.6 and 1.5, the log 4).
"""

import re
import struct
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any
from zlib import crc32

PAGE_BYTES = 4096
"""SQLite's default, which the spool never changed."""
WAL_HEAD_BYTES = 32
FRAME_HEAD_BYTES = 24
FRAME_BYTES = FRAME_HEAD_BYTES + PAGE_BYTES
JOURNAL_HEAD_BYTES = 512
JOURNAL_RECORD_BYTES = 4 + PAGE_BYTES + 4
"""Number of a page, the page as it was before the transaction, and a checksum."""
LOCAL_MAX = (PAGE_BYTES - 12) * 64 // 255 - 23
LOCAL_MIN = (PAGE_BYTES - 12) * 32 // 255 - 23
"""Bytes of a row that stand in its own page; the rest is in overflow pages."""
NEXT_BYTES = 4
"""Number of the next overflow page."""
VARINT = rb"(?:[\x80-\xff]{0,2}[\x00-\x7f])"
INTEGER = rb"[\x00-\x06\x08\x09]"
BATCH_HEAD = re.compile(
    rb"(?=([\x0b-\x1f]"
    + VARINT  # log
    + INTEGER  # seq
    + VARINT  # site
    + rb"\x21"  # day: a text of ten characters
    + INTEGER * 2  # views, seen_ms
    + VARINT * 2  # visitors, gone
    + INTEGER * 2  # beacons, checksum
    + rb"))",
    re.DOTALL,
)
"""The head of a batch's row: its own length, then the type of each column in the order of storage."""
PAGE_HEAD = re.compile(
    rb"(?=([\x05-\x09]"
    + VARINT * 2  # log, page
    + INTEGER * 2  # views, checksum
    + rb"))",
    re.DOTALL,
)
"""The head of a row of the views of a page."""
INTEGER_BYTES = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}
Record = tuple[Any, ...]


class Pages:
    """All images of the pages of a file, those in its log and its journal included."""

    def __init__(self, main: bytes, wal: bytes, journal: bytes) -> None:
        self._main = [main[at : at + PAGE_BYTES] for at in range(0, len(main), PAGE_BYTES)]
        self._frames: list[bytes] = []
        current: dict[int, bytes] = {}
        stale: dict[int, bytes] = {}
        for at in range(WAL_HEAD_BYTES, len(wal) - FRAME_HEAD_BYTES, FRAME_BYTES):
            image = wal[at + FRAME_HEAD_BYTES : at + FRAME_BYTES]
            number = int.from_bytes(wal[at : at + 4], "big")
            self._frames.append(image)
            (current if wal[at + 8 : at + 16] == wal[16:24] else stale)[number] = image
        for at in range(JOURNAL_HEAD_BYTES, len(journal) - PAGE_BYTES, JOURNAL_RECORD_BYTES):
            image = journal[at + 4 : at + 4 + PAGE_BYTES]
            self._frames.append(image)
            stale.setdefault(int.from_bytes(journal[at : at + 4], "big"), image)
        # The log is newer than the file. But its frames may be left over from before it was begun again.
        self.readings: tuple[dict[int, bytes], ...] = (current, {}, stale | current, current | stale)

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over all images."""
        return chain(self._main, self._frames)

    def image(self, number: int, newer: dict[int, bytes]) -> bytes:
        """Return a page, preferably one of the `newer` ones; empty if there is none."""
        if number in newer:
            return newer[number]
        return self._main[number - 1] if 0 < number <= len(self._main) else b""


def salvaged_records(
    head: re.Pattern[bytes], main: Path, wal: Path, journal: Path, is_sound: Callable[[Record], bool]
) -> Iterator[Record]:
    """Return every row with such a head that `is_sound` accepts, in the order of storage; some may come again."""
    pages = Pages(*(path.read_bytes() if path.exists() else b"" for path in (main, wal, journal)))
    for page in pages:
        for match in head.finditer(page):
            types = _varints(match[1])
            if types[0] != len(match[1]):
                continue
            for newer in pages.readings:
                payload = _payload(pages, newer, page, match.start(), types)
                if payload is not None and is_sound(record := _record(payload, types)):
                    yield record
                    break


def row_checksum(values: Record) -> int:
    """Return the checksum that the spool stores with the other columns of a row."""
    total = 0
    for value in values:
        total = crc32(value if isinstance(value, bytes) else repr(value).encode(), total)
    return total


def wal_is_cut(path: Path) -> bool:
    """Whether frames stand in a log after the place at which SQLite ends its reading, or its head is damaged."""
    wal = path.read_bytes()
    if len(wal) <= WAL_HEAD_BYTES:
        return bool(wal)
    magic, _, _, begun, salt_1, salt_2, *head_sum = struct.unpack(">8I", wal[:WAL_HEAD_BYTES])
    order = ">" if magic & 1 else "<"
    total = _checksum(order, wal[:24], (0, 0))
    if magic >> 1 != 0x377F0682 >> 1 or list(total) != head_sum:
        return True
    is_chain = True
    for at in range(WAL_HEAD_BYTES, len(wal) - FRAME_HEAD_BYTES, FRAME_BYTES):
        frame = wal[at : at + FRAME_BYTES]
        *_, one, two, sum_1, sum_2 = struct.unpack(">6I", frame[:FRAME_HEAD_BYTES])
        is_current = (one, two) == (salt_1, salt_2)
        if is_chain:
            total = (
                _checksum(order, frame[:8] + frame[FRAME_HEAD_BYTES:], total) if len(frame) == FRAME_BYTES else (0, 0)
            )
            is_chain = is_current and total == (sum_1, sum_2)
        # A log that was begun once has no frames left over from before.
        if not is_chain and (is_current or not begun):
            return True
    return False


def _payload(pages: Pages, newer: dict[int, bytes], page: bytes, start: int, types: list[int]) -> bytes | None:
    """Put a row together from its page and its overflow pages; None if they are not there."""
    size = types[0] + sum(map(_size_of, types[1:]))
    local = size
    if size > LOCAL_MAX:
        local = LOCAL_MIN + (size - LOCAL_MIN) % (PAGE_BYTES - NEXT_BYTES)
        local = local if local <= LOCAL_MAX else LOCAL_MIN
    parts = [page[start : start + local]]
    following = page[start + local : start + local + NEXT_BYTES]
    left = size - local
    while left > 0:
        image = pages.image(int.from_bytes(following, "big"), newer)
        if len(image) < PAGE_BYTES:
            return None
        following = image[:NEXT_BYTES]
        parts.append(image[NEXT_BYTES : NEXT_BYTES + left])
        left -= PAGE_BYTES - NEXT_BYTES
    payload = b"".join(parts)
    return payload if len(payload) == size else None


def _record(payload: bytes, types: list[int]) -> Record:
    at, values = types[0], list[Any]()
    for kind in types[1:]:
        raw = payload[at : at + _size_of(kind)]
        at += len(raw)
        if kind >= 12:
            values.append(raw if kind % 2 == 0 else raw.decode(errors="replace"))
        else:
            values.append({0: None, 8: 0, 9: 1}.get(kind, int.from_bytes(raw, "big", signed=True)))
    return tuple(values)


def _size_of(kind: int) -> int:
    return (kind - 12) // 2 if kind >= 12 else INTEGER_BYTES.get(kind, 0)


def _varints(raw: bytes) -> list[int]:
    values, value = list[int](), 0
    for byte in raw:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            values.append(value)
            value = 0
    return values


def _checksum(order: str, raw: bytes, total: tuple[int, int]) -> tuple[int, int]:
    """Continue the checksum of a log over `raw`."""
    one, two = total
    words = struct.unpack(f"{order}{len(raw) // 4}I", raw)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
