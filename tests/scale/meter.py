"""What a running Footfall and its stores have used so far; the difference of two readings is what a time has cost."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path

import asyncpg
import psutil
from redis.asyncio import Redis

from footfall.embedded.servers import ServerUrls
from tests.bench.servers import Server

WRITTEN = """
    SELECT sum(n_tup_ins + n_tup_upd) FILTER (WHERE relname = 'site_day')::bigint AS rows,
      sum(n_tup_ins + n_tup_upd) FILTER (WHERE relname = 'page_day')::bigint AS page_rows,
      pg_current_wal_insert_lsn() - '0/0' AS wal
    FROM pg_stat_user_tables WHERE schemaname = 'footfall'
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU in seconds; calls and rows by number; bytes."""

    redis_cpu_s: float
    postgres_cpu_s: float
    redis_calls: float
    """Script calls, each a round trip."""
    redis_script_us: float
    """Redis' own microseconds in scripts."""
    redis_bytes: float
    rows: float
    """Rows of days written."""
    page_rows: float
    """Rows of pages of days written."""
    wal_bytes: float

    def __sub__(self, before: "Usage") -> "Usage":
        return Usage(*(getattr(self, field.name) - getattr(before, field.name) for field in fields(self)))


@asynccontextmanager
async def reading(stores: ServerUrls) -> AsyncIterator[Callable[[], Awaitable[Usage]]]:
    """Yield what reads the use of the stores below this process; its connections stay open, so that it costs little."""
    postmaster = postmaster_below(psutil.Process())
    connection = await asyncpg.connect(stores.postgres)
    try:
        async with Redis.from_url(stores.redis) as redis:

            async def read() -> Usage:
                by_command, cpu, memory = [await redis.info(part) for part in ("commandstats", "cpu", "memory")]
                written = await connection.fetchrow(WRITTEN)
                scripts = by_command.get("cmdstat_evalsha", {"calls": 0, "usec": 0})
                assert written is not None
                return Usage(
                    redis_cpu_s=cpu["used_cpu_user"] + cpu["used_cpu_sys"],
                    postgres_cpu_s=postgres_cpu_s(postmaster),
                    redis_calls=scripts["calls"],
                    redis_script_us=scripts["usec"],
                    redis_bytes=memory["used_memory"],
                    rows=int(written["rows"] or 0),
                    page_rows=int(written["page_rows"] or 0),
                    wal_bytes=int(written["wal"]),
                )

            yield read
    finally:
        await connection.close()


def workers_cpu_s(service: Server) -> float:
    """Return the CPU seconds of the workers."""
    return sum(map(cpu_s, service.workers))


def postgres_cpu_s(postmaster: psutil.Process) -> float:
    """Return the CPU seconds of all of PostgreSQL's processes, of those that have ended too."""
    spent_s = 0.0
    for child in postmaster.children():
        with suppress(psutil.NoSuchProcess):  # it has just ended: its parent has its seconds
            spent_s += cpu_s(child)
    return spent_s + cpu_s(postmaster) + float(sum(postmaster.cpu_times()[2:4]))


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds of a process: Linux' to the nanosecond, where a process at rest needs some each second."""
    try:
        threads = [file.read_text() for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat")]
    except OSError:  # a thread has just ended
        threads = []
    if not threads:
        return float(sum(process.cpu_times()[:2]))
    return sum(int(thread.split()[0]) for thread in threads) / 1e9


def postmaster_below(parent: psutil.Process) -> psutil.Process:
    """Return the PostgreSQL that runs below a process."""
    programs = [child for child in parent.children(recursive=True) if child.is_running() and child.name() == "postgres"]
    return next(child for child in programs if child.ppid() not in {each.pid for each in programs})
