"""Open-loop load: requests leave at their planned times, and latency counts from there, however late the server is.

A process with a small HTTP client of its own: at 15,000 requests a second on half a core, a general client would
dominate. `python -m tests.bench.openloop PORT SECONDS BEACONS_PER_S READS_PER_S` prints an outcome as JSON.
"""

import asyncio
import gc
import json
import random
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, cast

import uvloop

from tests.bench import traffic
from tests.bench.machine import on_load_core

CONNECTIONS = 128
TICK_S = 0.001
PATIENCE_S = 10
"""A request without an answer this long after the end counts as unanswered."""


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._kind = ""
        self._intended_s = 0.0
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note that the connection is ready for its first request."""
        # uvloop's transport has these methods without being a subclass.
        self._transport = cast("asyncio.Transport", transport)
        self._load.free.append(self)

    def send(self, kind: str, request: bytes, intended_s: float) -> None:
        """Send one request that was due at `intended_s` (monotonic)."""
        assert self._transport is not None
        self._kind, self._intended_s = kind, intended_s
        self._transport.write(request)

    def data_received(self, received: bytes) -> None:
        """Count an answer once it is complete."""
        self._received += received
        head, found, body = self._received.partition(b"\r\n\r\n")
        at = head.find(b"Content-Length: ") + 16
        if not found or (at > 15 and len(body) < int(head[at : head.find(b"\r\n", at)])):
            return
        self._load.answers[f"{self._kind} {head[9:12].decode()}"] += 1
        self._load.latencies_s.append(time.monotonic() - self._intended_s)
        self._received, self._kind = b"", ""
        self._load.free.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Note the end; a waiting request gets no answer."""
        if not self._kind:
            self._load.free.remove(self)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()


class Load:
    """The requests of one run, and their outcomes."""

    def __init__(self, rates: dict[str, float]) -> None:
        self.rates = rates
        self.free: deque[Connection] = deque()
        self.answers: Counter[str] = Counter()
        """By kind (view, robot, read) and status, such as "view 200"."""
        self.latencies_s = array("d")
        self.late_s = array("d")
        """How long after their planned times requests left: the generator's own part of the latency, or its lack of
        free connections."""

        self.unanswered = 0
        self.cpu_s = 0.0
        self.elapsed_s = 0.0
        """Until the last answer."""

    async def run(self, port: int, seconds: float) -> None:
        """Send everything that is due in `seconds`, evenly, to a server on this machine."""
        loop = asyncio.get_running_loop()
        made = [await loop.create_connection(lambda: Connection(self), "127.0.0.1", port) for _ in range(CONNECTIONS)]
        beacons, reads = traffic.beacons(), traffic.reads()
        dice = random.Random()
        gc.freeze()
        self.cpu_s = time.process_time()
        end = (started := time.monotonic()) + seconds
        # Counted, because a sum of many 1 / per_s may end just below `end` and plan one request too many.
        planned = {route: round(per_s * seconds) for route, per_s in self.rates.items()}
        due = dict.fromkeys(self.rates, 0)
        queue: deque[tuple[str, float]] = deque()
        while (now := time.monotonic()) < end or due != planned or queue or len(self.latencies_s) < len(self.late_s):
            for route, per_s in self.rates.items():
                while due[route] < planned[route] and (at_s := started + due[route] / per_s) <= now:
                    queue.append((route, at_s))
                    due[route] += 1
            while queue and self.free:
                route, intended_s = queue.popleft()
                visitor = dice.randrange(traffic.VISITORS)
                self.late_s.append(time.monotonic() - intended_s)
                if route == "/counts":
                    self.free.popleft().send("read", reads[visitor], intended_s)
                else:
                    kind = "robot" if traffic.is_robot(visitor) else "view"
                    self.free.popleft().send(kind, beacons[visitor], intended_s)
            if now > end + PATIENCE_S:
                break
            await asyncio.sleep(TICK_S)
        self.cpu_s = time.process_time() - self.cpu_s
        self.elapsed_s = time.monotonic() - started
        self.unanswered = len(self.late_s) + len(queue) - len(self.latencies_s)
        for _, connection in made:
            connection.close()

    def outcome(self) -> dict[str, Any]:
        """Return the outcomes of all requests."""
        return {
            "answers": self.answers,
            "unanswered": self.unanswered,
            "p50_ms": percentile_ms(self.latencies_s, 50),
            "p99_ms": percentile_ms(self.latencies_s, 99),
            "p999_ms": percentile_ms(self.latencies_s, 99.9),
            "late_p99_ms": percentile_ms(self.late_s, 99),
            "elapsed_s": round(self.elapsed_s, 2),
            "cpu_s": round(self.cpu_s, 2),
        }


def percentile_ms(seconds: Sequence[float], percent: float) -> float:
    """Return the latency, in milliseconds, that so many percent did not exceed.

    >>> percentile_ms(array("d", [0.004, 0.001, 0.002, 0.003]), 50)
    3.0
    """
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000, 2) if ordered else 0.0


async def drive(port: int, beacons_per_s: float, reads_per_s: float, seconds: float) -> dict[str, Any]:
    """Run a generator as a process on its core, and return its outcome."""
    command = [sys.executable, "-m", __name__, *map(str, (port, seconds, beacons_per_s, reads_per_s))]
    process = await asyncio.create_subprocess_exec(*on_load_core(command), stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the load generator failed; its traceback is above")
    outcome: dict[str, Any] = json.loads(output)
    return outcome


def main() -> None:
    """Send and print."""
    port, seconds, beacons_per_s, reads_per_s = map(float, sys.argv[1:])
    load = Load({"/seen": beacons_per_s, "/counts": reads_per_s})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(load.run(int(port), seconds))
    print(json.dumps(load.outcome()))


if __name__ == "__main__":
    main()
