"""The most visitors that were online at once, and when. Pure."""

import re
from typing import NamedTuple

_FORM = re.compile(r"([1-9][0-9]{0,11}):([0-9]{1,14})", re.ASCII)


class Peak(NamedTuple):
    """The highest `online` that was shown, and the first moment of it by Redis' clock, ms since the epoch."""

    online: int
    at_ms: int

    def encode(self) -> str:
        """Return the text that Redis keeps.

        >>> Peak(41, 1795490000000).encode()
        '41:1795490000000'
        """
        return f"{self.online}:{self.at_ms}"

    @classmethod
    def decode(cls, text: str) -> "Peak | None":
        """Read what `encode` or a script wrote; None for anything else."""
        if not (form := _FORM.fullmatch(text)):
            return None
        return cls(int(form[1]), int(form[2]))


def higher(one: Peak | None, other: Peak | None) -> Peak | None:
    """Return the higher of two peaks, of equal ones the earlier; the merge of the peaks of two copies of a day.

    >>> higher(Peak(4, 20), Peak(4, 10)), higher(None, Peak(1, 5))
    (Peak(online=4, at_ms=10), Peak(online=1, at_ms=5))
    """
    if one is None or other is None:
        return one or other
    if one.online == other.online:
        return one if one.at_ms <= other.at_ms else other
    return one if one.online > other.online else other
