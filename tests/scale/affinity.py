"""Four hosts behind nginx: with `deploy/nginx.conf`, which keeps a site on one host, and with each request in turn.

The hosts are four Footfalls of one worker each, on the same stores.
"""

import asyncio
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from redis.asyncio import Redis

from footfall.errors import Stop
from tests.bench import nginx, traffic
from tests.bench.servers import Footfall, footfall
from tests.scale import meter, paced
from tests.support.own_footfall import running

HOSTS, SITES, PER_S, SECONDS = 4, 1_000, 200.0, 30.0
BY_SITE = re.compile(r"^ *hash \$footfall_portal consistent;\n", re.MULTILINE)
SITE_OF = re.compile(rb'"site":"([a-z0-9-]+)"')


async def measure(say: Callable[[str], None], sites: int = SITES, seconds: float = SECONDS) -> list[str]:
    """Return lines that compare both, each on empty stores."""
    lines = [f"{HOSTS} workers behind nginx, {sites:,} sites, {PER_S:g} beacons a second, beside each other:", ""]
    lines.append(f"  {'':<28} {'beacons a call':>15} {'logs a site':>12} {'calls a beacon':>15} {'us a beacon':>12}")
    for name, keeps in (("each site on one host", True), ("each request in turn", False)):
        say(f"{HOSTS} hosts, {name}")
        async with (
            hosts(sites) as (service, urls),
            nginx.running(service, change=upstreams(urls, keeps_site=keeps)) as proxy,
        ):
            async with meter.reading(service.stores) as read:
                before = await read()
                port = urlsplit(proxy.url).port or 0
                beacons = await paced.send([port], with_site(people(sites)), PER_S, seconds)
                used = await read() - before
            logs = await logs_per_site(service)
        calls, script_us = used.redis_calls / beacons, used.redis_script_us / beacons
        lines.append(f"  {name:<28} {1 / calls:>15.2f} {logs:>12.2f} {calls:>15.2f} {script_us:>12.0f}")
    return lines


@asynccontextmanager
async def hosts(sites: int) -> AsyncIterator[tuple[Footfall, list[str]]]:
    """Run Footfalls of one worker each on the same stores; yield the first, and the URLs of all."""
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(footfall(sites=sites, pinned=False))
        urls = [service.url]
        for _ in range(HOSTS - 1):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="footfall-scale-")))
            environ = service.environ | {
                "FOOTFALL_REDIS_URL": service.stores.redis,
                "FOOTFALL_POSTGRES_URL": service.stores.postgres,
                "FOOTFALL_DATA_DIR": str(folder),
                "FOOTFALL_OPS_LISTEN": "127.0.0.1:0",
            }
            command = [sys.executable, "-m", "footfall", "serve"]
            urls.append(await stack.enter_async_context(running(*command, environ=environ)))
        yield service, urls


def upstreams(urls: list[str], *, keeps_site: bool) -> Callable[[str], str]:
    """Return what puts all hosts into the example's upstream, with its hash of the site or without."""
    first, *others = [urlsplit(url).netloc for url in urls]

    def change(text: str) -> str:
        more = "".join(f"    server {netloc} max_fails=1 fail_timeout=5s;\n" for netloc in others)
        text, servers = re.subn(rf"^( *server {re.escape(first)} .*\n)", rf"\g<1>{more}", text, flags=re.MULTILINE)
        text, hashes = (text, 1) if keeps_site else BY_SITE.subn("", text)
        if (servers, hashes) != (1, 1):
            raise Stop("deploy/nginx.conf has another upstream now; tests/scale/affinity.py has to learn it.", 1)
        return text

    return change


def people(sites: int) -> Iterator[bytes]:
    """Yield beacons of people, over and over, without a page: the calls of a new page would hide those of beacons."""
    while True:
        for visitor, request in enumerate(traffic.beacons(sites, with_pages=False)):
            if not traffic.is_robot(visitor):
                yield request


def with_site(requests: Iterator[bytes]) -> Iterator[bytes]:
    """Yield beacons that name their site in the query, as the script of a page sends them."""
    for request in requests:
        site = SITE_OF.search(request)
        assert site is not None
        yield request.replace(b"POST /seen HTTP", b"POST /seen?site=" + site[1] + b" HTTP", 1)


async def logs_per_site(service: Footfall) -> float:
    """Return how many logs a site's day has in Redis, of the sites that have any."""
    numbers: list[int] = []
    async with Redis.from_url(service.stores.redis) as redis:
        async for key in redis.scan_iter(match="ff1:*:logs", count=1000):
            names = await redis.hkeys(key)
            numbers.append(sum(len(name) == LOG_ID_DIGITS for name in names))
            await asyncio.sleep(0)
    return sum(numbers) / max(1, len(numbers))


LOG_ID_DIGITS = 16
"""The sum of a day stands among its logs, under another name."""
