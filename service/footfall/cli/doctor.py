"""The checks of `footfall doctor`: frequent mistakes of an installation, one line each, with what to do."""

import json
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

from footfall.cli.browser_checks import check_address, check_script, is_private
from footfall.cli.checks import Check, Level, of_many_sites
from footfall.cli.ops_listener import ask_service
from footfall.cli.terminal import say
from footfall.errors import StoreUnavailable
from footfall.log_throttle import some_of
from footfall.model.clocks import WALL_CLOCK, Clock
from footfall.model.periods import local_day, period_at, week_end
from footfall.plain_text import one_line
from footfall.settings.authorities import Tls, postgres_tls, redis_tls
from footfall.settings.settings import Settings, Site, parse_listen
from footfall.stores.postgres_connection import encoding_complaint
from footfall.stores.postgres_store import SCHEMA_VERSION, PostgresStore, open_postgres
from footfall.stores.redis_store import RedisFacts, RedisStore, open_redis
from footfall.stores.spool_file import SET_ASIDE
from footfall.stores.store_pair import StorePair
from footfall.sync.early_days import EARLY_MAX_S

REDIS_MIN = (6, 2)
POSTGRES_MIN = 13
CLOCKS_APART_MAX_S = 2.0
"""Redis' clock decides who is online; this host's decides the day of a beacon."""
REWRITE_HOURS_MAX = 30
"""A rewrite is due every day; a worker that finds it due asks within minutes."""
BUSIEST_SHARE_MAX = 0.5
REFUSED_SHOWN_MAX = 5
BUSIEST_SHARE = re.compile(r"^footfall_busiest_network_share (\S+)$", re.MULTILINE)


async def print_checks(settings: Settings, file: Path | None) -> bool:
    """Print each check as soon as it is done; return whether none failed."""
    good = True
    async for check in examine(settings, file):
        say(str(check))
        good = good and check.level is not Level.FAIL
    return good


async def examine(settings: Settings, file: Path | None, clock: Clock = WALL_CLOCK) -> AsyncIterator[Check]:
    """Run all checks of settings read from `file`; None means from the environment alone."""
    yield check_source(settings, file)
    yield check_tls("redis tls", redis_tls(settings.redis_url.get_secret_value()))
    yield check_tls("postgres tls", postgres_tls(settings.postgres_url.get_secret_value()))
    async with (
        open_redis(settings.redis_url.get_secret_value(), settings.redis_timeout_s) as redis,
        open_postgres(settings.postgres_url.get_secret_value()) as postgres,
    ):
        for check in [*await check_redis(redis), *await check_postgres(postgres)]:
            yield check
        yield await check_installation(settings, redis, postgres, clock)
        yield await check_clocks(redis, postgres, clock)
        yield await check_early_days(settings, postgres, clock)
    for check in of_many_sites([check_zone(site, clock()) for site in settings.sites.values()], "zone"):
        yield check
    yield check_spool(settings)
    urls = {site.id: site.public_url or settings.public_url for site in settings.sites.values()}
    for url in dict.fromkeys(urls.values()):
        yield await check_script(url)
    private = {url: await is_private(url) for url in dict.fromkeys(urls.values())}
    addresses = [
        await check_address(site, urls[site.id], is_private=private[urls[site.id]]) for site in settings.sites.values()
    ]
    for check in of_many_sites(addresses, "address"):
        yield check
    yield await check_service(settings)
    yield check_ops_access(settings)
    yield await check_demo(settings)
    yield await check_busiest_network(settings)
    for check in await check_refused_pages(settings):
        yield check


def check_source(settings: Settings, file: Path | None) -> Check:
    """Report which file the settings come from."""
    sites = f"{len(settings.sites)} sites" if len(settings.sites) > 1 else f"site {next(iter(settings.sites))}"
    if file is None:
        return Check("settings", f"{sites}; there is no ./footfall.toml, and FOOTFALL_CONFIG names no file")
    return Check("settings", f"{sites} in {file.absolute()}")


def check_tls(what: str, tls: Tls) -> Check:
    """Report whose certificates a store may show: on the way between hosts an impostor could read all."""
    return Check(what, tls.words, Level.OK if tls.is_safe else Level.WARN)


