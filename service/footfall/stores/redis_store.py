"""What Redis holds and does: its keys and its scripts (`scripts/`), which only this file knows.

Per site, under one hash tag, so that a script may touch all of it on Redis Cluster too:

    ff1:{site}:ready                      id of the installation; absent = not complete, no beacon may count
    ff1:{site}:online                     sorted set: visitor id -> last seen, ms by Redis' clock
    ff1:{site}:days                       set of the days that are in Redis
    ff1:{site}:day:2026-11-23:visitors    HyperLogLog of the day's visitor ids
    ff1:{site}:day:2026-11-23:ids         set of the same ids while they are few: its size is exact
    ff1:{site}:day:2026-11-23:logs        hash: log id -> seq:views, applied up to there, with the views so far; 0 in
                                          front where the set has its visitors too; `d`, `e`, `f`: see logs.lua
    ff1:{site}:day:2026-11-23:pages       hash: page -> log id=views log id=views ..., the views of each log so far
    ff1:{site}:day:2026-11-23:pages:dirty hash: page -> moment (us) of its last change, until Postgres has it
    ff1:{site}:page_totals                hash: page -> through:views, what Postgres has of its closed days; expires
    ff1:{site}:week:2026-11-23:visitors   HyperLogLog, union of the week's days
    ff1:{site}:week:2026-11-23:ids        set, union of the week's days while they are few
    ff1:{site}:dirty                      hash: day -> moment (us) of its last change, until Postgres has it
    ff1:{site}:closed                     hash: through (day), visitors, views, adjustments, revision, read_at (us);
                                          sums; peak and peak:2026-11-23 (online:ms), of all days and of one
                                          looked (worker:us), looked_at_all (worker:servers:us): whose rollup serves all
                                          exact_at: read_at where the sum of the visitors is exact
    ff1:{site}:views:14963170             set: random ids of the views of two minutes, by number; expires after four
    ff1:{site}:salt:2026-11-23            key of that week's visitor hash; expires by itself two hours after the week

And for the whole server:

    ff1:server                            drawn at random once: with it goes what else this server has
    ff1:rewritten                         when its append-only file was last rewritten at Footfall's wish, s since 1970
    ff1:rewriting                         a worker asks for a rewrite now; expires
"""

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import chain
from typing import Any, NamedTuple

from footfall.errors import StoreDamaged, StoreUnavailable
from footfall.model.batch import Answer, Batch
from footfall.model.counts import Reading
from footfall.model.day_state import Closed, DayState
from footfall.model.pages import NO_PAGES, PageDay, PageReading, packed
from footfall.model.periods import Period, week_of
from footfall.model.retention import DAY, WEEK
from footfall.model.salt import SALT_BYTES, Salt
from footfall.model.site_id import SiteId
from footfall.model.sketch import is_sound
from footfall.model.snapshot import Snapshot, Turn
from footfall.model.visitor_ids import in_order
from footfall.stores.redis_connection import RedisCalls, Script, open_calls
from footfall.stores.redis_pages import RedisPages
from footfall.stores.redis_values import (
    closed_values,
    day_key,
    day_of,
    day_values,
    days_of_week,
    logs_of,
    page_days_of,
    page_reading_of,
    peak_of,
    reading_of,
    reading_values,
    ready_key,
    salt_key_of,
    salt_values,
    turn_values,
    unreadable,
    week_days,
)

__all__ = [
    "EXACT_UP_TO",
    "ORPHANS_WITHIN",
    "Recorded",
    "RedisFacts",
    "RedisStore",
    "day_key",
    "open_redis",
    "ready_key",
]

ANSWERS = {answer.upper().encode(): answer for answer in Answer}
"""By the first word of what the record script answers."""
EXACT_UP_TO = 4096
"""Visitors whose ids a day keeps at most; 41 bytes each in Redis."""
ORPHANS_WITHIN = timedelta(days=70)
"""Around today: days whose names Redis may have lost with its keys `days` and `dirty`, both at once."""
PROBE_SITE = "~probe"
"""No site can have this id."""
REWRITTEN, REWRITING = "ff1:rewritten", "ff1:rewriting"
SERVER = "ff1:server"
CLAIM_S = 1800


