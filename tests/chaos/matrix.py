"""Every fault, by its number in the promises: what it is called, what plays it, and what it needs."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tests.chaos import redis_faults, wire, workers
from tests.chaos.stage import Plan, Stage


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the matrix."""

    title: str
    play: Callable[[Stage], Awaitable[None]]
    plan: Plan = field(default_factory=Plan)
    alone: bool = False
    """Measures time or memory, so nothing else may run beside it."""


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "F1": Fault("workers killed", workers.kill, Plan(hosts=2)),
        "F2": Fault("workers told to stop", workers.stop_one_after_another),
        "F3": Fault("worker stands still", workers.suspend),
        "F4": Fault("Redis killed, rewound", redis_faults.kill),
        "F5": Fault("Redis emptied", redis_faults.empty),
        "F6": Fault("Redis hangs", redis_faults.hang),
        "F7": Fault("replies lost", wire.lose_answers),
        "F8": Fault("requests cut in half", wire.cut_requests),
        "F9": Fault("slow network", wire.slow_down),
        "F11": Fault("errors from Redis", redis_faults.errors),
    }
)
