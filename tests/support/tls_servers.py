"""Debian's Redis and PostgreSQL, which speak TLS; the servers of the wheels were built without it."""

import asyncio
import os
import shutil
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from footfall.embedded.child import Child
from footfall.embedded.servers import Postgres, Valkey
from tests.support.ports import free_port

REDIS_SERVER = shutil.which("redis-server")
POSTGRES_PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


class TlsRedis(Valkey):
    """A Redis that speaks TLS on `port` once it has a certificate to show."""

    title = "Redis"

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        assert REDIS_SERVER is not None
        self._binary = Path(REDIS_SERVER)
        self.port = free_port()

    async def show(self, certificate: Path) -> None:
        """Show this certificate to new clients."""
        file, key = take_over(self, certificate)
        async with Redis.from_url(self.url) as admin:
            await admin.config_set(
                "tls-port", str(self.port), "tls-cert-file", file, "tls-key-file", key, "tls-auth-clients", "no",
                "tls-ca-cert-file", file,
            )  # fmt: skip


class TlsPostgres(Postgres):
    """A PostgreSQL that listens on `port`, and speaks TLS there once it has a certificate to show."""

    hba = "local all all trust\nhost all all 127.0.0.1/32 trust\n"

    def __init__(self, data_dir: Path) -> None:
        self.port = free_port()
        super().__init__(data_dir, {"listen_addresses": "127.0.0.1", "port": str(self.port), "fsync": "off"})
        assert POSTGRES_PROGRAMS is not None
        self._programs = POSTGRES_PROGRAMS
        self._binary = POSTGRES_PROGRAMS / "postgres"

    @property
    def url(self) -> str:
        """Return the URL for asyncpg, with the owner's role, past TLS."""
        return super().url.replace("port=5432", f"port={self.port}")

    async def show(self, certificate: Path) -> None:
        """Show this certificate to new clients."""
        file, key = take_over(self, certificate)
        admin = await asyncpg.connect(self.url)
        try:
            for name, value in (("ssl_cert_file", file), ("ssl_key_file", key), ("ssl", "on")):
                await admin.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            await admin.execute("SELECT pg_reload_conf()")
        finally:
            await admin.close()
        for _ in range(1000):
            if await self._shown() == file:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("PostgreSQL did not read its settings again")

    async def _shown(self) -> str:
        session = await asyncpg.connect(self.url)
        try:
            return str(await session.fetchval("SHOW ssl_cert_file"))
        finally:
            await session.close()


def take_over(server: Child, certificate: Path) -> tuple[str, str]:
    """Copy a certificate and its key to where the account of the server may read them; return both paths."""
    copies = []
    for file in (certificate, Path(f"{certificate}.key")):
        copy = server.folder / file.name
        shutil.copyfile(file, copy)
        copy.chmod(0o600)
        owner = server.folder.stat()
        os.chown(copy, owner.st_uid, owner.st_gid)
        copies.append(str(copy))
    return copies[0], copies[1]
