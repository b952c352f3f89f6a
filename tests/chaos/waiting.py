"""Waiting for another process, which offers no event to wait for: only polling works."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

EVERY_S = 0.05


async def until(holds: Callable[[], bool | Awaitable[bool]], max_s: float, every_s: float = EVERY_S) -> None:
    """Poll until the fact holds; raise TimeoutError when it does not in time."""
    async with asyncio.timeout(max_s):
        while True:
            seen = holds()
            if await seen if inspect.isawaitable(seen) else seen:
                return
            await asyncio.sleep(every_s)
