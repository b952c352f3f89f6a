"""What Redis holds and does: its keys and its scripts (`lua/`), which only this file knows.

Per site, under one hash tag, so that a script may touch all of it on Redis Cluster too:

    ff1:{site}:ready                      id of the installation; absent = not complete, nobody may count
    ff1:{site}:online                     sorted set: visitor id -> last seen, ms by Redis' clock
    ff1:{site}:days                       set of the days that are in Redis
    ff1:{site}:day:2026-11-23:visitors    HyperLogLog of the day's visitor ids
    ff1:{site}:day:2026-11-23:logs        hash: log id -> number:views, how far the log is applied and what it brought
    ff1:{site}:week:2026-11-23:visitors   HyperLogLog, union of the week's days
    ff1:{site}:dirty                      hash: day -> moment (us) of its last change, until Postgres has it
    ff1:{site}:closed                     hash: through (day), visitors, views, adjustments, revision, read_at (us)
    ff1:{site}:salt:2026-11-23            key of that week's visitor hash; expires by itself two hours after the week
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from footfall.model.batch_log import Answer, Batch
from footfall.model.counts import Reading
from footfall.model.day_state import Closed, DayState
from footfall.model.periods import Period, week_of
from footfall.stores.redis_connection import RedisCalls, Script, open_calls

DAY = timedelta(days=1)


class Recorded(NamedTuple):
    """The answer to a batch, how far its log is applied (OK, DUP, GAP), and the fresh numbers (OK, DUP)."""

    answer: Answer
    applied: int = 0
    reading: Reading | None = None
    installation: str = ""
    """With NOTREADY: whose state Redis holds, empty when none."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One atomic look at a site: its unconfirmed days (or all), its salts, and which days are in Redis."""

    days: list[DayState]
    changes: dict[date, str]
    """Value of each unconfirmed day's `dirty` field, to be confirmed by value."""
    present: list[date]
    salts: dict[date, bytes]


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What `INFO` tells of the server; None where it does not say."""

    version: tuple[int, ...]
    maxmemory: int
    maxmemory_policy: str
    aof: bool
    rdb_saved_at_s: int
    role: str


def ready_key(site: str) -> str:
    """Key whose presence allows counting; it also carries the site's hash tag.

    >>> ready_key("portal")
    'ff1:{portal}:ready'
    """
    return f"ff1:{{{site}}}:ready"


def day_key(site: str, day: date, part: str) -> str:
    """Key of a day's `visitors` (sketch) or `logs` (hash).

    >>> day_key("portal", date(2026, 1, 31), "visitors")
    'ff1:{portal}:day:2026-01-31:visitors'
    """
    return f"ff1:{{{site}}}:day:{day.isoformat()}:{part}"


class RedisStore:
    """Runs the scripts; every failure is a StoreUnavailable, and nothing is ever repeated here."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls
        self.installation = ""
        """Whose state may be counted into; empty until Postgres has told: then any."""
        self._record = Script("record")
        self._snapshot = Script("snapshot")
        self._join = Script("join")
        self._confirm = Script("confirm")
        self._salts = Script("salts")
        self._mend = Script("mend")

    async def record(
        self, site: str, period: Period, window_s: int, batch: Batch | None = None, *, hole: bool = False
    ) -> Recorded:
        """Count `batch` once and read the site's numbers; without a batch only read them.

        `hole` skips numbers that nobody can send any more. Raises StoreUnavailable: the batch may have been
        counted or not, and sending the same one again settles it.
        """
        arguments: list[Any] = [
            self.installation,
            period.day.isoformat(),
            *_week(period.week),
            window_s * 1000,
        ]
        if batch is None:
            arguments += [""] * 10
        else:
            arguments += [
                batch.day.isoformat(),
                *_week(week_of(batch.day)),
                batch.log,
                batch.seq,
                batch.views,
            ]
            arguments += [batch.seen_ms, batch.visitors, batch.gone, "hole" if hole else ""]
        answer, *rest = await self._calls.run(self._record, ready_key(site), arguments)
        match Answer(answer.decode().lower()):
            case Answer.OK | Answer.DUP as counted:
                return Recorded(counted, rest[0], _reading(period, rest[1:]))
            case Answer.GAP:
                return Recorded(Answer.GAP, rest[0])
            case Answer.OLD:
                return Recorded(Answer.OLD)
            case Answer.NOTREADY:
                return Recorded(Answer.NOTREADY, installation=rest[0].decode())

    async def snapshot(self, site: str, weeks: Sequence[date], *, all_days: bool) -> Snapshot | None:
        """Look at the unconfirmed days of `site` (or at all days) in one moment; None when it is not ready."""
        arguments = [self.installation, "all" if all_days else "dirty", *(week.isoformat() for week in weeks)]
        answer, *rest = await self._calls.run(self._snapshot, ready_key(site), arguments)
        if answer != b"OK":
            return None
        salts, present, days = rest
        states: list[DayState] = []
        changes: dict[date, str] = {}
        for name, changed, sketch, visitors, logs in days:
            day = date.fromisoformat(name.decode())
            states.append(DayState(day, visitors, sketch, _logs(logs)))
            if changed:
                changes[day] = changed.decode()
        return Snapshot(
            days=states,
            changes=changes,
            present=sorted(date.fromisoformat(name.decode()) for name in present),
            salts={week: salt for week, salt in zip(weeks, salts, strict=True) if salt},
        )

    async def join(
        self,
        site: str,
        days: Iterable[DayState],
        *,
        ready: bool = False,
        closed: Closed | None = None,
        salts: Mapping[date, bytes] = MappingProxyType({}),
        salts_end_s: Mapping[date, int] = MappingProxyType({}),
    ) -> bool:
        """Join `days` into Redis; with `ready` also open the site for counting, in the same moment.

        Salts destroy themselves at their `salts_end_s` (seconds since the epoch). Sketches must have been checked.
        False when Redis holds another installation, or nothing complete and `ready` was not asked for.
        """
        arguments: list[Any] = [self.installation, "ready" if ready else ""]
        arguments += closed.as_arguments() if closed else [""] * 6
        arguments.append(len(salts))
        for week, salt in salts.items():
            arguments += [week.isoformat(), salt, salts_end_s[week]]
        for state in days:
            logs = " ".join(f"{log}={seq}:{views}" for log, (seq, views) in state.logs.items())
            arguments += [state.day.isoformat(), *_week(week_of(state.day)), state.sketch or b"", logs]
        answer, *_ = await self._calls.run(self._join, ready_key(site), arguments)
        return bool(answer == b"OK")

    async def confirm(
        self, site: str, changes: Mapping[date, str], closed: Closed, present: Mapping[date, int]
    ) -> None:
        """Tell Redis that Postgres has committed a snapshot.

        `changes` are the snapshot's; `present` maps each day in Redis to the end of its week (seconds since
        the epoch), before which it must not expire.
        """
        arguments: list[Any] = [self.installation, *closed.as_arguments(), len(changes)]
        for day, changed in changes.items():
            arguments += [day.isoformat(), changed]
        for day, week_ends_s in present.items():
            arguments += [day.isoformat(), week_of(day).isoformat(), week_ends_s]
        await self._calls.run(self._confirm, ready_key(site), arguments)

    async def applied(self, site: str, logs: Sequence[tuple[date, str]]) -> list[int]:
        """Read how far each (day, log) is applied; 0 for one that Redis does not know."""
        async with self._calls.turn(), self._calls.client.pipeline(transaction=False) as pipeline:
            for day, log in logs:
                pipeline.hget(day_key(site, day, "logs"), log)
            entries = await pipeline.execute()
        return [int(entry.partition(b":")[0]) if entry else 0 for entry in entries]

    async def share_salts(
        self, site: str, offered: Mapping[date, bytes], ends_s: Mapping[date, int]
    ) -> dict[date, bytes] | None:
        """Offer salts by week and return those in force, the first that were offered; None when not ready.

        Each destroys itself at its `ends_s` (seconds since the epoch).
        """
        arguments: list[Any] = [self.installation]
        for week, salt in offered.items():
            arguments += [week.isoformat(), salt, ends_s[week]]
        answer, *salts = await self._calls.run(self._salts, ready_key(site), arguments)
        if answer != b"OK":
            return None
        return {week: salt for week, salt in zip(offered, salts, strict=True) if salt}

    async def mend(self, site: str) -> list[str]:
        """Drop what Redis cannot read of a site, days with their logs; return the keys of the sketches dropped.

        A site that lost a day is not ready any more. Where Redis holds another installation nothing is touched.
        """
        async with self._calls.turn():
            names: Any = await self._calls.client.smembers(f"{ready_key(site).removesuffix('ready')}days")
        arguments: list[Any] = [self.installation]
        for name in sorted(names):
            day = date.fromisoformat(name.decode())
            arguments += [day.isoformat(), week_of(day).isoformat()]
        answer, *dropped = await self._calls.run(self._mend, ready_key(site), arguments)
        return [key.decode() for key in dropped] if answer == b"OK" else []

    async def facts(self) -> ServerFacts:
        """Read version, persistence and memory policy from INFO (CONFIG is forbidden by many providers)."""
        async with self._calls.turn():
            info: dict[str, Any] = await self._calls.client.info()
        return ServerFacts(
            version=tuple(int(part) for part in str(info["redis_version"]).split(".")),
            maxmemory=int(info.get("maxmemory", 0)),
            maxmemory_policy=str(info.get("maxmemory_policy", "noeviction")),
            aof=bool(info.get("aof_enabled", 0)),
            rdb_saved_at_s=int(info.get("rdb_last_save_time", 0)),
            role=str(info.get("role", "")),
        )

    async def rewrite_log(self) -> None:
        """Have Redis rewrite its append-only file in the background: what was deleted stays readable in the old one.

        Raises StoreUnavailable also where the provider forbids it.
        """
        async with self._calls.turn():
            await self._calls.client.bgrewriteaof()

    async def clock_s(self) -> float:
        """Read the server's clock, seconds since the epoch."""
        async with self._calls.turn():
            seconds, microseconds = await self._calls.client.time()
        return float(seconds) + microseconds / 1e6


