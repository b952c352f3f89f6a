"""A server as a child process on its own folder: start it, stop it, find it again after a crash."""

import asyncio
import os
import signal
import stat
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import psutil
from psutil import Process

from footfall.embedded.accounts import Account, former_owners, let_reach, move, server_account
from footfall.embedded.launch import Launch, choose_launch
from footfall.errors import Stop

START_TIMEOUT_S = 60.0  # includes crash recovery and the reading of a long append-only file
STOP_TIMEOUT_S = 20.0
POLL_S = 0.01
LOG_MAX_BYTES = 1024 * 1024


class Child(ABC):
    """A server on `folder`, with its sockets in `socket_folder` and its log beside `folder`.

    A stopped server may start again on the same data. Start it from the main thread: Linux signals the server
    when the thread that started it ends.
    """

    title: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, binary: Path, folder: Path, socket_folder: Path, pid_file: Path) -> None:
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self._binary = binary
        self._socket_folder = socket_folder
        self._pid_file = pid_file
        self._launch = Launch()
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the command that runs the server in the foreground; its argument `folder` identifies it later."""

    @abstractmethod
    async def _is_ready(self) -> bool:
        """Return whether the server answers its clients."""

    async def _prepare(self) -> None:
        """Prepare `folder` for a start."""
        self._make_private(self.folder)

    @property
    def account(self) -> Account | None:
        """Return the account of the server from its first start on; None for this process's own."""
        return self._launch.account

    @property
    def running(self) -> bool:
        """Return whether this object started the server and it has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Return the process id of the last start."""
        if self._process is None:
            raise RuntimeError(f"{self.title} was never started")
        return self._process.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the server and wait until it answers; first stop a server that a killed parent left on `folder`.

        Raises Stop, naming the log, when the server ends early or does not answer in time.
        """
        ready = False
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                self._make_data_dir()
                self._make_private(self._socket_folder)
                await self._stop_leftover()
                await self._prepare()
                await self._spawn_until_ready()
            ready = True
        except TimeoutError as late:
            raise Stop(f"{self.title} did not answer within {START_TIMEOUT_S:.0f} s, see {self.log}") from late
        finally:
            if not ready:
                self.kill()

    async def stop(self) -> None:
        """Stop the server cleanly; kill it after `STOP_TIMEOUT_S`, or when this call is cancelled."""
        if not self.running:
            return
        self.resume()
        try:
            os.kill(self.pid, self.stop_signal)
            async with asyncio.timeout(STOP_TIMEOUT_S):
                while self.running:
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the server and its children, as a crash would: at once, nothing saved."""
        if self._process is not None:
            self._signal_all(signal.SIGKILL)
            self._process.wait(timeout=STOP_TIMEOUT_S)

    def suspend(self) -> None:
        """Suspend the server and its children until `resume`: connections stay open, nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `suspend`."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        if self.running:
            _send(number, _family(Process(self.pid)))

    async def _spawn_until_ready(self) -> None:
        self._spawn(self._command(), self.account)
        while not await self._is_ready():
            if not self.running:
                raise self._failure()
            await asyncio.sleep(POLL_S)

    async def _run_to_end(self, command: list[str], account: Account | None) -> None:
        """Run a command that prepares the folder under `account`; raises Stop if it fails."""
        self._spawn(command, account)
        while self.running:
            await asyncio.sleep(POLL_S)
        if self._process is not None and self._process.returncode != 0:
            raise self._failure()

    def _spawn(self, command: list[str], account: Account | None) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_MAX_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        try:
            self.log.touch(mode=0o600)
            if self.account:
                os.chown(self.log, self.account.uid, self.account.gid)
            self._log_start = self.log.stat().st_size
            self._process = replace(self._launch, account=account).popen(command, self.log)
        except OSError as error:
            raise Stop(f"{self.title} cannot be started: {error}") from error

    def _failure(self) -> Stop:
        """Return a Stop with the most useful line of the log: this start's last error, else its last line."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read(LOG_MAX_BYTES).decode(errors="replace").strip().splitlines()
        complaints = [line for line in lines if "FATAL:" in line or "error:" in line]
        words = (complaints or lines or ["its log is empty"])[-1]
        return Stop(f"{self.title} did not start, see {self.log}: {words}")

    def _make_data_dir(self) -> None:
        data_dir = self.folder.parent
        data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        account = server_account(data_dir)
        let_reach(account, self._binary, self.folder, self._socket_folder)
        self._launch = choose_launch(account, self.stop_signal)

    def _make_private(self, folder: Path) -> None:
        """Let only the server's account enter `folder`, which may be of an earlier start under another account."""
        ours = {os.geteuid()} | ({self.account.uid} if self.account else set())
        if self.account and folder.parent == self.folder.parent:
            ours |= former_owners()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid not in ours:
                raise Stop(f"{folder} belongs to another account: run Footfall under that one, or move the folder")
            folder.chmod(0o700)
            if self.account and status.st_uid != self.account.uid:
                move(folder, self.account)
        except OSError as error:
            raise Stop(f"{self.title} cannot use its folder: {error}") from error

    async def _stop_leftover(self) -> None:
        """Stop the server that a killed parent left on `folder`, and remove its pid file."""
        leftover = self._leftover()
        if leftover is not None:
            family = _family(leftover)
            _send(signal.SIGCONT, family)
            _send(self.stop_signal, [leftover])
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    while _lives(leftover):
                        await asyncio.sleep(POLL_S)
            _send(signal.SIGKILL, filter(_lives, family))
        self._pid_file.unlink(missing_ok=True)

    def _leftover(self) -> Process | None:
        try:
            process = Process(int(self._pid_file.read_text().split()[0]))
            program, *arguments = process.cmdline()
        except (OSError, ValueError, IndexError, psutil.Error):
            return None
        is_ours = Path(program).name == self._binary.name and str(self.folder) in arguments
        return process if is_ours else None


def _family(parent: Process) -> list[Process]:
    """Return a process and its descendants; a signal to PostgreSQL's process group misses its children."""
    try:
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _send(number: signal.Signals, processes: Iterable[Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _lives(process: Process) -> bool:
    try:
        # A container without an init keeps zombies, which hold no folder any more.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
