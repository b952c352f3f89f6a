"""A process that runs under valgrind's callgrind, and the instructions that it takes between two moments."""

import asyncio
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from footfall.errors import Stop

PROGRAM = ("valgrind", "--tool=callgrind", "--instr-atstart=no")
"""In front of a command: it counts nothing yet. `--callgrind-out-file` says where it writes."""
CONTROL_MAX_S = 60
TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


def is_installed() -> bool:
    """Return whether instructions can be counted here."""
    return shutil.which("valgrind") is not None and shutil.which("callgrind_control") is not None


@dataclass(slots=True)
class Callgrind:
    """The counter of one process."""

    pid: int
    out: Path
    """Where callgrind writes: its first dump to `out`.1, and so on."""
    dumps: int = 0

    async def begin(self) -> None:
        """Count from now on."""
        await self._control("-i", "on")

    async def end(self) -> int:
        """Stop counting; return the instructions since `begin`. Raises Stop where callgrind does not answer."""
        await self._control("-d")
        await self._control("-i", "off")
        self.dumps += 1
        return instructions_in(Path(f"{self.out}.{self.dumps}").read_text("utf-8"))

    async def _control(self, *words: str) -> None:
        process = await asyncio.create_subprocess_exec(
            "callgrind_control",
            *words,
            str(self.pid),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), CONTROL_MAX_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise Stop(
                "callgrind_control gets no answer: valgrind needs the permission to trace (ptrace).", 1
            ) from None
        if process.returncode or b"OK." not in output:
            raise Stop(f"callgrind_control failed:\n{output.decode()}", 1)


def instructions_in(dump: str) -> int:
    r"""Return the instructions that a dump of callgrind counts.

    >>> instructions_in("part: 1\nevents: Ir\nfn=(1) main\n1 7\n\ntotals: 1234\n")
    1234
    """
    found = TOTALS.search(dump)
    if found is None:
        raise Stop("callgrind wrote a file without a total.", 1)
    return int(found[1])
