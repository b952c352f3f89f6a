"""The servers of a fault: real stores, some Footfalls in front of them, clients, and a watcher."""

import asyncio
import random
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg
from redis.asyncio import Redis

from footfall import sql_folder
from footfall.embedded.servers import POSTGRES_SOCKET, Postgres, Valkey
from footfall.stores.migrations import migrate
from footfall.stores.redis_store import ready_key
from tests.chaos.equality import Stores, compare, count_difference
from tests.chaos.groups import GroupKind, client_of, open_group, url_of_both
from tests.chaos.host import Host, running_host, write_settings
from tests.chaos.ledger import Ledger
from tests.chaos.relay import open_relay
from tests.chaos.traffic import ANSWER_MAX_S, SITES, Traffic, host_of, sites_named
from tests.chaos.waiting import until
from tests.chaos.watcher import Watcher
from tests.support.own_footfall import zone_at_noon
from tests.support.postgres_group import OpenPostgres, Standby
from tests.support.redis_group import RedisCluster, SentinelGroup

WARM_UP_S = 1.0
SETTLE_MAX_S = 40
SITES_IF_QUICK = 36
OPEN_MAX_S = 120
SETTLE_EVERY_S = 0.5
SILENT_MAX_S = 10
READINESS_LOOKS = 6
LOUD = re.compile(r" (?:WARNING|ERROR|CRITICAL) |Traceback")
VISITORS = 4000
WATCHED_MAX = 4
"""Sites that are read all the time; the more there are, the fewer beacons leave on the same cores."""
DEBUGGED = {"enable-debug-command": "local"}
"""Settings of a Valkey that may unpack a sketch for the checks."""
ADJUSTMENT = 1_373_876
"""The old counter's number, as the first correction of the first site."""


class BoundedValkey(Valkey):
    """A Valkey that outlives a bound on the size of its files (RLIMIT_FSIZE): a write beyond it fails."""

    def _command(self) -> list[str]:
        return ["sh", "-c", 'trap "" XFSZ && exec "$@"', "sh", *super()._command()]


@dataclass(frozen=True, slots=True)
class Plan:
    """A fault's needs: how many machines and workers, how many beacons a second, which settings."""

    hosts: int = 1
    workers: int = 2
    counting_hosts: int | None = None
    """How many of the hosts get beacons; None for all."""
    rate_per_s: float = 300
    settings: Mapping[str, object] = field(default_factory=dict)
    redis: Mapping[str, str] = field(default_factory=dict)
    """Settings of Redis."""
    sites: int = len(SITES)
    """In the short selection, of many sites only some."""
    group: GroupKind | None = None
    """What stands in the place of the one Redis."""
    standby: bool = False
    """Whether a standby follows PostgreSQL; both are in its URL."""
    files: int | None = None
    """How many files a process of Footfall may open; None: as many as ours."""


