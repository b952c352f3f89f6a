"""The history of whole sites: what `footfall forget`, `retire`, `rename` and `merge-sites` do.

A site that is removed or moved must not be counted meanwhile: it has to be out of the settings, also of the running
service, and everything of it in Postgres. Else a worker would begin it again.
"""

import csv
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path

from footfall.cli.ops_listener import ask_service
from footfall.cli.rollup import open_rollup
from footfall.cli.terminal import cell, say
from footfall.errors import Stop, StoreUnavailable
from footfall.model.clocks import WALL_CLOCK
from footfall.model.retention import DAY, Retention
from footfall.model.site_id import SiteId
from footfall.settings.settings import Settings, Site
from footfall.stores.postgres_store import open_postgres
from footfall.stores.redis_store import RedisStore, open_redis
from footfall.stores.site_history import SiteHistory, open_site_history
from footfall.stores.store_pair import StorePair


async def forget_days(settings: Settings, site: Site, before: date) -> None:
    """Remove the days of a site before a day; the totals stay. Raises Stop for days that are still in use."""
    oldest = Retention.at(WALL_CLOCK(), site.zone).sketches_from
    if before > oldest:
        raise Stop(f"--before {before} is too late: days from {oldest} on are still in use; give {oldest} or earlier")
    async with _owned(settings) as history, open_rollup(settings) as (rollup, _):
        await rollup.roll_up(site)
        gone = await history.forget(site.id, before, site.measure)
        await rollup.roll_up(site)
    async with _redis(settings) as redis:
        await redis.forget_pages(site.id)
    say(
        f"{site.id}: {gone.days:,d} days before {before} are forgotten, with {gone.visitors:,d} visitors and"
        f" {gone.views:,d} views. The total of the portal and those of its pages stay, as corrections."
    )


async def retire_site(settings: Settings, site_id: SiteId, folder: Path, sentence: str) -> None:
    """Export everything of a site to a folder, then remove it from both stores; raises Stop where that is unsafe."""
    async with _owned(settings) as history:
        async with _redis(settings) as redis:
            await _refuse_counted(settings, redis, [site_id])
        extent = await history.extent(site_id)
        wanted = f"remove {site_id} with {extent.days} days"
        files = await _export(history, site_id, folder)
        say(f"{site_id}: exported to {folder}: {', '.join(files)}")
        if sentence != wanted:
            raise Stop(
                f"Nothing is removed yet. It cannot be taken back: type the same command with --yes '{wanted}'", 1
            )
        await history.remove(site_id)
        async with _redis(settings) as redis:
            await redis.forget_site(site_id, _today())
    say(f"{site_id} is removed; what it was is in {folder}.")


async def rename_site(settings: Settings, old: SiteId, new: Site) -> None:
    """Give a site another id, with its days, pages, corrections and the keys of its visitor hash."""
    async with _owned(settings) as history:
        async with _redis(settings) as redis:
            await _refuse_counted(settings, redis, [old])
        if (await history.extent(new.id)).days:
            raise Stop(
                f"{new.id} has days already, since it was counted under its new id: footfall merge-sites {old} {new.id}"
                f" --into {new.id} brings both together"
            )
        if not (extent := await history.extent(old)).days:
            raise Stop(f"PostgreSQL has no days of {old}; nothing was renamed")
        await history.rename(old, new.id)
        async with _redis(settings) as redis:
            await redis.forget_site(old, _today())
            await redis.forget_site(new.id, _today())  # it is restored from Postgres with what has come
    say(f"{old} is {new.id} now, with {extent.days:,d} days and {extent.views:,d} views.")


async def merge_sites(settings: Settings, sources: Sequence[SiteId], target: Site) -> None:
    """Merge sites into one that is configured: totals, days, pages, corrections, events."""
    sources = [source for source in dict.fromkeys(sources) if source != target.id]
    async with _owned(settings) as history:
        async with _redis(settings) as redis:
            await _refuse_counted(settings, redis, sources)
        for source in sources:
            if not (extent := await history.extent(source)).days:
                say(f"{source}: PostgreSQL has no days of it; nothing was merged")
                continue
            united, summed = await _merge(settings, history, source, target)
            say(
                f"{source}: {extent.days:,d} days with {extent.visitors:,d} visitors and {extent.views:,d} views are in"
                f" {target.id} now. Days of both: {united:,d} by the union of their sketches, {summed:,d} by the sum,"
                " as their sketches are dropped; these are marked as no exact numbers."
            )
    async with _redis(settings) as redis:
        await redis.forget_pages(target.id)


