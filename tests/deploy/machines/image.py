"""The image, really built and run without a container engine: python -m tests.deploy.machines.image

buildah builds `Dockerfile` on a base of debootstrap, runs the image's own command in it as the image's user, against
a Redis and a PostgreSQL that speak TLS, and runs its health check. README.md beside this file says what it needs.
"""

import asyncio
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from footfall import __version__
from tests.deploy.machines.debian import TRUSTED, make_root, need, step
from tests.deploy.machines.registry import checkout_for, pinned, registry
from tests.support.certificates import make_authority, sign
from tests.support.ports import free_port
from tests.support.process import SETTINGS, see
from tests.support.project import PROJECT
from tests.support.tls_servers import TlsPostgres, TlsRedis

BASE = "localhost/python:debian"
IMAGE = "localhost/footfall"
USER = 10001
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60


class Buildah:
    """buildah with a storage of its own, without a daemon and without namespaces."""

    def __init__(self, folder: Path) -> None:
        self.storage = ("--root", str(folder / "storage"), "--runroot", str(folder / "run"), "--storage-driver", "vfs")

    def command(self, *words: str) -> list[str]:
        return ["buildah", *self.storage, *words]

    def __call__(self, *words: str) -> str:
        """Run it to its end and return what it printed; raises CalledProcessError, its output goes to the terminal."""
        return subprocess.run(self.command(*words), stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    def build(self, base: str) -> None:
        words = ("--format", "docker", "--isolation", "chroot", "--pull-never", "--quiet", "--tag", IMAGE)
        self("build", *words, "--build-arg", f"PYTHON_IMAGE={base}", str(PROJECT))

    def config(self) -> dict[str, Any]:
        """Return what an engine reads of the image."""
        config: dict[str, Any] = json.loads(self("inspect", "--type", "image", IMAGE))["Docker"]["config"]
        return config


def make_base(buildah: Buildah, folder: Path) -> None:
    """Make an image with a Python, in the place of the one that a registry has."""
    root = folder / "base"
    make_root(root, ["ca-certificates", "python-is-python3", "python3-venv"])
    for name in TRUSTED:
        if (file := Path("/") / name).exists():
            (root / name).write_bytes(file.read_bytes())
    container = buildah("from", "scratch")
    buildah("copy", "--quiet", container, str(root), "/")
    buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
    buildah("commit", "--quiet", "--rm", container, BASE)


@asynccontextmanager
async def stores(folder: Path) -> AsyncIterator[dict[str, str]]:
    """Run Debian's Redis and PostgreSQL with TLS, and yield the variables that lead the image to them."""
    folder.mkdir(0o755)
    authority = make_authority(folder, "authority")
    certificate = sign(authority, "stores", host="localhost")
    async with TlsRedis(folder) as redis, TlsPostgres(folder) as postgres:
        for server in (redis, postgres):
            await server.show(certificate)
        yield {
            "FOOTFALL_CA_FILE": "/etc/footfall/authority.pem",
            "FOOTFALL_REDIS_URL": f"rediss://localhost:{redis.port}/0",
            "FOOTFALL_POSTGRES_URL": f"postgresql://footfall@localhost:{postgres.port}/postgres?sslmode=verify-full",
        }


def settings_folder(folder: Path, authority: Path) -> Path:
    """Write what an operator mounts, readable for the image's user."""
    mounted = folder / "etc-footfall"
    mounted.mkdir(0o755)
    (mounted / "footfall.toml").write_text(SETTINGS)
    (mounted / "authority.pem").write_bytes(authority.read_bytes())
    return mounted


async def count(buildah: Buildah, folder: Path, given: Mapping[str, str]) -> None:
    """Run the image as an engine does: migrate, then serve; count views, ask its health, and stop it."""
    config = buildah.config()
    mounted = settings_folder(folder, folder / "stores" / "authority.pem")
    port, ops_port = free_port(), free_port()
    environ = {"FOOTFALL_LISTEN": f"127.0.0.1:{port}", "FOOTFALL_OPS_LISTEN": f"127.0.0.1:{ops_port}", **given}
    container = buildah("from", "--pull-never", IMAGE)
    for name, value in environ.items():
        buildah("config", "--env", f"{name}={value}", container)

    def run(*words: str) -> list[str]:
        mount = f"{mounted}:/etc/footfall:ro"
        return buildah.command("run", "--isolation", "chroot", "--volume", mount, container, "--", *words)

    entry, health = config["Entrypoint"], config["Healthcheck"]["Test"][1:]
    numbers = subprocess.run(run("id", "-u"), capture_output=True, text=True, check=True).stdout.strip()
    assert (numbers, config["User"], config["StopSignal"]) == ("10001", "10001:10001", "SIGTERM")
    assert subprocess.run(run(*health), capture_output=True, check=False).returncode != 0
    step("Its health check fails while Footfall does not run.")
    subprocess.run(run(*entry, "migrate"), check=True)
    serving = await asyncio.create_subprocess_exec(*run(*entry, *config["Cmd"]))
    try:
        url, ops = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops_port}"
        async with aiohttp.ClientSession() as http:
            await until_ready(http, f"{ops}/readyz", serving)
            assert [await see(http, url) for _ in range(3)] == [200] * 3
            async with http.get(f"{ops}/version") as answer:
                assert __version__ in await answer.text()
        subprocess.run(run(*health), check=True)
        step("As user 10001 it migrated, counted three views through TLS, and is healthy by its own check.")
    finally:
        footfall_of(serving.pid).terminate()
        async with asyncio.timeout(STOP_TIMEOUT_S):
            status = await serving.wait()
    assert status == 0, status
    step("SIGTERM ended it with status 0.")


def footfall_of(buildah_pid: int) -> psutil.Process:
    """Return the process that the image names: an engine would send its signal to it, and buildah passes none on."""
    children = psutil.Process(buildah_pid).children(recursive=True)
    [found] = [child for child in children if child.cmdline()[1:3] == ["-m", "footfall"]]
    assert found.uids().real == USER
    return found


async def until_ready(http: aiohttp.ClientSession, url: str, process: asyncio.subprocess.Process) -> None:
    """Wait until every part of the service answers that it is well."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            assert process.returncode is None, "Footfall ended"
            try:
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


async def pin(buildah: Buildah, folder: Path) -> None:
    """Publish images of all the names, pin them, publish others, and renew."""
    async with registry(folder / "registry") as address:
        checkout, names = checkout_for(address, folder / "checkout")
        digests = []
        for image in (BASE, IMAGE):
            for name in names:
                buildah("push", "--quiet", "--tls-verify=false", image, f"docker://{address}/{name}")
            digests.append(pinned(checkout, address))
            assert digests[-1].keys() == names, (digests[-1], names)
        assert all(digests[0][name] != digests[1][name] for name in names)
        for name, digest in digests[1].items():
            buildah("pull", "--quiet", "--tls-verify=false", f"{address}/{name}@{digest}")
    step(f"pin-images.sh wrote the digests of {', '.join(sorted(names))}, and renewed them.")


async def main() -> None:
    """Build, run, count, pin."""
    need("buildah", "debootstrap", "openssl", "skopeo", "docker-registry", "redis-server")
    with tempfile.TemporaryDirectory(prefix="footfall-image-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        buildah = Buildah(folder)
        make_base(buildah, folder)
        step("Made a base with Debian's Python.")
        buildah.build(BASE)
        step("buildah built the Dockerfile on it.")
        async with stores(folder / "stores") as given:
            await count(buildah, folder, given)
        await pin(buildah, folder)


if __name__ == "__main__":
    asyncio.run(main())
