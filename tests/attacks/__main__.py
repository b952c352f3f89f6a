"""Attacks on the numbers: each runs against a whole Footfall, and the table shows what it left behind.

python -m tests.attacks        runs them all and prints the table of tests/README.md
"""

import asyncio
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from uuid import uuid4

import asyncpg
from redis.asyncio import Redis

from footfall.embedded.servers import Postgres, Valkey
from footfall.settings.settings import Limits
from tests.attacks.under_attack import Outcome, attack, flood
from tests.support.crafted import REGISTERS, crafted_id
from tests.support.footfall import SITE, running, settings_for
from tests.support.raw_http import beacon, head

OWN_IDS = {"visitor_id": "browser"}


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack: its requests, the settings of the Footfall, and the most that the requests may reach."""

    name: str
    requests: Callable[[], Iterable[bytes]]
    answers: Mapping[int, int]
    """How many requests get which status."""
    views: int
    visitors: int
    portal: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    pages: int = 0
    """How many pages count by themselves or as `(other)`, beside the one that was there before."""


def _own_ids(number: int, **fields: str) -> Iterator[bytes]:
    dice = random.Random(number)
    return (beacon({"visitor": f"{dice.getrandbits(128):x}"}, **fields) for _ in range(number))


def _crafted_ids() -> Iterator[bytes]:
    dice = random.Random(1)
    return (beacon({"visitor": crafted_id(register, dice).hex()}) for register in range(REGISTERS))


def _forged_by_stranger() -> Iterator[bytes]:
    return (beacon(X_Forwarded_For=f"203.0.{n // 250}.{n % 250}", X_Real_IP=f"192.0.2.{n % 250}") for n in range(2000))


def _forged_through_proxy() -> Iterator[bytes]:
    return (beacon(X_Forwarded_For=f"127.0.0.1, 10.0.{n // 250}.{n % 250}, 203.0.113.9") for n in range(2000))


def _people() -> Iterator[bytes]:
    for _ in range(4):
        yield from (beacon({"visitor": f"person-{n}"}) for n in range(500))
        yield from (head("GET", f"/counts?site={SITE}") for _ in range(500))


NEW_PAGES = Limits().new_pages_per_10_min

ATTACKS = (
    Attack("500 honest people behind one address: 4 pages each", _people, {200: 4000}, 2000, 500, OWN_IDS),
    Attack("one view, replayed", lambda: repeat(beacon(), 1000), {200: 1000}, 1000, 1),
    Attack("random ids of its own", lambda: _own_ids(10_000), {200: 6000, 429: 4000}, 6000, 1000, OWN_IDS),
    Attack("user agents", lambda: (beacon(User_Agent=f"Browser {n}") for n in range(5000)), {200: 5000}, 5000, 1000),
    Attack(
        "addresses of one IPv6 /64",
        lambda: (beacon(X_Forwarded_For=f"2001:db8:1:2::{n:x}") for n in range(10_000)),
        {200: 6000, 429: 4000},
        6000,
        1,
    ),
    Attack(
        "IPv6 /64 of one /48",
        lambda: (beacon(X_Forwarded_For=f"2001:db8:1:{n:x}::1") for n in range(5000)),
        {200: 5000},
        5000,
        4015,
    ),
    Attack("forged headers, from a stranger", _forged_by_stranger, {200: 2000}, 2000, 0, {}, {"trusted_proxies": ()}),
    Attack("forged headers, through the proxy", _forged_through_proxy, {200: 2000}, 2000, 1),
    Attack(
        "random paths of 2,000 characters",
        lambda: (beacon({"page": f"/{n}/".ljust(2000, "x")}) for n in range(2000)),
        {200: 2000},
        2000,
        1,
        pages=NEW_PAGES + 1,
    ),
    Attack(
        "50,000 random paths from one address",
        lambda: (beacon({"page": f"/{dice.getrandbits(64):x}"}) for dice in [random.Random(1)] for _ in range(50_000)),
        {200: 6000, 429: 44_000},
        6000,
        1,
        pages=NEW_PAGES + 1,
    ),
    Attack("pages elsewhere", lambda: (beacon(Origin=f"https://{n}.example") for n in range(2000)), {403: 2000}, 0, 0),
    Attack("unknown sites", lambda: (beacon({"site": f"site-{n}"}) for n in range(2000)), {404: 2000}, 0, 0),
    Attack("robots", lambda: (beacon(User_Agent=f"SomeBot/{n}") for n in range(2000)), {200: 2000}, 0, 0),
    Attack(
        "crafted ids, limits off",
        _crafted_ids,
        {200: REGISTERS},
        REGISTERS,
        REGISTERS,
        OWN_IDS,
        {"limits": {"enabled": False}},
    ),
)


async def estimate_of_raw_ids(redis: Redis) -> int:
    """Return what Redis would report of the crafted ids if Footfall did not hash them."""
    dice = random.Random(1)
    ids = [crafted_id(register, dice) for register in range(REGISTERS)]
    for first in range(0, REGISTERS, 1024):
        await redis.pfadd("raw", *ids[first : first + 1024])
    estimate = int(await redis.pfcount("raw"))
    await redis.delete("raw")
    return estimate


async def print_table() -> None:
    """Run every attack against servers of its own and print the results as Markdown."""
    print("| attack | requests | answers | views | visitors | pages | memory in Redis | keys |")
    print("|---|--:|---|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(prefix="footfall-attacks-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # As root, PostgreSQL runs under another account, which must pass through this folder.
        async with Valkey(folder) as valkey, Postgres(folder) as postgres, Redis.from_url(valkey.url) as redis:
            raw = await estimate_of_raw_ids(redis)
            for each in ATTACKS:
                url = await _emptied(redis, postgres)
                settings = settings_for(valkey.url, url, folder, portal=each.portal, **each.settings)
                async with running(settings) as footfall:
                    print(_row(each.name, await attack(footfall, redis, each.requests())), flush=True)
            url = await _emptied(redis, postgres)
            async with running(settings_for(valkey.url, url, folder)) as footfall:
                print(_row("a flood beside another network", await flood(footfall, redis)))
    print(f"\nCounted as they are sent, the {REGISTERS:,} crafted ids make Redis report {raw:,} visitors.")


async def _emptied(redis: Redis, postgres: Postgres) -> str:
    """Empty Redis, and return the URL of a new database."""
    await redis.flushall()
    name = f"attack_{uuid4().hex}"
    admin = await asyncpg.connect(postgres.url)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    return postgres.url.replace("/postgres?", f"/{name}?")


def _row(name: str, outcome: Outcome) -> str:
    answers = ", ".join(f"{number:,} x {status}" for status, number in sorted(outcome.answers.items()))
    cells = [
        f"{name}: {outcome.remark}" if outcome.remark else name,
        f"{outcome.answers.total():,}",
        answers,
        f"{outcome.views:+,}",
        f"{outcome.visitors:+,}",
        f"{outcome.pages:+,}",
        f"{outcome.added_bytes / 1024:+,.1f} KiB",
        f"{outcome.after.keys - outcome.before.keys:+,}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    asyncio.run(print_table())
