"""The containers of deploy/kubernetes/ with their own commands, variables, probes and volumes, on real stores."""

import asyncio
import re
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import psutil
import pytest

from footfall import sql_folder
from footfall.embedded.servers import Valkey
from footfall.stores.migrations import migrate
from tests.support.kubernetes import Container, build, copy_to, the
from tests.support.process import Process, all_ended, launch, see, until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers on all of 127.0.0.0/8"),
    pytest.mark.timeout(400),
]

ACKED = 499
JOB_MAX_S = 120
"""Two programs, and two intervals of a pod, on a machine under load."""


class Cluster:
    """What an operator has built, its volumes, and the containers that run of it."""

    def __init__(self, folder: Path, stores: Mapping[str, str]) -> None:
        self._folder = folder
        copied = copy_to(folder, stores)
        settings = copied / "example/settings/footfall.toml"
        # The shortest interval: what a pod sends again is in PostgreSQL after two of them.
        settings.write_text("rollup_every_s = 5\n" + settings.read_text())
        self._built = {name: build(copied / "example" / name) for name in ("migrate", "service", "handover")}

    def volume(self, claim: str) -> Path:
        """Return the folder of a claimed volume, which outlives its pods."""
        volume = self._folder / claim
        volume.mkdir(exist_ok=True)
        return volume

    def job(self, name: str, **volumes: str) -> Container:
        """Return the container of a Job; `volumes` are the claims behind its own names of volumes."""
        built = self._built[name]
        claimed = {volume: self.volume(claim) for volume, claim in volumes.items()}
        return Container.of(the("Job", built), built, self._folder / name, claimed, "127.0.0.1")

    def pod(self, name: str) -> Container:
        """Return the container of a pod of the StatefulSet, on an address of its own."""
        built = self._built["service"]
        host = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}.{secrets.randbelow(250) + 2}"
        volumes = {"data": self.volume(f"data-{name}")}
        return Container.of(the("StatefulSet", built), built, self._folder / name, volumes, host)


@pytest.fixture
async def cluster(own_folder: Path, own_valkey: Valkey, postgres_url: str) -> Cluster:
    """The example on a Valkey that the test may stop, with the tables made by the Job of the migration."""
    stores = {
        "settings/secrets/redis_url": own_valkey.url,
        "settings/secrets/postgres_url": postgres_url,
        "migrate/secrets/migrate_url": postgres_url,
    }
    operator = own_folder / "operator"
    operator.mkdir()
    return await asyncio.to_thread(Cluster, operator, stores)


@asynccontextmanager
async def started(container: Container) -> AsyncIterator[Process]:
    """Run a container until the end of the block, from its startup probe on."""
    async with launch(*container.words, environ=container.environ) as process, aiohttp.ClientSession() as http:

        async def answers() -> bool:
            assert process.process.returncode is None, process.text
            return await probe(http, container, "startupProbe") == 200

        await until(answers)
        yield process


async def finished(container: Container) -> tuple[int, str]:
    """Run a Job's container to its end."""
    async with launch(*container.words, environ=container.environ) as process:
        async with asyncio.timeout(JOB_MAX_S):
            await process.process.wait()
        return await process.ends(), process.text


async def probe(http: aiohttp.ClientSession, container: Container, name: str) -> int:
    """Ask what the kubelet asks; 0 for no connection."""
    try:
        async with http.get(container.probes[name]) as answer:
            await answer.read()
            return answer.status
    except aiohttp.ClientConnectorError:
        return 0


async def statuses(http: aiohttp.ClientSession, container: Container, beacons: int) -> dict[int, int]:
    """Send beacons at once; return how many got each status."""
    answers = await asyncio.gather(*(see(http, container.url) for _ in range(beacons)))
    return {status: answers.count(status) for status in set(answers)}


async def reach_redis(http: aiohttp.ClientSession, container: Container) -> int:
    """Send beacons until Redis has one, whichever worker takes it; return how many were counted."""
    counted = 0

    async def is_in_redis() -> bool:
        nonlocal counted
        status = await see(http, container.url)
        counted += status in (200, 202)  # a worker that has just started may put it on the disk
        return status == 200

    await until(is_in_redis)
    return counted


async def lose(process: Process) -> None:
    """Let the pod's node lose its power: every process ends at once."""
    everything = [psutil.Process(process.process.pid), *process.children]
    for one in everything:
        one.suspend()  # so that none acts on the end of another
    for one in everything:
        one.kill()
    await process.process.wait()
    await all_ended(everything)


async def views(postgres_url: str) -> int:
    """Return the views in PostgreSQL."""
    connection = await asyncpg.connect(postgres_url)
    try:
        return int(await connection.fetchval("SELECT coalesce(sum(views), 0) FROM footfall.site_day"))
    finally:
        await connection.close()


async def readiness(http: aiohttp.ClientSession, container: Container) -> str:
    """Return what a pod says of itself."""
    async with http.get(container.probes["readinessProbe"]) as answer:
        return await answer.text()


async def test_a_pod_waits_for_the_migration_and_an_outage_fails_none_of_its_probes(
    cluster: Cluster, own_valkey: Valkey
) -> None:
    """Kubernetes would restart every pod, or take all out of the Service, in the very outage that the spool bridges."""
    container = cluster.pod("footfall-0")
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        started(container) as pod,
    ):
        probes = {name: await probe(http, container, name) for name in container.probes}
        assert probes == {"startupProbe": 200, "livenessProbe": 200, "readinessProbe": 503}
        assert "is older than this program's" in await readiness(http, container)
        assert "run `footfall migrate`" in await readiness(http, container)
        status, text = await finished(cluster.job("migrate"))
        assert (status, "applied" in text) == (0, True), text

        async def is_ready() -> bool:
            return await probe(http, container, "readinessProbe") == 200

        await until(is_ready)
        await reach_redis(http, container)
        own_valkey.suspend()
        async with launch(*container.lifecycle["preStop"]["exec"]["command"], environ={}) as hook:
            assert await statuses(http, container, ACKED) == {202: ACKED}
            assert {await probe(http, container, name) for name in container.probes} == {200}
            assert '"degraded"' in await readiness(http, container)
            assert await statuses(http, container, 1) == {202: 1}
            assert (await hook.ends(), hook.text) == (0, "")
        own_valkey.resume()
        assert await pod.stop() == 0


async def test_the_volume_of_a_lost_pod_is_handed_over(cluster: Cluster, own_valkey: Valkey, postgres_url: str) -> None:
    """They count nowhere but on this volume, although every one of them was answered 202."""
    await migrate(postgres_url, sql_folder())
    lost, heir = cluster.pod("footfall-2"), cluster.pod("footfall-0")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http, started(lost) as pod:
        counted = await reach_redis(http, lost)
        own_valkey.suspend()
        assert await statuses(http, lost, ACKED) == {202: ACKED}
        await lose(pod)
    own_valkey.resume()
    volume = cluster.volume("data-footfall-2")
    before = {path.name: path.read_bytes() for path in volume.glob("spool/*.spool")}
    async with started(heir):
        status, text = await finished(cluster.job("handover", lost="data-footfall-2", data="data-footfall-0"))
        assert status == 0, text
        assert sum(map(int, re.findall(r"(\d+) beacons; PostgreSQL has it all$", text, re.MULTILINE))) == ACKED, text
        assert "may be removed" in text
        assert await views(postgres_url) == ACKED + counted
    assert {path.name: path.read_bytes() for path in volume.glob("spool/*.spool")} == before != {}
