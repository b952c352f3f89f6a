"""Reads the counts as pages do, all the time, and records a complaint where a number falls that must not."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.chaos.connection import Connection

EVERY_S = 0.2
ANSWER_MAX_S = 5
READERS_PER_HOST = 4
"""Connections; each stays with one worker for its life, so each must see numbers that never fall."""
COMPLAINTS_MAX = 10
READ = "GET /counts?site={site} HTTP/1.1\r\nHost: count.example.vn\r\n\r\n"
PERIODS = {"today": "day_of", "views_today": "day_of", "week": "week_of", "total": "revision"}


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer of `/counts` that was not stale."""

    day_of: str
    as_of: str
    numbers: dict[str, int]


class Watcher:
    """Polls all workers of all hosts; `complaints` holds what is wrong."""

    def __init__(self, urls: Sequence[str], sites: Sequence[str], adjustments: int) -> None:
        self._urls = urls
        self._sites = sites
        self._adjustments = adjustments
        self._stopping = asyncio.Event()
        self._seen: defaultdict[str, list[Seen]] = defaultdict(list)
        self.complaints: list[str] = []
        self.across_workers = True
        """Whether workers must agree, in the order of `as_of`; a fault in which Redis loses data clears it."""
        self.reads = 0

    async def run(self) -> None:
        """Poll until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            for url in self._urls:
                for _ in range(READERS_PER_HOST):
                    tasks.create_task(self._read_on(url))
        if self.across_workers:
            for site, seen in self._seen.items():
                for complaint in falls_across(seen):
                    self._complain(f"{site}, across workers: {complaint}")

    def stop(self) -> None:
        """Stop polling."""
        self._stopping.set()

    async def _read_on(self, url: str) -> None:
        while not self._stopping.is_set():
            try:
                await self._read_one_worker(url)
            except (OSError, TimeoutError):
                await self._pause()

    async def _read_one_worker(self, url: str) -> None:
        connection = await Connection.open(url)
        shown: dict[str, dict[str, Any]] = {}
        try:
            while not self._stopping.is_set():
                for site in self._sites:
                    async with asyncio.timeout(ANSWER_MAX_S):
                        status, body = await connection.ask(READ.format(site=site).encode())
                    self.reads += 1
                    if status == 200:
                        answer = json.loads(body)
                        self._check(site, shown.get(site), answer)
                        shown[site] = answer
                await self._pause()
        finally:
            connection.close()

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), EVERY_S)
        except TimeoutError:
            return

    def _check(self, site: str, before: dict[str, Any] | None, now: dict[str, Any]) -> None:
        if before is not None:
            for number, period in PERIODS.items():
                then, since = before[number], now[number]
                if then is not None and since is not None and before[period] == now[period] and since < then:
                    self._complain(f"{site}: {number} fell from {then} to {since} on one worker")
        if now["today"] is not None and now["week"] is not None and now["week"] < now["today"]:
            self._complain(f"{site}: week {now['week']} is below today {now['today']}")
        if now["total"] is not None and now["total"] - self._adjustments < (now["today"] or 0):
            self._complain(f"{site}: total {now['total']} is below the adjustments and today {now['today']}")
        if not now["stale"]:
            self._seen[site].append(Seen(now["day_of"], now["as_of"], {name: now[name] for name in PERIODS}))

    def _complain(self, complaint: str) -> None:
        if len(self.complaints) < COMPLAINTS_MAX:
            self.complaints.append(complaint)


def falls_across(seen: Sequence[Seen]) -> Iterator[str]:
    """Numbers of a day that fell from one moment to a later one, whichever workers showed them."""
    moments: defaultdict[tuple[str, str], list[dict[str, int]]] = defaultdict(list)
    for one in seen:
        moments[one.day_of, one.as_of].append(one.numbers)
    for (day, earlier), (same_day, later) in pairwise(sorted(moments)):
        if day != same_day:
            continue
        for number in ("today", "views_today", "week", "total"):
            highest = max(numbers[number] for numbers in moments[day, earlier])
            lowest = min(numbers[number] for numbers in moments[day, later])
            if lowest < highest:
                yield f"{number} fell from {highest} ({earlier}) to {lowest} ({later})"
