"""Every fault, by its number in the promises: its name, its function, and its needs."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tests.chaos import (
    awaits,
    clocks,
    cluster_faults,
    failover,
    failovers,
    full_disks,
    lost_views,
    overload,
    postgres_faults,
    redis_faults,
    redis_losses,
    restores,
    scarcity,
    sketches,
    spool_damage,
    wire,
    workers,
)
from tests.chaos.groups import GroupKind
from tests.chaos.stage import Plan, Stage


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the matrix."""

    title: str
    play: Callable[[Stage], Awaitable[None]]
    plan: Plan = field(default_factory=Plan)
    alone: bool = False
    """The fault measures time or memory, so no other fault may run at the same time."""


FEW_FILES = Plan(workers=1, files=scarcity.FILES)
MANY_SITES = 1000
CLUSTER = Plan(sites=MANY_SITES, group=GroupKind.CLUSTER, rate_per_s=200)
SENTINELS = Plan(sites=MANY_SITES, group=GroupKind.SENTINELS, rate_per_s=200)
PAGES_ALONE = Plan(rate_per_s=0, settings={"redis_timeout_s": 10})
"""Only the pages of the fault count. On a busy machine, an answer of Redis that is late is no failure beside theirs."""
INSIDE = Plan(hosts=0)
"""The fault starts its workers itself, in our own process."""

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
        "F10": Fault("failover, split brain", failover.promote_and_split, Plan(hosts=2, workers=1)),
        "F11": Fault("errors from Redis", redis_faults.errors),
        "F12": Fault("Postgres away over midnights", clocks.outlast_postgres, INSIDE),
        "F13": Fault("Postgres hangs, killed in commit", postgres_faults.hang_and_kill),
        "F14": Fault("old dump, late commits", postgres_faults.go_back_in_time, Plan(hosts=2, workers=1)),
        "F15": Fault("damaged sketches", sketches.damage),
        "F16": Fault("clock steps", clocks.set_clocks, INSIDE),
        "F17": Fault("overload", overload.overload, Plan(settings={"queue_max_beacons": 1000}), alone=True),
        "F18": Fault("slow and idle clients", overload.slow_clients, alone=True),
        "F19": Fault("restorers race", restores.race, Plan(hosts=2, counting_hosts=1)),
        "F20": Fault("every await fails once", awaits.fail_each, INSIDE),
        "F21": Fault("a primary of a cluster killed", cluster_faults.kill_primary, CLUSTER),
        "F22": Fault("a primary stands still", cluster_faults.stop_primary, CLUSTER),
        "F23": Fault("slots move under load", cluster_faults.move_slots, CLUSTER),
        "F24": Fault("a slot is left half moved", cluster_faults.leave_half_moved, CLUSTER),
        "F25": Fault("sentinels fail over", failovers.follow_sentinels, SENTINELS),
        "F26": Fault("a part of a cluster is away", cluster_faults.lose_shard, CLUSTER),
        "F27": Fault(
            "a standby that lags takes over",
            failovers.promote_standby,
            Plan(sites=MANY_SITES, standby=True, rate_per_s=200),
        ),
        "F28": Fault("torn append-only files", redis_losses.tear_logs),
        "F29": Fault("older copies of Redis", redis_losses.bring_back_older_copies, Plan(redis={"appendonly": "no"})),
        "F30": Fault("Redis emptied at a stop", redis_losses.empty_at_stop),
        "F31": Fault("keys of another type", redis_losses.change_types),
        "F32": Fault("the disk of Redis is full", full_disks.fill_redis),
        "F33": Fault("the disk of Postgres is full", full_disks.fill_postgres),
        "F34": Fault("the disk of the spool is full", full_disks.fill_spool),
        "F35": Fault("one disk of all is full", full_disks.fill_all),
        "F36": Fault("a flipped bit in each spool file", spool_damage.flip_bits),
        "F37": Fault("unread answers", scarcity.read_nothing, FEW_FILES, alone=True),
        "F38": Fault("few open files", scarcity.run_out_of_files, FEW_FILES, alone=True),
        "F39": Fault("clocks were ahead", clocks.correct_clocks, INSIDE),
        "F40": Fault("Postgres is read-only", postgres_faults.refuse_writes),
        "F41": Fault("lost requests and answers of pages", lost_views.lose, PAGES_ALONE),
    }
)
