"""A registry on this machine, which shows that `deploy/pin-images.sh` writes the digests that a registry answers."""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.ports import free_port
from tests.support.project import PROJECT

IMAGES = re.compile(r"^(?:ARG PYTHON_IMAGE=| +image: )(\S+:\S+)$", re.MULTILINE)
FILES = ("Dockerfile", "deploy/compose.yaml", "deploy/pin-images.sh")


@asynccontextmanager
async def registry(folder: Path) -> AsyncIterator[str]:
    """Run an empty registry without TLS, and yield where it listens."""
    folder.mkdir()
    address = f"127.0.0.1:{free_port()}"
    config = folder / "config.yaml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec("docker-registry", "serve", str(config), stdout=quiet, stderr=quiet)
    try:
        host, port = address.split(":")
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection(host, int(port))
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield address
    finally:
        process.terminate()
        await process.wait()


def checkout_for(address: str, folder: Path) -> tuple[Path, set[str]]:
    """Copy the files with images, of which each comes from the registry at `address`; return the names, too."""
    names: set[str] = set()
    for name in FILES:
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, copy)
        if name.endswith(".sh"):
            continue
        text = re.sub("@sha256:[0-9a-f]+", "", copy.read_text())
        names |= set(IMAGES.findall(text))
        copy.write_text(IMAGES.sub(lambda found: found[0].replace(found[1], f"{address}/{found[1]}"), text))
    return folder, names


def pinned(checkout: Path, address: str) -> dict[str, str]:
    """Run the script, and return the digest that it wrote behind each image."""
    allowed = checkout / ".config" / "containers" / "registries.conf"
    allowed.parent.mkdir(parents=True, exist_ok=True)
    allowed.write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
    environ = os.environ | {"HOME": str(checkout)}
    subprocess.run(["sh", str(checkout / "deploy" / "pin-images.sh")], env=environ, check=True, stdout=subprocess.PIPE)
    text = "".join((checkout / name).read_text() for name in FILES[:2])
    return dict(re.findall(rf"{re.escape(address)}/(\S+)@(sha256:[0-9a-f]{{64}})$", text, re.MULTILINE))
