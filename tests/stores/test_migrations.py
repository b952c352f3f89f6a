"""The schema: migrated once, whole or not at all, and never changed back by an older program."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from footfall import sql_folder
from footfall.errors import StoreUnavailable
from footfall.stores.migrations import migrate, migrations
from footfall.stores.postgres_connection import schema_version
from footfall.stores.postgres_store import SCHEMA_VERSION, open_postgres


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the program's migrations, to which a test adds."""
    for _, file in migrations(sql_folder()):
        (tmp_path / file.name).write_text(file.read_text(encoding="utf-8"))
    return tmp_path


async def applied(url: str) -> list[int]:
    """Return the numbers of the migrations that the database has."""
    connection = await asyncpg.connect(url)
    try:
        return [row["version"] for row in await connection.fetch("SELECT version FROM footfall.migration ORDER BY 1")]
    finally:
        await connection.close()


async def test_ten_processes_that_start_at_once_migrate_once(postgres_url: str) -> None:
    """`docker compose up --scale` starts all workers in the same second."""
    done = await asyncio.gather(*(migrate(postgres_url, sql_folder()) for _ in range(10)))
    names = [file.name for _, file in migrations(sql_folder())]
    assert sorted(map(len, done)) == [0] * 9 + [len(names)]
    assert names in done
    assert await applied(postgres_url) == [number for number, _ in migrations(sql_folder())]


async def test_an_upgrade_applies_the_later_migrations(postgres_url: str, folder: Path) -> None:
    """In order, each once; the installation keeps its id."""
    await migrate(postgres_url, folder)
    async with open_postgres(postgres_url) as store:
        installation = await store.installation()
    (folder / "0901_second.sql").write_text("ALTER TABLE footfall.later ADD COLUMN b int;")
    (folder / "0900_first.sql").write_text("CREATE TABLE footfall.later (a int);")
    (folder / "roles.sql").write_text("this is not a migration")
    assert await migrate(postgres_url, folder) == ["0900_first.sql", "0901_second.sql"]
    assert await migrate(postgres_url, folder) == []
    async with open_postgres(postgres_url) as store:
        assert await store.installation() == installation


async def test_an_upgrade_that_fails_leaves_nothing_half_done(postgres_url: str, folder: Path) -> None:
    """All migrations run in one transaction: the operator corrects the file and types the same command again."""
    await migrate(postgres_url, folder)
    before = await applied(postgres_url)
    (folder / "0900_good.sql").write_text("CREATE TABLE footfall.later (a int);")
    (folder / "0901_bad.sql").write_text("CREATE TABLE footfall.worse (a no_such_type);")
    with pytest.raises(StoreUnavailable, match="no_such_type"):
        await migrate(postgres_url, folder)
    assert await applied(postgres_url) == before
    (folder / "0901_bad.sql").unlink()
    assert await migrate(postgres_url, folder) == ["0900_good.sql"]


async def test_an_older_program_leaves_a_newer_schema_alone(postgres_url: str, folder: Path) -> None:
    """Old and new workers run together during an upgrade, and either may be started again."""
    (folder / "0900_later.sql").write_text("CREATE TABLE footfall.later (a int);")
    await migrate(postgres_url, folder)
    assert await migrate(postgres_url, sql_folder()) == []
    assert (await applied(postgres_url))[-1] == 900


async def test_an_empty_database_has_no_version(postgres_url: str) -> None:
    """The program tells "not migrated" from "away": the error names the command to run."""
    connection = await asyncpg.connect(postgres_url)
    assert await schema_version(connection) == 0
    await connection.close()
    async with open_postgres(postgres_url) as store:
        with pytest.raises(StoreUnavailable, match="run `footfall migrate`"):
            await store.installation()


async def test_a_server_that_is_away_is_one_kind_of_error(tmp_path: Path) -> None:
    """The command prints its sentence and stops."""
    with pytest.raises(StoreUnavailable, match="postgres"):
        await migrate(f"postgresql://nobody@/nowhere?host={tmp_path}", sql_folder())


def test_the_program_relies_on_the_newest_migration() -> None:
    """A migration that the code needs also raises the version that the code asks for; no number is left out."""
    numbers = [number for number, _ in migrations(sql_folder())]
    assert numbers == list(range(1, len(numbers) + 1))
    assert max(numbers) >= SCHEMA_VERSION
