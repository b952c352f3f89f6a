"""F20: the Nth await of a store in a flush, a rollup or a restore fails, for N = 1, 2, ... up to the last."""

import asyncio
import types
from collections.abc import Coroutine, Generator
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos.equality import compare
from tests.chaos.inside import send, worker
from tests.chaos.stage import Stage
from tests.chaos.traffic import SITES
from tests.support.footfall import FakeClock, Footfall

AWAITS_MAX = 200
GUARDED = (
    "SiteDelivery._send_all",
    "RedisCalls._exchange",
    "SpoolWriter._write_all",
    "SiteOpener._open",
    "Services.copy",
)
"""Tasks whose awaits are counted: those that own data."""
STORES = ("footfall", "stores")
"""Folder whose awaits may fail: nothing else of ours waits for a store."""


class Nth:
    """Lets the Nth await of the guarded tasks fail, as a broken connection does."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._failed = False

    @property
    def fired(self) -> bool:
        """Return whether there were that many awaits."""
        return self._failed

    def make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        """A task factory that guards the tasks named above."""
        guarded = getattr(coroutine, "__qualname__", "") in GUARDED
        return asyncio.Task(self._as_coroutine(coroutine) if guarded else coroutine, loop=loop, **options)

    async def _as_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return await self._drive(coroutine)

    @types.coroutine
    def _drive(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        steps = coroutine.__await__()
        resume = partial(next, steps)
        while True:
            try:
                waited_for = resume()
            except StopIteration as end:
                return end.value
            self._left -= waits_for_store(coroutine)
            if self._left == 0 and not self._failed:
                self._failed = True
                resume = partial(steps.throw, ConnectionResetError("this await was chosen to fail"))
                continue
            try:
                yield waited_for
                resume = partial(next, steps)
            except BaseException as error:  # noqa: BLE001 (passed on to the coroutine)
                resume = partial(steps.throw, error)


def waits_for_store(coroutine: Any) -> bool:
    """Return whether a coroutine waits, however deep, for an answer of a store."""
    inner = coroutine
    while inner is not None:
        code = getattr(inner, "cr_code", None) or getattr(inner, "ag_code", None)
        if code is not None and Path(code.co_filename).parts[-3:-1] == STORES:
            return True
        inner = getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None)
    return False


async def fail_each(stage: Stage) -> None:
    """Let every single await fail once, and check that no beacon is lost or counted twice."""
    # The clients of both stores warn when an await of theirs fails; the comparison below checks the result.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with worker(stage, FakeClock(), "one") as one:
        for act in (_flush, _roll_up, _restore):
            for number in range(1, AWAITS_MAX):
                nth = Nth(number)
                loop = asyncio.get_running_loop()
                loop.set_task_factory(nth.make_task)
                try:
                    async with asyncio.timeout(20):
                        await act(stage, one)
                except TimeoutError:
                    stage.problems.append(f"{act.__name__} hung when its await {number} failed")
                finally:
                    loop.set_task_factory(None)
                await _heal(one)
                unequal = await compare(stage.ledger, stage.stores, SITES)
                stage.problems += [f"after await {number} of {act.__name__} failed: {found}" for found in unequal]
                if number == 1 and not nth.fired:
                    stage.problems.append(f"no await of {act.__name__} was found, so none failed")
                if not nth.fired or stage.problems:
                    break


async def _flush(stage: Stage, one: Footfall) -> None:
    """Count two beacons of each site, and run what follows from them."""
    await asyncio.gather(*[send(stage, one, site) for site in SITES for _ in range(2)])
    await one.services.recorder.settle()


async def _roll_up(stage: Stage, one: Footfall) -> None:
    """Roll up something new."""
    for site in SITES:
        await send(stage, one, site)
    await _guarded_step(one)


async def _restore(stage: Stage, one: Footfall) -> None:
    """Empty Redis while beacons are in flight."""
    await _flush(stage, one)
    await one.services.copy()
    await stage.stores.redis.flushall()
    await _flush(stage, one)
    await _guarded_step(one)


async def _guarded_step(one: Footfall) -> None:
    task = asyncio.create_task(one.services.copy())
    await asyncio.wait([task])
    task.exception()  # the loop of the real service logs it and steps again


async def _heal(one: Footfall) -> None:
    """Run the background work of the next seconds, without a fault."""
    await one.services.reconciler.quick_step()
    await one.services.recorder.settle()
    await one.services.copy()
    await one.services.recorder.settle()
    await one.services.copy()
