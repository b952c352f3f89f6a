"""A day as an import brings it: what another counter or an access log knew of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

IMPORT_LOG = "0000000000000000"
"""The batch log of an imported day; no worker makes such an id. Its seq is the entry of the import's journal."""


@dataclass(frozen=True, slots=True)
class ImportedDay:
    """What an import says of a day of the site's calendar."""

    day: date
    visitors: int
    views: int
    exact: bool = False
    """Whether the visitors were counted one by one here; what another counter says is taken as an estimate."""
    pages: Mapping[str, int] = field(default_factory=dict)
    """Views by canonical page."""