@dataclass(slots=True)
class Stage:
    """Everything that a fault may touch; it reports problems by `expect`."""

    seed: int
    chance: random.Random
    quick: bool
    """Fewer rounds of the same fault, for the short selection."""
    folder: Path
    zone: str
    """A zone in which no midnight comes during the run."""
    day: date
    valkey: Valkey
    postgres: Postgres
    stores: Stores
    hosts: list[Host]
    ledger: Ledger
    traffic: Traffic
    watcher: Watcher
    exits: AsyncExitStack
    """Closed with the stage; a fault may enter servers of its own."""
    group: RedisCluster | SentinelGroup | None = None
    standby: Standby | None = None
    whole_sketches: bool = True
    """False once a sketch was damaged of which no other copy exists."""
    is_calm: bool = False
    """Whether the fault is over and every sign of it: from now on no warning and no error may be logged."""
    problems: list[str] = field(default_factory=list)

    @property
    def sites(self) -> list[str]:
        """Return the sites that get beacons."""
        return self.traffic.sites

    @property
    def cluster(self) -> RedisCluster:
        """Return the cluster of a fault that has one."""
        assert isinstance(self.group, RedisCluster)
        return self.group

    @property
    def sentinels(self) -> SentinelGroup:
        """Return the sentinels of a fault that has some."""
        assert isinstance(self.group, SentinelGroup)
        return self.group

    def expect(self, fact: bool, otherwise: str) -> None:
        """Record a problem unless `fact` holds."""
        if not fact:
            self.problems.append(otherwise)

    def rounds(self, full: int, quick: int) -> range:
        """Return how often to repeat."""
        return range(quick if self.quick else full)

    async def pause(self, shortest_s: float, longest_s: float | None = None) -> None:
        """Let traffic flow for a while."""
        await asyncio.sleep(self.chance.uniform(shortest_s, longest_s or shortest_s))

    @asynccontextmanager
    async def without_traffic(self) -> AsyncIterator[None]:
        """Send no beacon within the block, which begins when all are answered: so none of them stays unknown."""
        usual, self.traffic.rate_per_s = self.traffic.rate_per_s, 0
        await until(lambda: not self.traffic.waiting, ANSWER_MAX_S + 1)
        yield
        self.traffic.rate_per_s = usual

    async def metric(self, name: str, labels: str = "") -> float:
        """Return a metric, summed over all workers of all hosts."""
        return sum([await host.metric(name, labels) for host in self.hosts])

    async def connect_postgres(self) -> None:
        """Open our connection to Postgres again, after it crashed."""
        self.stores = replace(self.stores, postgres=await asyncpg.connect(self.postgres.url))

    async def unequal(self) -> list[str]:
        """Return every inequality, including the counts that each host shows."""
        found = await compare(self.ledger, self.stores, self.sites, whole=self.whole_sketches)
        for host in self.hosts:
            for site in self.sites:
                shown = await host.counts_that_are_fresh(site)
                days = (await self.stores.in_postgres(site)).values()
                total = sum(copy.visitors for copy in days) + await self.stores.adjustments(site)
                if shown["stale"]:
                    found.append(f"{site}: what is shown stays old, since {shown['as_of']}")
                elif self.whole_sketches and shown["total"] != total:
                    found.append(f"{site}: {shown['total']} is shown as total, and the days say {total}")
        return found

    async def settle(self) -> list[str]:
        """Wait until everything is equal; return the inequalities that remain at the end of the wait."""
        loop = asyncio.get_running_loop()
        patience_ends = loop.time() + SETTLE_MAX_S
        while found := await self.unequal():
            if loop.time() > patience_ends:
                break
            await asyncio.sleep(SETTLE_EVERY_S)
        return found

    async def is_silent(self) -> bool:
        """Return whether /readyz of every host is ok."""
        return await are_silent(self.hosts)

    async def check_at_rest(self) -> None:
        """Compare, end every Footfall, and compare again: a stop must lose nothing."""
        self.problems += await self.settle()
        try:
            await until(self.is_silent, SILENT_MAX_S)
        except TimeoutError:
            answers = [await host.readiness() for host in self.hosts]
            self.problems.append(f"/readyz is not ok at the end: {[answer.get('problems') for _, answer in answers]}")
        for host in self.hosts:
            await host.stop()
            if self.is_calm:
                late = [line for line in host.lines_since_mark if LOUD.search(line)]
                self.expect(not late, f"the log is not silent after the fault: {late[:1]}")
        last = await compare(self.ledger, self.stores, self.sites, whole=self.whole_sketches)
        self.problems += [f"after the stop, {found}" for found in last]
        for host in self.hosts:
            left = [file.name for file in host.spool.glob("*.spool")]
            self.expect(not left, f"spool files are left: {len(left)}")

    async def counted(self) -> tuple[int, int]:
        """Return the views in Postgres, and how far they are from right."""
        return await count_difference(self.ledger, self.stores)


async def are_silent(hosts: Sequence[Host]) -> bool:
    """Return whether /readyz is ok, asked often enough that every worker has answered."""
    for host in hosts:
        for _ in range(READINESS_LOOKS):
            _, answer = await host.readiness()
            if answer["status"] != "ok":
                return False
    return True


