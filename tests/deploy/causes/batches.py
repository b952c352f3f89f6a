"""What causes the alerts about batches: about their way over the disk, their copies in PostgreSQL, and their loss."""

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping
from itertools import cycle

import asyncpg

from tests.chaos.full_disks import NO_FILE_BYTES, bound_files, family_of
from tests.deploy.causes.story import Story
from tests.deploy.causes.world import World
from tests.support.process import fresh_connections, see, until

SMALL = str(1 << 20)
"""The smallest limit of the spool and of the memory, in bytes."""
SECOND = "second"
PAGES = [[f"/{'x' * 300}/{part}/{number}" for number in range(100)] for part in range(10)]
"""A thousand pages whose addresses are long, in parts."""
KEEP_OTHERS_S = 8
"""How long a session holds the rows of one portal: one rollup at least, and much less than Footfall calls a failure."""


async def retire_a_portal_that_waits(here: World) -> None:
    """A host spooled beacons of a portal, and the portal was taken out of the settings before they were sent."""
    await here.serve_portal(SECOND)
    left = await here.left_spool(SECOND, PAGES)
    await here.retire_portal(SECOND)
    here.bring(left)


async def serve_it_again(here: World) -> None:
    """The portal is configured again, and its beacons are sent."""
    await here.serve_portal(SECOND)


async def fill_the_disk(here: World) -> None:
    """The disk of the data folder is full, while Redis takes all beacons."""
    bound_files(family_of(here.parent), NO_FILE_BYTES)


async def make_room(here: World) -> None:
    """The disk has room."""
    bound_files(family_of(here.parent), None)


async def more_than_memory_keeps(here: World) -> None:
    """Between two copies to PostgreSQL come more beacons than a worker may keep in memory."""
    while True:
        for pages in PAGES:
            await here.views(pages)
            await asyncio.sleep(0.3)


async def lose_a_worker_with_redis(here: World) -> None:
    """Redis and all its data are lost, and a worker is killed that had not copied everything to PostgreSQL."""
    before = await here.sql(COPIED)

    async def is_copied() -> bool:
        return bool(await here.sql(COPIED) != before)

    await until(is_copied)
    async with fresh_connections() as http:  # some to each worker

        async def statuses() -> set[int]:
            return set(await asyncio.gather(*(see(http, here.public) for _ in range(40))))

        async def is_spooled() -> bool:
            return await statuses() == {202}

        assert await statuses() == {200}
        here.valkey.kill()
        await until(is_spooled)
    os.kill(here.workers[0], signal.SIGKILL)
    shutil.rmtree(here.valkey.folder)
    await here.valkey.start()


async def refuse_now_and_then(here: World) -> None:
    """PostgreSQL refuses a portal for eight seconds of each sixteen."""
    await here.sql(REFUSE_AT_TIMES, TRIGGER)


async def refuse_nothing(here: World) -> None:
    """PostgreSQL takes all portals."""
    await here.sql("DROP FUNCTION refuse_at_times() CASCADE")


async def hold_rows_in_turn(here: World) -> None:
    """Another session goes through the portals, and holds the rows of one after the other."""
    await here.serve_portal(SECOND)
    here.sites = ("portal", SECOND)

    async def have_rows() -> bool:
        return bool(await here.sql("SELECT count(DISTINCT site) FROM footfall.site_day") == len(here.sites))

    await until(have_rows)
    holding: asyncpg.Connection[asyncpg.Record] | None = None
    try:
        for site in cycle(here.sites):
            before, holding = holding, await asyncpg.connect(here.postgres.url)
            await holding.execute("BEGIN")
            await holding.execute("SELECT FROM footfall.site_day WHERE site = $1 FOR UPDATE", site)
            if before is not None:
                await before.close()
            await asyncio.sleep(KEEP_OTHERS_S)
    finally:
        if holding is not None:
            holding.terminate()


async def with_the_cause(here: World) -> None:
    """The condition ends with its cause."""


COPIED = "SELECT views FROM footfall.site_day WHERE site = 'portal'"
REFUSE_AT_TIMES = """CREATE FUNCTION refuse_at_times() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF extract(epoch FROM clock_timestamp())::bigint % 16 < 8 THEN RAISE EXCEPTION 'refused'; END IF;
    RETURN NEW;
END $$"""
TRIGGER = """CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON footfall.site_day
FOR EACH ROW EXECUTE FUNCTION refuse_at_times()"""

STORIES: Mapping[str, Story] = {
    "FootfallSpoolFills": Story(retire_a_portal_that_waits, {"FOOTFALL_SPOOL_MAX_BYTES": SMALL}, serve_it_again),
    "FootfallSpoolBroken": Story(fill_the_disk, end=make_room),
    "FootfallBatchesForgotten": Story(
        more_than_memory_keeps,
        {"FOOTFALL_KEEP_MAX_BYTES": SMALL, "FOOTFALL_ROLLUP_EVERY_S": "20"},
        with_the_cause,
    ),
    # Footfall's own times are long beside the windows of the rules: a worker starts, or fails two rollups of three.
    "FootfallBatchesLost": Story(
        lose_a_worker_with_redis, {"FOOTFALL_WORKERS": "2", "FOOTFALL_ROLLUP_EVERY_S": "20"}, faster=10
    ),
    "FootfallRollupFails": Story(refuse_now_and_then, end=refuse_nothing, faster=15),
    "FootfallRollupLate": Story(hold_rows_in_turn, end=with_the_cause),
}