async def check_redis(redis: RedisStore) -> list[Check]:
    """Check that each server of Redis answers, is recent enough, and keeps its data."""
    try:
        servers, rewritten_at_s, now_s = await redis.facts(), await redis.rewritten_at_s(), await redis.clock_s()
    except StoreUnavailable as error:
        return [Check("redis", f"{error}; look at FOOTFALL_REDIS_URL and the firewall", Level.FAIL)]
    checks: list[Check] = []
    for facts in servers:
        found = [check_redis_version(facts), check_memory(facts), check_persistence(facts)]
        found += [check_rewrite(facts, rewritten_at_s, now_s)] if facts.aof else []
        if facts.server:  # what is well is said once of all servers
            found = [c if c.level is Level.OK else replace(c, found=f"{facts.server}: {c.found}") for c in found]
        checks += [check for check in found if check not in checks]
    return [*checks, await check_redis_writes(redis)]


async def check_redis_writes(redis: RedisStore) -> Check:
    """Check that Redis takes what the scripts write: at maxmemory it answers every question and counts nothing."""
    try:
        await redis.write_probe()
    except StoreUnavailable as error:
        return Check("redis writes", str(error), Level.FAIL)
    return Check("redis writes", "a key of each kind was written, and expires by itself")


def check_redis_version(facts: RedisFacts) -> Check:
    """Check that the server knows ZADD GT, which the scripts use, and accepts writes."""
    version = ".".join(map(str, facts.version))
    if facts.version < REDIS_MIN:
        return Check("redis", f"version {version} is too old; install Redis 6.2 or newer, or Valkey", Level.FAIL)
    if facts.role not in ("master", ""):
        return Check("redis", "is a replica; give FOOTFALL_REDIS_URL the primary's address", Level.FAIL)
    return Check("redis", f"answers, compatible with Redis {version}")


def check_memory(facts: RedisFacts) -> Check:
    """Check that Redis evicts nothing: an evicting policy drops counts when memory is short."""
    if facts.maxmemory and facts.maxmemory_policy != "noeviction":
        found = f"maxmemory-policy is {facts.maxmemory_policy}, which throws counts away; set it to noeviction"
        return Check("redis memory", f"{found}, or give Footfall a Redis of its own", Level.FAIL)
    limit = f"limited to {facts.maxmemory >> 20} MiB, nothing is evicted" if facts.maxmemory else "not limited"
    return Check("redis memory", limit)


def check_persistence(facts: RedisFacts) -> Check:
    """Check for an append-only file: workers send again what Redis lost, but not after the whole host failed."""
    if facts.aof:
        return Check("redis persistence", "append-only file")
    found = "no append-only file; if this host fails, what came after the last rollup is lost"
    return Check("redis persistence", f"{found}: set appendonly yes, appendfsync everysec", Level.WARN)


def check_rewrite(facts: RedisFacts, rewritten_at_s: float, now_s: float) -> Check:
    """Check the age of the last rewrite: since then the append-only file keeps each visitor id beside the salt.

    INFO has no such moment, so only the rewrites that the service asked for are known.
    """
    what, hours = "redis rewrite", max(0.0, now_s - rewritten_at_s) / 3600
    if not facts.aof_rewrite_ok:
        found = "the last rewrite of the append-only file failed; look at Redis' log, memory and disk"
        return Check(what, f"{found}: what was deleted stays readable in it", Level.FAIL)
    if not rewritten_at_s:
        found = "none is known yet of the append-only file; footfall serve asks for one every day"
        return Check(what, f"{found}, and Redis does not say when it rewrote the file by itself")
    if hours > REWRITE_HOURS_MAX:
        found = f"the append-only file was last rewritten {hours:.0f} hours ago, and keeps the visitor ids since then"
        return Check(what, f"{found}: run BGREWRITEAOF, and allow it (deploy/redis-acl.conf)", Level.WARN)
    return Check(what, f"the append-only file was rewritten {hours:.0f} hours ago; replicas rewrite their own")


async def check_postgres(postgres: PostgresStore) -> list[Check]:
    """Check that PostgreSQL answers, is recent enough, and has the tables."""
    try:
        facts = await postgres.facts()
    except StoreUnavailable as error:
        return [Check("postgres", f"{error}; look at FOOTFALL_POSTGRES_URL and the firewall", Level.FAIL)]
    major, minor = divmod(facts.version, 10_000)
    number = f"{major}.{minor}"
    if major < POSTGRES_MIN:
        found = Check("postgres", f"version {number} is too old; install {POSTGRES_MIN} or newer", Level.FAIL)
    else:
        found = Check("postgres", f"answers, version {number}")
    checks = [found, check_encoding(facts.encoding), check_schema(facts.schema)]
    if facts.schema >= SCHEMA_VERSION:
        checks.append(await check_postgres_writes(postgres))
    return checks


