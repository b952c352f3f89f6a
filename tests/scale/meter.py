"""What a running Footfall and its stores have used so far; the difference of two readings is what a time has cost."""

from contextlib import suppress
from dataclasses import dataclass, fields

import asyncpg
import psutil
from redis.asyncio import Redis

from footfall.embedded.servers import ServerUrls

WRITTEN = """
    SELECT sum(n_tup_ins + n_tup_upd)::bigint AS rows, pg_current_wal_insert_lsn() - '0/0' AS wal
    FROM pg_stat_user_tables WHERE schemaname = 'footfall' AND relname = 'site_day'
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
    redis_commands: float
    redis_bytes: float
    rows: float
    """Rows of days written."""
    wal_bytes: float

    def __sub__(self, before: "Usage") -> "Usage":
        return Usage(*(getattr(self, field.name) - getattr(before, field.name) for field in fields(self)))


async def read(stores: ServerUrls, valkey: psutil.Process, postgres: psutil.Process) -> Usage:
    """Read what the stores have used."""
    async with Redis.from_url(stores.redis) as redis:
        by_command, stats, memory = (
            await redis.info("commandstats"),
            await redis.info("stats"),
            await redis.info("memory"),
        )
    scripts = by_command.get("cmdstat_evalsha", {"calls": 0, "usec": 0})
    connection = await asyncpg.connect(stores.postgres)
    try:
        written = await connection.fetchrow(WRITTEN)
    finally:
        await connection.close()
    assert written is not None
    return Usage(
        redis_cpu_s=sum(valkey.cpu_times()[:2]),
        postgres_cpu_s=postgres_cpu_s(postgres),
        redis_calls=scripts["calls"],
        redis_script_us=scripts["usec"],
        redis_commands=stats["total_commands_processed"],
        redis_bytes=memory["used_memory"],
        rows=int(written["rows"] or 0),
        wal_bytes=int(written["wal"]),
    )


def postgres_cpu_s(postmaster: psutil.Process) -> float:
    """Return the CPU seconds of all of PostgreSQL's processes, of those that have ended too."""
    spent_s = 0.0
    for child in postmaster.children():
        with suppress(psutil.NoSuchProcess):  # it has just ended: its parent has its seconds
            spent_s += sum(child.cpu_times()[:2])
    return spent_s + float(sum(postmaster.cpu_times()[:4]))


def family_of(parent: psutil.Process) -> tuple[psutil.Process, psutil.Process]:
    """Return the Valkey and the PostgreSQL that run below a process."""
    below = parent.children(recursive=True)
    valkey = next(child for child in below if "valkey-server" in child.name())
    programs = [child for child in below if child.is_running() and child.name() == "postgres"]
    postgres = next(child for child in programs if child.ppid() not in {each.pid for each in programs})
    return valkey, postgres
