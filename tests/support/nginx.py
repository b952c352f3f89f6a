"""Debian's nginx with a file as an operator copies it, but for its addresses and folders."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.certificates import make_authority, sign
from tests.support.patience import PATIENCE_S
from tests.support.ports import free_port

FOLDERS_OF_DEBIAN = ("cache", "log/nginx", "lib/nginx")
"""What Debian's package, and Debian itself, have below /var; every other folder has to be made by nginx."""
AROUND = """{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/footfall.conf;
}}
"""


def find_nginx() -> str | None:
    """Return the path of nginx; Debian installs it in a folder that only root's path has."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@asynccontextmanager
async def nginx_of(text: str, folder: Path, upstreams: Iterable[str]) -> AsyncIterator[str]:
    """Run nginx with this file in front of `upstreams` (host:port each); yield its URL, with TLS by `authority.pem`."""
    program = find_nginx()
    if program is None:
        pytest.skip("nginx is not installed")
    for existing in FOLDERS_OF_DEBIAN:
        (folder / "var" / existing).mkdir(parents=True)
    certificate = sign(make_authority(folder, "authority"), "fullchain", host="localhost")
    port = free_port()
    (folder / "footfall.conf").write_text(with_our_places(text, folder, certificate, port, upstreams))
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, user=user))
    process = await asyncio.create_subprocess_exec(
        program, "-p", str(folder), "-c", str(folder / "nginx.conf"), stderr=asyncio.subprocess.PIPE
    )
    try:
        await _until_it_listens(process, port)
        yield f"https://localhost:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def with_our_places(text: str, folder: Path, certificate: Path, port: int, upstreams: Iterable[str]) -> str:
    """Return the file with these places in the stead of an operator's; each must be there to be changed."""
    listed = [line for line in text.splitlines() if re.match(r"    server 127\.0\.0\.1:8080\b", line)]
    changes = (
        (re.escape(listed[0]), "\n".join(listed[0].replace("127.0.0.1:8080", upstream) for upstream in upstreams)),
        (r"listen (\[::\]:)?443 ", rf"listen \g<1>{port} "),
        (r"/etc/ssl/footfall/fullchain\.pem", str(certificate)),
        (r"/etc/ssl/footfall/privkey\.pem", f"{certificate}.key"),
        (r"(?<= )/var/", f"{folder}/var/"),
    )
    for pattern, place in changes:
        text, times = re.subn(pattern, place, text)
        assert times, pattern
    return text


async def _until_it_listens(process: asyncio.subprocess.Process, port: int) -> None:
    for _ in range(PATIENCE_S * 50):
        if process.returncode is not None:
            assert process.stderr is not None
            raise AssertionError((await process.stderr.read()).decode())
        try:
            _, writer = await asyncio.open_connection("localhost", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise AssertionError("nginx did not listen in time")
