"""What causes each alert: the condition itself, brought about in real stores, files and processes."""

import asyncio
import os
import shutil
import signal
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import psutil

from footfall.stores.redis_store import REWRITING, REWRITTEN
from tests.deploy.causes import batches
from tests.deploy.causes.story import Story
from tests.deploy.causes.world import World
from tests.support.project import PROJECT


async def end_footfall(here: World) -> None:
    """Footfall is killed and not started again."""
    await here.stop()


async def kill_workers(here: World) -> None:
    """A worker ends again and again; the others answer meanwhile."""
    while True:
        os.kill(here.workers[-1], signal.SIGKILL)
        await asyncio.sleep(8)  # the next one serves by then


async def let_redis_evict(here: World) -> None:
    """Redis is set to throw keys away, with which no worker starts, and then one of two workers ends."""
    async with here.redis as redis:
        await redis.config_set("maxmemory", "1gb")
        await redis.config_set("maxmemory-policy", "allkeys-lru")
    os.kill(here.workers[-1], signal.SIGKILL)


async def let_redis_keep(here: World) -> None:
    """Redis keeps all keys."""
    async with here.redis as redis:
        await redis.config_set("maxmemory-policy", "noeviction")


async def break_an_upgrade_off(here: World) -> None:
    """Footfall's files are of two versions: a script answers in a word that the program does not know."""
    script = here.program / SCRIPT
    text = script.read_text()
    assert text.count(APPLIED) == 1
    script.write_text(text.replace(APPLIED, "applied, answer = seq, 'APPLIED'\n"))
    await here.reload()


async def finish_the_upgrade(here: World) -> None:
    """Footfall's files are of one version again."""
    shutil.copy(PROJECT / "service" / SCRIPT, here.program / SCRIPT)
    await here.reload()


async def forbid_files(here: World) -> None:
    """A worker may write into no file any more, as under `ulimit -f` or LimitFSIZE of systemd."""
    worker = psutil.Process(here.workers[0])
    worker.rlimit(psutil.RLIMIT_FSIZE, (0, worker.rlimit(psutil.RLIMIT_FSIZE)[1]))


async def allow_files(here: World) -> None:
    """It may again."""
    worker = psutil.Process(here.workers[0])
    most = worker.rlimit(psutil.RLIMIT_FSIZE)[1]
    worker.rlimit(psutil.RLIMIT_FSIZE, (most, most))


async def take_its_core(here: World) -> None:
    """One of two workers gets its turn more than a second late, again and again; the other answers Prometheus."""
    worker = here.workers[0]
    while True:
        os.kill(worker, signal.SIGSTOP)
        try:
            await asyncio.sleep(1.5)
        finally:
            os.kill(worker, signal.SIGCONT)
        await asyncio.sleep(0.3)


async def more_than_it_takes(here: World) -> None:
    """More beacons come at once than may wait."""
    while True:
        await asyncio.gather(*(here.view() for _ in range(800)))


async def stop_redis(here: World) -> None:
    """Redis is killed."""
    here.valkey.kill()


async def hang_redis(here: World) -> None:
    """Redis hangs: connections stay open, and it gives no answer."""
    here.valkey.suspend()


async def forbid_rewrites(here: World) -> None:
    """The access list of Redis lacks BGREWRITEAOF, and has lacked it since Footfall was installed."""
    async with here.redis as redis:
        await redis.acl_setuser("default", enabled=True, commands=["-bgrewriteaof"])
        await redis.delete(REWRITTEN, REWRITING)


async def allow_rewrites(here: World) -> None:
    """The access list has the right, and the half an hour is over after which a worker asks again."""
    async with here.redis as redis:
        await redis.acl_setuser("default", enabled=True, commands=["+bgrewriteaof"])
        await redis.delete(REWRITING)


async def stop_postgres(here: World) -> None:
    """PostgreSQL is stopped."""
    await here.postgres.stop()


async def refuse_a_portal(here: World) -> None:
    """PostgreSQL takes nothing of a portal."""
    await here.sql(
        REFUSE, "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON footfall.site_day EXECUTE FUNCTION refuse()"
    )


async def refuse_months(here: World) -> None:
    """PostgreSQL takes no months of pages, and a page has a day that is long past."""
    await here.sql(
        REFUSE,
        "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON footfall.page_month EXECUTE FUNCTION refuse()",
        "INSERT INTO footfall.page_day (site, page, day, views, logs)"
        " VALUES ('portal', '/', '2020-01-30', 1, '{\"a\": 1}')",
    )
    await here.reload()  # a worker looks at its first step, and then once a day


async def take_months(here: World) -> None:
    """PostgreSQL takes months again."""
    await here.sql("DROP TRIGGER refuse ON footfall.page_month")


async def lose_the_key(here: World) -> None:
    """The power fails: Redis comes back empty, PostgreSQL without what is in no log of its own, Footfall anew."""
    await asyncio.sleep(10)  # PostgreSQL has the visitors of this week by then
    await here.stop()
    async with here.redis as redis:
        await redis.flushall()
    here.postgres.kill()
    await here.postgres.start()
    await here.serve()