async def _merge(settings: Settings, history: SiteHistory, source: SiteId, target: Site) -> tuple[int, int]:
    """Merge one site; return how many days of both were united, and how many were summed."""
    sketches_from = Retention.at(WALL_CLOCK(), target.zone).sketches_from
    async with open_rollup(settings) as (rollup, postgres), _redis(settings) as redis:
        await rollup.roll_up(target, all_days=True)
        united, summed = await history.shared_days(source, target.id, sketches_from)
        # The union of two days is the merge of the program: into Redis, and with the next copy into Postgres. Its own
        # days come first, so that Redis has all of what the union is of.
        for site_id in (target.id, source):
            states = await postgres.days(site_id, united)
            if states and not await redis.merge(target.id, states):
                raise StoreUnavailable("redis", f"is not ready; site={target.id}")
        await rollup.roll_up(target, all_days=True)
        logs = {state.day: state.logs.keys() for state in await postgres.days(target.id, united)}
        for state in await postgres.days(source, united):
            if not state.logs.keys() <= logs[state.day]:
                raise StoreUnavailable("postgres", f"does not have {state.day} of {source} in {target.id} yet")
        await history.merge(source, target.id, united)
        await redis.forget_site(source, _today())
        await rollup.roll_up(target, all_days=True)
    return len(united), len(summed)


@asynccontextmanager
async def _owned(settings: Settings) -> AsyncIterator[SiteHistory]:
    """Open the history as the owner of the tables; raises Stop where the role is another one."""
    async with open_site_history((settings.migrate_url or settings.postgres_url).get_secret_value()) as history:
        if not await history.may_write():
            raise Stop(
                "The history of a site is changed by the owner of the tables alone: give its URL in"
                " FOOTFALL_MIGRATE_URL, as for footfall migrate",
                1,
            )
        yield history


@asynccontextmanager
async def _redis(settings: Settings) -> AsyncIterator[RedisStore]:
    """Open Redis, recognised as this installation's."""
    async with (
        open_redis(settings.redis_url.get_secret_value(), settings.redis_timeout_s) as redis,
        open_postgres(settings.postgres_url.get_secret_value()) as postgres,
    ):
        await StorePair(redis, postgres).learn_installation()
        yield redis


async def _refuse_counted(settings: Settings, redis: RedisStore, site_ids: Sequence[SiteId]) -> None:
    """Raise Stop where a site is still counted, or Redis has of it what Postgres lacks."""
    answer = await ask_service(settings, "/status")
    running = {site["site"] for site in json.loads(answer).get("sites", [])} if answer else set()
    for site_id in site_ids:
        if site_id in settings.sites or site_id in running:
            where = "the settings" if site_id in settings.sites else "the running service"
            raise Stop(
                f"{site_id} is in {where}: its workers would begin it again. Take [sites.{site_id}] out, reload or"
                " restart every Footfall that has it, and type the command again"
            )
        if days := await redis.forget_site(site_id, _today(), only_look=True):
            raise Stop(
                f"Redis has of {site_id} what PostgreSQL does not have yet ({', '.join(days[:5])}): put"
                f" [sites.{site_id}] back, footfall rollup, and take it out again"
            )


async def _export(history: SiteHistory, site_id: SiteId, folder: Path) -> list[str]:
    """Write a CSV file for each table that has rows of a site; return their names."""
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - a command does nothing else meanwhile
    names = []
    for table in await history.tables():
        if table == "salt":
            continue
        path, rows = folder / f"{table}.csv", 0
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            async for row in history.rows(table, site_id):
                writer.writerow([cell(value) for value in row])
                rows += 1
        if rows > 1:
            names.append(path.name)
        else:
            path.unlink()
    return names


def _today() -> date:
    return datetime.fromtimestamp(WALL_CLOCK(), UTC).date() + DAY
