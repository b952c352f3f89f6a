"""The parent and its workers, as processes, under real signals."""

import asyncio
import errno
import json
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from footfall.embedded.servers import Postgres, Valkey
from footfall.stores.postgres_store import open_postgres
from tests.support.process import all_ended, command_of, fresh_connections, production, ready, run, see, start, until

SERVING = ("footfall_workers", "footfall_workers_configured")


@pytest.fixture
async def environ(own_folder: Path, redis_url: str, postgres_url: str) -> dict[str, str]:
    """Return the environment of a Footfall on the session's stores."""
    return await production(own_folder, redis_url, postgres_url)


@asynccontextmanager
async def load(url: str, senders: int = 4) -> AsyncIterator[Counter[int]]:
    """Send views without a pause; yield the count of each status, 0 for a request without an answer."""
    answers: Counter[int] = Counter()
    enough = asyncio.Event()

    async def send(http: aiohttp.ClientSession) -> None:
        while not enough.is_set():
            try:
                answers[await see(http, url)] += 1
            except aiohttp.ClientError:
                answers[0] += 1
                await asyncio.sleep(0.01)  # between two workers no process may listen

    async with fresh_connections() as http, asyncio.TaskGroup() as group:
        for _ in range(senders):
            group.create_task(send(http))
        yield answers
        enough.set()


async def more(answers: Counter[int], views: int) -> None:
    """Wait until that many more views were counted."""
    goal = answers[200] + views
    await until(lambda: answers[200] >= goal)


async def counters(ops: str) -> dict[str, float]:
    """Return the figures that must never fall: counters, and the counts and sums of histograms."""
    async with fresh_connections() as http, http.get(f"{ops}/metrics") as response:
        families = list(text_string_to_metric_families(await response.text()))
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in families
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


