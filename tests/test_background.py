"""Background work."""

import asyncio
import logging

import pytest

from footfall.background import Failing, LoopLag, StepFailures, repeat, repeat_until_done, run_each


class Reported:
    """What a `StepFailures` reports as its metric."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []
        self.failures = StepFailures(lambda step, failing: self.seen.append((step, failing)), lambda: 1000.0)


async def test_a_step_that_fails_is_repeated_and_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that owns data must outlive a bug, and a bug twice a second must not fill the disk."""
    stopping, reported = asyncio.Event(), Reported()
    steps = 0

    async def step() -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            stopping.set()
        raise RuntimeError("a bug of ours")

    with caplog.at_level(logging.INFO):
        await repeat("count", step, 0, stopping, reported.failures)
    assert steps == 5
    assert [record.exc_text is None for record in caplog.records] == [False]
    assert reported.seen == [("count", True)] * 5


@pytest.mark.parametrize("error", [ValueError("a secret"), UnicodeDecodeError("utf-8", b"", 0, 1, ""), MemoryError()])
async def test_a_failing_step_is_named_until_it_succeeds_again(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """Whatever it raises: a loop that does nothing must show in `/readyz` and a metric, not in the log alone."""
    reported = Reported()

    async def fail() -> None:
        raise error

    async def succeed() -> None:
        return

    with caplog.at_level(logging.INFO):
        for step in (fail, fail):
            assert not await reported.failures.attempt("count", step)
        assert reported.failures.now == {"count": Failing(type(error).__name__, 1000.0)}
        for step in (succeed, succeed):
            assert await reported.failures.attempt("count", step)
    assert reported.failures.now == {}
    assert reported.seen == [("count", True)] * 2 + [("count", False)] * 2
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


async def test_a_step_that_fails_now_and_then_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Twice a second it would be a line at each beginning and each end."""
    failures = Reported().failures

    async def fail() -> None:
        raise RuntimeError

    async def succeed() -> None:
        return

    with caplog.at_level(logging.INFO):
        for step in (fail, succeed) * 10:
            await failures.attempt("count", step)
    assert len(caplog.records) == 2


async def test_a_step_that_is_done_once_is_repeated_until_it_succeeds() -> None:
    """What a worker does at its start has no next time that would make up for a failure."""
    reported = Reported()
    runs = 0

    async def step() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise RuntimeError

    await repeat_until_done("open", step, 0, asyncio.Event(), reported.failures)
    assert (runs, reported.failures.now) == (3, {})


async def test_each_part_of_a_step_runs_although_another_fails() -> None:
    """Adoption, forgetting and resending need each other's success as little as two sites do."""
    ran: list[str] = []

    async def first() -> None:
        ran.append("first")
        raise KeyError

    async def second() -> None:
        ran.append("second")

    async def third() -> None:
        ran.append("third")
        raise ValueError

    with pytest.raises(ExceptionGroup) as raised:
        await run_each(first, second, third)
    assert ran == ["first", "second", "third"]
    assert [type(error) for error in raised.value.exceptions] == [KeyError, ValueError]
    with pytest.raises(KeyError):
        await run_each(second, first)
    await run_each(second)


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

    loop = asyncio.create_task(repeat("count", step, 3600, stopping, Reported().failures))
    await started.wait()
    stopping.set()
    go_on.set()
    await loop
    assert finished == 1


async def test_before_the_first_tick_a_loop_is_not_late() -> None:
    """A worker that has just started is healthy."""
    assert LoopLag(lambda _: None).worst_s == 0
