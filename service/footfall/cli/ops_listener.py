"""The ops listener of the running service, as a command asks it."""

from pathlib import Path

import aiohttp

from footfall.process.sockets import reachable_host
from footfall.settings.settings import Listen, Settings, parse_listen

HTTP_TIMEOUT = aiohttp.ClientTimeout(total=5)


async def ask_service(settings: Settings, path: str) -> str:
    """Return what the ops listener answers, an error as well; an empty text where none does."""
    where = parse_listen(settings.ops_listen)
    token = settings.ops_token
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    connector = aiohttp.UnixConnector(str(where)) if isinstance(where, Path) else aiohttp.TCPConnector()
    host = Listen(reachable_host(where.host), where.port) if isinstance(where, Listen) else "localhost"
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=HTTP_TIMEOUT, headers=headers) as http,
            http.get(f"http://{host}{path}") as response,
        ):
            return await response.text()
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return ""
