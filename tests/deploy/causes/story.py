"""A story: the cause of an alert, and how it is played."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.deploy.causes.rules import FASTER
from tests.deploy.causes.world import World

Cause = Callable[[World], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Story:
    """A cause, which goes on until it is cancelled, and the alert that it must be heard as."""

    cause: Cause
    environ: Mapping[str, str] = field(default_factory=dict)
    end: Cause | None = None
    """What ends the condition; the alert must be heard to be over then."""
    faster: int = FASTER
    """By what the times of the rules are divided."""
    has_own_program: bool = False
    """Whether Footfall runs from a copy of its files."""


@asynccontextmanager
async def going_on(cause: Cause, here: World) -> AsyncIterator[None]:
    """Bring a condition about for the block."""
    task = asyncio.create_task(cause(here))
    try:
        yield
        if task.done():
            task.result()
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=1)