async def check_postgres_writes(postgres: PostgresStore) -> Check:
    """Check that the service's role may write each table, which reading them does not show."""
    try:
        failed = await postgres.probe_writes()
    except StoreUnavailable as error:
        failed = [str(error)]
    if failed:
        return Check("postgres writes", "; ".join(failed), Level.FAIL)
    return Check("postgres writes", "a row was written to each table and rolled back")


def check_encoding(encoding: str) -> Check:
    """Check that the database holds Vietnamese: reasons and names are stored in it."""
    complaint = encoding_complaint(encoding)
    return Check("postgres encoding", complaint or encoding, Level.FAIL if complaint else Level.OK)


def check_schema(schema: int) -> Check:
    """Check the schema: the rollup waits while it is older than the program; a newer one only has additions."""
    if schema < SCHEMA_VERSION:
        has = f"has version {schema} and needs {SCHEMA_VERSION}" if schema else "has no tables yet"
        return Check("schema", f"{has}; run footfall migrate", Level.FAIL)
    newer = ", made by a newer Footfall, which is fine" if schema > SCHEMA_VERSION else ""
    return Check("schema", f"version {schema}{newer}")


async def check_installation(settings: Settings, redis: RedisStore, postgres: PostgresStore, clock: Clock) -> Check:
    """Check that both stores belong together: a rollup between two portals' stores would mix their counts."""
    what = "installation"
    empty: list[str] = []
    try:
        await StorePair(redis, postgres).learn_installation()
        for site in settings.sites.values():
            recorded = await redis.record(site.id, period_at(clock(), site.zone), site.online_window_s)
            if recorded.installation:
                found = f"Redis holds site {site.id} of another PostgreSQL; give each its own Redis, or an empty one"
                return Check(what, found, Level.FAIL)
            if recorded.reading is None:
                empty.append(site.id)
    except StoreUnavailable as error:
        return Check(what, f"cannot be compared: {error}", Level.FAIL)
    if empty:
        return Check(what, f"Redis does not hold {some_of(empty)} yet; footfall serve fills it at its start")
    return Check(what, "Redis and PostgreSQL belong together")


async def check_clocks(redis: RedisStore, postgres: PostgresStore, clock: Clock) -> Check:
    """Check how far the clocks of this host, Redis and Postgres differ."""
    try:
        before_s = clock()
        clocks_s = await redis.clocks_s()
        redis_ahead_s = max((redis_s - (before_s + clock()) / 2 for redis_s in clocks_s), key=abs)
        before_s = clock()
        postgres_ahead_s = (await postgres.facts()).clock_s - (before_s + clock()) / 2
    except StoreUnavailable as error:
        return Check("clocks", f"cannot be compared: {error}", Level.FAIL)
    found = f"Redis {round(redis_ahead_s, 1) or 0:+} s and PostgreSQL {round(postgres_ahead_s, 1) or 0:+} s from here"
    ahead_s = (0.0, redis_ahead_s, postgres_ahead_s)
    if max(ahead_s) - min(ahead_s) > CLOCKS_APART_MAX_S:
        return Check("clocks", f"{found}; have all hosts set theirs by NTP (chrony, systemd-timesyncd)", Level.FAIL)
    return Check("clocks", found)


async def check_early_days(settings: Settings, postgres: PostgresStore, clock: Clock) -> Check:
    """Check for days that have not come: a clock was ahead, and may be still."""
    what = "days"
    try:
        last_days = await postgres.last_days()
    except StoreUnavailable as error:
        return Check(what, f"cannot be read: {error}", Level.WARN)
    tomorrow_s = clock() + EARLY_MAX_S
    early = [
        f"site {site.id} has {day}"
        for site in settings.sites.values()
        if (day := last_days.get(site.id)) and day > local_day(tomorrow_s, site.zone)
    ]
    if early:
        found = f"{some_of(early)}, which has not come: a clock was ahead; the visitors of that day are in the total"
        return Check(what, f"{found}, and on no other day. Have all hosts set theirs by NTP", Level.WARN)
    return Check(what, "no site has a day that has not come")


def check_zone(site: Site, at_s: float) -> Check:
    """Report the site's current day and week, for a comparison with a calendar."""

    def moment(at_s: float) -> str:
        return datetime.fromtimestamp(at_s, site.zone).isoformat(" ", "minutes")

    period = period_at(at_s, site.zone)
    week = f"week of {period.week} until {moment(week_end(period.week, site.zone))}"
    today = f"today is {period.day}, {moment(period.start_s)} to {moment(period.end_s)}"
    return Check(f"site {site.id}", f"{site.time_zone}, {today}, {week}")


