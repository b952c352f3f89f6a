"""How values travel to the scripts of Redis and back: each list of names there is in the same order."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import lru_cache
from typing import Any

from footfall.errors import StoreDamaged
from footfall.model.counts import Reading
from footfall.model.day_state import Closed, DayState
from footfall.model.pages import PageDay, PageReading, from_text
from footfall.model.peak import Peak
from footfall.model.periods import Period, week_of
from footfall.model.retention import DAY
from footfall.model.salt import SALT_BYTES, Salt
from footfall.model.site_id import SiteId
from footfall.model.snapshot import Turn
from footfall.model.sums import Spans, Sums, spans_of

SEEN_AHEAD_MS = 1000
"""A clock that is adjusted goes back by this much at once; what is later is of a clock that was ahead."""


def ready_key(site_id: str) -> str:
    """Key whose presence allows counting; it also carries the site's hash tag.

    >>> ready_key("portal")
    'ff1:{portal}:ready'
    """
    return f"ff1:{{{site_id}}}:ready"


def day_key(site_id: str, day: date, part: str) -> str:
    """Key of a day's `visitors` (sketch), `ids` (set) or `logs` (hash).

    >>> day_key("portal", date(2026, 1, 31), "visitors")
    'ff1:{portal}:day:2026-01-31:visitors'
    """
    return f"ff1:{{{site_id}}}:day:{day.isoformat()}:{part}"


def days_of_week(week: date) -> list[str]:
    return [(week + number * DAY).isoformat() for number in range(7)]


@lru_cache(maxsize=64)
def week_days(week: date) -> tuple[str, str]:
    return week.isoformat(), (week + 6 * DAY).isoformat()


def turn_values(turn: Turn | None) -> tuple[str, int, str, int]:
    if turn is None:
        return "", 0, "", 0
    return turn.worker, int(turn.recent_s * 1e6), turn.servers, int(turn.all_recent_s * 1e6)


def closed_values(closed: Closed) -> tuple[str | int, ...]:
    return (
        closed.read_at_us,
        closed.through.isoformat(),
        closed.visitors,
        closed.views,
        closed.adjustments,
        closed.revision,
        closed.today.isoformat(),
        closed.sums.encode() if closed.sums else "",
        closed.peak.encode() if closed.peak else "",
        int(closed.exact),
    )


def salt_values(salt: Salt) -> tuple[str, bytes, int]:
    return salt.week.isoformat(), salt.key, salt.ends_s


def day_values(days: Iterable[DayState]) -> list[str | bytes]:
    arguments: list[str | bytes] = []
    for state in days:
        logs = " ".join(f"{log_id}={seq}:{views}" for log_id, (seq, views) in state.logs.items())
        unlisted = str(state.visitors) if state.ids is None else ""
        arguments += [state.day.isoformat(), *week_days(week_of(state.day)), state.sketch or b"", logs]
        arguments += [state.ids or b"", unlisted]
    return arguments


# And back.


@contextmanager
def reading_values(site_id: SiteId) -> Iterator[None]:
    """Turn a value that no script of ours wrote into StoreDamaged; the value itself is never logged."""
    try:
        yield
    except ValueError as error:
        raise unreadable(site_id) from error


def unreadable(site_id: SiteId) -> StoreDamaged:
    """Return the failure of a site of which Redis holds a value that no script of ours wrote."""
    return StoreDamaged("redis", f"holds a value that cannot be read; site={site_id}")


def logs_of(flat: Sequence[bytes]) -> dict[str, tuple[int, int]]:
    logs = {}
    for log_id, entry in zip(flat[::2], flat[1::2], strict=True):
        if not log_id.isalnum():
            raise ValueError("log id")
        seq, _, views = entry.partition(b":")
        logs[log_id.decode()] = int(seq), int(views)
    return logs


def page_days_of(day: date, flat: Sequence[bytes]) -> list[PageDay]:
    entries = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return [PageDay(day, page.decode(), from_text(logs.decode()), changed.decode()) for page, logs, changed in entries]


def page_reading_of(values: Sequence[Any]) -> PageReading:
    generation, corrected, through, *views = values
    return PageReading(generation.decode(), corrected.decode(), through.decode(), views)


def day_of(name: bytes) -> date | None:
    """Return the day that a name means; None for what no script of ours wrote."""
    try:
        day = date.fromisoformat(name.decode())
    except ValueError:
        return None
    return day if day.isoformat().encode() == name else None  # Python reads 20260131 and 2026-W05-6 too


def salt_key_of(key: bytes) -> bytes:
    if len(key) != SALT_BYTES:
        raise ValueError("salt")
    return key


def reading_of(period: Period, fields: Sequence[Any]) -> Reading:
    *numbers, adjustments, revision, at_ms, sums, peak, last_week, open_days, exact = fields
    if min(*numbers, last_week) < 0:  # PFCOUNT answers -2^63 for registers that no hash can have
        raise ValueError("count")
    spans = _spans(period.day, sums, tuple(map(tuple, open_days)), last_week)
    highest = peak_of(peak)
    if highest and highest.at_ms > at_ms + SEEN_AHEAD_MS:  # of a clock that was ahead
        highest = None
    values = (period.day, period.week, *numbers, adjustments, revision.decode(), at_ms, spans, highest, _names(exact))
    return Reading._make(values)


@lru_cache(maxsize=16)
def _names(words: bytes) -> tuple[str, ...]:
    return tuple(words.decode().split())


@lru_cache(maxsize=1024)
def _spans(today: date, sums: bytes, open_days: Sequence[tuple[bytes, int, int]], last_week_open: int) -> Spans | None:
    """Return the numbers around `today`; kept, because they change with the closed days only, and each beacon asks."""
    if (closed := Sums.decode(sums.decode())) is None:
        return None
    days = [(date.fromisoformat(name.decode()), visitors, views) for name, visitors, views in open_days]
    return spans_of(today, closed, days, last_week_open)


@lru_cache(maxsize=4096)
def peak_of(entry: bytes) -> Peak | None:
    return Peak.decode(entry.decode())
