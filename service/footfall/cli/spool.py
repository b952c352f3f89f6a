"""What waits in a spool folder: what `footfall spool list` shows, and `footfall spool adopt` checks and takes over."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from footfall.cli.terminal import say
from footfall.errors import Stop, StoreUnavailable
from footfall.log_throttle import some_of
from footfall.settings.settings import Settings
from footfall.stores.postgres_store import open_postgres
from footfall.stores.spool_folder import FoundFile, FoundLog, spool_folder

LOOK_EVERY_S = 2.0

Durable = Mapping[str, tuple[int, int]]
"""The seq up to which Postgres has each log, and the log's views up to there, by the log's id."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """What Postgres lacks of some logs."""

    batches: int
    views: int

    @classmethod
    def of(cls, logs: Iterable[FoundLog], durable: Durable) -> "Lacking":
        """Compare logs with what Postgres has of them; a batch may stand in two files, and counts once."""
        batches = set[tuple[str, int]]()
        views: dict[str, int] = {}
        for log in logs:
            seq, views_there = durable[log.log_id]
            if lacking := {(log.log_id, one) for one in log.beacons if one > seq}:
                batches |= lacking
                views[log.log_id] = max(log.views - views_there, views.get(log.log_id, 0))
        return cls(len(batches), sum(views.values()))

    def __str__(self) -> str:
        return (
            f"PostgreSQL lacks {self.batches} batches, {self.views} views" if self.batches else "PostgreSQL has it all"
        )


def adopt_folder(settings: Settings, folder: Path, *, force: bool) -> None:
    """Check that the spool in `folder` is whole, and give it to the workers of this host; print a line a file.

    Raises Stop, and takes nothing over, where a file is not whole, unless `force` is set.
    """
    spool = _own(settings)
    if folder.resolve() == spool.resolve():
        raise Stop(f"{folder} is the spool of this host; its workers take over by themselves what is in it")
    try:
        with spool_folder(_existing(folder), spool) as foreign:
            found = foreign.look_before_adopting()
            for file in found:
                say(f"{file.name}: {file.trouble or 'whole'}, {file.batches} batches")
            if not found:
                raise Stop(f"{folder} holds no spool file (*.spool)")
            troubles = sum(bool(file.trouble) for file in found)
            if troubles and not force:
                raise Stop(
                    f"{troubles} of {len(found)} files are not whole; nothing was taken over. Bring the folder again"
                    " with all that is in it, -wal and -journal files too. --force takes over what can be read.",
                    1,
                )
            foreign.move_in()
    except OSError as error:
        raise Stop(f"the folder cannot be taken over: {error}", 1) from error
    for sentence in _unknown_sites(settings, found):
        say(sentence)
    batches = sum(file.batches for file in found)
    say(
        f"Taken over: {batches} batches. The workers of this host send them within a minute."
        f" Remove {folder} once `footfall spool list {folder}` says that PostgreSQL has all of it."
    )


async def list_folder(settings: Settings, folder: Path | None, wait_s: float) -> None:
    """Print what is in a spool folder, this host's own without `folder`, and what of it Postgres lacks.

    Asks Postgres again for `wait_s` seconds until it lacks nothing. Raises Stop where it lacks something at the end,
    or where a file is not whole, since that file may have held more.
    """
    source, found, aside = _look(settings, folder)
    logs = [log for file in found for log in file.logs]
    durable, why = await _durable_within(settings, logs, wait_s)
    for line in _lines(found, durable):
        say(line)
    for name in aside:
        say(f"{name}: was damaged, and kept after a worker had taken over what could be read; remove it after a look")
    for sentence in _unknown_sites(settings, found):
        say(sentence)
    if not found:
        say(f"{source} holds no spool file (*.spool): nothing waits there.")
    if durable is None:
        raise Stop(f"PostgreSQL does not say what it has of this: {why}", 1)
    _judge(source, found, Lacking.of(logs, durable), is_own=source == _own(settings))


def _look(settings: Settings, folder: Path | None) -> tuple[Path, list[FoundFile], list[str]]:
    """Return the folder, its files, and the names of those that are kept damaged; raises Stop."""
    spool = _own(settings)
    source = spool if folder is None or folder.resolve() == spool.resolve() else folder
    try:
        with spool_folder(_existing(source), spool) as opened:
            return source, opened.look(), opened.set_aside()
    except OSError as error:
        raise Stop(f"the folder cannot be read: {error}", 1) from error


async def _durable_within(settings: Settings, logs: list[FoundLog], wait_s: float) -> tuple[Durable | None, str]:
    """Ask Postgres what it has until it has all, at the longest for a time; None if it never answered, and why."""
    ends_s = time.monotonic() + wait_s
    durable: Durable | None = None
    why = ""
    asked = [(log.site_id, log.day, log.log_id) for log in logs]
    async with open_postgres(settings.postgres_url.get_secret_value()) as postgres:
        while True:
            try:
                answers = await postgres.durable_views(asked)
            except StoreUnavailable as error:
                why = str(error)
            else:
                durable = {log.log_id: answer for log, answer in zip(logs, answers, strict=True)}
            has_all = durable is not None and not Lacking.of(logs, durable).batches
            if has_all or time.monotonic() >= ends_s:
                return durable, why
            await asyncio.sleep(min(LOOK_EVERY_S, max(0.0, ends_s - time.monotonic())))


def _judge(source: Path, found: list[FoundFile], lacking: Lacking, *, is_own: bool) -> None:
    """Say what to do next; raises Stop where the folder may hold what PostgreSQL does not have."""
    troubles = [file for file in found if file.trouble and not (is_own and file.is_held)]
    if lacking.batches:
        todo = "This host's workers send them" if is_own else f"`footfall spool adopt {source}` hands them over"
        raise Stop(f"{lacking}. {todo}.", 1)
    if troubles:
        raise Stop(f"{len(troubles)} of {len(found)} files are not whole, and may have held more than can be read", 1)
    if found and not is_own:
        say(f"PostgreSQL has all of it: {source} may be removed.")


def _lines(found: Iterable[FoundFile], durable: Durable | None) -> Iterator[str]:
    for file in found:
        if file.is_held:
            yield f"{file.name}: {file.trouble}; `footfall status` shows its spool"
            continue
        beacons = sum(sum(log.beacons.values()) for log in file.logs)
        held = f"{file.batches} batches, {beacons} beacons"
        yield f"{file.name}: {file.trouble or 'whole'}, {held}{_there(file.logs, durable)}"
        days: dict[date, list[FoundLog]] = {}
        for log in file.logs:
            days.setdefault(log.day, []).append(log)
        for day, logs in sorted(days.items()):
            batches = sum(len(log.beacons) for log in logs)
            sites = some_of(sorted({log.site_id for log in logs}))
            yield f"  {day}, {sites}: {batches} batches{_there(logs, durable)}"


def _there(logs: Iterable[FoundLog], durable: Durable | None) -> str:
    return "" if durable is None else f"; {Lacking.of(logs, durable)}"


def _unknown_sites(settings: Settings, found: Iterable[FoundFile]) -> Iterator[str]:
    """Say which sites of the folder no worker here counts: their batches would wait for ever."""
    unknown = sorted({log.site_id for file in found for log in file.logs} - settings.sites.keys())
    if unknown:
        yield f"Not configured here: {some_of(unknown)}. Their batches wait until a worker has them in its settings."


def _own(settings: Settings) -> Path:
    return settings.data_dir / "spool"


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise Stop(f"{folder} is no folder")
    if (inner := folder / "spool").is_dir():
        raise Stop(f"{folder} is a data folder; its spool is {inner}")
    return folder
