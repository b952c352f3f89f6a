"""Measures what copies to PostgreSQL cost, and bytes in both stores, with the parts of a worker in this process."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.storage import Stores, opened
from tests.scale import meter, paced
from tests.scale.model import Cost

PAGES_OF_COPY, PAGES_OF_DAY = 10, 300
Step = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Copied:
    """What was measured; the fields are those of `Costs`."""

    stores: Cost
    look: Cost
    copies: Mapping[int, Cost]
    page: Cost
    new_page: Cost
    """How much more the first copy of a page costs."""
    sizes: Mapping[str, Any]


async def measure(groups: Mapping[int, int], rounds: int, rest_s: float) -> Copied:
    """Copy groups of sites again and again, by the visitors of their day."""
    names = {visitors: [f"v{visitors}-{turn}" for turn in range(sites)] for visitors, sites in groups.items()}
    everyone = [name for group in names.values() for name in group]
    async with opened(everyone) as stores, meter.reading(stores.urls) as read:

        async def cost_of(step: Step, things: int) -> Cost:
            gc.collect()
            before, spent_s = await read(), time.process_time()
            await step()
            spent_s = time.process_time() - spent_s
            return cost(spent_s, await read() - before) * (1 / things)

        async def copy() -> None:
            await stores.services.rollup.step()
            await stores.services.reconciler.step()

        async def cost_of_copies(group: Sequence[str], pages: Sequence[str]) -> Cost:
            for name in group:
                await stores.view_pages(name, pages)
            return (await cost_of(copy, 1) - of_none) * (1 / len(group))

        look = await cost_of(copy, len(everyone))
        of_none = await cost_of(copy, 1)
        at_rest = await cost_of(lambda: asyncio.sleep(rest_s), 1) * (1 / rest_s)
        pages = [paced.page(place) for place in range(PAGES_OF_COPY)]
        copies: dict[int, Cost] = {}
        sizes: dict[str, Any] = {}
        for visitors, group in names.items():
            for name in group:
                await stores.view(name, visitors)
                await stores.view_pages(name, pages[:1])
            await copy()
            copies[visitors] = _mean([await cost_of_copies(group, pages[:1]) for _ in range(rounds)])
            for size, number in (await _bytes(stores, group[0], visitors)).items():
                sizes.setdefault(size, {})[visitors] = number
        few = min(names)
        first = await cost_of_copies(names[few], pages)
        later = _mean([await cost_of_copies(names[few], pages) for _ in range(rounds)])
        sizes["online_bytes"] = max(sizes["online_bytes"].values())  # a small set is packed
        sizes |= await _page_bytes(stores, names[few][0])
    return Copied(
        stores=at_rest - Cost(worker_us=at_rest.worker_us),
        look=look,
        copies=copies,
        page=(later - copies[few]) * (1 / (PAGES_OF_COPY - 1)),
        new_page=(first - later) * (1 / (PAGES_OF_COPY - 1)),
        sizes=sizes,
    )


def cost(worker_s: float, used: meter.Usage) -> Cost:
    """Return what was used, as a cost."""
    return Cost(worker_s * 1e6, used.redis_cpu_s * 1e6, used.redis_calls, used.postgres_cpu_s * 1e6, used.wal_bytes)


async def _bytes(stores: Stores, name: str, visitors: int) -> dict[str, float]:
    """Return what a site takes in both stores."""
    sizes = await stores.redis_bytes(name)
    online = sum(size for key, size in sizes.items() if key.endswith(":online"))
    ids = sum(size for key, size in sizes.items() if ":views:" in key)
    return {
        "online_bytes": online / visitors,
        "view_id_bytes": ids / visitors,
        "redis_site_bytes": sum(sizes.values()) - online - ids,
        "redis_day_bytes": sum(size for key, size in sizes.items() if ":day:" in key),
        "postgres_day_bytes": await stores.row_bytes(name),
    }


async def _page_bytes(stores: Stores, name: str) -> dict[str, Any]:
    """Return what each page of a site takes in both stores, whose day has some pages already."""
    site = next(site for site in stores.services.settings.sites.values() if site.id == name)
    in_redis = {PAGES_OF_COPY: await _bytes_of(stores, name, ":pages") / PAGES_OF_COPY}
    in_postgres = await stores.row_bytes(name)
    pages = [paced.page(place) for place in range(PAGES_OF_DAY)]
    await stores.view_pages(name, pages)
    await stores.services.rollup.step()
    in_redis[PAGES_OF_DAY] = await _bytes_of(stores, name, ":pages") / PAGES_OF_DAY
    await stores.services.page_views.views(site, pages)  # Redis remembers what PostgreSQL has of them
    await stores.services.page_views.close()
    return {
        "redis_page_bytes": in_redis,
        "redis_page_total_bytes": await _bytes_of(stores, name, ":page_totals") / PAGES_OF_DAY,
        "postgres_page_bytes": (await stores.row_bytes(name) - in_postgres) / (PAGES_OF_DAY - PAGES_OF_COPY),
    }


async def _bytes_of(stores: Stores, name: str, part: str) -> float:
    return sum(size for key, size in (await stores.redis_bytes(name)).items() if part in key)


def _mean(costs: Sequence[Cost]) -> Cost:
    return sum(costs, Cost()) * (1 / len(costs))
