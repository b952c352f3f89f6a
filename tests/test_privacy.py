"""Who sent a beacon is never kept. These tests search everything that a Footfall leaves behind for it."""

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from redis.asyncio import Redis

from footfall.embedded.servers import Postgres, Valkey
from tests.support.footfall import HOST, ORIGIN, SITE, FakeClock, running, serving, settings_for
from tests.support.postgres_programs import run_program
from tests.support.process import production, ready, start
from tests.support.raw_http import beacon, head, send_all, send_raw, statuses_of

ADDRESSES = ("198.19.219.171", "2001:db8:d1ce:b00c:5ea:f00d:abba:c0de")
AGENT = "Mozilla/5.0 (X11; Marker) Gecko/20100101 Firefox/140.0 kqzx-agent"
REFUSED_HOST = "refused.example"
COUNTED = "/kqzx-counted"
WORDS = ("kqzx-agent", "kqzx-own-id", "kqzx-page", "kqzx-cookie", "kqzx-referer", "kqzx-query", "kqzx-header")


def traces() -> dict[str, bytes]:
    """Every form in which the senders below could appear, by a name for it."""
    found = {word: word.encode() for word in WORDS}
    for text in ADDRESSES:
        address = ip_address(text)
        network = address.packed[:8]  # of an IPv4 address, all of it
        forms = {"text": text.encode(), "exploded": address.exploded.encode(), "packed": network}
        forms |= {"hexadecimal": network.hex().encode(), "upper case": network.hex().upper().encode()}
        found |= {f"{text}, {form}": value for form, value in forms.items()}
    return found


def found_in(*pieces: bytes) -> set[str]:
    """Return the names of the traces in some bytes."""
    return {name for name, trace in traces().items() if any(trace in piece for piece in pieces)}


