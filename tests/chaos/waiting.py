"""Waiting for what another process does: it offers nothing to wait for, so one can only look."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

EVERY_S = 0.05


async def until(holds: Callable[[], bool | Awaitable[bool]], max_s: float, every_s: float = EVERY_S) -> None:
    """Look again and again until it holds; raises TimeoutError when it does not in time."""
    async with asyncio.timeout(max_s):
        while True:
            seen = holds()
            if await seen if inspect.isawaitable(seen) else seen:
                return
            await asyncio.sleep(every_s)
