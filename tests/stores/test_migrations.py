"""The schema: made once however many start it, whole or not at all, and never taken back by an older program."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from footfall import sql_folder
from footfall.errors import StoreUnavailable
from footfall.stores.migrations import migrate, migrations
from footfall.stores.postgres_store import SCHEMA_VERSION, open_postgres, schema_version


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The program's own migrations, to which a test adds."""
    for _, file in migrations(sql_folder()):
        (tmp_path / file.name).write_text(file.read_text(encoding="utf-8"))
    return tmp_path


async def applied(url: str) -> list[int]:
    connection = await asyncpg.connect(url)
    try:
        return [row["version"] for row in await connection.fetch("SELECT version FROM footfall.migration ORDER BY 1")]
    finally:
        await connection.close()


async def test_ten_that_start_at_once_migrate_once(postgres_url: str) -> None:
    """`docker compose up --scale` starts them in the same second."""
    done = await asyncio.gather(*(migrate(postgres_url, sql_folder()) for _ in range(10)))
    names = [file.name for _, file in migrations(sql_folder())]
    assert sorted(map(len, done)) == [0] * 9 + [len(names)]
    assert names in done
    assert await applied(postgres_url) == [number for number, _ in migrations(sql_folder())]


async def test_a_later_migration_is_added_to_what_is_there(postgres_url: str, folder: Path) -> None:
    """An upgrade applies what is new, in order, and leaves the installation what it is."""
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
    """All in one transaction: the operator corrects it and types the same command again."""
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
    """Old and new run together during an upgrade, and either may be started again."""
    (folder / "0900_later.sql").write_text("CREATE TABLE footfall.later (a int);")
    await migrate(postgres_url, folder)
    assert await migrate(postgres_url, sql_folder()) == []
    assert (await applied(postgres_url))[-1] == 900


async def test_an_empty_database_has_no_version(postgres_url: str) -> None:
    """The program can tell "not migrated" from "away", and says what to do."""
    connection = await asyncpg.connect(postgres_url)
    assert await schema_version(connection) == 0
    await connection.close()
    async with open_postgres(postgres_url) as store:
        with pytest.raises(StoreUnavailable, match="run `footfall migrate`"):
            await store.installation()


async def test_a_server_that_is_away_is_told_in_a_sentence(tmp_path: Path) -> None:
    """The command prints it and stops."""
    with pytest.raises(StoreUnavailable, match="postgres"):
        await migrate(f"postgresql://nobody@/nowhere?host={tmp_path}", sql_folder())


def test_the_program_relies_on_the_newest_migration() -> None:
    """Whoever adds a migration that the code needs also raises the version that the code asks for."""
    numbers = [number for number, _ in migrations(sql_folder())]
    assert numbers == list(range(1, len(numbers) + 1))
    assert max(numbers) >= SCHEMA_VERSION
