"""Debian's reverse proxies with the files of `deploy/proxies/`, but for addresses and folders."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.certificates import make_authority, sign
from tests.support.patience import PATIENCE_S
from tests.support.ports import free_port
from tests.support.project import PROJECT

FOLDER = PROJECT / "deploy" / "proxies"
APACHE = """ServerRoot {folder}
PidFile {folder}/pid
ErrorLog {folder}/error.log
ServerName localhost
DefaultRuntimeDir {folder}
Listen {port}
{modules}
{account}
Include {folder}/file
"""
APACHE_MODULES = (
    *("mpm_event", "authz_core", "ssl", "socache_shmcb", "http2"),
    *("headers", "reqtimeout", "proxy", "proxy_http"),
)


def program(name: str) -> str:
    """Return the path of a program; Debian keeps servers in a folder that only root's path has."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@asynccontextmanager
async def proxy(name: str, folder: Path, upstream: str) -> AsyncIterator[str]:
    """Run apache2, haproxy or caddy in front of `upstream` (host:port); yield its URL, with TLS by `authority.pem`."""
    path, port = program(name), free_port()
    certificate = sign(make_authority(folder, "authority"), "fullchain", host="localhost")
    command = [path, *COMMANDS[name](folder, certificate, port, upstream)]
    # The folder stands for the home of an account that has none: caddy keeps its state there.
    environ = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "output").open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output, env=environ)
    try:
        for _ in range(PATIENCE_S * 50):
            assert process.returncode is None, (folder / "output").read_text()
            try:
                _, writer = await asyncio.open_connection("localhost", port)
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.02)
        yield f"https://localhost:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def changed(file: str, changes: Sequence[tuple[str, str]]) -> str:
    """Return the text of a file with other places, each of which must be there to be changed."""
    text = (FOLDER / file).read_text("utf-8")
    for place, ours in changes:
        assert place in text, (file, place)
        text = text.replace(place, ours)
    return text


def apache2(folder: Path, certificate: Path, port: int, upstream: str) -> list[str]:
    """Write Apache's files and return its options."""
    changes = (
        ("*:443", f"*:{port}"),
        ("/etc/ssl/footfall/fullchain.pem", str(certificate)),
        ("/etc/ssl/footfall/privkey.pem", f"{certificate}.key"),
        ("${APACHE_LOG_DIR}", str(folder)),
        ("127.0.0.1:8080", upstream),
    )
    (folder / "file").write_text(changed("apache.conf", changes))
    modules = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in APACHE_MODULES)
    account = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    (folder / "apache.conf").write_text(APACHE.format(folder=folder, port=port, modules=modules, account=account))
    return ["-D", "FOREGROUND", "-f", str(folder / "apache.conf")]


def haproxy(folder: Path, certificate: Path, port: int, upstream: str) -> list[str]:
    """Write HAProxy's files and return its options."""
    both = folder / "footfall.pem"
    both.write_text(certificate.read_text() + Path(f"{certificate}.key").read_text())
    changes = (
        ("bind :443", f"bind 127.0.0.1:{port}"),
        ("/etc/haproxy/footfall.pem", str(both)),
        ("127.0.0.1:8080", upstream),
    )
    (folder / "file").write_text(changed("haproxy.cfg", changes))
    return ["-db", "-f", str(folder / "file")]


def caddy(folder: Path, certificate: Path, port: int, upstream: str) -> list[str]:
    """Write Caddy's files and return its options."""
    ours = (
        f"{{\n\tadmin off\n\tauto_https off\n}}\nhttps://localhost:{port} {{\n\ttls {certificate} {certificate}.key\n"
    )
    changes = (("\ncount.example.vn {\n", f"\n{ours}"), ("127.0.0.1:8080", upstream))
    (folder / "file").write_text(changed("Caddyfile", changes))
    return ["run", "--adapter", "caddyfile", "--config", str(folder / "file")]


COMMANDS = {"apache2": apache2, "haproxy": haproxy, "caddy": caddy}
