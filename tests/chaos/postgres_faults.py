"""F13, F14 and F40: Postgres hangs, is killed in commit, goes back to an old dump, commits late, or takes no writes."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

from footfall.process.app import open_services
from tests.chaos.inside import settings_of
from tests.chaos.redis_faults import wait_for_answer, wait_until_counted
from tests.chaos.relay import Hold, pass_request
from tests.chaos.signs import REDIS_AWAY, Metric, Signs, expect_named, expect_silent, none, some
from tests.chaos.stage import Stage
from tests.chaos.waiting import until
from tests.support.postgres_programs import run_program

COMMIT_MAX_S = 10
LOOK_EVERY_S = 0.002
ROLLUP_MAX_S = 90
UNSEEN_S = 15
SAVING = b"idle_in_transaction_session_timeout"
"""First statement of a rollup after its snapshot: the limits of its transaction."""
SLOW_COMMIT = """
    CREATE FUNCTION public.wait_in_commit() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.1); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER wait_in_commit AFTER INSERT OR UPDATE ON footfall.site_day
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.wait_in_commit();
"""
VIEWS = "SELECT COALESCE(sum(views), 0) FROM footfall.site_day"
COPY_FAILS = Signs(
    "WARNING .*Sites cannot be rolled up",
    "not copied to PostgreSQL: sites",
    Metric("footfall_sites_not_copied", some),
    "INFO .*Sites are rolled up again",
)
READ_ONLY = Signs(
    "ERROR .*Nothing is copied to Postgres; .*read_only",
    "nothing is copied to PostgreSQL: .*read_only",
    Metric("footfall_store_up", none, 'store="postgres"'),
    "INFO .*Postgres takes copies again",
)
COMMITTING = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND query ILIKE 'COMMIT%')"


async def hang_and_kill(stage: Stage) -> None:
    """Let Postgres hang, then kill it in the middle of a commit, ten times; its counts never fall."""
    await stage.pause(1)
    stage.postgres.suspend()
    await asyncio.sleep(3)
    stage.postgres.resume()
    await stage.stores.postgres.execute(SLOW_COMMIT)
    rolling = asyncio.create_task(_roll_up_all_the_time(stage))
    saved = 0
    for _ in stage.rounds(10, 2):
        await _wait_for_commit(stage)
        stage.postgres.kill()
        await stage.pause(0.05, 0.3)
        await stage.postgres.start()
        await stage.connect_postgres()
        views = await stage.stores.postgres.fetchval(VIEWS)
        stage.expect(views >= saved, f"the views in Postgres fell from {saved} to {views}")
        saved = views
    rolling.cancel()
    with suppress(asyncio.CancelledError):
        await rolling
    await stage.stores.postgres.execute("DROP FUNCTION public.wait_in_commit CASCADE")


async def go_back_in_time(stage: Stage) -> None:
    """Restore an old dump; commit an old snapshot after a newer one; commit one whose Redis was wiped meanwhile."""
    dump = stage.folder / "dump"
    await wait_for_rollup(stage)
    await run_program(stage.postgres.url, "pg_dump", "--format=custom", f"--file={dump}")
    # Each loss waits until the one before it is made good: only a worker that still retains it could replace what
    # both stores lost.
    newest = await wait_for_rollup(stage)
    await run_program(stage.postgres.url, "pg_restore", "--clean", "--if-exists", str(dump))
    await stage.connect_postgres()
    await wait_for_rollup(stage, newest)

    await _commit_late(stage)
    stage.watcher.across_workers = False
    await _commit_late(stage, wipe=True)
    await wait_until_counted(stage)


async def refuse_writes(stage: Stage) -> None:
    """Let Postgres be read-only, as a standby is; an emptied Redis then counts nothing before it is restored."""
    stage.watcher.across_workers = False
    await wait_for_rollup(stage)
    await _set_read_only(stage, "on")
    await expect_named(stage, READ_ONLY)
    await wait_until_counted(stage)
    await stage.stores.redis.flushall()
    await wait_for_answer(stage, 202)
    await expect_named(stage, REDIS_AWAY)
    await _set_read_only(stage, "off")
    await wait_until_counted(stage)
    await expect_silent(stage, REDIS_AWAY, READ_ONLY)


async def _set_read_only(stage: Stage, state: str) -> None:
    await stage.stores.postgres.execute("SET default_transaction_read_only = off")  # our own session still writes
    await stage.stores.postgres.execute(f"ALTER SYSTEM SET default_transaction_read_only = {state}")
    await stage.stores.postgres.execute("SELECT pg_reload_conf()")


async def _commit_late(stage: Stage, *, wipe: bool = False) -> None:
    """Hold one host's rollup after its snapshot, let the other host's pass it (or empty Redis), then let it commit."""
    hold = Hold(pass_request, SAVING)
    stage.hosts[0].postgres.requests = hold
    async with asyncio.timeout(COMMIT_MAX_S):
        await hold.reached.wait()
    if wipe:
        await stage.stores.redis.flushall()
    await wait_for_rollup(stage)
    stage.hosts[0].postgres.repair()
    hold.release()


async def wait_for_rollup(stage: Stage, newest: Mapping[str, int] = MappingProxyType({})) -> dict[str, int]:
    """Wait until Postgres has more views of every site than now, and than in `newest`; return them.

    Among many sites some have no view for a while: after `UNSEEN_S`, only those count that were viewed so long ago.
    """

    async def views() -> dict[str, int]:
        rows = await stage.stores.postgres.fetch("SELECT site, views FROM footfall.site_day")
        return {row["site"]: row["views"] for row in rows}

    async def has_more() -> bool:
        after, ended_s = await views(), time.monotonic() - UNSEEN_S
        seen = {answer.site for answer in stage.traffic.answers[known:] if answer.is_acked_view_before(ended_s)}
        waits_for = seen if seen and began_s < ended_s else stage.sites
        return all(after.get(site, 0) > max(before.get(site, 0), newest.get(site, 0)) for site in waits_for)

    before, began_s, known = await views(), time.monotonic(), len(stage.traffic.answers)
    await until(has_more, ROLLUP_MAX_S)
    return await views()


async def _roll_up_all_the_time(stage: Stage) -> None:
    """Run one more worker that only rolls up, so that there is always a commit to interrupt."""
    async with open_services(settings_of(stage, "rollups", day_zone=True)) as services:
        while True:
            services.repairs.changed.note_all(site.id for site in services.settings.sites.values())
            await services.rollup.step()
            await asyncio.sleep(0.05)


async def _wait_for_commit(stage: Stage) -> None:
    await until(lambda: stage.stores.postgres.fetchval(COMMITTING), COMMIT_MAX_S, LOOK_EVERY_S)
