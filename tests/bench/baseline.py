"""The baseline: a plain aiohttp handler that reads the body and answers constant bytes.

It has the same event loop, server settings, body and headers as Footfall, and none of Footfall's code. It gets its
answers as JSON in its argument: for `/seen` and `/counts` each a body and headers.
"""

import asyncio
import json
import signal
import sys
from typing import Any

import uvloop
from aiohttp import web

from footfall.http.server import KEEPALIVE_S


async def serve(answers: dict[str, dict[str, Any]], keepalive_s: float = KEEPALIVE_S) -> None:
    """Serve until SIGTERM; print the port when ready."""
    seen_body, seen_headers = answers["/seen"]["body"].encode(), answers["/seen"]["headers"]
    counts_body, counts_headers = answers["/counts"]["body"].encode(), answers["/counts"]["headers"]

    async def post_seen(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=seen_body, headers=seen_headers)

    async def get_counts(_: web.Request) -> web.Response:
        return web.Response(body=counts_body, headers=counts_headers)

    async def finish(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.popall("Server", None)

    app = web.Application(client_max_size=4096)
    app.on_response_prepare.append(finish)
    app.router.add_post("/seen", post_seen)
    app.router.add_get("/counts", get_counts)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, keepalive_timeout=keepalive_s)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    print(f"Footfall is ready: http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await stopping.wait()
    await runner.cleanup()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(serve(json.loads(sys.argv[1])))