async def metric(ops: str, name: str) -> float:
    """Return one sample without labels, or the sum of those with labels."""
    async with fresh_connections() as http, http.get(f"{ops}/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == name)


async def has(ops: str, name: str, value: float) -> bool:
    """Return whether a metric has reached a value."""
    return await metric(ops, name) >= value


async def views(postgres_url: str) -> int:
    """Return the views in Postgres."""
    connection = await asyncpg.connect(postgres_url)
    try:
        return int(await connection.fetchval("SELECT sum(views) FROM footfall.site_day"))
    finally:
        await connection.close()


async def test_metrics_of_two_workers_are_one_and_never_fall(environ: dict[str, str]) -> None:
    """Prometheus reaches any worker and sees all of them; a worker's death resets no counter."""
    async with start("serve", "--workers", "2", environ=environ) as process:
        url, ops = await ready(process)
        sent = 60
        async with fresh_connections() as http:
            assert set(await asyncio.gather(*(see(http, url) for _ in range(sent)))) == {200}
        await until(lambda: has(ops, "footfall_beacons_total", sent))
        first, second = process.workers
        seen = await counters(ops)
        first.kill()
        while first.is_running() or len(process.workers) < 2 or await metric(ops, "footfall_workers") < 2:
            now = await counters(ops)
            assert {name: value for name, value in seen.items() if now[name] < value} == {}
            seen |= now
        assert second in process.workers
        async with fresh_connections() as http:
            assert set(await asyncio.gather(*(see(http, url) for _ in range(sent)))) == {200}
        await until(lambda: has(ops, "footfall_beacons_total", 2 * sent))
        assert await metric(ops, "footfall_beacons_total") == 2 * sent
        assert await metric(ops, "process_resident_memory_bytes") > 50e6
        assert await process.stop() == 0


async def test_new_settings_replace_the_workers_and_refuse_nobody(environ: dict[str, str], postgres_url: str) -> None:
    """Operators change settings at noon, too: no visitor may see an error, and no acked view may be lost."""
    async with start("serve", "--workers", "2", environ=environ) as process:
        url, _ = await ready(process)
        before = process.workers
        file = Path(environ["FOOTFALL_CONFIG"])
        file.write_text(file.read_text().replace("[sites.portal]", "poll_after_s = 77\n[sites.portal]"))
        async with load(url) as answers:
            await more(answers, 50)
            process.process.send_signal(signal.SIGHUP)
            await process.says("settings were read again and the workers replaced")
            await more(answers, 50)
        assert set(answers) <= {0, 200}
        assert not set(process.workers) & set(before)
        assert len(process.workers) == 2
        async with fresh_connections() as http, http.get(f"{url}/counts?site=portal") as response:
            assert (await response.json())["poll_after_s"] == 77
        assert await process.stop() == 0
    assert answers[200] <= await views(postgres_url) <= answers[200] + answers[0]
    async with open_postgres(postgres_url) as postgres:  # four workers in one start and one stop
        kinds = [event.kind for event in await postgres.events()]
    assert sorted(kinds) == ["settings", "started", "stopped"]


async def test_a_stop_under_load_loses_nothing_that_was_acked(environ: dict[str, str], postgres_url: str) -> None:
    """An upgrade is a stop and a start; only unanswered views may be missing after it."""
    async with start("serve", "--workers", "2", environ=environ) as process:
        url, _ = await ready(process)
        async with load(url) as answers:
            await more(answers, 100)
            assert await process.stop() == 0
    assert set(answers) <= {0, 200}
    assert answers[200] <= await views(postgres_url) <= answers[200] + answers[0]


async def test_a_footfall_that_stops_accepts_no_connection(
    own_folder: Path, redis_url: str, own_postgres: Postgres
) -> None:
    """The parent held the address open until its last worker had ended: connections got no answer for seconds."""
    environ = await production(own_folder, redis_url, own_postgres.url)
    async with start("serve", environ=environ) as process:
        url, _ = await ready(process)
        async with fresh_connections() as http:
            assert await see(http, url) == 200
        own_postgres.suspend()  # the worker waits for it until it has no time left
        try:
            process.process.terminate()
            await until(lambda: refuses(url))
            assert process.process.returncode is None
        finally:
            own_postgres.resume()
        assert await process.process.wait() == 0


def refuses(url: str) -> bool:
    """Whether nothing listens there any more."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == errno.ECONNREFUSED


async def test_bad_settings_change_nothing_and_are_explained(environ: dict[str, str]) -> None:
    """A typing mistake must not stop a running counter."""
    async with start("serve", environ=environ) as process:
        url, _ = await ready(process)
        before = process.workers
        Path(environ["FOOTFALL_CONFIG"]).write_text("[sites.portal]\nname = 'Cổng'\nhosts = ['a b']\nlanguge = 'vi'\n")
        process.process.send_signal(signal.SIGHUP)
        await process.says("new settings cannot be used; the old ones stay.*languge.*language")
        async with fresh_connections() as http:
            assert await see(http, url) == 200
        assert process.workers == before
        assert await process.stop() == 0


async def test_a_worker_that_cannot_start_is_a_sentence(own_folder: Path, postgres_url: str) -> None:
    """The worker knows the reason; the operator reads it where the command was typed."""
    async with Valkey(own_folder, {"maxmemory": "50mb", "maxmemory-policy": "allkeys-lru"}) as valkey:
        environ = await production(own_folder, valkey.url, postgres_url)
        status, output = await run("serve", "--workers", "2", environ=environ)
    assert status == 2
    assert output.count("maxmemory-policy is allkeys-lru") == 1


@pytest.mark.timeout(180)
async def test_a_worker_that_cannot_start_again_is_missing_in_the_metrics(own_folder: Path, postgres_url: str) -> None:
    """It ends before it serves, so it changed no metric: half of the workers were away, and no alert said so."""
    async with Valkey(own_folder) as valkey, Redis.from_url(valkey.url) as redis:
        environ = await production(own_folder, valkey.url, postgres_url)
        async with start("serve", "--workers", "2", environ=environ) as process:
            _, ops = await ready(process)
            await until(lambda: has(ops, "footfall_workers", 2))
            await redis.config_set("maxmemory", "1gb")
            await redis.config_set("maxmemory-policy", "allkeys-lru")
            process.workers[0].kill()
            await process.says("The new worker does not start.*maxmemory-policy is allkeys-lru")
            assert [await metric(ops, name) for name in SERVING] == [1, 2]
            async with fresh_connections() as http, http.get(f"{ops}/status") as answer:
                status = await answer.json()
            assert (len(status["workers"]), status["workers_configured"]) == (1, 2)
            await redis.config_set("maxmemory-policy", "noeviction")
            await until(lambda: has(ops, "footfall_workers", 2))
            assert await process.stop() == 0
        assert process.text.count("A worker ended and is replaced") == 1, "one line, however often it is tried"


async def test_workers_end_with_a_parent_that_was_killed(environ: dict[str, str], postgres_url: str) -> None:
    """Otherwise the workers would hold the port, and no parent would replace them."""
    async with start("serve", "--workers", "2", environ=environ) as process:
        url, _ = await ready(process)
        async with fresh_connections() as http:
            assert await see(http, url) == 200
        opened = [Path(file.path).parent for worker in process.workers for file in worker.open_files()]
        folders = {folder for folder in opened if folder.name.startswith("footfall-metrics-")}
        assert len(folders) == 1
        below = process.children
        process.process.kill()
        await process.process.wait()
        # The next start waits for the port.
        port = url.rpartition(":")[2]
        async with start("serve", environ=environ | {"FOOTFALL_LISTEN": f"127.0.0.1:{port}"}) as successor:
            await ready(successor)
            assert await successor.stop() == 0
        await all_ended(below)
    assert await views(postgres_url) == 1
    assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_one_signal_stops_it_and_more_do_no_harm(environ: dict[str, str], number: signal.Signals) -> None:
    """Impatient users press Ctrl-C again; the terminal sends it to the workers as well."""
    async with start("serve", "--workers", "2", environ=environ) as process:
        await ready(process)
        below = process.children
        workers = process.workers if number is signal.SIGINT else []
        for _ in range(3):
            process.process.send_signal(number)
            for worker in workers:
                worker.send_signal(number)
        assert await process.ends() == 0
        assert process.lines[-1] == "Footfall has stopped.\n"
        await all_ended(below)


async def test_a_stop_while_it_starts_is_a_stop(environ: dict[str, str]) -> None:
    """A stop may come at any moment, also before the workers serve."""
    async with start("serve", "--workers", "2", environ=environ) as process:
        await until(lambda: len(process.workers) == 2)
        below = process.children
        assert await process.stop() == 0
        assert process.lines[-1] == "Footfall has stopped.\n"
        assert "ready" not in process.text
        await all_ended(below)


async def test_unix_sockets_are_served_and_removed(environ: dict[str, str], own_folder: Path) -> None:
    """A proxy on the same host needs no port; a leftover socket would look like a running service."""
    public, ops = own_folder / "public.sock", own_folder / "ops.sock"
    sockets = {"FOOTFALL_LISTEN": f"unix:{public}", "FOOTFALL_OPS_LISTEN": f"unix:{ops}"}
    async with start("serve", environ=environ | sockets) as process:
        assert await ready(process) == (f"unix:{public}", f"unix:{ops}")
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(public))) as http:
            assert await see(http, "http://localhost") == 200
        assert await process.stop() == 0
    assert not public.exists()
    assert not ops.exists()


async def test_nothing_of_it_runs_on_after_a_stop(environ: dict[str, str]) -> None:
    """systemd kills what the main process leaves behind, with a line for each in the journal."""
    async with start("serve", "--workers", "2", environ=environ) as process:
        await ready(process)
        below = process.children
        process.process.send_signal(signal.SIGTERM)
        await process.process.wait()
        assert [child.pid for child in below if child.is_running()] == []
        assert await process.ends() == 0
    assert len(below) == 3


async def test_a_killed_tracker_is_replaced_without_a_word(environ: dict[str, str]) -> None:
    """A process of Python's own, that tracks nothing here, may be ended by an administrator who knows no better."""
    async with start("serve", "--workers", "2", environ=environ) as process:
        await ready(process)
        before = process.workers
        (tracker,) = set(process.children) - set(before)
        tracker.kill()
        before[0].kill()
        await process.says("A worker ended and is replaced")
        await until(lambda: len([child for child in process.children if command_of(child)]) == 3)
        assert await process.stop() == 0


async def test_an_outage_is_two_lines_a_worker_and_its_stop_is_clean(
    own_folder: Path, own_valkey: Valkey, own_postgres: Postgres
) -> None:
    """104 portals wrote 208 lines, three times, and drivers their tracebacks; JSON has each as one object."""
    environ = await production(own_folder, own_valkey.url, own_postgres.url)
    file = Path(environ["FOOTFALL_CONFIG"])
    more = "".join(f'[sites.s{number}]\nname = "x"\nhosts = ["s{number}.example.vn"]\n' for number in range(103))
    file.write_text('log_format = "json"\nrollup_every_s = 5\n' + file.read_text() + more)
    async with start("serve", environ=environ) as process:
        url = (await process.says(r"Footfall is ready: ([^\s\"]+)"))[1]
        own_valkey.kill()
        own_postgres.kill()
        async with fresh_connections() as http:
            sites = [await see(http, url, f"https://s{number}.example.vn", f"s{number}") for number in range(50)]
        assert set(sites) == {202}
        await process.says("Redis takes no beacons")
        await own_valkey.start()
        await process.says("Redis takes beacons again")
        assert await process.stop() == 0
    lines = [json.loads(line) for line in process.lines]
    outage = [line for line in lines if line["logger"] == "footfall.delivery.outage"]
    assert [line["level"] for line in outage] == ["error", "info"]
    assert len(lines) < 15, process.text
