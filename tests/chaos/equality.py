"""The checks by equality: the clients' ledger against Redis, Redis against Postgres, both against the shown counts."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from ipaddress import IPv4Address
from typing import Any

import asyncpg

from footfall.ingest.client_address import Client
from footfall.ingest.visitor import visitor_id
from footfall.model.pages import from_text
from footfall.model.periods import week_of
from footfall.model.sketch import is_sound
from footfall.model.visitor_ids import ID_BYTES
from footfall.stores.redis_store import day_key, ready_key
from tests.chaos.ledger import DayLedger, Ledger, Outcome
from tests.chaos.traffic import AGENT

SCRATCH = "chaos:scratch"
EMPTY = [0] * 16384
IN_SET, DAY_FLOOR = b"0", b"d"
"""In the logs of a day: the mark of a log whose visitors are in the set too, and the size of a set that was dropped."""

Registers = list[int]
"""The 16,384 registers of a sketch; equal lists are byte-equal dense sketches."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A store's state of a day."""

    views: int
    visitors: int
    registers: Registers
    logs: Mapping[str, tuple[int, int]]
    ids: frozenset[bytes] | None = None
    """The visitors themselves, where the store keeps all of them."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Our own connections to both stores, past every relay."""

    redis: Any
    """A `Redis`, or a client of a cluster; a typed client would need a cast at every call."""
    postgres: asyncpg.Connection
    scratch: Any
    """A `Redis` that unpacks sketches and takes keys of ours."""

    async def salt(self, site: str, week: date) -> bytes | None:
        """The salt of the visitor hash, by which the test computes the clients' visitor ids."""
        salt: bytes | None = await self.redis.get(ready_key(site).removesuffix("ready") + f"salt:{week}")
        return salt

    async def registers(self, sketch: bytes | None) -> Registers:
        """Unpack a sketch, by Redis' own code on a key of ours; none, or a damaged one, holds no visitor."""
        if sketch is None or not is_sound(sketch):
            return EMPTY
        await self.scratch.set(SCRATCH, sketch)
        registers: Registers = await self.scratch.execute_command("PFDEBUG", "GETREG", SCRATCH)
        await self.scratch.delete(SCRATCH)
        return registers

    async def reference(self, ids: Iterable[bytes]) -> Registers:
        """Return the registers of a fresh sketch of these visitors."""
        await self.scratch.delete(SCRATCH)
        await self.scratch.pfadd(SCRATCH, *ids)
        return await self.registers(await self.scratch.get(SCRATCH))

    async def in_redis(self, site: str) -> dict[date, Copy]:
        """Return all days of a site in Redis."""
        days = await self.redis.smembers(ready_key(site).removesuffix("ready") + "days")
        copies = {}
        for day in sorted(date.fromisoformat(name.decode()) for name in days):
            logs = {}
            entries = await self.redis.hgetall(day_key(site, day, "logs"))
            for log, entry in entries.items():
                seq, _, views = entry.partition(b":")
                logs[log.decode()] = int(seq), int(views)
            ids: frozenset[bytes] = frozenset(await self.redis.smembers(day_key(site, day, "ids")))
            is_whole = bool(ids) and all(entry.startswith(IN_SET) for entry in entries.values())
            copies[day] = Copy(
                sum(views for _, views in logs.values()),
                len(ids) if is_whole else await self._estimate(site, day, entries, len(ids)),
                await self.registers(await self.redis.get(day_key(site, day, "visitors"))),
                logs,
                ids if is_whole else None,
            )
        return copies

    async def _estimate(self, site: str, day: date, entries: Mapping[bytes, bytes], size: int) -> int:
        """Return the visitors of a day in Redis whose set is not whole, or was dropped."""
        floor = int(entries.get(DAY_FLOOR, b"0").partition(b":")[0])
        return max(int(await self.redis.pfcount(day_key(site, day, "visitors"))), floor, size)

    async def in_postgres(self, site: str) -> dict[date, Copy]:
        """Return all days of a site in Postgres."""
        rows = await self.postgres.fetch("SELECT * FROM footfall.site_day WHERE site = $1", site)
        return {row["day"]: await self._copy(row) for row in rows}

    async def pages_in_redis(self, site: str, day: date) -> dict[str, dict[str, int]]:
        """Return the views that Redis has of each page of a day, by log."""
        pages = await self.redis.hgetall(day_key(site, day, "pages"))
        return {page.decode(): from_text(logs.decode()) for page, logs in pages.items()}

    async def pages_in_postgres(self, site: str, day: date) -> dict[str, dict[str, int]]:
        """Return the views that Postgres has of each page of a day, by log."""
        rows = await self.postgres.fetch(
            "SELECT page, logs FROM footfall.page_day WHERE site = $1 AND day = $2", site, day
        )
        return {row["page"]: json.loads(row["logs"]) for row in rows}

    async def page_totals(self, site: str) -> tuple[dict[str, int], dict[str, int]]:
        """Return the total of each page, and the sum of its days."""
        async with self.postgres.transaction(isolation="repeatable_read"):
            rows = await self.postgres.fetch("SELECT page, views FROM footfall.page_total WHERE site = $1", site)
            days = await self.postgres.fetch(
                "SELECT page, sum(views)::bigint AS views FROM footfall.page_day WHERE site = $1 GROUP BY page", site
            )
        totals, sums = ({row["page"]: row["views"] for row in found} for found in (rows, days))
        return totals, sums

    async def adjustments(self, site: str) -> int:
        """Return the sum of the corrections of a site's total."""
        return int(
            await self.postgres.fetchval(
                "SELECT COALESCE(sum(amount), 0) FROM footfall.adjustment WHERE site = $1", site
            )
        )

    async def _copy(self, row: Any) -> Copy:
        logs = {log: (seq, views) for log, (seq, views) in json.loads(row["logs"]).items()}
        ids = None if row["ids"] is None else frozenset(_each_id(row["ids"]))
        return Copy(row["views"], row["visitors"], await self.registers(row["sketch"]), logs, ids)


