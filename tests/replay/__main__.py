"""Replays an access log as beacons and compares Footfall's counts with the log's.

    python -m tests.replay LOG [--url URL]

Every page view of a log in combined format becomes one beacon with the line's address and user agent, sent
as fast as Footfall takes them. Without a URL the replay starts a Footfall on an empty data folder, limits off.
Page views must be equal, and `today` the log's distinct pairs of network and user agent; of more pairs than a day
keeps ids, within three standard errors. So it is in the answer to each beacon, and there it never falls.
All lines are sent now and so belong to one day, whatever their dates.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
from rich.console import Console
from rich.progress import Progress

from footfall.errors import Stop
from footfall.stores.redis_store import EXACT_UP_TO
from tests.replay.access_log import Log, View, open_log
from tests.support.own_footfall import HOST, SITE, own_footfall

USAGE = "Name the access log to replay: make replay LOG=access.log [URL=https://count.example.vn]"
STANDARD_ERROR = 0.0081
ERROR_MAX_STANDARD_ERRORS = 3

CONNECTIONS = 64
ANSWER_TIMEOUT_S = 30
REFUSED_PATIENCE_S = 60
SETTLE_TIMEOUT_S = 20
POLL_S = 0.25
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Target:
    """The Footfall that the replay measures."""

    url: str
    site: str
    origin: str
    connections: int = CONNECTIONS


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of `/counts` that the replay compares."""

    today: int
    views_today: int
    measure: str
    day_of: str
    as_of: datetime

    @classmethod
    def parse(cls, answer: dict[str, Any]) -> Self | None:
        """None while the numbers are unknown."""
        if answer["today"] is None or answer["views_today"] is None:
            return None
        as_of = datetime.fromisoformat(answer["as_of"])
        return cls(answer["today"], answer["views_today"], answer["measure"], answer["day_of"], as_of)


@dataclass(slots=True)
class Watch:
    """How far `today` was off in the answers, while it grew."""

    answers: int = 0
    falls: int = 0
    """Answers that showed less than an earlier answer on their connection."""
    off: int = 0
    """By how many visitors it was off at most, while a day keeps their ids."""
    error: float = 0.0
    """The largest error of an estimate, as a part of the truth."""

    def look(self, today: int, least: int, most: int) -> None:
        """Compare an answer with the visitors that it must have, and those that it may have: some are on their way."""
        self.answers += 1
        off = max(least - today, today - most, 0)
        if most <= EXACT_UP_TO:
            self.off = max(self.off, off)
        else:
            self.error = max(self.error, off / max(least, 1))

    @property
    def holds(self) -> bool:
        """Return whether each answer was right."""
        return self.falls == 0 and self.off == 0 and self.error <= ERROR_MAX_STANDARD_ERRORS * STANDARD_ERROR

    def __str__(self) -> str:
        """Return it as a part of the report."""
        errors = self.error / STANDARD_ERROR
        return f"today fell {self.falls} times; a set was off by {self.off}, a sketch by {errors:.2f} standard errors"


@dataclass(slots=True)
class Tally:
    """The answers to the views."""

    accepted: int = 0
    spooled: int = 0
    """Of the accepted ones, those that were answered 202."""
    ignored: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    visitors: set[tuple[bytes, str]] = field(default_factory=set)
    perhaps: Counter[tuple[bytes, str]] = field(default_factory=Counter)
    """The visitors of views that are on their way, or got no answer."""
    watch: Watch = field(default_factory=Watch)
    last_commit: datetime = NEVER

    @property
    def visitors_at_most(self) -> int:
        """Return how many visitors the service may have counted."""
        return len(self.visitors) + sum(visitor not in self.visitors for visitor in self.perhaps)

    @property
    def sent(self) -> int:
        """Return the number of views sent, whatever their answers."""
        return self.accepted + self.ignored.total() + self.refused.total() + self.unanswered


