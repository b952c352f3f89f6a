"""Work in the background: a step that can be called by itself, and one loop that repeats it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


async def repeat(step: Callable[[], Awaitable[object]], every_s: float, stopping: asyncio.Event) -> None:
    """Call `step` now and `every_s` seconds after each end of it, until `stopping` is set.

    A step that raises is logged and repeated: a loop that owns data must not end before its time.
    """
    while not stopping.is_set():
        try:
            await step()
        except Exception:
            log.exception("A step of the background work failed; it is repeated. step=%s", step)
        try:
            await asyncio.wait_for(stopping.wait(), every_s)
        except TimeoutError:
            continue