def check_spool(settings: Settings) -> Check:
    """Check that the disk has room for the spool, and that no damaged file waits there for a look."""
    folder = settings.data_dir / "spool"
    try:
        damaged = sorted(path.name for path in folder.glob(f"*{SET_ASIDE}"))
        exists = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
        free = shutil.disk_usage(exists).free
    except OSError as error:
        return Check("spool", f"{folder} cannot be looked at: {error}; ask as the account of the service", Level.WARN)
    if damaged:
        found = f"{', '.join(damaged)} in {folder} was not whole; what could be read of it counts"
        return Check("spool", f"{found}. Check the disk, and remove the file after a look", Level.WARN)
    if free < settings.spool_max_bytes:
        found = f"the disk has {free >> 20} MiB free, FOOTFALL_SPOOL_MAX_BYTES is {settings.spool_max_bytes >> 20} MiB"
        return Check("spool", f"{found} for each worker; make room, or beacons get 503 early", Level.WARN)
    return Check("spool", f"the disk has {free >> 20} MiB free")


async def check_service(settings: Settings) -> Check:
    """Ask the running service what is wrong: it sees failures that a look at the stores from outside does not."""
    what = "service"
    try:
        answer = json.loads(await ask_service(settings, "/readyz"))
        status, problems = str(answer["status"]), [str(problem["what"]) for problem in answer["problems"]]
    except (ValueError, KeyError, TypeError):
        return Check(what, f"not known; no Footfall answers at /readyz of {settings.ops_listen}", Level.WARN)
    if status == "ok":
        return Check(what, "/readyz says ok")
    return Check(what, f"/readyz says {status}: {'; '.join(problems)}", Level.FAIL)


def check_ops_access(settings: Settings) -> Check:
    """Check whether metrics and status, the reports for operators, are open to other machines."""
    what = "ops access"
    where = parse_listen(settings.ops_listen)
    if isinstance(where, Path) or _is_loopback(where.host):
        return Check(what, "from this machine alone")
    if settings.ops_token:
        return Check(what, "from other machines with the token alone")
    advice = "set FOOTFALL_OPS_TOKEN, or let the ops listener listen on 127.0.0.1"
    return Check(what, f"metrics and status are open to all who reach {settings.ops_listen}: {advice}", Level.WARN)


async def check_demo(settings: Settings) -> Check:
    """Check whether the running service shows the demo portal in the place of one's own pages."""
    what = "demo"
    try:
        is_demo = bool(json.loads(await ask_service(settings, "/status"))["demo"])
    except (ValueError, KeyError, TypeError):
        return Check(what, f"not known; no Footfall answers at /status of {settings.ops_listen}", Level.WARN)
    if is_demo:
        return Check(what, "the demo portal is served at /; for portals of your own start without --demo", Level.WARN)
    return Check(what, "off")


async def check_busiest_network(settings: Settings) -> Check:
    """Check whether one network sends most beacons: it may be a proxy that is not trusted yet."""
    what = "busiest network"
    share = BUSIEST_SHARE.search(await ask_service(settings, "/metrics"))
    if share is None:
        return Check(what, f"not known; no Footfall answers with its metrics on {settings.ops_listen}", Level.WARN)
    if not float(share[1]):
        return Check(what, "too few beacons yet to tell")
    found = f"sent {float(share[1]):.0%} of the latest beacons"
    if float(share[1]) > BUSIEST_SHARE_MAX:
        advice = "if that is a proxy of yours, add its address to FOOTFALL_TRUSTED_PROXIES"
        return Check(what, f"{found}; {advice}, or it passes for one visitor", Level.WARN)
    return Check(what, found)


async def check_refused_pages(settings: Settings) -> list[Check]:
    """List the pages whose beacons the running service refused in the last hour: a host or a site id is missing."""
    what = "refused pages"
    try:
        refused = json.loads(await ask_service(settings, "/status"))["refused"]
        found = [
            f"{one_line(each['origin']) or 'a page without origin'} names site {one_line(each['site'])}, and was"
            f" refused {each['times']} times, last at {each['last']}: {one_line(each['advice'])}"
            for each in refused
        ]
    except (ValueError, KeyError, TypeError):
        return [Check(what, f"not known; no Footfall answers at /status of {settings.ops_listen}", Level.WARN)]
    if not found:
        return [Check(what, "none in the last hour")]
    more = [f"and {len(found) - REFUSED_SHOWN_MAX} more; footfall status --json lists them"]
    shown = found[:REFUSED_SHOWN_MAX] + (more if len(found) > REFUSED_SHOWN_MAX else [])
    return [Check(what, one, Level.WARN) for one in shown]


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # the name of this host
        return False
