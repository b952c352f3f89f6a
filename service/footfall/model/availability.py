"""Whether a store takes what it is given, since when it does not, and why. Pure."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Up:
    """The store answers."""


@dataclass(frozen=True, slots=True)
class Away:
    """The store does not answer, or refuses to write."""

    since_s: float
    """Seconds since the epoch."""
    why: str


UP: Final = Up()
"""The only `Up`: `state is UP` is the cheapest test."""

Availability = Up | Away