@asynccontextmanager
async def open_redis(url: str, timeout_s: float) -> AsyncIterator[RedisStore]:
    """Hand out a store that connects when it is first used; closes its connections at the end."""
    async with open_calls(url, timeout_s) as calls:
        yield RedisStore(calls)


def _week(week: date) -> tuple[str, str]:
    return week.isoformat(), (week + 6 * DAY).isoformat()


def _logs(flat: Sequence[bytes]) -> dict[str, tuple[int, int]]:
    logs = {}
    for log, entry in zip(flat[::2], flat[1::2], strict=True):
        seq, _, views = entry.partition(b":")
        logs[log.decode()] = int(seq), int(views)
    return logs


def _reading(period: Period, fields: Sequence[Any]) -> Reading:
    (
        at_ms,
        online,
        today_visitors,
        today_views,
        week_visitors,
        week_views,
        visitors,
        views,
        adjustments,
        revision,
    ) = fields
    return Reading(
        day_of=period.day,
        week_of=period.week,
        online=online,
        today_visitors=today_visitors,
        today_views=today_views,
        week_visitors=week_visitors,
        week_views=week_views,
        total_visitors=visitors,
        total_views=views,
        adjustments=adjustments,
        revision=revision.decode(),
        at_ms=at_ms,
    )
