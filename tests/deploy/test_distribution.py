"""The archive of `make dist`: it installs and starts on a machine without internet, with nothing but Python."""

import asyncio
import hashlib
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import aiohttp
import pytest
import typer

from footfall import __version__
from footfall.cli.commands import app
from tests.support.distribution import SHELLS, locked
from tests.support.manual import manual
from tests.support.process import SETTINGS, see
from tests.support.project import PROJECT

pytestmark = pytest.mark.timeout(300)
"""Packages are downloaded and installed."""
ALONE = {"PATH": os.environ["PATH"], "PIP_INDEX_URL": "http://127.0.0.1:1", "PIP_CONFIG_FILE": os.devnull}
"""The environment of a machine that reaches no package index and has no Footfall yet."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the archive for this Python and machine, and unpack it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "tests.support.distribution", "--here", "--into", str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"no package index answers: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    subprocess.run(["sha256sum", "--check", f"footfall-{__version__}-linux.tar.gz.sha256"], cwd=folder, check=True)
    with tarfile.open(folder / f"footfall-{__version__}-linux.tar.gz") as tar:
        tar.extractall(folder, filter="data")
    return folder / f"footfall-{__version__}"


@pytest.fixture(scope="module")
def program(unpacked: Path) -> Path:
    """Install it as its own script does, without an index."""
    target = unpacked.parent / "opt footfall"
    command = ["sh", str(unpacked / "install.sh"), str(target), sys.executable]
    done = subprocess.run(command, env=ALONE, cwd="/", capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert __version__ in done.stdout
    return target / "bin" / "footfall"


async def test_it_starts_where_nothing_else_is_installed(
    program: Path, redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """The wheel holds what the program reads at run time: migrations, scripts, the page's script."""
    (tmp_path / "footfall.toml").write_text(SETTINGS)
    environ = ALONE | {
        "FOOTFALL_REDIS_URL": redis_url,
        "FOOTFALL_POSTGRES_URL": postgres_url,
        "FOOTFALL_LISTEN": "127.0.0.1:0",
        "FOOTFALL_OPS_LISTEN": "127.0.0.1:0",
        "PYTHONUNBUFFERED": "1",
    }
    migrate = await asyncio.create_subprocess_exec(program, "migrate", cwd=tmp_path, env=environ)
    assert await migrate.wait() == 0
    serve = await asyncio.create_subprocess_exec(
        program, "serve", cwd=tmp_path, env=environ, stdout=asyncio.subprocess.PIPE
    )
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


def test_a_changed_file_is_not_installed(unpacked: Path, tmp_path: Path) -> None:
    """What came on a stick may have been changed on its way."""
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(unpacked), str(copy)], check=True)
    with (copy / "deploy" / "footfall.service").open("a") as file:
        file.write("\n")
    command = ["sh", str(copy / "install.sh"), str(tmp_path / "target"), sys.executable]
    done = subprocess.run(command, env=ALONE, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "footfall.service: FAILED" in done.stdout + done.stderr
    assert not (tmp_path / "target").exists()
    sums = dict(line.split("  ")[::-1] for line in (unpacked / "SHA256SUMS").read_text().splitlines())
    files = {str(file.relative_to(unpacked)) for file in unpacked.rglob("*") if file.is_file()} - {"SHA256SUMS"}
    assert sums.keys() == files
    assert all(hashlib.sha256((unpacked / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())


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
def test_the_shells_complete_the_commands(unpacked: Path, shell: str) -> None:
    """The scripts ask the program, so they stay right after an upgrade."""
    script = (unpacked / "completion" / SHELLS[shell]).read_text()
    assert "_FOOTFALL_COMPLETE" in script
    if shell == "bash":
        words = "COMP_WORDS=(footfall s); COMP_CWORD=1; _footfall_completion footfall; echo ${COMPREPLY[@]}"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        command = ["bash", "-c", f"source '{unpacked}/completion/{SHELLS[shell]}'; {words}"]
        done = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True)
        assert {"serve", "snippet", "spool"} <= set(done.stdout.split())
