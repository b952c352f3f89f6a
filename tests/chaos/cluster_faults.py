"""F21-F24 and F26: servers of a cluster die or stand still, and slots move, whole or halfway."""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

from redis.crc import key_slot

from footfall.stores.redis_store import ready_key
from tests.chaos.postgres_faults import wait_for_rollup
from tests.chaos.redis_faults import wait_for_answer, wait_until_counted
from tests.chaos.signs import REDIS_AWAY, Signs, expect_named, expect_silent
from tests.chaos.stage import Stage
from tests.support.redis_group import ClusterNode, command, moving

STANDS_STILL_S = 12
SLOTS_MOVED, SLOTS_AT_ONCE = 2500, 20
HALF_MOVED_S = 5
GONE_S = 60
COPIED_WITHIN_S = 20
HEALTHY_SHARE = 0.8
"""Of the beacons of healthy portals, answered 200 while another part of the cluster is away."""
AWAY_FOR_A_MOMENT = Signs(REDIS_AWAY.begins, ends=REDIS_AWAY.ends)
"""A replica takes over within seconds, before a balancer may have asked /readyz."""


async def kill_primary(stage: Stage) -> None:
    """Kill the primary of some sites; its replica takes over, and the killed one returns as a replica."""
    stage.watcher.across_workers = False
    for _ in stage.rounds(2, 1):
        site = stage.chance.choice(stage.sites)
        primary = await owner_of(stage, site)
        others = await sites_elsewhere(stage, primary)
        await stage.pause(1, 2)
        since = len(stage.traffic.answers)
        primary.kill()
        await expect_named(stage, AWAY_FOR_A_MOMENT)
        await wait_until_counted(stage, site)
        expect_healthy(stage, others, since)
        await primary.start()
        await stage.cluster.wait_until_well()
        await wait_for_rollup(stage)  # what could not be copied meanwhile is reported with it
        await expect_silent(stage, AWAY_FOR_A_MOMENT)


async def stop_primary(stage: Stage) -> None:
    """Let the primary of some sites stand still; it wakes up as one that has been replaced."""
    stage.watcher.across_workers = False
    site = stage.chance.choice(stage.sites)
    primary = await owner_of(stage, site)
    others = await sites_elsewhere(stage, primary)
    since = len(stage.traffic.answers)
    primary.suspend()
    try:
        await expect_named(stage, AWAY_FOR_A_MOMENT)
        await wait_until_counted(stage, site)
        await asyncio.sleep(STANDS_STILL_S / 2 if stage.quick else STANDS_STILL_S)
        expect_healthy(stage, others, since)
    finally:
        primary.resume()
    await stage.cluster.wait_until_well()
    await wait_for_rollup(stage)  # what could not be copied meanwhile is reported with it
    await expect_silent(stage, AWAY_FOR_A_MOMENT)


