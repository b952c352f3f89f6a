"""Which server gets a call: the primary that sentinels name, the owner of a cluster's slot, and no other one."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.crc import key_slot

from footfall import sql_folder
from footfall.cli.checks import Level
from footfall.errors import Stop, StoreUnavailable
from footfall.model.batch import Answer
from footfall.model.day_state import Closed
from footfall.model.site_id import SiteId
from footfall.process.app import open_services
from footfall.stores.migrations import migrate
from footfall.stores.redis_store import RedisStore, open_redis, ready_key
from tests.cli.test_doctor import findings
from tests.deploy.test_roles import user_line
from tests.support.footfall import SITE, settings_for
from tests.support.patience import PATIENCE_S
from tests.support.redis_group import (
    OpenValkey,
    RedisCluster,
    SentinelGroup,
    command,
    info,
    moving,
    redis_cluster,
    sentinel_group,
)
from tests.support.storage import DAY, MONDAY, TODAY, batch, period_of

NOW = period_of(TODAY)
WINDOW_S = 300
SITES = [SiteId(f"site-{number}") for number in range(24)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared_cluster(servers_folder: Path) -> AsyncIterator[RedisCluster]:
    """Three primaries and their replicas; a test that kills one starts it again."""
    async with redis_cluster(servers_folder / "cluster") as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared_sentinels(servers_folder: Path) -> AsyncIterator[SentinelGroup]:
    """A primary, a replica and three sentinels."""
    async with sentinel_group(servers_folder / "watched") as group:
        yield group


async def open_all(store: RedisStore) -> None:
    """Open the sites for counting."""
    store.installation = "ours"
    opened = await asyncio.gather(*(store.open(site, [], Closed(1, MONDAY - DAY, 0, 0, 0, "x")) for site in SITES))
    assert all(opened)


async def count(store: RedisStore, log: str) -> None:
    """Count a batch of a log of every site, each as often as needed; a batch that has counted answers DUP."""
    patience_ends = time.monotonic() + PATIENCE_S
    left = set(SITES)
    while left:
        answers = await asyncio.gather(
            *(store.record(site, NOW, WINDOW_S, batch(1, [1], log=log * 16)) for site in sorted(left)),
            return_exceptions=True,
        )
        for site, answer in zip(sorted(left), answers, strict=True):
            if not isinstance(answer, BaseException):
                assert answer.answer in (Answer.OK, Answer.DUP), answer
                left.discard(site)
        assert time.monotonic() < patience_ends, (left, [a for a in answers if isinstance(a, BaseException)][:1])
        await asyncio.sleep(0.05 if left else 0)


async def views(store: RedisStore) -> set[int]:
    """The views of today of all sites."""
    recorded = await asyncio.gather(*(store.record(site, NOW, WINDOW_S) for site in SITES))
    return {one.reading.today_views for one in recorded if one.reading}


async def test_sites_spread_over_a_cluster(shared_cluster: RedisCluster) -> None:
    """Each server gets the calls of its own sites, in one write, and INFO and TIME ask all of them."""
    async with open_redis(shared_cluster.url, 5) as store:
        await open_all(store)
        await count(store, "a")
        assert await views(store) == {1}
        assert len({store.server_of(site) for site in SITES}) == 3
        assert len(await store.facts()) == len(await store.clocks_s()) == 3
        for node in shared_cluster.primaries:
            await command(node, "CONFIG", "RESETSTAT")
        assert await views(store) == {1}
        commands = [await info(node, "commandstats") for node in shared_cluster.primaries]
        assert sum(each["cmdstat_evalsha"]["calls"] for each in commands) == len(SITES)
        assert all("cmdstat_asking" not in each for each in commands)
        assert await store.acked(SITE, [(TODAY, "a" * 16)]) == [0]
        await store.rewrite_log()
        assert await store.claim_rewrite()
        await store.note_rewritten(1000)
        assert await store.rewritten_at_s() == 1000
        assert await store.mend(SITES[0], TODAY) == []


async def test_the_rights_of_the_access_list_are_enough(
    shared_cluster: RedisCluster, shared_sentinels: SentinelGroup
) -> None:
    """A user without CLUSTER SLOTS or ROLE would find no server."""
    user, login = user_line(), "footfall:CHANGE-ME@"
    for node in [*shared_cluster.nodes, *shared_sentinels.servers]:
        await command(node, "ACL", "SETUSER", *user)
    for url in (shared_cluster.url, shared_sentinels.url):
        async with open_redis(url.replace("://", f"://{login}"), 5) as store:
            await open_all(store)
            await store.rewrite_log()
            assert {facts.role for facts in await store.facts()} == {"master"}


async def test_doctor_examines_every_server(
    shared_cluster: RedisCluster, shared_sentinels: SentinelGroup, postgres_url: str, tmp_path: Path
) -> None:
    """One server of a cluster that evicts throws counts away, however well the others are set."""
    await migrate(postgres_url, sql_folder())
    for url in (shared_cluster.url, shared_sentinels.url):
        async with open_redis(url, 5) as store:  # workers of other tests may have noted a moment of their own clocks
            await store.note_rewritten(await store.clock_s())
        found = await findings(settings_for(url, postgres_url, tmp_path))
        known = ("redis", "redis memory", "redis persistence", "redis rewrite", "redis writes", "clocks")
        assert {what: str(found[what].level) for what in known} == dict.fromkeys(known, Level.OK)
    evicting = shared_cluster.primaries[2]
    await command(evicting, "CONFIG", "SET", "maxmemory", 10**9, "maxmemory-policy", "allkeys-lru")
    try:
        settings = settings_for(shared_cluster.url, postgres_url, tmp_path)
        memory = (await findings(settings))["redis memory"]
        assert (memory.level, memory.found.split()[0]) == (Level.FAIL, f"127.0.0.1:{evicting.port}:")
        with pytest.raises(Stop, match=f"127.0.0.1:{evicting.port} may throw counts away"):
            async with open_services(settings):
                pass
    finally:
        await command(evicting, "CONFIG", "SET", "maxmemory", 0, "maxmemory-policy", "noeviction")


async def test_a_slot_that_has_moved_is_followed(shared_cluster: RedisCluster) -> None:
    """MOVED says that nothing ran; without following it, each beacon would wait for the spool."""
    slot = key_slot(ready_key(SITES[0]).encode())
    async with open_redis(shared_cluster.url, 5) as store:
        await open_all(store)
        source = next(node for node in shared_cluster.primaries if str(node.port) in store.server_of(SITES[0]))
        target = next(node for node in shared_cluster.primaries if node is not source)
        async with moving(source, target) as move:
            await move.begin(slot)
            await move.keys(slot)
            await move.end(slot)
        recorded = await store.record(SITES[0], NOW, WINDOW_S, batch(9, [9], log="9" * 16, views=9))
        assert recorded.answer is Answer.GAP  # it ran, on the server that has the slot now
        assert str(target.port) in store.server_of(SITES[0])


async def test_a_slot_that_is_moving_is_left_alone(shared_cluster: RedisCluster) -> None:
    """A script that followed ASK left keys on the target, and MIGRATE stopped at them (BUSYKEY)."""
    slot = key_slot(ready_key(SITES[1]).encode())
    async with open_redis(shared_cluster.url, 5) as store:
        await open_all(store)
        await store.record(SITES[1], NOW, WINDOW_S, batch(1, [1], log="c" * 16))
        source = next(node for node in shared_cluster.primaries if str(node.port) in store.server_of(SITES[1]))
        target = next(node for node in shared_cluster.primaries if node is not source)
        async with moving(source, target) as move:
            await move.begin(slot)
            for part in ("ready", f"day:{TODAY}:visitors"):
                await move.migrate([ready_key(SITES[1]).removesuffix("ready") + part])
                with pytest.raises(StoreUnavailable, match="is moving the slot of this site"):
                    await store.record(SITES[1], NOW, WINDOW_S, batch(2, [2], log="c" * 16, views=2))
            await move.keys(slot)
            await move.end(slot)
        recorded = await store.record(SITES[1], NOW, WINDOW_S, batch(2, [2], log="c" * 16, views=2))
        assert recorded.answer is Answer.OK


async def test_a_server_that_hangs_holds_up_no_other(shared_cluster: RedisCluster) -> None:
    """Its sites wait for the deadline; all others answer at once, and its replica takes over."""
    async with open_redis(shared_cluster.url, 5) as store:
        await open_all(store)
        hung = next(node for node in shared_cluster.primaries if str(node.port) in store.server_of(SITES[0]))
        name = store.server_of(SITES[0])
        hung.suspend()
        try:
            well = [site for site in SITES if store.server_of(site) != name]
            stuck = asyncio.create_task(store.record(SITES[0], NOW, WINDOW_S))
            await asyncio.gather(*(store.record(site, NOW, WINDOW_S) for site in well))
            assert not stuck.done()
            with pytest.raises(StoreUnavailable, match=f"no answer within 5 s from 127.0.0.1:{hung.port}"):
                await stuck
            await count(store, "b")
            assert store.server_of(SITES[0]) != name
        finally:
            hung.resume()
    await shared_cluster.wait_until_well()


async def test_the_primary_is_found_although_the_first_sentinel_hangs(shared_sentinels: SentinelGroup) -> None:
    """redis-py gives a sentinel the whole deadline, so with a hung first one no call was ever answered."""
    shared_sentinels.sentinels[0].suspend()
    try:
        async with open_redis(shared_sentinels.url, 1) as store:
            await open_all(store)
            await count(store, "a")
    finally:
        shared_sentinels.sentinels[0].resume()


async def test_a_failover_by_hand_and_by_death_are_followed(shared_sentinels: SentinelGroup) -> None:
    """A demoted primary keeps its connections and answers READONLY on them for ever."""
    async with open_redis(shared_sentinels.url, 1) as store:
        await open_all(store)
        first = await shared_sentinels.primary()
        await command(shared_sentinels.sentinels[1], "SENTINEL", "FAILOVER", "counts")
        await shared_sentinels.wait_until_another(first)
        second = await shared_sentinels.primary()
        await shared_sentinels.wait_until_well()  # until then the first one still takes writes, and loses them
        await count(store, "c")
        assert store.server_of(SITES[0]) == f"127.0.0.1:{second.port}"
        second.kill()
        try:
            await count(store, "d")
            assert store.server_of(SITES[0]) == f"127.0.0.1:{first.port}"
        finally:
            await second.start()


async def test_a_demoted_server_gets_new_connections(own_folder: Path) -> None:
    """Behind a name or a virtual address the new primary is one connection away, and the old ones lead nowhere."""
    async with OpenValkey(own_folder) as server, open_redis(server.tcp_url, 1) as store:
        await open_all(store)
        await command(server, "REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(StoreUnavailable, match="takes no writes, being a replica"):
            await store.record(SITES[0], NOW, WINDOW_S, batch(1, [1]))
        await command(server, "REPLICAOF", "NO", "ONE")
        before = (await info(server, "stats"))["total_connections_received"]
        assert (await store.record(SITES[0], NOW, WINDOW_S, batch(1, [1]))).answer is Answer.OK
        assert (await info(server, "stats"))["total_connections_received"] == before + 2  # one is the test's own


async def test_another_kind_of_server_is_refused(
    shared_cluster: RedisCluster, shared_sentinels: SentinelGroup, postgres_url: str, tmp_path: Path
) -> None:
    """A node alone answers for a third of the sites; the operator reads the URL to write."""
    node, sentinel = shared_cluster.nodes[0], shared_sentinels.sentinels[0]
    primary = await shared_sentinels.primary()
    for url, words in (
        (node.tcp_url, f"write redis+cluster://127.0.0.1:{node.port}"),
        (f"redis://127.0.0.1:{sentinel.port}/0", f"write redis+sentinel://127.0.0.1:{sentinel.port}/SERVICE"),
        (primary.tcp_url.replace("redis:", "redis+cluster:"), "is no cluster, so its URL begins with redis://"),
    ):
        settings = settings_for(url, postgres_url, tmp_path)
        with pytest.raises(Stop, match="FOOTFALL_REDIS_URL: ") as stopped:
            async with open_services(settings):
                pass
        assert words in str(stopped.value)
        assert words in (await findings(settings))["redis"].found
    async with open_redis(f"redis+sentinel://127.0.0.1:{sentinel.port}/other", 1) as store:
        with pytest.raises(StoreUnavailable, match="knows no service other"):
            await store.facts()
    async with open_redis(primary.tcp_url.replace("redis:", "redis+sentinel:") + "/counts", 1) as store:
        with pytest.raises(StoreUnavailable, match="no sentinel names a primary"):
            await store.facts()
