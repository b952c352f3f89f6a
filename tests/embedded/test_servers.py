"""The embedded servers: real processes, real signals, real folders."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis

from footfall.embedded.servers import Postgres, ServerUrls, Valkey, servers, socket_folder
from footfall.errors import Stop
from footfall.signals import default_signals
from tests.support.ordinary_account import python_of, rights
from tests.support.project import PROJECT


@contextmanager
def parent_of_servers(data_dir: Path, user: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run the servers of `data_dir` in another process; enter the block once they answer."""
    python = python_of(user)
    command = [*python.words, "-m", "tests.support.servers", str(data_dir)]
    with default_signals():
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=os.environ | python.environ,
            start_new_session=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    with process as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        if parent.stdout.readline() != "ready\n":
            pytest.fail(parent.stderr.read())
        try:
            yield parent
        finally:
            parent.terminate()


def server_processes(data_dir: Path) -> list[psutil.Process]:
    """Return every live process whose command line names a server's folder under `data_dir`."""
    folders = {str(data_dir / "valkey"), str(data_dir / "postgres")}
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if folders & set(process.info["cmdline"] or ()) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


async def count_up(urls: ServerUrls) -> tuple[int, int]:
    """Write one more into both stores and return what each now holds."""
    async with Redis.from_url(urls.redis) as redis:
        in_redis = await redis.incr("number")
    connection = await asyncpg.connect(urls.postgres)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS number ()")
        await connection.execute("INSERT INTO number DEFAULT VALUES")
        return in_redis, await connection.fetchval("SELECT count(*) FROM number")
    finally:
        await connection.close()


async def test_numbers_survive_a_clean_stop(own_folder: Path) -> None:
    """Ctrl-C and the next `make run` show the same numbers."""
    for expected in (1, 2, 3):
        async with servers(own_folder) as urls:
            assert await count_up(urls) == (expected, expected)
        assert server_processes(own_folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_parent_leaves_no_process_behind(own_folder: Path, number: signal.Signals) -> None:
    """A user who tries Footfall must not find its servers running after it ended."""
    with parent_of_servers(own_folder) as parent:
        assert len(server_processes(own_folder)) == 2
        parent.send_signal(number)
        assert parent.wait(timeout=30) == 0
    assert server_processes(own_folder) == []


def test_the_terminal_s_ctrl_c_reaches_only_the_parent(own_folder: Path) -> None:
    """The service drains into its stores after Ctrl-C, so Ctrl-C must not stop the stores at the same time."""
    with parent_of_servers(own_folder) as parent:
        assert {os.getpgid(server.pid) for server in server_processes(own_folder)}.isdisjoint({parent.pid})


async def test_a_start_after_kill_9_finds_the_same_numbers(own_folder: Path) -> None:
    """A crash of Footfall must not need an operator, even where its servers keep running without it."""
    with parent_of_servers(own_folder) as parent:
        parent.kill()
    async with servers(own_folder) as urls:
        assert await count_up(urls) == (1, 1)
        assert len(server_processes(own_folder)) == 2


async def test_servers_left_running_are_stopped_before_a_start(own_folder: Path) -> None:
    """Two servers on one folder would destroy it; macOS does not stop them when their parent is killed."""
    orphans = (Valkey(own_folder), Postgres(own_folder))
    for orphan in orphans:
        await orphan.start()
    async with servers(own_folder) as urls:
        assert await count_up(urls) == (1, 1)
        assert not any(orphan.running for orphan in orphans)


async def test_a_suspended_server_left_behind_is_stopped_too(own_folder: Path) -> None:
    """A suspended process receives a signal only when it continues; the start must not wait for it."""
    orphan = Postgres(own_folder)
    await orphan.start()
    orphan.suspend()
    async with Postgres(own_folder) as server:
        assert server.pid != orphan.pid
        assert not orphan.running


async def test_stale_files_of_a_crash_do_not_stop_a_start(own_folder: Path) -> None:
    """After a reboot the ids in these files may belong to other processes, which must not be signalled."""
    async with servers(own_folder):
        pass
    bystander = subprocess.Popen(["sleep", "60"])
    run = socket_folder(own_folder)
    (own_folder / "valkey" / "valkey.pid").write_text(f"{bystander.pid}\n")
    lock = f"{bystander.pid}\n{own_folder / 'postgres'}\n1700000000\n5432\n{run}\n\n  1  1\nready\n"
    (own_folder / "postgres" / "postmaster.pid").write_text(lock)
    (run / ".s.PGSQL.5432.lock").write_text(lock)
    for name in ("valkey.sock", ".s.PGSQL.5432"):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(run / name))
    try:
        async with servers(own_folder) as urls:
            assert await count_up(urls) == (1, 1)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


async def test_a_start_killed_while_making_the_cluster_is_made_again(own_folder: Path) -> None:
    """PostgreSQL takes half a cluster for a whole one, and then never starts."""
    unfinished = own_folder / "postgres.123.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    async with servers(own_folder) as urls:
        assert await count_up(urls) == (1, 1)
    assert not unfinished.exists()


async def test_the_second_start_on_a_folder_is_refused_in_one_sentence(own_folder: Path) -> None:
    """Typing `make run` twice is easy; the second run must harm nothing and explain itself."""
    with parent_of_servers(own_folder) as parent:
        with pytest.raises(Stop, match="another Footfall is running on the data folder") as refusal:
            async with servers(own_folder):
                pytest.fail("two on one folder")
        assert refusal.value.status == 2
        assert parent.poll() is None
        assert len(server_processes(own_folder)) == 2


