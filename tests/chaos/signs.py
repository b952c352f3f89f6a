"""How Footfall names a fault, in its log, in /readyz and in a metric; and whether it is silent again afterwards."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from aiohttp import ClientError

from tests.chaos.stage import Stage
from tests.chaos.waiting import until

SIGN_MAX_S = 30
LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, summed over the workers, and the value that says that a fault is there."""

    name: str
    is_bad: Callable[[float], bool]
    labels: str = ""
    is_counter: bool = False
    """It never returns to a good value."""


def some(value: float) -> bool:
    """Return whether there is any."""
    return value > 0


def none(value: float) -> bool:
    """Return whether there is none: of what is 1 while all is well."""
    return value < 1


@dataclass(frozen=True, slots=True)
class Signs:
    """Patterns of the lines that begin and end a fault in the log, and of the problem in /readyz; and its metric.

    An empty pattern expects nothing. The log has a line a minute of most faults: a repeated one adds none.
    """

    begins: str
    problem: str = ""
    metric: Metric | None = None
    ends: str = ""


REDIS_AWAY = Signs(
    "ERROR .*Redis takes no beacons",
    "redis takes no beacons of",
    Metric("footfall_sites_not_ready", some),
    "INFO .*Redis takes beacons again",
)


async def expect_named(stage: Stage, *faults: Signs) -> None:
    """Wait until log, /readyz and metric of some host name each fault; what does not is a problem."""
    stage.is_calm = False
    for signs in faults:
        await _expect(stage, partial(_is_logged, stage, signs.begins), f"the log has no line like {signs.begins!r}")
        if signs.problem:
            await _expect(stage, partial(_is_in_readyz, stage, signs.problem), f"/readyz has no {signs.problem!r}")
        if (metric := signs.metric) is not None:
            await _expect(stage, partial(_is_bad, stage, metric), f"{metric.name} does not show the fault")


async def expect_silent(stage: Stage, *faults: Signs) -> None:
    """Wait until the log has the end of each fault, its metric is good again, and every worker of every host is ok.

    From now on no warning and no error may be logged.
    """
    for signs in faults:
        if (metric := signs.metric) is not None and not metric.is_counter:
            await _expect(stage, partial(_is_good, stage, metric), f"{metric.name} still shows the fault")
        if signs.ends:
            await _expect(stage, partial(_is_logged, stage, signs.ends), f"the log has no line like {signs.ends!r}")
    await _expect(stage, stage.is_silent, "/readyz is not ok after the fault")
    for host in stage.hosts:
        host.mark_lines()
    stage.is_calm = True


async def _is_in_readyz(stage: Stage, pattern: str) -> bool:
    for host in stage.hosts:
        _, answer = await host.readiness()
        if re.search(pattern, str(answer["problems"])):
            return True
    return False


async def _is_bad(stage: Stage, metric: Metric) -> bool:
    return metric.is_bad(await stage.metric(metric.name, metric.labels))


async def _is_good(stage: Stage, metric: Metric) -> bool:
    return not await _is_bad(stage, metric)


def _is_logged(stage: Stage, pattern: str) -> bool:
    return any(re.search(pattern, line) for host in stage.hosts for line in host.lines)


async def _expect(stage: Stage, holds: Callable[[], bool | Awaitable[bool]], otherwise: str) -> None:
    async def is_seen() -> bool:
        try:
            seen = holds()
            return seen if isinstance(seen, bool) else await seen
        except (OSError, ClientError):
            return False  # a service in distress may refuse a connection

    try:
        await until(is_seen, SIGN_MAX_S, LOOK_EVERY_S)
    except TimeoutError:
        stage.problems.append(otherwise)
