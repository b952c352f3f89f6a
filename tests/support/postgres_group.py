"""A PostgreSQL on a port, and a standby that follows it: the programs of the embedded wheel."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import asyncpg

from footfall.embedded.accounts import move, setup_account
from footfall.embedded.servers import USER, Postgres
from tests.support.ports import free_port
from tests.support.postgres_programs import program_path


class OpenPostgres(Postgres):
    """A PostgreSQL that listens on `port` of loopback and lets a standby follow."""

    hba = "local all all trust\nhost all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"

    def __init__(self, data_dir: Path, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        self.port = free_port()
        super().__init__(data_dir, {"listen_addresses": "127.0.0.1", "port": str(self.port), **settings})

    @property
    def url(self) -> str:
        """Return the URL for asyncpg, with the owner's role, through the port."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres?sslmode=disable"


class Standby(OpenPostgres):
    """A copy of `primary` that follows it until `promote`."""

    def __init__(
        self, data_dir: Path, primary: OpenPostgres, settings: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(data_dir, settings)
        self._primary = primary

    async def promote(self) -> None:
        """Make it a primary, and wait until it is one."""
        admin = await asyncpg.connect(self.url)
        try:
            assert await admin.fetchval("SELECT pg_promote(true, 30)")
        finally:
            await admin.close()

    async def _make_cluster(self) -> None:
        self.folder.mkdir(mode=0o700)
        setup = setup_account(self.account)
        if setup:
            os.chown(self.folder, setup.uid, setup.gid)
        options = ["--pgdata", str(self.folder), "--write-recovery-conf", "--checkpoint=fast"]
        backup = [str(program_path("pg_basebackup")), *options, f"--dbname={self._primary.url}"]
        await self._run_to_end(backup, setup)
        if self.account:
            move(self.folder, self.account)
