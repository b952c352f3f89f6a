"""Runs the embedded servers of a data folder until a signal: the parent that tests interrupt and kill."""

import asyncio
import signal
import sys
from pathlib import Path

from footfall.embedded.servers import servers
from footfall.errors import Stop


async def run(data_dir: Path) -> None:
    """Print one line when both servers answer, then wait for SIGTERM or Ctrl-C."""
    told_to_stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    async with servers(data_dir):
        print("ready", flush=True)
        await told_to_stop.wait()


if __name__ == "__main__":
    try:
        asyncio.run(run(Path(sys.argv[1])))
    except Stop as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.status)
