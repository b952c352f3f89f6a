"""F32-F35: the disk of Redis, of PostgreSQL, of the spool, and the one disk of all three is full.

A small disk would need a mount, which an ordinary account and most containers may not make. Here the system refuses
writes beyond a bound on the size of files (RLIMIT_FSIZE): a write fails with EFBIG where a full disk says ENOSPC. What
stands below the bound may be written over, as on a full disk.
"""

import os
import signal
import subprocess
from collections.abc import Iterable

import psutil

from tests.chaos.host import signal_worker
from tests.chaos.postgres_faults import COPY_FAILS, wait_for_rollup
from tests.chaos.redis_faults import log_sizes, wait_for_answer, wait_until_counted
from tests.chaos.signs import REDIS_AWAY, Metric, Signs, expect_named, expect_silent, none
from tests.chaos.stage import Stage
from tests.chaos.workers import WORKERS, wait_for_workers

WAL_SEGMENT_BYTES = 1 << 24
"""PostgreSQL makes the files of its log in this size: a smaller bound would stop the server."""
BALLAST = """
    INSERT INTO footfall.site_day (site, day, visitors, views, sketch, checksum, logs)
    SELECT 'ballast', date '1900-01-01' + number, 0, 0, sketch, '', '{}'
    FROM generate_series(1, 1500) AS number,
        LATERAL (
            SELECT string_agg(decode(md5(number || ' ' || part), 'hex'), '') FROM generate_series(1, 750) AS part
        ) AS made (sketch)
"""
"""Sketches that cannot be compressed, of a site that nothing serves: they fill the first 16 MiB of their file."""
NO_FILE_BYTES = 4096
"""A worker that starts makes larger ones."""
SPOOL_FULL = Signs(
    "ERROR .*The spool refuses beacons",
    "spool: ",
    Metric("footfall_store_up", none, 'store="spool"'),
    "INFO .*The spool takes beacons again",
)
NO_WORKER = Signs("ERROR .*The new worker does not start; .*no room for its metrics")


async def fill_redis(stage: Stage) -> None:
    """Let Redis' append-only file not grow: Redis takes no beacon, and all go to the spool."""
    for _ in stage.rounds(2, 1):
        redis = _fill_redis(stage)
        await wait_for_answer(stage, 202)
        await expect_named(stage, REDIS_AWAY)
        await stage.pause(0.5, 1.5)
        bound_files(redis, None)
        await wait_until_counted(stage)
        await expect_silent(stage, REDIS_AWAY)


async def fill_postgres(stage: Stage) -> None:
    """Let the table of the days not grow: nothing is copied, and counting goes on."""
    postgres = await _fill_postgres(stage)
    await expect_named(stage, COPY_FAILS)
    await wait_until_counted(stage)
    bound_files(postgres, None)
    await expect_silent(stage, COPY_FAILS)
    await wait_for_rollup(stage)


async def fill_spool(stage: Stage) -> None:
    """Let the spool not grow while Redis is away; a worker that dies meanwhile is replaced once there is room."""
    (host,) = stage.hosts
    stage.valkey.kill()
    await wait_for_answer(stage, 202)
    _fill_spool(stage)
    bound_files(host.family[:1], NO_FILE_BYTES)  # the parent, and with it the workers that it starts
    await wait_for_answer(stage, 503)
    await expect_named(stage, SPOOL_FULL)
    signal_worker(stage.chance.choice(host.workers()), signal.SIGKILL)
    await expect_named(stage, NO_WORKER)
    bound_files(host.family, None)
    await wait_for_answer(stage, 202)
    await stage.valkey.start()
    await wait_until_counted(stage)
    await wait_for_workers(stage, WORKERS)
    await expect_silent(stage, SPOOL_FULL)


async def fill_all(stage: Stage) -> None:
    """Let no file grow on the one disk of Redis, PostgreSQL and the spool."""
    full = await _fill_postgres(stage)
    await expect_named(stage, COPY_FAILS)
    full += _fill_redis(stage)
    await wait_for_answer(stage, 202)
    full += _fill_spool(stage)
    await wait_for_answer(stage, 503)
    await expect_named(stage, REDIS_AWAY, SPOOL_FULL)
    bound_files(full, None)
    await wait_until_counted(stage)
    await expect_silent(stage, REDIS_AWAY, SPOOL_FULL, COPY_FAILS)


def bound_files(processes: Iterable[psutil.Process], most_bytes: int | None) -> None:
    """Let processes write no file beyond so many bytes; None: without a bound."""
    soft = "unlimited" if most_bytes is None else most_bytes
    for process in processes:
        try:
            account, group = process.uids().real, process.gids().real
        except psutil.NoSuchProcess:
            continue
        # Root without all its rights may set this for processes of its own account only.
        is_root = os.geteuid() == 0
        bounding = subprocess.run(
            ["prlimit", f"--pid={process.pid}", f"--fsize={soft}:"],
            user=account if is_root else None,
            group=group if is_root else None,
            extra_groups=[] if is_root else None,
            check=False,
        )
        if bounding.returncode and process.is_running():
            raise RuntimeError(f"the files of process {process.pid} cannot be bounded")


def family_of(pid: int) -> list[psutil.Process]:
    """Return a process and all below it."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _fill_redis(stage: Stage) -> list[psutil.Process]:
    redis = family_of(stage.valkey.pid)
    bound_files(redis, max(log_sizes(stage.valkey.folder).values()))
    return redis


async def _fill_postgres(stage: Stage) -> list[psutil.Process]:
    await stage.stores.postgres.execute(BALLAST)
    await stage.stores.postgres.execute("CHECKPOINT")  # what stands beyond the bound is on the disk
    postgres = family_of(stage.postgres.pid)
    bound_files(postgres, WAL_SEGMENT_BYTES)
    return postgres


def _fill_spool(stage: Stage) -> list[psutil.Process]:
    (host,) = stage.hosts
    bound_files(host.family, min(file.stat().st_size for file in host.spool.glob("*.spool")))
    return host.family
