"""Background work."""

import asyncio
import logging

import pytest

from footfall.background import LoopLag, repeat


async def test_a_step_that_fails_is_repeated_and_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that owns data must outlive a bug, and a bug twice a second must not fill the disk."""
    stopping = asyncio.Event()
    steps = 0

    async def step() -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            stopping.set()
        raise RuntimeError("a bug of ours")

    with caplog.at_level(logging.INFO):
        await repeat(step, 0, stopping)
    assert steps == 5
    assert [record.exc_text is None for record in caplog.records] == [False]


async def test_a_loop_that_is_told_to_stop_finishes_its_step_and_does_not_wait() -> None:
    """A stopping worker must not wait for the next interval, nor interrupt a rollup."""
    stopping = asyncio.Event()
    started, go_on = asyncio.Event(), asyncio.Event()
    finished = 0

    async def step() -> None:
        nonlocal finished
        started.set()
        await go_on.wait()
        finished += 1

    loop = asyncio.create_task(repeat(step, 3600, stopping))
    await started.wait()
    stopping.set()
    go_on.set()
    await loop
    assert finished == 1


async def test_before_the_first_tick_a_loop_is_not_late() -> None:
    """A worker that has just started is healthy."""
    assert LoopLag(lambda _: None).worst_s == 0