async def compare(ledger: Ledger, stores: Stores, sites: Iterable[str], *, whole: bool = True) -> list[str]:
    """Return every inequality between the ledger, Redis and Postgres; an empty list is right.

    Where not `whole`, damaged sketches may lack visitors, so only visitors in excess are an inequality.
    """
    found: list[str] = []
    for site in sites:
        live, saved = await stores.in_redis(site), await stores.in_postgres(site)
        expected = {day: entry for (noted, day), entry in ledger.days.items() if noted == site}
        found += [f"{site} {day}: Redis has a day without any sent beacon" for day in live.keys() - expected.keys()]
        totals, sums = await stores.page_totals(site)
        if totals != sums:
            found.append(f"{site}: the totals of pages are not the sums of their days")
        for day, entry in expected.items():
            where = f"{site} {day}"
            found += [f"{where}: {what}" for what in await unequal_pages(entry, stores, site, day)]
            if day not in saved:
                if entry.visitors[Outcome.OK]:
                    found.append(f"{where}: Postgres has no row")
                continue
            if distance := entry.distance(saved[day].views):
                found.append(f"{where}: Postgres is {distance:+d} views from what was acked")
            found += [f"{where}: {what}" for what in unequal(live.get(day), saved[day], whole=whole)]
            salt = await stores.salt(site, week_of(day))
            if salt is None:
                found.append(f"{where}: the salt of its week is missing")
                continue
            acked, maybe = entry.visitors[Outcome.OK], entry.visitors[Outcome.UNKNOWN]
            certain, possible = ({id_of(address, salt) for address in some} for some in (acked, acked | maybe))
            least, most = await stores.reference(certain), await stores.reference(possible)
            if whole and (missing := _above(least, saved[day].registers)):
                found.append(f"{where}: the sketch lacks visitors in {missing} registers")
            if excess := _above(saved[day].registers, most):
                found.append(f"{where}: the sketch has visitors that no client sent in {excess} registers")
            found += [f"{where}: {what}" for what in unequal_ids(saved[day].ids, certain if whole else set(), possible)]
    return found


async def unequal_pages(entry: DayLedger, stores: Stores, site: str, day: date) -> list[str]:
    """Return the pages whose views are not those that were acked, and those that Postgres lacks."""
    live, saved = await stores.pages_in_redis(site, day), await stores.pages_in_postgres(site, day)
    off = entry.page_distances({page: sum(logs.values()) for page, logs in saved.items()})
    ahead = [
        page
        for page, logs in live.items()
        if any(views > saved.get(page, {}).get(log, 0) for log, views in logs.items())
    ]
    return [f"Postgres is {by:+d} views of {page} from what was acked" for page, by in off.items()] + [
        f"Postgres lacks views of {page} that Redis has" for page in ahead
    ]


async def count_difference(ledger: Ledger, stores: Stores) -> tuple[int, int]:
    """Return the views that Postgres counted, and their distance from what the ledger allows."""
    counted = difference = 0
    for (site, day), entry in ledger.days.items():
        views = await stores.postgres.fetchval(
            "SELECT views FROM footfall.site_day WHERE site = $1 AND day = $2", site, day
        )
        counted += views or 0
        difference += abs(entry.distance(views or 0))
    return counted, difference


def unequal(live: Copy | None, saved: Copy, *, whole: bool = True) -> Iterator[str]:
    """Return the differences between a day's copies in Redis and Postgres; a day that left Redis has none."""
    if live is None:
        return
    if live.views != saved.views:
        yield f"Redis has {live.views} views and Postgres {saved.views}"
    if whole and live.visitors != saved.visitors:
        yield f"Redis has {live.visitors} visitors and Postgres {saved.visitors}"
    if live.registers != saved.registers:
        yield "the sketches differ"
    if live.ids is not None and saved.ids is not None and live.ids != saved.ids:
        yield f"the sets differ by {len(live.ids ^ saved.ids)} visitors"
    if live.logs != saved.logs:
        yield f"the numbers of {len(set(live.logs.items()) ^ set(saved.logs.items()))} logs differ"


def unequal_ids(kept: frozenset[bytes] | None, certain: set[bytes], possible: set[bytes]) -> Iterator[str]:
    """Return how the kept ids of a day differ from the visitors that it has, and those that it may have."""
    if kept is None:
        return
    if missing := certain - kept:
        yield f"the set lacks {len(missing)} visitors"
    if excess := kept - possible:
        yield f"the set has {len(excess)} visitors that no client sent"


def id_of(address: str, salt: bytes) -> bytes:
    """Return the visitor id that the service makes of a simulated client."""
    packed = IPv4Address(address).packed
    return visitor_id(salt, Client(packed, packed, packed, is_proxy=False), AGENT, None)


def _each_id(packed: bytes) -> Iterator[bytes]:
    return (packed[at : at + ID_BYTES] for at in range(0, len(packed), ID_BYTES))


def _above(one: Registers, other: Registers) -> int:
    return sum(a > b for a, b in zip(one, other, strict=True))
