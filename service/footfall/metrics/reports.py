"""What each worker reports of itself beside its metrics, such as names, which no label may hold; any worker reads all.

A report is a small file beside the metrics of its slot.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

Report = dict[str, Any]
PREFIX = "report_"


class Reports:
    """The report of this process, and those of the other workers of its parent; without a folder only its own."""

    def __init__(self, folder: Path | None = None, slot: int = 0) -> None:
        self._folder = folder
        self._slot = slot
        self._own: Report = {}

    def write(self, report: Report) -> None:
        """Replace this worker's report."""
        self._own = {"slot": self._slot, **report}
        if self._folder is not None:
            file = report_file(self._folder, self._slot)
            new = file.with_suffix(".new")
            new.write_text(json.dumps(self._own), "utf-8")
            new.replace(file)  # renamed when it is whole: other workers read at any time

    def read(self) -> list[Report]:
        """Return the reports of all workers that run, by slot."""
        others = () if self._folder is None else self._others(self._folder)
        return sorted((self._own, *others), key=lambda report: report["slot"])

    def _others(self, folder: Path) -> Iterator[Report]:
        own = report_file(folder, self._slot)
        for file in folder.glob(f"{PREFIX}*.json"):
            if file != own:
                with suppress(FileNotFoundError):  # its worker has just ended
                    yield json.loads(file.read_text("utf-8"))


def report_file(folder: Path, slot: int) -> Path:
    """Return the file of a slot's report; its parent removes the file when the worker has ended."""
    return folder / f"{PREFIX}{slot}.json"