def files_below(folder: Path) -> Iterator[bytes]:
    """Return the content of every file, however deep."""
    return (path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def settings_of(folder: Path, redis_url: str, postgres_url: str) -> dict[str, str]:
    """Return the environment of a Footfall on these stores whose visitors may have an id of their own."""
    environ = await production(folder, redis_url, postgres_url)
    settings = Path(environ["FOOTFALL_CONFIG"])
    settings.write_text(f'[sites.{SITE}]\nname = "Portal"\nhosts = ["{HOST}"]\nvisitor_id = "browser"\n')
    return environ | {"FOOTFALL_DATA_DIR": str(folder), "PYTHONASYNCIODEBUG": "1"}  # the most detailed log level


async def read_metrics(ops_url: str) -> bytes:
    """Return all metrics, as text."""
    async with aiohttp.ClientSession() as session, session.get(f"{ops_url}/metrics") as answer:
        return await answer.read()


def views(page: str = "/kqzx-page", **fields: str) -> list[bytes]:
    """Return a view from each of the known addresses, with every header and field that could identify a person."""
    fields_of_body = {"page": page, "visitor": "kqzx-own-id", "kqzx-header": "kqzx-header"}
    identifying = {"User_Agent": AGENT, "Cookie": "id=kqzx-cookie", "Referer": f"{ORIGIN}/kqzx-referer"}
    return [beacon(fields_of_body, X_Forwarded_For=address, **identifying | fields) for address in ADDRESSES]


async def misbehave(port: int) -> None:
    """Send everything that might make a service log a line about a client."""
    assert await send_all(port, views(Origin=f"https://{REFUSED_HOST}")) == {403: 2}
    assert await send_all(port, views(Origin="", Referer=f"https://{REFUSED_HOST}/kqzx-page?kqzx-query")) == {403: 2}
    assert await send_all(port, views(User_Agent="Googlebot/2.1 kqzx-agent")) == {200: 2}
    assert await send_all(port, views(Sec_GPC="1") + views(Sec_Purpose="prefetch")) == {200: 4}
    identifying = {"User_Agent": AGENT, "X_Forwarded_For": ADDRESSES[0]}
    bad = [
        head(Content_Length="11", **identifying) + b"kqzx-page, ",
        head("GET", "/kqzx-page?kqzx-query=1", **identifying),
        head("GET", "/counts?site=kqzx-query", **identifying),
        head("GET", "/seen.gif?site=kqzx-query", **identifying),
        head("PUT", "/seen?kqzx-query", **identifying),
        head(Content_Length="9999", **identifying),
    ]
    assert set(await send_all(port, bad, connections=1)) == {400, 404, 405, 413}
    malformed = (
        head("GET", "/counts", X_Real_IP=ADDRESSES[1], **identifying)[:-2] + b"kqzx-header\x00: kqzx-header\r\n\r\n"
    )
    assert statuses_of(await send_raw(port, malformed)) == [400]


async def all_values(redis: Any, pattern: bytes | str = "*") -> list[bytes]:
    """Return every key that matches, with its content."""
    values: list[bytes] = []
    async for key in redis.scan_iter(pattern, count=1000):
        match await redis.type(key):
            case b"hash":
                values += [key, *chain(*(await redis.hgetall(key)).items())]
            case b"set":
                values += [key, *await redis.smembers(key)]
            case b"zset":
                values += [key, *await redis.zrange(key, 0, -1)]
            case _:
                values += [key, await redis.get(key) or b""]  # it may end at any moment
    return values


async def dump(postgres_url: str) -> bytes:
    """Return all rows of all tables, as text."""
    copied = io.BytesIO()
    connection = await asyncpg.connect(postgres_url)
    for table in await connection.fetch("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'footfall'"):
        await connection.copy_from_table(table["name"], schema_name="footfall", output=copied)
    await connection.execute("CHECKPOINT")
    await connection.close()
    return copied.getvalue()


async def test_address_and_user_agent_reach_no_file_no_metric_and_no_log(
    own_folder: Path, own_valkey: Valkey, own_postgres: Postgres
) -> None:
    """Logs, metrics, Redis with its files, Postgres with its files, and the spool hold no address and no user agent.

    The pages that were counted are where pages are counted, and neither in the log nor in the metrics.

    The test also searches for what must be there: a search in the wrong place would find nothing either.
    """
    files = own_folder / "footfall"
    environ = await settings_of(files, own_valkey.url, own_postgres.url)
    async with start("serve", environ=environ) as footfall:
        url, ops_url = await ready(footfall)
        port = int(url.rpartition(":")[2])
        assert await send_all(port, views(COUNTED)) == {200: 2}
        await misbehave(port)
        async with Redis.from_url(own_valkey.url) as redis:
            await redis.save()
            in_redis = await all_values(redis)
        await own_valkey.stop()
        assert await send_all(port, views(COUNTED)) == {202: 2}
        metrics = await read_metrics(ops_url)
        assert await footfall.stop() == 0
    rows = await dump(own_postgres.url)

    assert "Redis takes no beacons" in footfall.text
    assert "Requests were no HTTP" in footfall.text
    assert f"pages=https://{REFUSED_HOST}(site=portal" in footfall.text  # of a page that is refused the origin alone
    assert b'reason="wrong_origin"' in metrics
    assert b"ff1:{portal}:ready" in in_redis
    assert COUNTED.encode() in in_redis
    assert COUNTED not in footfall.text + metrics.decode()
    assert b"portal\t" in rows
    assert any(b"portal" in content for content in files_below(files / "spool"))
    assert any(b"ff1:{portal}:day" in content for content in files_below(own_valkey.folder))
    assert any(b"portal" in content for content in files_below(own_postgres.folder))

    assert found_in(footfall.text.encode(), metrics, rows, *in_redis, *files_below(own_folder)) == set()


async def test_no_row_and_no_key_joins_a_visitor_with_a_page(
    own_folder: Path, own_valkey: Valkey, postgres_url: str
) -> None:
    """Who read what is nowhere, also where a batch is one visitor with one page: in Redis, PostgreSQL and the spool."""
    settings = settings_for(own_valkey.url, postgres_url, own_folder / "footfall")
    async with running(settings) as footfall:
        await footfall.see(page=COUNTED)
        await footfall.services.copy()
        async with Redis.from_url(own_valkey.url) as redis:
            visitor = (await redis.zrange(f"ff1:{{{SITE}}}:online", 0, -1))[0]
            assert isinstance(visitor, bytes)
            by_key = [await all_values(redis, key) for key in await redis.keys()]
        await own_valkey.stop()
        assert (await footfall.send(page=COUNTED)).status == 202
        (spool,) = (own_folder / "footfall" / "spool").glob("*.spool")
    records: list[list[bytes] | bytes] = [*by_key, *(await dump(postgres_url)).splitlines(), *rows_of(spool)]
    joined = [record for record in records if visitor in joining(record) and COUNTED.encode() in joining(record)]
    assert (joined, len(records) > 10) == ([], True)
    for trace in (visitor, COUNTED.encode()):
        assert any(trace in joining(record) for record in by_key)
        assert any(trace in joining(record) for record in rows_of(spool))


def rows_of(path: Path) -> Iterator[list[bytes]]:
    """Return the rows of all tables of a spool file."""
    with closing(sqlite3.connect(path)) as file:
        for (table,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in file.execute(f"SELECT * FROM {table}"):
                yield [value if isinstance(value, bytes) else str(value).encode() for value in row]


def joining(record: list[bytes] | bytes) -> bytes:
    """Return all that stands in one record, in the forms in which it may stand there."""
    return record if isinstance(record, bytes) else b" ".join(record)


async def test_a_dump_leaves_the_salt_out(redis_url: str, postgres_url: str, tmp_path: Path) -> None:
    """A dump may be kept for years; with the salt in it, an attacker could try out the ids of a week."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        await footfall.see()
        site = footfall.services.settings.sites[SITE]
        salt = footfall.services.repairs.opener.salts.of(site, footfall.services.periods.now(site.zone)[1].week)
    assert salt is not None
    assert salt.hex() in await run_program(postgres_url, "pg_dump")
    without_salts = await run_program(postgres_url, "pg_dump", "--exclude-table-data=footfall.salt")
    assert "footfall.site_day" in without_salts
    assert salt.hex() not in without_salts


async def test_without_a_salt_a_beacon_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    """Under an invented salt a beacon would count twice; keeping it until a salt exists would keep an address."""
    nowhere = "unix:///nowhere/valkey.sock", "postgresql://footfall@/postgres?host=/nowhere"
    async with serving(settings_for(*nowhere, tmp_path), FakeClock()) as footfall:
        response = await footfall.send(address=ADDRESSES[0], agent=AGENT)
        assert (response.status, await response.json()) == (503, {"error": "not_ready"})
        assert response.headers["Retry-After"] == "5"
        assert footfall.metric("footfall_spooled_beacons_total") == 0
        assert found_in(*files_below(tmp_path)) == set()


async def test_the_id_of_a_view_stands_alone_in_redis_and_nowhere_else(
    own_folder: Path, own_valkey: Valkey, own_postgres: Postgres
) -> None:
    """It tells views apart for minutes. Beside a visitor or a page it would tell who read what."""
    view = b"kqzxview"
    settings = settings_for(own_valkey.url, own_postgres.url, own_folder / "footfall")
    async with running(settings) as footfall:
        await footfall.see(page=COUNTED, view=view.hex())
        await footfall.services.copy()
        async with Redis.from_url(own_valkey.url) as redis:
            found: list[Any] = await redis.keys()
            keys = [key for key in found if view in b"".join(await all_values(redis, key))]
            assert len(keys) == 1
            assert keys[0].startswith(f"ff1:{{{SITE}}}:views:".encode())
            assert await redis.smembers(keys[0]) == {view}
            assert 0 < await redis.ttl(keys[0]) <= 240
        await own_valkey.stop()
        assert (await footfall.send(page=COUNTED, view=view[::-1].hex())).status == 202
    kept = [await dump(own_postgres.url), *files_below(own_folder / "footfall")]
    forms = [form for text in (view, view[::-1]) for form in (text, text.hex().encode())]
    assert not [form for form in forms if any(form in content for content in kept)]