async def test_a_long_path_gets_its_sockets_elsewhere(own_folder: Path) -> None:
    """A socket's path may have 103 bytes, and home folders are deep."""
    deep = own_folder / ("đường-dẫn-dài-" * 6)
    try:
        async with servers(deep) as urls:
            assert await count_up(urls) == (1, 1)
            assert socket_folder(deep).stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(socket_folder(deep))


async def test_a_socket_folder_of_somebody_else_is_refused(own_folder: Path) -> None:
    """Another account can guess the name of the folder under /tmp and make it first."""
    deep = own_folder / ("x" * 100)
    elsewhere = own_folder / "elsewhere"
    elsewhere.mkdir(parents=True)
    socket_folder(deep).symlink_to(elsewhere)
    try:
        with pytest.raises(Stop, match="belongs to another account"):
            await Valkey(deep).start()
    finally:
        socket_folder(deep).unlink()


async def test_unusual_characters_in_the_path_are_harmless(own_folder: Path) -> None:
    """Two URLs and the options of two servers contain the path, each with a separator of its own."""
    async with servers(own_folder / "a b%2Fc@d?e'f") as urls:
        assert await count_up(urls) == (1, 1)


async def test_another_major_version_is_refused_with_what_to_do(own_folder: Path) -> None:
    """PostgreSQL does not read its predecessor's folder, and its own message names no remedy."""
    async with Postgres(own_folder):
        pass
    (own_folder / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(Stop, match=r"written by PostgreSQL 17, .* dump it .* restore it .* deploy/README") as refusal:
        async with servers(own_folder):
            pytest.fail("started on another version's folder")
    assert refusal.value.status == 2
    assert server_processes(own_folder) == []


async def test_a_server_that_does_not_start_names_its_log_and_reason(own_folder: Path) -> None:
    """The log's message is what a user needs first."""
    with pytest.raises(Stop, match=r"PostgreSQL did not start, see .*postgres\.log: .*no_such_setting"):
        await Postgres(own_folder, {"no_such_setting": "1"}).start()
    with pytest.raises(Stop, match=r"Valkey did not start, see .*valkey\.log: Bad directive"):
        await Valkey(own_folder, {"no-such-setting": "1"}).start()


async def test_an_unusable_folder_gets_a_sentence(own_folder: Path) -> None:
    """A file in the place of the folder is a typing mistake and gets a sentence, not a traceback."""
    own_folder.write_text("")
    with pytest.raises(Stop, match=r"the data folder .* cannot be used"):
        async with servers(own_folder):
            pytest.fail("started on a file")


async def test_no_server_listens_on_tcp(own_valkey: Valkey, own_postgres: Postgres) -> None:
    """No port of this host leads to the stores, and their folders are closed."""
    for server in (own_valkey, own_postgres):
        assert psutil.Process(server.pid).net_connections("tcp") == []
        assert server.folder.stat().st_mode & 0o777 == 0o700


async def test_valkey_keeps_what_it_is_given(own_valkey: Valkey) -> None:
    """A Valkey that evicts or keeps no file would lose beacons that were answered 200."""
    async with Redis.from_url(own_valkey.url) as redis:
        names = ("appendonly", "appendfsync", "maxmemory-policy")
        settings = [(await redis.config_get(name))[name] for name in names]
    assert settings == ["yes", "everysec", "noeviction"]


@pytest.mark.parametrize("server_class", [Valkey, Postgres])
async def test_a_killed_server_starts_again_at_once(own_folder: Path, server_class: type[Valkey | Postgres]) -> None:
    """The fault tests kill servers often and quickly."""
    async with server_class(own_folder) as server:
        for _ in range(3):
            before = server.pid
            server.kill()
            assert not server.running
            await server.start()
            assert server.pid != before


async def test_a_suspended_server_answers_after_it_is_resumed(own_postgres: Postgres) -> None:
    """A hang is a fault of its own: connections stay open, and no answer comes."""
    connection = await asyncpg.connect(own_postgres.url)
    own_postgres.suspend()
    with pytest.raises(TimeoutError):
        await connection.fetchval("SELECT 1", timeout=0.1)
    own_postgres.resume()
    await connection.close()
    other = await asyncpg.connect(own_postgres.url)
    assert await other.fetchval("SELECT 1") == 1
    await other.close()


def test_root_is_not_needed(own_folder: Path) -> None:
    """Most people run Footfall under their own account; this test uses an ordinary account."""
    if os.geteuid() != 0:
        pytest.skip("not run as root: every other test shows this")
    own_folder.mkdir()
    shutil.chown(own_folder, "nobody")
    with parent_of_servers(own_folder, user="nobody"):
        owners = {process.username() for process in server_processes(own_folder)}
        assert all(rights(process.pid)["NoNewPrivs"] == "1" for process in server_processes(own_folder))
    assert owners == {"nobody"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as with sudo")
async def test_under_sudo_the_files_stay_the_user_s(own_folder: Path) -> None:
    """After one start with sudo by mistake, a start by the user must still work."""
    user = next(entry for entry in pwd.getpwall() if entry.pw_uid not in {0, pwd.getpwnam("nobody").pw_uid})
    own_folder.mkdir(mode=0o700)
    os.chown(own_folder, user.pw_uid, user.pw_gid)
    async with servers(own_folder / "data"):
        pass
    assert {path.stat().st_uid for path in own_folder.rglob("*")} == {user.pw_uid}
