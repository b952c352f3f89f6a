"""What Footfall is measured against: an aiohttp handler that reads the body and answers constant bytes.

Same loop, same server settings, same response headers, same length: the difference is the counting.
"""

import asyncio
import signal
import sys

from aiohttp import web

from service.listener import Listener
from service.middleware import PUBLIC_HEADERS


async def serve(body: bytes, etag: str) -> None:
    """Serve until SIGTERM; print the port when ready."""

    async def post_seen(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})

    async def get_counts(_: web.Request) -> web.Response:
        headers = {"ETag": etag, "Cache-Control": "public, max-age=5"}
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def finish(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(PUBLIC_HEADERS)
        response.headers.popall("Server", None)

    app = web.Application(client_max_size=4096)
    app.on_response_prepare.append(finish)
    app.router.add_post("/seen", post_seen)
    app.router.add_get("/counts", get_counts)
    runner = Listener(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    print(f"Footfall is ready: http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await stopping.wait()
    await runner.cleanup()


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(serve(sys.argv[1].encode(), sys.argv[2]))