async def send_all(
    target: Target, views: Iterable[View], session: aiohttp.ClientSession, on_sent: Callable[[], None]
) -> Tally:
    """Send every view over a bounded number of connections, in the log's order."""
    tally = Tally()
    waiting: Iterator[View] = iter(views)

    async def send_some() -> None:
        shown = 0
        for view in waiting:
            today = await send(target, view, session, tally)
            if today is not None:
                tally.watch.falls += today < shown
                shown = today
            on_sent()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(target.connections):
            tasks.create_task(send_some())
    return tally


async def send(target: Target, view: View, session: aiohttp.ClientSession, tally: Tally) -> int | None:
    """Send one view until it is answered, and record the answer; return the `today` that it shows.

    Only a 503 with Retry-After is repeated: it counted zero times. A view without an answer may have
    counted, so it is not repeated.
    """
    body = {"site": target.site, "page": view.page, "kind": "view"}
    headers = {"Content-Type": "text/plain", "Origin": target.origin, "X-Forwarded-For": view.address}
    if view.user_agent:
        headers["User-Agent"] = view.user_agent
    loop = asyncio.get_running_loop()
    patience_ends = loop.time() + REFUSED_PATIENCE_S
    tally.perhaps[view.visitor] += 1
    least = len(tally.visitors)
    while True:
        try:
            async with session.post(f"{target.url}/seen", data=json.dumps(body), headers=headers) as response:
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError):
            tally.unanswered += 1
            return None
        retry_after = response.headers.get("Retry-After")
        if response.status != 503 or retry_after is None or loop.time() > patience_ends:
            break
        await asyncio.sleep(float(retry_after))
    today: int | None = answer.get("today")
    if response.status != 200:
        today = None
    elif today is not None:
        tally.watch.look(today, least, tally.visitors_at_most)
    tally.perhaps -= Counter([view.visitor])
    if response.status not in (200, 202):
        tally.refused[answer.get("error", str(response.status))] += 1
    elif reason := response.headers.get("Footfall-Ignored"):
        tally.ignored[reason] += 1
    else:
        tally.accepted += 1
        tally.spooled += response.status == 202
        tally.visitors.add(view.visitor)
        tally.last_commit = max(tally.last_commit, datetime.fromisoformat(answer["as_of"]))
    return today


async def read_numbers(
    target: Target, session: aiohttp.ClientSession, are_final: Callable[[Numbers], bool] = lambda _: True
) -> Numbers:
    """Read the numbers until they are final, or until the time to become final is over."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + SETTLE_TIMEOUT_S
    while True:
        async with session.get(f"{target.url}/counts", params={"site": target.site}) as response:
            answer = await response.json()
        if response.status != 200:
            raise Stop(f"{target.url} does not tell the numbers of {target.site}: {answer.get('error')}.")
        numbers = Numbers.parse(answer)
        if numbers is not None and (are_final(numbers) or loop.time() > ends):
            return numbers
        if loop.time() > ends:
            raise Stop(f"{target.url} does not know the numbers of {target.site}: see its /readyz.")
        await asyncio.sleep(POLL_S)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison, line by line, and whether it holds."""

    lines: tuple[str, ...]
    holds: bool


