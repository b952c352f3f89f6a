"""The archive of `make dist`: it installs and starts on a machine without internet, with nothing but Python."""

import asyncio
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
import typer

from footfall import __version__
from footfall.cli.commands import COMPLETE_VARIABLE, app
from tests.support.distribution import SHELLS, completion, copy_deploy, locked
from tests.support.manual import manual
from tests.support.process import SETTINGS, see
from tests.support.project import PROJECT

pytestmark = pytest.mark.timeout(600)
"""Packages are downloaded and installed."""
ALONE = {"PATH": os.environ["PATH"], "PIP_INDEX_URL": "http://127.0.0.1:1", "PIP_CONFIG_FILE": os.devnull}
"""The environment of a machine that reaches no package index and has no Footfall yet."""


def make_archive(folder: Path) -> Path:
    """Make the archive for this Python and machine, and unpack it."""
    command = [sys.executable, "-m", "tests.support.distribution", "--here", "--into", str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"no package index answers: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    archive = f"footfall-{__version__}-linux.tar.gz"
    subprocess.run(["sha256sum", "--check", f"{archive}.sha256"], cwd=folder, check=True)
    with tarfile.open(folder / archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / f"footfall-{__version__}"


def package_files(package: Path) -> set[str]:
    """Return the files of a Debian package; `make bare-debian` installs it."""
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], capture_output=True, check=True, timeout=60)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        return {entry.name.removeprefix("./") for entry in tar if not entry.isdir()}


def install(unpacked: Path, target: Path) -> tuple[int, str]:
    """Run the archive's own script, without an index; return its exit status and what it printed."""
    command = ["sh", str(unpacked / "install.sh"), str(target), sys.executable]
    done = subprocess.run(command, env=ALONE, cwd="/", capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout + done.stderr


async def serves(program: Path, environ: Mapping[str, str], folder: Path) -> None:
    """Start the installed program, count a view with it, and stop it."""
    migrate = await asyncio.create_subprocess_exec(program, "migrate", cwd=folder, env=environ)
    assert await migrate.wait() == 0
    pipe = asyncio.subprocess.PIPE
    serve = await asyncio.create_subprocess_exec(program, "serve", cwd=folder, env=environ, stdout=pipe)
    try:
        assert serve.stdout is not None
        async with asyncio.timeout(60):
            while not (found := re.match(r"Footfall is ready: (\S+)", (await serve.stdout.readline()).decode())):
                assert serve.returncode is None
        async with aiohttp.ClientSession() as http:
            assert await see(http, found[1]) == 200
            async with http.get(f"{found[1]}/footfall.js") as response:
                assert response.status == 200
    finally:
        serve.terminate()
        await serve.communicate()


async def test_the_archive_installs_and_starts_where_nothing_else_is(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """A portal's machine often has no internet; and what came on a stick may have been changed on its way."""
    unpacked = make_archive(tmp_path)
    sums = dict(line.split("  ")[::-1] for line in (unpacked / "SHA256SUMS").read_text().splitlines())
    files = {str(file.relative_to(unpacked)) for file in unpacked.rglob("*") if file.is_file()} - {"SHA256SUMS"}
    assert sums.keys() == files
    if shutil.which("dpkg-deb"):
        listed = package_files(tmp_path / f"footfall_{__version__}_all.deb")
        assert {f"usr/share/footfall/{name}" for name in files} <= listed
        assert {"lib/systemd/system/footfall.service", "usr/share/man/man1/footfall.1.gz", "usr/bin/footfall"} <= listed
    unit = unpacked / "deploy" / "footfall.service"
    before = unit.read_bytes()
    unit.write_bytes(before + b"\n")
    status, output = install(unpacked, tmp_path / "opt footfall")
    assert (status != 0, "footfall.service: FAILED" in output) == (True, True), output
    assert not (tmp_path / "opt footfall").exists()
    unit.write_bytes(before)
    status, output = install(unpacked, tmp_path / "opt footfall")
    assert (status, __version__ in output) == (0, True), output
    (tmp_path / "footfall.toml").write_text(SETTINGS)
    environ = ALONE | {
        "FOOTFALL_REDIS_URL": redis_url,
        "FOOTFALL_POSTGRES_URL": postgres_url,
        "FOOTFALL_LISTEN": "127.0.0.1:0",
        "FOOTFALL_OPS_LISTEN": "127.0.0.1:0",
        "PYTHONUNBUFFERED": "1",
    }
    await serves(tmp_path / "opt footfall" / "bin" / "footfall", environ, tmp_path)


def test_no_password_is_packed(tmp_path: Path) -> None:
    """README has Compose keep its passwords in deploy/secrets, and the archive is passed on."""
    source = tmp_path / "deploy"
    (source / "secrets").mkdir(parents=True)
    for name in ("secrets/redis_url", "footfall.env", "footfall.env.example", "nginx.conf"):
        (source / name).touch()
    copy_deploy(source, tmp_path / "copy")
    assert sorted(file.name for file in (tmp_path / "copy").iterdir()) == ["footfall.env.example", "nginx.conf"]


def test_what_an_older_python_needs_is_in_it() -> None:
    """Debian 12 has Python 3.11.2; the machine that makes the archive has a newer one."""
    lock = (PROJECT / "requirements.lock").read_text()
    named = set(re.findall(r"^([\w.-]+)==", locked(), re.MULTILINE))
    assert "async-timeout" in named
    assert set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)) - named == {"colorama"}  # Windows
    assert " ; " not in locked()


def test_the_manual_has_every_command_and_option() -> None:
    """It is made from the commands, so that none is missing."""
    page = manual()
    assert r"\-\-env\-file" in page[: page.index(".SH COMMANDS")]
    pending = [("footfall", typer.main.get_command(app))]
    while pending:
        path, command = pending.pop()
        inner = getattr(command, "commands", {})
        pending += [(f"{path} {name}", one) for name, one in inner.items()]
        if inner:
            continue
        start = page.index(f".SS {path}".replace("-", r"\-"))
        section = page[start : page.find(".SS", start + 1)]
        for parameter in command.params:
            for word in parameter.opts if parameter.param_type_name == "option" else ():
                assert word.replace("-", r"\-") in section, (path, word)


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_the_shells_complete_the_commands(shell: str, tmp_path: Path) -> None:
    """The scripts ask the program, so they stay right after an upgrade."""
    script = completion(shell)
    assert COMPLETE_VARIABLE in script
    if shell == "bash":
        (tmp_path / "footfall.bash").write_text(script)
        words = "COMP_WORDS=(footfall s); COMP_CWORD=1; _footfall_completion footfall; echo ${COMPREPLY[@]}"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        command = ["bash", "-c", f"source '{tmp_path}/footfall.bash'; {words}"]
        done = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True)
        assert {"serve", "snippet", "spool"} <= set(done.stdout.split())
