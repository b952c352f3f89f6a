"""A site without visitors costs no command, whatever background step a worker runs."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import Redis

from footfall.delivery.pending import View
from footfall.embedded.servers import POSTGRES_SOCKET, USER
from tests.chaos.relay import Link, open_relay, pass_request
from tests.support.footfall import HOST, FakeClock, Footfall, running, settings_for

ROUNDS = 3
FOLDED_A_STEP = 5


class Postgres:
    """Counts what workers send to PostgreSQL."""

    def __init__(self) -> None:
        self.sent_bytes = 0

    async def note(self, link: Link, chunk: bytes) -> None:
        """Count a request on its way."""
        self.sent_bytes += len(chunk)
        await pass_request(link, chunk)


async def commands(redis: Redis) -> int:
    """Return how many commands Redis has had, those of scripts included."""
    return int((await redis.info("stats"))["total_commands_processed"])


async def run_all_steps(footfall: Footfall) -> None:
    """Run what a worker repeats, once each."""
    services = footfall.services
    await services.copy()
    await services.reconciler.quick_step()
    await services.watch_redis()
    await services.export()


async def cost_at_rest(footfall: Footfall, redis: Redis, postgres: Postgres) -> tuple[int, int]:
    """Return the commands in Redis and the bytes sent to PostgreSQL in some rounds, after each site had a visitor."""
    sites = list(footfall.services.settings.sites.values())
    day = footfall.services.periods.now(sites[0].zone)[1].day
    views = [footfall.services.recorder.record(site, day, b"0123456789abcdef", None, View()) for site in sites]
    for view in views:
        await view
    for _ in range(len(sites) // FOLDED_A_STEP):
        await footfall.services.page_folding.step()
    for _ in range(3):  # until all is durable, and nothing is left to compare
        await run_all_steps(footfall)
        footfall.clock.advance(10)
    commands_before, bytes_before = await commands(redis), postgres.sent_bytes
    for _ in range(ROUNDS):
        await run_all_steps(footfall)
        footfall.clock.advance(10)
    return await commands(redis) - commands_before, postgres.sent_bytes - bytes_before


async def test_a_hundred_idle_sites_cost_what_one_costs(
    redis_url: str, postgres_url: str, redis: Redis, tmp_path: Path
) -> None:
    """Most of ten thousand portals sleep at night; comparing the logs of each took 12 CPU seconds a minute."""
    url, postgres, costs = urlsplit(postgres_url), Postgres(), []
    async with open_relay(Path(parse_qs(url.query)["host"][0]) / POSTGRES_SOCKET) as relay:
        relay.requests = postgres.note
        relayed = f"postgresql://{USER}@127.0.0.1:{relay.port}{url.path}?sslmode=disable"
        for number in (1, 100):
            sites = {f"site-{number}-{turn}": {"name": "Cổng thử", "hosts": [HOST]} for turn in range(number)}
            settings = settings_for(redis_url, relayed, tmp_path / str(number), sites=sites)
            async with running(settings, clock=FakeClock()) as footfall:
                costs.append(await cost_at_rest(footfall, redis, postgres))
    (of_one, sent_for_one), (of_many, sent_for_many) = costs
    assert of_many == of_one
    assert sent_for_many == sent_for_one > 0