@asynccontextmanager
async def open_stage(plan: Plan, seed: int, *, quick: bool) -> AsyncIterator[Stage]:
    """Start everything; traffic and watcher run from the start, and end here if the fault did not end them."""
    if quick:
        plan = replace(plan, sites=min(plan.sites, SITES_IF_QUICK))
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.chmod(0o711)  # PostgreSQL does not run as root, and its account must pass through
    zone = zone_at_noon(datetime.now(UTC))
    async with AsyncExitStack() as exits:
        exits.callback(shutil.rmtree, folder, ignore_errors=True)
        valkey = await exits.enter_async_context(BoundedValkey(folder / "stores", DEBUGGED | dict(plan.redis)))
        make_postgres = OpenPostgres if plan.standby else Postgres
        postgres = await exits.enter_async_context(make_postgres(folder / "stores"))
        await migrate(postgres.url, sql_folder())
        scratch = Redis.from_url(valkey.url)
        stores = Stores(scratch, await asyncpg.connect(postgres.url), scratch)
        await stores.postgres.execute(
            "INSERT INTO footfall.adjustment (site, id, amount, reason) VALUES ('north', 'old', $1, 'old counter')",
            ADJUSTMENT,
        )
        exits.push_async_callback(scratch.aclose)
        group, standby, both = None, None, ""
        if plan.group:
            group = await exits.enter_async_context(open_group(plan.group, folder / "group"))
            stores = replace(stores, redis=await exits.enter_async_context(client_of(group)))
        if isinstance(postgres, OpenPostgres):
            standby = await exits.enter_async_context(Standby(folder / "standby", postgres))
            both = url_of_both(postgres, standby)
        hosts = []
        for number in range(plan.hosts):
            host = await _prepare_host(exits, folder / f"host{number}", valkey, postgres, plan, zone)
            host.use(redis_url=group.url if group else "", postgres_url=both)
            hosts.append(await exits.enter_async_context(running_host(host)))
        if hosts:
            await until(lambda: _are_open(stores, sites_named(plan.sites)), OPEN_MAX_S)
            await until(lambda: are_silent(hosts), OPEN_MAX_S)
        urls = [host.url for host in hosts]
        chance, ledger, day = random.Random(seed), Ledger(), datetime.now(ZoneInfo(zone)).date()
        stage = Stage(
            seed,
            chance,
            quick,
            folder,
            zone,
            day,
            valkey,
            postgres,
            stores,
            hosts,
            ledger,
            Traffic(urls[: plan.counting_hosts], day, ledger, random.Random(seed + 1), VISITORS),
            Watcher(urls, sites_named(plan.sites)[:WATCHED_MAX], 0),
            exits,
            group,
            standby,
        )
        stage.traffic.sites = sites_named(plan.sites)
        stage.traffic.rate_per_s = plan.rate_per_s
        yield stage


async def _are_open(stores: Stores, sites: Sequence[str]) -> bool:
    """Return whether each site can be counted even if its Redis is away from now on: Postgres has its salt then."""
    return all([await stores.redis.exists(ready_key(site)) for site in sites])


async def _prepare_host(
    exits: AsyncExitStack, folder: Path, valkey: Valkey, postgres: Postgres, plan: Plan, zone: str
) -> Host:
    folder.mkdir()
    settings = folder / "footfall.toml"
    sites = {site: host_of(site) for site in sites_named(plan.sites)}
    write_settings(settings, sites, zone, **plan.settings)
    redis = await exits.enter_async_context(open_relay(socket_of(valkey)))
    pg_socket = socket_of(valkey).parent / POSTGRES_SOCKET
    return Host(
        folder, redis, await exits.enter_async_context(open_relay(pg_socket)), plan.workers, settings, plan.files
    )


def socket_of(valkey: Valkey) -> Path:
    """Return the socket on which a Valkey listens."""
    return Path(valkey.url.removeprefix("unix://"))


@asynccontextmanager
async def flowing(stage: Stage) -> AsyncIterator[None]:
    """Run clients and watcher meanwhile; at the end every beacon is answered or given up."""
    tasks: Sequence[asyncio.Task[None]] = [
        asyncio.create_task(stage.traffic.run()),
        asyncio.create_task(stage.watcher.run()),
    ]
    try:
        await stage.pause(WARM_UP_S)
        yield
    finally:
        stage.traffic.stop()
        await tasks[0]
        stage.watcher.stop()
        await tasks[1]
    stage.problems += stage.watcher.complaints
