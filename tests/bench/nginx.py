"""Footfall behind nginx: the project's own `deploy/nginx.conf`, with other addresses and folders only.

It gets no certificate, so TLS is not measured. Its limits stay as they are: every request brings another visitor's
address, and nginx is set to take it for the client's (its real-IP module), as if 100,000 people connected.
"""

import asyncio
import os
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import psutil

from footfall.errors import Stop
from tests.bench import machine, traffic
from tests.bench.closedloop import Run, compared, run
from tests.bench.servers import Footfall, Server
from tests.bench.wrk import drive
from tests.support.nginx import find_nginx
from tests.support.ports import free_port
from tests.support.project import PROJECT

FILE = PROJECT / "deploy/nginx.conf"
CONNECTIONS = 64
START_MAX_S = 10
AROUND = """{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    set_real_ip_from 127.0.0.1;
    real_ip_header X-Forwarded-For;
    include {folder}/footfall.conf;
}}
"""


async def measure(service: Footfall, seconds: float, repeats: int) -> dict[str, Any]:
    """Compare polls and beacons through nginx, on Footfall's core, with requests to Footfall itself."""
    async with running(service) as proxy:
        polls = await _compare(proxy, service, traffic.reads(), seconds, repeats)
        before = await service.answered("/counts")
        load = await drive(proxy.url, traffic.reads(), CONNECTIONS, seconds)
        reached = await service.answered("/counts") - before
        beacons = await _compare(proxy, service, traffic.beacons(), seconds, repeats)
    return {
        "polls_per_s": polls["rps"],
        "polls_per_s_direct": polls["baseline_rps"],
        "polls_ratio": polls["ratio"],
        "polls_p99_us": polls["p99_us"],
        "reached_per_s": round(reached / seconds, 1),
        "hit_ratio": round(1 - reached / load.requests, 5),
        "beacons_per_s": beacons["rps"],
        "beacons_per_s_direct": beacons["baseline_rps"],
        "beacons_ratio": beacons["ratio"],
        "beacons_p99_us": beacons["p99_us"],
        "errors": polls["errors"] + beacons["errors"] + load.errors,
    }


async def _compare(
    proxy: Server, service: Server, requests: tuple[bytes, ...], seconds: float, repeats: int
) -> dict[str, float]:
    pairs: list[tuple[Run, Run]] = []
    for server in (service, proxy):
        await drive(server.url, requests, CONNECTIONS, seconds / 2)  # warms up
    for _ in range(repeats):
        direct = await run(service, requests, CONNECTIONS, seconds)
        pairs.append((direct, await run(proxy, requests, CONNECTIONS, seconds)))
    return compared(pairs)


@asynccontextmanager
async def running(
    service: Footfall, certificate: Path | None = None, change: Callable[[str], str] = lambda text: text
) -> AsyncIterator[Server]:
    """Run nginx in front of a Footfall, in a folder of its own, with TLS where it gets a certificate.

    `change` gets the configuration last.
    """
    path = find_nginx()
    if path is None:
        raise Stop("nginx is not installed: `apt install nginx-light` on Debian.")
    with tempfile.TemporaryDirectory(prefix="footfall-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        port = free_port()
        configured = configuration(FILE.read_text("utf-8"), folder, port, service.url, certificate)
        (folder / "footfall.conf").write_text(change(configured))
        (folder / "nginx.conf").write_text(AROUND.format(folder=folder, user="user root;" if os.geteuid() == 0 else ""))
        for needed in ("cache", "log/nginx"):
            (folder / needed).mkdir(parents=True)
        process = subprocess.Popen([path, "-p", name, "-c", str(folder / "nginx.conf")], stderr=subprocess.PIPE)
        try:
            proxy = Server(f"{'https' if certificate else 'http'}://127.0.0.1:{port}", [])
            await _until_it_answers(proxy.url, process)
            # Beside its worker nginx has a cache manager, and a cache loader that soon ends.
            family = psutil.Process(process.pid).children()
            proxy.workers.extend(child for child in family if "worker process" in " ".join(child.cmdline()))
            machine.pin(proxy.workers, machine.SERVER)
            yield proxy
        finally:
            process.terminate()
            process.communicate(timeout=START_MAX_S)


def configuration(text: str, folder: Path, port: int, upstream: str, certificate: Path | None = None) -> str:
    """Return the example, changed to listen on loopback, ask `upstream` and write into `folder`.

    Without a certificate it has no TLS; the key of one is in `FILE.key`.
    """
    tls = (
        (
            (r"listen 443 ", f"listen 127.0.0.1:{port} "),
            (r"/etc/ssl/footfall/fullchain\.pem", str(certificate)),
            (r"/etc/ssl/footfall/privkey\.pem", f"{certificate}.key"),
        )
        if certificate
        else ((r"listen 443 ssl http2;", f"listen 127.0.0.1:{port};"), (r" *ssl_certificate(?:_key)? .*\n", ""))
    )
    changes = (
        *tls,
        (r" *listen \[::\]:443 ssl http2;\n", ""),
        (r"server 127\.0\.0\.1:8080\b", f"server {urlsplit(upstream).netloc}"),
        (r"(?<= )/var/", f"{folder}/"),
    )
    for pattern, place in changes:
        text, times = re.subn(pattern, place, text)
        if not times:
            raise Stop(f"deploy/nginx.conf does not say {pattern} any more; the bench has to learn what it says.", 1)
    return text


async def _until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(START_MAX_S * 20):
            if process.poll() is not None:
                raise Stop(f"nginx does not start:\n{process.communicate()[1].decode()}", 1)
            try:
                async with session.get(f"{url}/counts?site={traffic.SITE}", ssl=False) as answer:
                    await answer.read()
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
    raise Stop("nginx did not answer in time.", 1)