async def forget_a_host(here: World) -> None:
    """Pages of a portal open under a name that is missing in `hosts`."""
    while True:
        await here.view(Origin="https://www.elsewhere.example.vn")
        await asyncio.sleep(0.05)


async def one_network(here: World) -> None:
    """A proxy is not trusted, and so all its visitors are one network."""
    here.headers = lambda: {"X-Forwarded-For": "203.0.113.9"}
    await asyncio.Event().wait()


async def no_address(here: World) -> None:
    """A trusted proxy sends no header with the client's address."""
    here.headers = dict
    await asyncio.Event().wait()


async def hold_another_installation(here: World) -> None:
    """Redis is one that belongs to another PostgreSQL."""
    async with here.redis as redis:
        own = await redis.get(READY)
        assert isinstance(own, bytes)
        await redis.set(READY, own[::-1])


async def damage_a_sketch(here: World) -> None:
    """A sketch is damaged on the disk of PostgreSQL, and Redis needs it."""
    await asyncio.sleep(10)
    await here.sql("UPDATE footfall.site_day SET sketch = overlay(sketch PLACING '\\xffffff' FROM 20)")
    async with here.redis as redis:
        await redis.flushall()


async def rewind_redis(here: World) -> None:
    """Redis comes back with less than it had, again and again."""
    while True:
        await asyncio.sleep(4)
        async with here.redis as redis:
            await redis.flushall()


async def be_ahead(here: World) -> None:
    """Another host counts with a clock that is more than a day ahead."""
    async with here.another_host(faketime("+30h")) as public:
        for _ in range(20):
            await here.view(to=public)
            await asyncio.sleep(0.5)


async def set_redis_ahead(here: World) -> None:
    """The clock of Redis' host is five seconds ahead."""
    await here.redis_with(faketime("+5s"))


async def leave_a_damaged_batch(here: World) -> None:
    """A host that lost Redis was killed, and a batch on its disk is damaged."""
    file = await here.left_spool()
    with closing(sqlite3.connect(file)) as spool:
        spool.execute("UPDATE batch SET visitors = zeroblob(length(visitors)) WHERE seq = 1")
        spool.commit()
    here.bring(file)


async def leave_half_a_file(here: World) -> None:
    """A host that lost Redis was killed, and half of the file on its disk is lost."""
    file = await here.left_spool()
    os.truncate(file, file.stat().st_size // 2)
    here.bring(file)


def faketime(offset: str) -> dict[str, str]:
    """Return the variables with which a process sees another time; empty where libfaketime is missing."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        return {}
    return {"LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


READY = "ff1:{portal}:ready"
SCRIPT = "footfall/stores/scripts/record.lua"
APPLIED = "applied = seq\n"
"""How the script ends that has applied a batch."""
REFUSE = """CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'refused'; END $$"""

STORIES: Mapping[str, Story] = {
    "FootfallDown": Story(end_footfall),
    "FootfallRestarts": Story(kill_workers, {"FOOTFALL_WORKERS": "2"}),
    "FootfallWorkersMissing": Story(let_redis_evict, {"FOOTFALL_WORKERS": "2"}, let_redis_keep),
    "FootfallSlow": Story(take_its_core, {"FOOTFALL_WORKERS": "2"}),
    "FootfallRefusesBeacons": Story(more_than_it_takes, {"FOOTFALL_QUEUE_MAX_BEACONS": "100"}),
    "FootfallInternalFault": Story(break_an_upgrade_off, end=finish_the_upgrade, has_own_program=True),
    "FootfallStepFails": Story(forbid_files, end=allow_files),
    "FootfallRedisLogNotRewritten": Story(forbid_rewrites, end=allow_rewrites),
    "FootfallRedisAway": Story(stop_redis),
    "FootfallPostgresAway": Story(stop_postgres),
    "FootfallSitesNotCopied": Story(refuse_a_portal),
    "FootfallPagesNotFolded": Story(refuse_months, end=take_months),
    # A start of Footfall outlasts the two seconds after which FootfallDown would be heard.
    "FootfallSaltLost": Story(lose_the_key, faster=3),
    "FootfallSiteNotReady": Story(hold_another_installation),
    "FootfallSketchDamaged": Story(damage_a_sketch),
    "FootfallSpoolDamaged": Story(leave_a_damaged_batch),
    "FootfallSpoolFileDamaged": Story(leave_half_a_file),
    "FootfallCountsCorrected": Story(rewind_redis),
    "FootfallClockSkew": Story(set_redis_ahead),
    "FootfallClockAhead": Story(be_ahead),
    "FootfallRefusesPages": Story(forget_a_host),
    "FootfallProxyNotTrusted": Story(one_network),
    "FootfallProxySendsNoAddress": Story(no_address),
    **batches.STORIES,
}