def judge(log: Log, tally: Tally, before: Numbers, after: Numbers) -> Verdict:
    """Compare what was counted with what was sent."""
    if before.day_of != after.day_of:
        return Verdict((f"The site's day turned from {before.day_of} to {after.day_of}: run it again.",), False)
    counted = after.views_today - before.views_today
    views_hold = counted == tally.accepted
    today = after.today - before.today
    error = relative_error(today, len(tally.visitors))
    errors = error / STANDARD_ERROR
    # Visitors of an earlier run are not new; and with measure = "views", today is no number of visitors.
    is_comparable = before.today == 0 and after.measure == "visitors"
    is_exact = len(tally.visitors) <= EXACT_UP_TO  # then there is no error at all
    visitors_hold = today == len(tally.visitors) or (not is_exact and abs(errors) <= ERROR_MAX_STANDARD_ERRORS)
    # What was answered 202 is in the numbers later.
    is_watched = is_comparable and tally.spooled == 0
    holds = views_hold and (visitors_hold or not is_comparable) and (tally.watch.holds or not is_watched)
    lines = [
        f"lines            {log.lines:>9,}",
        f"unparseable      {log.unparseable:>9,}",
        f"not page views   {log.lines - log.unparseable - len(log.views):>9,}",
        f"sent             {tally.sent:>9,}",
        *(f"ignored          {count:>9,}  {reason}" for reason, count in tally.ignored.most_common()),
        *(f"refused          {count:>9,}  {reason}" for reason, count in tally.refused.most_common()),
        *([f"without answer   {tally.unanswered:>9,}"] if tally.unanswered else []),
        f"views to count   {tally.accepted:>9,}",
        f"views counted    {counted:>9,}  {'equal' if views_hold else 'NOT EQUAL'}",
        f"distinct pairs   {len(tally.visitors):>9,}  of network and user agent",
        f"today            {today:>9,}  {error:+.2%}, {errors:+.2f} standard errors of {STANDARD_ERROR:.2%}",
    ]
    if is_watched:
        lines.append(f"answers watched  {tally.watch.answers:>9,}  {tally.watch}")
    if not is_comparable:
        lines.append("today is not judged: visitors were counted before, or it shows page views.")
    return Verdict(tuple(lines), holds)


def relative_error(estimate: int, truth: int) -> float:
    """Return the estimate's distance from the truth as a part of the truth; infinity where only the truth is 0."""
    if truth == 0:
        return 0.0 if estimate == 0 else float("inf")
    return (estimate - truth) / truth


async def replay(log: Log, target: Target, console: Console) -> Verdict:
    """Send the views of the log to `target` and judge its counts."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=target.connections),
        timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S),
        skip_auto_headers=["User-Agent"],
    ) as session:
        before = await read_numbers(target, session)
        with Progress(console=console) as progress:
            bar = progress.add_task("page views", total=len(log.views))
            tally = await send_all(target, log.views, session, lambda: progress.advance(bar))
        final_views = before.views_today + tally.accepted
        after = await read_numbers(
            target,
            session,
            lambda now: now.as_of >= tally.last_commit and now.views_today == final_views,
        )
    return judge(log, tally, before, after)


async def run(log: Log, target: Target | None, console: Console) -> Verdict:
    """Replay the log to `target`, or to a Footfall of our own."""
    try:
        if target is not None:
            return await replay(log, target, console)
        async with own_footfall() as url:
            return await replay(log, Target(url, SITE, f"https://{HOST}"), console)
    except aiohttp.ClientError as error:
        raise Stop(f"Footfall does not answer: {error}") from None


def main(arguments: Sequence[str]) -> int:
    """Return exit status 0 if the counts agree, 1 if they differ, 2 if the replay could not run."""
    parser = argparse.ArgumentParser(prog="python -m tests.replay", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("log", nargs="?", metavar="LOG", help="access log in combined format")
    parser.add_argument("--url", help="a Footfall that runs already, limits off; else one is started")
    parser.add_argument("--site", default="portal", help="site id there (default: portal)")
    parser.add_argument("--origin", help="an origin of that site (default: that of the URL)")
    given = parser.parse_args(arguments)
    if not given.log:
        print(USAGE, file=sys.stderr)
        return 2
    target = None
    if given.url:
        url = urlsplit(given.url)
        target = Target(given.url.rstrip("/"), given.site, given.origin or f"{url.scheme}://{url.netloc}")
    try:
        verdict = asyncio.run(run(open_log(Path(given.log)), target, Console(stderr=True)))
    except Stop as stop:
        print(stop, file=sys.stderr)
        return stop.status
    print("\n".join(verdict.lines))
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
