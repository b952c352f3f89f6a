"""One fault with one seed, from empty servers to the row of the table."""

import asyncio
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from redis.asyncio import Redis

from footfall import __version__
from tests.chaos.ledger import Outcome
from tests.chaos.matrix import FAULTS, Fault
from tests.chaos.stage import Stage, flowing, open_stage

LINES_SHOWN = 60
ACT_MAX_S = 150


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: beacons sent and acked, views counted, and their difference."""

    fault: str
    title: str
    seed: int
    sent: int = 0
    acked: int = 0
    refused: int = 0
    unknown: int = 0
    counted: int = 0
    difference: int = 0
    took_s: float = 0.0
    versions: str = ""
    problems: Sequence[str] = ()
    lines: Sequence[str] = ()
    """The last log lines of each Footfall, where a check failed."""

    @property
    def good(self) -> bool:
        """Return whether every check passed."""
        return self.difference == 0 and not self.problems

    def as_dict(self) -> dict[str, object]:
        """Return the row as a mapping, which travels as JSON to the process of the table."""
        return asdict(self)


async def run(name: str, seed: int, *, quick: bool = False) -> Row:
    """Run a fault, wait until everything is at rest, and compare."""
    fault, started = FAULTS[name], time.monotonic()
    async with open_stage(fault.plan, seed, quick=quick) as stage:
        for act in (_play(fault, stage), stage.check_at_rest()):
            try:
                async with asyncio.timeout(ACT_MAX_S):
                    await act
            except Exception as error:  # noqa: BLE001 - the row shows it, and the matrix continues
                stage.problems.append(f"{type(error).__name__}: {error}")
                traceback.print_exc()
        counted, difference = await stage.counted()
        ledger = stage.ledger
        return Row(
            fault=name,
            title=fault.title,
            seed=seed,
            sent=ledger.sent,
            acked=ledger.acked,
            refused=ledger.beacons[Outcome.REFUSED],
            unknown=ledger.beacons[Outcome.UNKNOWN],
            counted=counted,
            difference=difference,
            took_s=time.monotonic() - started,
            versions=await versions(stage),
            problems=stage.problems,
            lines=[line for host in stage.hosts for line in list(host.lines)[-LINES_SHOWN:]] if stage.problems else [],
        )


async def _play(fault: Fault, stage: Stage) -> None:
    if not stage.hosts:
        await fault.play(stage)
        return
    async with flowing(stage):
        await fault.play(stage)


async def versions(stage: Stage) -> str:
    """Return the versions of Footfall, Valkey and PostgreSQL."""
    redis: Redis = stage.stores.scratch
    facts = await redis.info("server")
    valkey = facts.get("valkey_version") or facts["redis_version"]
    postgres = stage.stores.postgres.get_server_version()
    return f"{__version__}, {valkey}, {postgres.major}.{postgres.minor}"