class Recorded(NamedTuple):
    """The answer to a batch, the seq that Redis has (OK, DUP, GAP), and the fresh numbers (OK, DUP)."""

    answer: Answer
    acked: int = 0
    reading: Reading | None = None
    installation: str = ""
    """With NOTREADY: whose state Redis holds; empty for none."""
    pages: PageReading = NO_PAGES
    """The pages of the batch, or those that were asked for (OK, DUP)."""
    seen_ids: bytes = b""
    """With SEEN: the ids of views in the batch that another batch has counted. 8 bytes each."""


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """The server's answer to `INFO`; defaults where a provider leaves a field out."""

    version: tuple[int, ...]
    maxmemory: int
    maxmemory_policy: str
    aof: bool
    role: str
    aof_rewriting: bool = False
    """A rewrite of the append-only file runs, or waits for a dump that runs."""
    aof_rewrite_ok: bool = True
    server: str = ""
    """Its name, where there are several."""


class RedisStore(RedisPages):
    """Runs the scripts; every failure is a StoreUnavailable, and no call is ever repeated here."""

    def __init__(self, calls: RedisCalls) -> None:
        super().__init__(calls)
        self._record = Script("logs", "visitors", "pages", "counts", "views", "record")
        self._snapshot = Script("logs", "visitors", "pages", "snapshot")
        self._merge = Script("logs", "visitors", "pages", "merge_day", "merge")
        self._open = Script("logs", "visitors", "pages", "closed", "merge_day", "open")
        self._confirm = Script("logs", "pages", "closed", "confirm")
        self._forget_site = Script("pages", "forget_site")
        self._salts = Script("salts")
        self._mend = Script("logs", "pages", "views", "mend")
        self._probe = Script("probe")

    async def record(
        self,
        site_id: SiteId,
        period: Period,
        window_s: int,
        batch: Batch | None = None,
        *,
        exact_up_to: int = EXACT_UP_TO,
        skip_gap: bool = False,
    ) -> Recorded:
        """Count `batch` once and read the site's numbers; without a batch only read them.

        Days of at most `exact_up_to` visitors are counted exactly, and weeks of twice as many. `skip_gap` skips seqs
        that no process can send any more. Raises StoreUnavailable: the batch may have been counted or not, and sending
        the same one again settles it.
        """
        arguments = self._reading_arguments(period, window_s, exact_up_to)
        if batch is not None:
            arguments += [
                batch.day.isoformat(),
                *week_days(week_of(batch.day)),
                batch.log_id,
                batch.seq,
                batch.views,
                batch.seen_ms,
                batch.visitor_ids,
                batch.previous_week_ids,
                "skip" if skip_gap else "",
                batch.pages,
                batch.view_ids,
                batch.repeated_ids,
                "" if batch.may_be_applied else "new",
            ]
        return await self._run_record(site_id, period, arguments)

    async def read_pages(self, site_id: SiteId, period: Period, window_s: int, pages: Sequence[str]) -> Recorded:
        """Read the site's numbers, and the views of some pages in the order given; raises StoreUnavailable."""
        arguments = [*self._reading_arguments(period, window_s, 0), *[""] * 10, packed(dict.fromkeys(pages, 0))]
        return await self._run_record(site_id, period, arguments)

    def _reading_arguments(self, period: Period, window_s: int, exact_up_to: int) -> list[Any]:
        weeks = *week_days(period.week), *week_days(period.week - WEEK)
        return [self.installation, period.day.isoformat(), *weeks, window_s * 1000, exact_up_to]

    async def _run_record(self, site_id: SiteId, period: Period, arguments: Sequence[Any]) -> Recorded:
        word, *rest = await self._calls.run(self._record, ready_key(site_id), arguments)
        match ANSWERS[word]:
            case Answer.OK | Answer.DUP as counted:
                seq, pages, *numbers = rest
                try:  # not `with reading_values`, which takes as long as reading them
                    return Recorded(counted, seq, reading_of(period, numbers), pages=page_reading_of(pages))
                except ValueError as error:
                    raise unreadable(site_id) from error
            case Answer.GAP:
                return Recorded(Answer.GAP, rest[0])
            case Answer.OLD:
                return Recorded(Answer.OLD)
            case Answer.SEEN:
                return Recorded(Answer.SEEN, seen_ids=rest[0])
            case Answer.NOTREADY:
                return Recorded(Answer.NOTREADY, installation=rest[0].decode())

    async def snapshot(
        self, site_id: SiteId, weeks: Sequence[date], *, all_days: bool, turn: Turn | None = None
    ) -> Snapshot | None:
        """Look at the unconfirmed days of a site (or at all days) in one moment; None when it is not ready.

        `weeks` are those whose salts and visitors come along. With a `turn` it looks at nothing where another worker
        did a moment ago, and not at all days where another worker has. Raises StoreUnavailable.
        """
        arguments = [self.installation, "all" if all_days else "dirty", *turn_values(turn)]
        arguments += chain.from_iterable(map(days_of_week, weeks))
        answer, *rest = await self._calls.run(self._snapshot, ready_key(site_id), arguments)
        if answer == b"RECENT":
            return Snapshot([], {}, [], {}, is_recent=True)
        if answer != b"OK":
            return None
        moment_us, looked_at, closed, salts, unions, present, days = rest
        states: list[DayState] = []
        changes: dict[date, str] = {}
        page_days: list[PageDay] = []
        with reading_values(site_id):
            for name, changed, sketch, visitors, logs, peak, exact, ids, pages in days:
                day = date.fromisoformat(name.decode())
                if not is_sound(sketch):
                    raise ValueError("sketch")
                state = DayState(day, visitors, sketch, logs_of(logs), peak=peak_of(peak), exact=bool(exact))
                states.append(replace(state, ids=in_order(ids)) if exact else state)
                page_days += page_days_of(day, pages)
                if changed:
                    changes[day] = changed.decode()
            return Snapshot(
                days=states,
                changes=changes,
                present=sorted(date.fromisoformat(name.decode()) for name in present),
                salts={week: salt_key_of(salt) for week, salt in zip(weeks, salts, strict=True) if salt},
                pages=page_days,
                weeks={week: visitors for week, visitors in zip(weeks, unions[::2], strict=True) if visitors},
                exact_weeks={week for week, exact in zip(weeks, unions[1::2], strict=True) if exact},
                moment_us=int(moment_us),
                all_days=looked_at == b"all",
                closed=(closed[0].decode(), closed[1].decode()),
            )

    async def merge(self, site_id: SiteId, days: Iterable[DayState]) -> bool:
        """Merge `days` into Redis; False when the site is not ready or belongs to another installation.

        Sketches must have been checked. Raises StoreUnavailable; it may be repeated.
        """
        arguments = [self.installation, *day_values(days)]
        answer, *_ = await self._calls.run(self._merge, ready_key(site_id), arguments)
        return bool(answer == b"OK")

    async def open(self, site_id: SiteId, days: Iterable[DayState], closed: Closed, salts: Sequence[Salt] = ()) -> bool:
        """Merge `days`, take over `closed` and the salts, and open the site for counting, all in one moment.

        False when Redis holds another installation. Sketches must have been checked. Raises StoreUnavailable.
        """
        arguments: list[Any] = [self.installation, *closed_values(closed), len(salts)]
        for salt in salts:
            arguments += salt_values(salt)
        arguments += day_values(days)
        answer, *_ = await self._calls.run(self._open, ready_key(site_id), arguments)
        return bool(answer == b"OK")

    async def confirm(
        self,
        site_id: SiteId,
        changes: Mapping[date, str],
        closed: Closed,
        week_ends: Mapping[date, int],
        looked_at_all: str = "",
    ) -> None:
        """Confirm that Postgres has committed a snapshot; raises StoreUnavailable.

        `changes` are the snapshot's; `week_ends` maps each day in Redis to the end of its week (seconds since
        the epoch), before which it must not expire. `looked_at_all` is the turn's, where it was of all days.
        """
        arguments: list[Any] = [self.installation, *closed_values(closed), looked_at_all, len(changes)]
        for day, changed in changes.items():
            arguments += [day.isoformat(), changed]
        for day, week_ends_s in week_ends.items():
            arguments += [day.isoformat(), week_of(day).isoformat(), week_ends_s]
        await self._calls.run(self._confirm, ready_key(site_id), arguments)

    async def acked(self, site_id: SiteId, logs: Sequence[tuple[date, str]]) -> list[int]:
        """Read the seq up to which each (day, log id) is applied; 0 for a log that Redis does not know."""
        commands = [("HGET", day_key(site_id, day, "logs"), log_id) for day, log_id in logs]
        entries = await self._calls.ask(ready_key(site_id), *commands)
        with reading_values(site_id):
            return [int(entry.partition(b":")[0]) if entry else 0 for entry in entries]

    async def share_salts(self, site_id: SiteId, offers: Sequence[Salt]) -> dict[date, bytes] | None:
        """Offer salts and return those in force by week, the first that were offered; None when not ready."""
        arguments: list[Any] = [self.installation]
        for salt in offers:
            arguments += salt_values(salt)
        answer, *keys = await self._calls.run(self._salts, ready_key(site_id), arguments)
        if answer != b"OK":
            return None
        with reading_values(site_id):
            return {salt.week: salt_key_of(key) for salt, key in zip(offers, keys, strict=True) if key}

    async def mend(self, site_id: SiteId, today: date) -> list[str]:
        """Drop what Redis cannot read of a site: keys, sketches with their day, values; return what was dropped.

        A site that lost what counts is not ready any more. Where Redis holds another installation nothing is touched.
        Days that neither `days` nor `dirty` names are found up to `ORPHANS_WITHIN` around `today`.
        """
        prefix = ready_key(site_id).removesuffix("ready")
        names: set[bytes] = set()
        for command in (("SMEMBERS", f"{prefix}days"), ("HKEYS", f"{prefix}dirty")):
            with suppress(StoreDamaged):
                names.update(*await self._calls.ask(prefix, command))
        named = {name: day_of(name) for name in names}
        no_days = sorted(name for name, day in named.items() if day is None)
        around = {today + n * DAY for n in range(-ORPHANS_WITHIN.days, ORPHANS_WITHIN.days + 1)}
        days = sorted(around | {day for day in named.values() if day is not None})
        weeks = sorted({week_of(day) for day in days})
        arguments: list[Any] = [self.installation, SALT_BYTES, len(no_days), *no_days, len(weeks)]
        arguments += [week.isoformat() for week in weeks]
        for day in days:
            arguments += [day.isoformat(), week_of(day).isoformat()]
        answer, *dropped = await self._calls.run(self._mend, ready_key(site_id), arguments)
        return [key.decode() for key in dropped] if answer == b"OK" else []

    async def forget_site(self, site_id: SiteId, today: date, *, only_look: bool = False) -> list[str]:
        """Remove what Redis holds of a site; return the days that Postgres does not have yet, and then nothing is.

        `only_look` removes nothing. Raises StoreUnavailable, also where Redis holds another installation.
        """
        days = [today + n * DAY for n in range(-ORPHANS_WITHIN.days, ORPHANS_WITHIN.days + 1)]
        arguments: list[Any] = [self.installation, "look" if only_look else "forget"]
        for day in days:
            arguments += [day.isoformat(), week_of(day).isoformat()]
        answer, *rest = await self._calls.run(self._forget_site, ready_key(site_id), arguments)
        if answer == b"NOTREADY":
            raise StoreUnavailable("redis", f"holds another installation's state of {site_id}")
        return sorted({name.decode() for name in rest})

    async def check_writes(self, site_id: SiteId) -> None:
        """Raise StoreUnavailable where Redis takes no writes; nothing changes."""
        await self._calls.run(self._probe, ready_key(site_id), [""])

    async def write_probe(self) -> None:
        """Write a key of each kind as the scripts do, for a moment; raises StoreUnavailable."""
        await self._calls.run(self._probe, ready_key(PROBE_SITE), ["keys"])

    def server_of(self, site_id: SiteId) -> str:
        """Name the server that holds a site: where it fails, it fails all of its sites."""
        return self._calls.server_of(ready_key(site_id))

    async def facts(self) -> list[RedisFacts]:
        """Read version, persistence and memory policy of each server from INFO (many providers forbid CONFIG).

        Raises StoreUnavailable, and StoreMistaken where a server is of another kind than the URL says.
        """
        answers = await self._calls.each(lambda client: client.info())
        return [self._facts(server, info) for server, info in answers.items()]

    def _facts(self, server: str, info: Mapping[str, Any]) -> RedisFacts:
        self._calls.refuse_mode(str(info.get("redis_mode") or info.get("server_mode", "")))  # the latter is Valkey's
        return RedisFacts(
            version=tuple(int(part) for part in str(info["redis_version"]).split(".")),
            maxmemory=int(info.get("maxmemory", 0)),
            maxmemory_policy=str(info.get("maxmemory_policy", "noeviction")),
            aof=bool(info.get("aof_enabled", 0)),
            role=str(info.get("role", "")),
            aof_rewriting=bool(info.get("aof_rewrite_in_progress", 0) or info.get("aof_rewrite_scheduled", 0)),
            aof_rewrite_ok=info.get("aof_last_bgrewrite_status", "ok") == "ok",
            server=server,
        )

    async def identity(self) -> str:
        """Return a text that changes when a server was restarted, replaced or emptied: it may have lost data then.

        Of several servers, those that are emptied while they run are not noticed, except one. Raises StoreUnavailable.
        """
        _, drawn = await self._calls.ask(SERVER, ("SET", SERVER, secrets.token_hex(8), "NX"), ("GET", SERVER))
        try:
            servers = await self._calls.each(lambda client: client.info("server"))
        except StoreUnavailable:  # some providers forbid INFO
            servers = {}
        return " ".join([drawn.decode(), *sorted(str(info.get("run_id", "")) for info in servers.values())])

    async def rewrite_log(self) -> None:
        """Have each server rewrite its append-only file in the background: deleted values stay readable in the old one.

        Replicas rewrite their own at their own size: that is the operator's to see to. Raises StoreUnavailable also
        where the provider forbids it.
        """
        await self._calls.each(lambda client: client.bgrewriteaof())

    async def claim_rewrite(self) -> bool:
        """Return whether this worker may ask for the rewrite; after one that failed a worker may in half an hour."""
        [answer] = await self._calls.ask(REWRITING, ("SET", REWRITING, 1, "NX", "EX", CLAIM_S))
        return answer is not None

    async def note_rewritten(self, at_s: float) -> None:
        """Record that the files hold nothing older than `at_s`, and end the claim; raises StoreUnavailable."""
        await self._calls.ask(REWRITTEN, ("SET", REWRITTEN, int(at_s)))
        await self._calls.ask(REWRITING, ("DEL", REWRITING))

    async def rewritten_at_s(self) -> float:
        """Read the moment of the last recorded rewrite; 0 if none is known. Raises StoreUnavailable.

        INFO does not say it. Redis' own rewrites are not recorded.
        """
        try:
            [value] = await self._calls.ask(REWRITTEN, ("GET", REWRITTEN))
            return float(int(value or 0))
        except (StoreDamaged, ValueError):
            return 0.0  # the next rewrite writes over it

    async def clock_s(self) -> float:
        """Read the clock of a server, seconds since the epoch."""
        return (await self.clocks_s())[0]

    async def clocks_s(self) -> list[float]:
        """Read the clock of each server, seconds since the epoch."""
        clocks = await self._calls.each(lambda client: client.time())
        return [float(seconds) + microseconds / 1e6 for seconds, microseconds in clocks.values()]


@asynccontextmanager
async def open_redis(url: str, timeout_s: float) -> AsyncIterator[RedisStore]:
    """Yield a store that connects on first use; close its connections at the end."""
    async with open_calls(url, timeout_s) as calls:
        yield RedisStore(calls)
