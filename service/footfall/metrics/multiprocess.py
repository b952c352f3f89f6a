"""The metrics of several workers as one: each worker answers for all of them.

As in prometheus_client's multiprocess mode, each worker keeps its values in files that all workers read. Two things
differ:

- A file is named after a slot, not after a process. The parent gives the slot of a worker that has ended to the next
  worker, which continues its counters, so no counter ever falls.
- A worker writes its values every half second and before every answer. Writing at each increment would cost a beacon
  more than all its other metrics. A worker that is killed loses the counts of its last half second.
"""

# prometheus_client has types for its public part only.
# mypy: disallow-untyped-calls=False

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from footfall._compat import MetricsFile, keep_metric_values_in, metric_key
from footfall.errors import Stop
from footfall.metrics.metrics import VISITORS, Metrics
from footfall.metrics.reports import Reports

FLUSH_EVERY_S = 0.5
EMPTY_FILE = bytes(1 << 16)


class Slot:
    """The metrics of this process, in its own files, and a registry that reads the files of all slots.

    Make one for a process, before any other metric: it changes where prometheus_client keeps every value.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._number = number
        self._files: dict[str, MetricsFile] = {}
        self._unwritten: list[_Value] = []
        keep_metric_values_in(self._value)
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.reports, self.metrics.show = Reports(folder, number), self._show
        self.metrics.registry = CollectorRegistry()
        self.metrics.registry.register(_Collector(self, folder))
        self.metrics.write, self.metrics.readable = self.write, CollectorRegistry()
        self.metrics.readable.register(MultiProcessCollector(None, path=str(folder)))

    async def flush(self) -> None:
        """Write what has changed, so that other workers answer with it."""
        self.write()

    def write(self) -> None:
        """Write what has changed to the files."""
        while self._unwritten:
            self._unwritten.pop().write()

    def close(self) -> None:
        """Write what has changed, for the workers that run on, and close the files."""
        self.write()
        for file in self._files.values():
            file.close()

    def _value(
        self, kind: str, metric: str, name: str, *labels_and_text: Any, multiprocess_mode: str = "", **_: object
    ) -> "_Value":
        """Return the number `name` of a metric; labels, their values and the text come by position."""
        key = metric_key(metric, name, *labels_and_text)
        file = self._file(f"{kind}_{multiprocess_mode}" if multiprocess_mode else kind)
        return _Value(file, key, self._unwritten)

    def _show(self, site: str, period: str, number: float) -> None:
        """Write a number of a site straight to the file; the objects of a gauge would take half a kilobyte for each."""
        key = metric_key(VISITORS.name, VISITORS.name, list(VISITORS.labels), [site, period], VISITORS.text)
        self._file("gauge_mostrecent").write_value(key, number, time.time())

    def _file(self, kind: str) -> MetricsFile:
        if kind not in self._files:
            path = self._folder / f"{kind}_{self._number}.db"
            if not path.exists():
                # Renamed when it is whole: a reader fails on an empty file.
                new = path.with_suffix(".new")
                try:
                    new.write_bytes(EMPTY_FILE)
                    new.replace(path)
                except OSError as error:
                    raise Stop(f"A worker has no room for its metrics in {self._folder}: {error}.", 1) from error
            self._files[kind] = MetricsFile(str(path))
        return self._files[kind]


class _Value:
    """One number of a metric, in memory and from time to time in its file; only for the thread of the event loop."""

    __slots__ = ("_changed", "_file", "_key", "_stamp", "_unwritten", "_value")

    def __init__(self, file: MetricsFile, key: str, unwritten: "list[_Value]") -> None:
        self._file = file
        self._key = key
        self._unwritten = unwritten
        self._value: float
        self._stamp: float
        self._value, self._stamp = file.read_value(key)
        self._changed = False

    def inc(self, amount: float) -> None:
        self._value += amount
        if not self._changed:
            self._changed = True
            self._unwritten.append(self)

    def set(self, value: float, timestamp: float | None = None) -> None:
        self._stamp = timestamp or 0.0
        self._value = value
        self.inc(0.0)

    def get(self) -> float:
        return self._value

    def write(self) -> None:
        self._changed = False
        self._file.write_value(self._key, self._value, self._stamp)


class _Collector(MultiProcessCollector):
    """Reads the files of all slots, after writing those of its own slot."""

    def __init__(self, slot: Slot, folder: Path) -> None:
        super().__init__(None, path=str(folder))
        self._slot = slot

    def collect(self) -> Iterable[Metric]:
        self._slot.write()
        merged: Iterable[Metric] = super().collect()
        return merged
