"""Footfall's public listener without its background steps, which cost by the second and not by the request.

`instructions.py` counts the instructions of this program. It gets JSON in its argument: under `stores` where they are,
a folder of its own and how many sites it has, or under `answers` those of the empty server, which it is then.
"""

import asyncio
import gc
import json
import signal
import socket
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from footfall.display import counts_cache
from footfall.http.public import create_public_app
from footfall.http.server import ConnectionLimiter, Listener, connections_max
from footfall.metrics.metrics import Metrics
from footfall.metrics.multiprocess import Slot
from footfall.metrics.slots import metrics_folder
from footfall.process.app import collect_garbage_rarely, open_services, open_sites
from footfall.settings.settings import Settings
from tests.bench import baseline
from tests.bench.families import LeftOut
from tests.bench.traffic import HOST, site_names

HOUR_S = 3600.0
"""Longer than a count takes: what waits for so long costs no request anything."""


def settings_of(redis_url: str, postgres_url: str, folder: Path, sites: list[str]) -> Settings:
    """Return the settings of a Footfall without limits, whose sites have the pages of the bench."""
    return Settings.model_validate(
        {
            "redis_url": redis_url,
            "postgres_url": postgres_url,
            "data_dir": folder,
            "trusted_proxies": ["127.0.0.1/32"],
            "redis_timeout_s": 10,
            "limits": {"enabled": False},
            "sites": {name: {"name": name, "hosts": [HOST]} for name in sites},
        }
    )


async def serve(settings: Settings, metrics: Metrics) -> None:
    """Serve until SIGTERM; print the port when ready."""
    # A reading of the counts costs by the second too, and under valgrind it may come too late to be shown.
    counts_cache.REFRESH_AFTER_S = counts_cache.WAIT_AFTER_S = HOUR_S
    async with open_services(settings, metrics=metrics) as services:
        await open_sites(services)
        listener = Listener(
            create_public_app(services),
            limiter=ConnectionLimiter(services.resolver, connections_max()),
            keepalive_s=HOUR_S,
        )
        await listener.setup()
        bound = socket.create_server(("127.0.0.1", 0), backlog=1024)
        await web.SockSite(listener, bound).start()
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stopping.set)
        loop.add_signal_handler(signal.SIGUSR1, LeftOut(services).leave_out_next)
        collect_garbage_rarely()
        print(f"Footfall is ready: http://127.0.0.1:{bound.getsockname()[1]}", flush=True)
        await stopping.wait()
        await listener.cleanup()


def main() -> None:
    """Serve what the argument says."""
    given = json.loads(sys.argv[1])
    with metrics_folder() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        if answers := given.get("answers"):
            gc.freeze()
            loop.run(baseline.serve(answers, HOUR_S))
        else:
            redis_url, postgres_url, data_dir, number = given["stores"]
            settings = settings_of(redis_url, postgres_url, Path(data_dir) / f"worker-{number}", site_names(number))
            loop.run(serve(settings, Slot(folder, 0).metrics))  # a worker's: other metrics would cost more


if __name__ == "__main__":
    main()
