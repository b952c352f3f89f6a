"""F15: sketches in Postgres are damaged, by accident or on purpose."""

import asyncio

from footfall.model.sketch import DENSE, HEADER_BYTES, SPARSE, checksum, is_sound
from tests.chaos.redis_faults import wait_until_counted
from tests.chaos.stage import Stage
from tests.chaos.traffic import SITES
from tests.chaos.waiting import until

SAVED_MAX_S = 15
OVERRUN = b"HYLL" + bytes([SPARSE]) + bytes(11) + bytes([0x7F, 0xFF]) * 8
"""Eight times as many registers as a sketch has: a reader that does not count them writes past its end."""


async def damage(stage: Stage) -> None:
    """Flip bytes, forge checksums and overrun the registers, then empty Redis: no such sketch returns to Redis."""
    stage.watcher.across_workers = False
    stage.whole_sketches = False
    for harm in stage.chance.sample((flip, forge, overrun), 3):
        before = await _wait_until_saved(stage)
        for site in SITES:
            await harm(stage, site)
        await stage.stores.redis.flushall()
        await wait_until_counted(stage)
        for site, visitors in before.items():
            kept = await _visitors(stage, site)
            stage.expect(kept >= visitors, f"{site} had {visitors} visitors in Postgres, and has {kept}")
    await asyncio.sleep(1)
    damaged = await stage.metric("footfall_damaged_sketches_total")
    stage.expect(damaged > 0, "no alarm was raised")


async def flip(stage: Stage, site: str) -> None:
    """Change some bits, as a bad disk does."""
    sketch = bytearray(await _sketch(stage, site))
    for _ in range(20):
        sketch[stage.chance.randrange(HEADER_BYTES, len(sketch))] ^= 1 << stage.chance.randrange(8)
    await _write(stage, site, bytes(sketch))


async def forge(stage: Stage, site: str) -> None:
    """Make bytes that claim to be dense and are not, under a correct checksum."""
    sketch = b"HYLL" + bytes([DENSE]) + bytes(stage.chance.randrange(100, 1000))
    assert not is_sound(sketch)
    await _write(stage, site, sketch, checksum(sketch))


async def overrun(stage: Stage, site: str) -> None:
    """Make more registers than a sketch has, under a correct checksum."""
    await _write(stage, site, OVERRUN, checksum(OVERRUN))


async def _write(stage: Stage, site: str, sketch: bytes, check: bytes | None = None) -> None:
    await stage.stores.postgres.execute(
        "UPDATE footfall.site_day SET sketch = $2, checksum = COALESCE($3, checksum) WHERE site = $1",
        site,
        sketch,
        check,
    )


async def _sketch(stage: Stage, site: str) -> bytes:
    return bytes(await stage.stores.postgres.fetchval("SELECT sketch FROM footfall.site_day WHERE site = $1", site))


async def _visitors(stage: Stage, site: str) -> int:
    visitors = await stage.stores.postgres.fetchval("SELECT visitors FROM footfall.site_day WHERE site = $1", site)
    return int(visitors or 0)


async def _wait_until_saved(stage: Stage) -> dict[str, int]:
    """Wait until Postgres has a sound sketch of every site; return its visitors."""
    sound: dict[str, int] = {}

    async def look() -> bool:
        rows = await stage.stores.postgres.fetch("SELECT site, visitors, sketch, checksum FROM footfall.site_day")
        for row in rows:
            if checksum(row["sketch"]) == row["checksum"] and is_sound(row["sketch"]):
                sound[row["site"]] = row["visitors"]
        return sound.keys() == SITES.keys()

    await until(look, SAVED_MAX_S)
    return sound