async def move_slots(stage: Stage) -> None:
    """Move slots with their keys while their sites count; MIGRATE finds no key in its way."""
    source = await owner_of(stage, stage.chance.choice(stage.sites))
    target = stage.chance.choice([node for node in stage.cluster.primaries if node is not source])
    slots = await slots_of_sites(stage, source)
    first = stage.chance.randrange(3 * SLOTS_MOVED // 2)
    owned = await owned_slots(source)
    slots += [slot for slot in owned[first:] + owned[:first] if slot not in slots]
    slots = slots[: SLOTS_MOVED // 5 if stage.quick else SLOTS_MOVED]
    stage.chance.shuffle(slots)
    async with moving(source, target) as move:
        for at in range(0, len(slots), SLOTS_AT_ONCE):
            some = slots[at : at + SLOTS_AT_ONCE]
            await move.begin(*some)
            for slot in some:
                await move.keys(slot)
            await move.end(*some)
    stage.expect(not set(await owned_slots(source)) & set(slots), "the slots have not moved")
    await wait_until_counted(stage)


async def leave_half_moved(stage: Stage) -> None:
    """Leave the slot of a site half moved: its beacons wait in the spool, and those of other slots do not."""
    site = stage.chance.choice(stage.sites)
    source = await owner_of(stage, site)
    target = next(node for node in stage.cluster.primaries if node is not source)
    slot = slot_of(site)
    others = [other for other in stage.sites if slot_of(other) != slot]
    async with moving(source, target) as move:
        await move.begin(slot)
        keys = await move.keys_of(move.giving, slot)
        await move.migrate(stage.chance.sample(keys, len(keys) // 2))
        since = len(stage.traffic.answers)
        await wait_for_answer(stage, 202, site)
        await expect_named(stage, REDIS_AWAY)
        await asyncio.sleep(HALF_MOVED_S)
        expect_healthy(stage, others, since)
        on_target = await move.keys_of(move.taking, slot)
        stage.expect(len(on_target) <= len(keys) // 2, "a call has made keys on the server that has not the slot yet")
        await move.keys(slot)
        await move.end(slot)
    await wait_until_counted(stage, site)
    await wait_for_rollup(stage)  # what could not be copied meanwhile is reported with it
    await expect_silent(stage, REDIS_AWAY)


async def lose_shard(stage: Stage) -> None:
    """Let a primary and its replica be away; the sites of all others are copied to PostgreSQL as before."""
    stage.watcher.across_workers = False
    site = stage.chance.choice(stage.sites)
    primary = await owner_of(stage, site)
    replica = stage.cluster.replicas[list(stage.cluster.primaries).index(primary)]
    others = await sites_elsewhere(stage, primary)
    since = len(stage.traffic.answers)
    replica.kill()
    primary.kill()
    await expect_named(stage, REDIS_AWAY)
    oldest_s = await oldest_copy_s(stage, others, GONE_S / 2 if stage.quick else GONE_S)
    stage.expect(oldest_s < COPIED_WITHIN_S, f"a healthy site was not copied for {oldest_s:.0f} s")
    expect_healthy(stage, others, since)
    await primary.start()
    await replica.start()
    await stage.cluster.wait_until_well()
    await wait_until_counted(stage, site)
    await wait_for_rollup(stage)  # what could not be copied meanwhile is reported with it
    await expect_silent(stage, REDIS_AWAY)


async def oldest_copy_s(stage: Stage, sites: Sequence[str], for_s: float) -> float:
    """Watch PostgreSQL for a while; return how long, at the most, the view of a site was acked and not yet there."""
    ends_s, longest_s = time.monotonic() + for_s, 0.0
    while time.monotonic() < ends_s:
        rows = await stage.stores.postgres.fetch("SELECT site, views FROM footfall.site_day")
        copied, now_s = {row["site"]: row["views"] for row in rows}, time.monotonic()
        acked = views_acked(stage)
        waiting = [acked[site][copied.get(site, 0)] for site in sites if len(acked[site]) > copied.get(site, 0)]
        longest_s = max([longest_s, *(now_s - acked_s for acked_s in waiting)])
        await asyncio.sleep(0.5)
    return longest_s


def views_acked(stage: Stage) -> Mapping[str, Sequence[float]]:
    """Return when the views of each site were acked (monotonic seconds), earliest first."""
    found = defaultdict[str, list[float]](list)
    for answer in stage.traffic.answers:
        if answer.is_acked_view_before(math.inf):
            found[answer.site].append(answer.asked_s + answer.took_s)
    return found


def expect_healthy(stage: Stage, sites: Sequence[str], since: int) -> None:
    """Expect that the beacons of these sites were counted at once, but for a few on slow cores."""
    known = set(sites)
    statuses = [answer.status for answer in stage.traffic.answers[since:] if answer.site in known]
    share = statuses.count(200) / max(1, len(statuses))
    stage.expect(share >= HEALTHY_SHARE, f"only {share:.0%} of the beacons of healthy sites were counted at once")


def slot_of(site: str) -> int:
    """Return the slot of a site."""
    return key_slot(ready_key(site).encode())


async def owner_of(stage: Stage, site: str) -> ClusterNode:
    """Return the node that holds a site now."""
    slot = slot_of(site)
    node = next(node for node in stage.cluster.nodes if node.running)
    for first, last, (_, port, *_), *_ in await command(node, "CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return next(node for node in stage.cluster.nodes if node.port == port)
    raise AssertionError(f"no node has slot {slot}")


async def sites_elsewhere(stage: Stage, node: ClusterNode) -> list[str]:
    """Return the sites that another node holds."""
    owned = set(await owned_slots(node))
    return [site for site in stage.sites if slot_of(site) not in owned]


async def slots_of_sites(stage: Stage, node: ClusterNode) -> list[int]:
    """Return the slots of the sites that a node holds."""
    owned = set(await owned_slots(node))
    return [slot for slot in map(slot_of, stage.sites) if slot in owned]


async def owned_slots(node: ClusterNode) -> list[int]:
    """Return all slots of a node."""
    ranges = await command(node, "CLUSTER", "SLOTS")
    return [slot for first, last, (_, port, *_), *_ in ranges if port == node.port for slot in range(first, last + 1)]
