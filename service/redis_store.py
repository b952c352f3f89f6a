"""The only file that knows Redis: its keys, its scripts (`lua/`) and its errors.

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

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import sha1
from importlib import resources
from types import MappingProxyType
from typing import Any

from hiredis import pack_command
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from service.counts import Reading
from service.day_state import Closed, DayState
from service.errors import Stop, StoreDamaged, StoreUnavailable
from service.logs import Answer, Batch
from service.periods import Period, week_of

CONNECTIONS = 50
DAMAGE = ("WRONGTYPE", "INVALIDOBJ")
"""What Redis says of a key that is not what it should be."""
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Recorded:
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


class Script:
    """A script of `lua/` with the functions that all share, and the digest by which Redis knows it."""

    def __init__(self, name: str) -> None:
        self.source = _lua("site") + _lua(name)
        self.digest = sha1(self.source.encode(), usedforsecurity=False).hexdigest()


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

    def __init__(self, pool: ConnectionPool, timeout_s: float) -> None:
        self._pool = pool
        self._client = Redis(connection_pool=pool)
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(CONNECTIONS)
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
        answer, *rest = await self._run(self._record, site, arguments)
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
        answer, *rest = await self._run(self._snapshot, site, arguments)
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
        answer, *_ = await self._run(self._join, site, arguments)
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
        await self._run(self._confirm, site, arguments)

    async def applied(self, site: str, logs: Sequence[tuple[date, str]]) -> list[int]:
        """Read how far each (day, log) is applied; 0 for one that Redis does not know."""
        async with self._turn(), self._client.pipeline(transaction=False) as pipeline:
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
        answer, *salts = await self._run(self._salts, site, arguments)
        if answer != b"OK":
            return None
        return {week: salt for week, salt in zip(offered, salts, strict=True) if salt}

    async def mend(self, site: str) -> list[str]:
        """Drop what Redis cannot read of a site, days with their logs; return the keys of the sketches dropped.

        A site that lost a day is not ready any more. Where Redis holds another installation nothing is touched.
        """
        async with self._turn():
            names: Any = await self._client.smembers(f"{ready_key(site).removesuffix('ready')}days")
        arguments: list[Any] = [self.installation]
        for name in sorted(names):
            day = date.fromisoformat(name.decode())
            arguments += [day.isoformat(), week_of(day).isoformat()]
        answer, *dropped = await self._run(self._mend, site, arguments)
        return [key.decode() for key in dropped] if answer == b"OK" else []

    async def facts(self) -> ServerFacts:
        """Read version, persistence and memory policy from INFO (CONFIG is forbidden by many providers)."""
        async with self._turn():
            info: dict[str, Any] = await self._client.info()
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
        async with self._turn():
            await self._client.bgrewriteaof()

    async def clock_s(self) -> float:
        """Read the server's clock, seconds since the epoch."""
        async with self._turn():
            seconds, microseconds = await self._client.time()
        return float(seconds) + microseconds / 1e6

    async def _run(self, script: Script, site: str, arguments: Sequence[Any]) -> Any:
        """Call a script on a connection directly: the client's own way to it costs more than the call itself."""
        async with self._turn():
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                command = pack_command(("EVALSHA", script.digest, 1, ready_key(site), *arguments))
                await connection.send_packed_command(command)
                try:
                    return await connection.read_response()
                except NoScriptError:  # a server that has just started, or that took over from another
                    await connection.send_command("SCRIPT LOAD", script.source)
                    await connection.read_response()
                    await connection.send_packed_command(command)
                    return await connection.read_response()
            finally:
                await self._pool.release(connection)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for one of the connections and hold all of the call to the deadline; its failure is our own.

        A call that is given up drops its connection: no later one reads its answer.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._turns:
                yield
        except TimeoutError as error:
            raise StoreUnavailable("redis", f"no answer within {self._timeout_s:g} s") from error
        except ResponseError as error:
            # Older servers put words of their own before the code when it comes out of a script.
            kind = StoreDamaged if any(code in str(error) for code in DAMAGE) else StoreUnavailable
            raise kind("redis", f"{type(error).__name__}: {error}") from error
        except (RedisError, OSError) as error:
            raise StoreUnavailable("redis", f"{type(error).__name__}: {error}") from error


@asynccontextmanager
async def open_redis(url: str, timeout_s: float) -> AsyncIterator[RedisStore]:
    """Hand out a store that connects when it is first used; closes its connections at the end."""
    try:
        # redis-py 8 repeats a command up to ten times by default, and a repeated write may count again.
        # Its own deadlines are per read and write, and dear; ours is one for all of a call.
        pool = ConnectionPool.from_url(
            url,
            socket_timeout=None,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            retry_on_timeout=False,
            max_connections=CONNECTIONS,
        )
        # Connects to nothing: it looks at the options in the URL, which would fail only when first used.
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError) as error:
        raise Stop(f"FOOTFALL_REDIS_URL: has an option that is not known or not readable: {error}") from None
    try:
        yield RedisStore(pool, timeout_s)
    finally:
        await pool.disconnect()


def _lua(name: str) -> str:
    return (resources.files("service") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


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
