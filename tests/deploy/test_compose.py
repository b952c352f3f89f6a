"""What the guide says of Docker Compose, compared with compose.yaml, and run where no engine is needed."""

import asyncio
import os
import re
import shlex
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import yaml

from footfall import sql_folder
from footfall.embedded.servers import Postgres
from footfall.stores.migrations import migrate
from footfall.stores.postgres_store import open_postgres
from tests.deploy.machines.guide import blocks, section
from tests.support.footfall import SITE
from tests.support.postgres_programs import program_path
from tests.support.project import PROJECT

DEPLOY = PROJECT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
OF_OTHERS = re.compile(r"^(?:ARG PYTHON_IMAGE=| +image: )(\S+:\S+)$", re.MULTILINE)
EXEC = "docker compose exec -T postgres "


def commands(start: str) -> list[str]:
    """Return the commands of the guide's part about Compose that begin like this, their lines joined."""
    lines = "\n".join("\n".join(lines) for lines in blocks(section(DEPLOY / "README.md", "With Docker Compose")))
    return [line for line in re.sub(r"\\\n\s*", "", lines).splitlines() if line.startswith(start)]


def test_no_container_fills_the_disk_with_its_log() -> None:
    """Docker's default keeps every line for ever, and a log that fills the disk stops both stores."""
    for name, service in SERVICES.items():
        assert {"max-size", "max-file"} <= service["logging"]["options"].keys(), name


def test_every_image_of_others_can_be_pinned() -> None:
    """An image that the script does not see keeps a tag, which may hold other bytes on the next host."""
    dockerfile = (PROJECT / "Dockerfile").read_text("utf-8")
    compose = (DEPLOY / "compose.yaml").read_text("utf-8")
    foreign = {service["image"] for service in SERVICES.values()} - {"footfall"}
    assert set(OF_OTHERS.findall(compose)) == foreign
    assert len(OF_OTHERS.findall(dockerfile)) == 1
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
    pattern = r"^(ARG PYTHON_IMAGE=| +image: )([^@ ]+:[^@ ]+)(@.*)?$"
    assert pattern in (DEPLOY / "pin-images.sh").read_text("utf-8")


def test_the_guide_names_what_the_compose_file_has() -> None:
    """A service, a user or a volume of another name is an error in the middle of an upgrade."""
    for line in commands("docker compose "):
        words = shlex.split(line)
        if words[2] in {"exec", "run"}:
            service = next(word for word in words[3:] if not word.startswith("-"))
            assert service in SERVICES, line
        for option, variable in (("--username=", "POSTGRES_USER"), ("--dbname=", "POSTGRES_DB")):
            for word in words:
                if word.startswith(option):
                    assert word == option + SERVICES["postgres"]["environment"][variable]
    text = section(DEPLOY / "README.md", "With Docker Compose")
    named = set(re.findall(r"docker volume rm (\w+)", text))
    assert named <= {f"{COMPOSE['name']}_{volume}" for volume in COMPOSE["volumes"]}
    assert named


async def test_the_backup_of_the_guide_can_be_restored(own_postgres: Postgres, tmp_path: Path) -> None:
    """These lines are the only ones that an operator with Compose has; a dump that cannot be read is found too late."""
    await at(own_postgres, "CREATE DATABASE footfall")
    url = own_postgres.url.replace("/postgres?", "/footfall?")
    await migrate(url, sql_folder())
    async with open_postgres(url) as postgres:
        await postgres.adjust(SITE, "old", 1_373_876, "the old counter")
    dump, check, restore = commands(EXEC)
    for command in (dump, check):
        await as_in_the_container(command, own_postgres, tmp_path)
    await at(own_postgres, "DROP DATABASE footfall")
    await at(own_postgres, "CREATE DATABASE footfall")
    await as_in_the_container(restore, own_postgres, tmp_path)
    restored = await asyncpg.connect(url)
    assert await restored.fetchval("SELECT sum(amount) FROM footfall.adjustment") == 1_373_876
    await restored.close()


def test_it_leaves_out_what_backup_sh_leaves_out() -> None:
    """A dump with the salt could tell who was who."""
    dump, _, restore = (set(shlex.split(command)) for command in commands(EXEC))
    for script, words in (("backup.sh", dump), ("restore.sh", restore)):
        text = (DEPLOY / script).read_text()
        [line] = re.findall(r"^(?:exec )?pg_(?:dump|restore) (--.*--dbname=.*)$", text, re.MULTILINE)
        options = {word for word in shlex.split(line) if not word.startswith(("--file", "--dbname", "$"))}
        assert options <= words, script


async def at(server: Postgres, statement: str) -> None:
    """Run a statement as the administrator."""
    session = await asyncpg.connect(server.url)
    await session.execute(statement)
    await session.close()


async def as_in_the_container(command: str, server: Postgres, folder: Path) -> None:
    """Run a line of the guide in a shell, with PostgreSQL's programs and server at hand as in the container."""
    query = parse_qs(urlsplit(server.url).query)
    environ = {
        "PATH": f"{program_path('pg_dump').parent}:{os.environ['PATH']}",
        "PGHOST": query["host"][0],
        "PGPORT": query["port"][0],
    }
    process = await asyncio.create_subprocess_shell(
        command.removeprefix(EXEC), cwd=folder, env=environ, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
