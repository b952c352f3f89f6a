"""Footfall's public listener without its background steps, which cost by the second and not by the request.

`callgrind.py` counts the instructions of this program. It gets as JSON in its argument where the stores are, a folder
of its own and the ids of its sites.
"""

import asyncio
import json
import signal
import socket
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from footfall.http.public import create_public_app
from footfall.http.server import ConnectionLimiter, Listener, connections_max
from footfall.process.app import open_services, open_sites
from footfall.settings.settings import Settings
from tests.bench.traffic import HOST


def settings_of(redis_url: str, postgres_url: str, folder: Path, sites: list[str]) -> Settings:
    """Return the settings of a Footfall without limits, whose sites have the pages of the bench."""
    return Settings.model_validate(
        {
            "redis_url": redis_url,
            "postgres_url": postgres_url,
            "data_dir": folder,
            "trusted_proxies": ["127.0.0.1/32"],
            "limits": {"enabled": False},
            "sites": {name: {"name": name, "hosts": [HOST]} for name in sites},
        }
    )


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM; print the port when ready."""
    async with open_services(settings) as services:
        await open_sites(services)
        listener = Listener(
            create_public_app(services), limiter=ConnectionLimiter(services.resolver, connections_max())
        )
        await listener.setup()
        bound = socket.create_server(("127.0.0.1", 0), backlog=1024)
        await web.SockSite(listener, bound).start()
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        print(f"Footfall is ready: http://127.0.0.1:{bound.getsockname()[1]}", flush=True)
        await stopping.wait()
        await listener.cleanup()


if __name__ == "__main__":
    redis_url, postgres_url, folder, sites = json.loads(sys.argv[1])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(serve(settings_of(redis_url, postgres_url, Path(folder), sites)))
