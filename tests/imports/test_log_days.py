"""The days of a log: its visitors against another program's, and by the rules of a beacon."""

import gc
import json
import os
import random
import shutil
import subprocess
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from footfall.imports.log_days import LogDays
from footfall.imports.log_requests import Request, Unread, open_log
from footfall.model.imported import ImportedDay
from footfall.settings.settings import Settings, Site
from tests.support.footfall import BROWSER, SITE, settings_for
from tests.support.project import PROJECT

REAL_LOG = Path(os.environ.get("FOOTFALL_REPLAY_LOG", PROJECT / "../shared/data/access-2015-05.log"))
ORACLE = {"2015-05-17": 365, "2015-05-18": 660, "2015-05-19": 586, "2015-05-20": 533}
"""Distinct visitors of each day of the real log, as GoAccess counts them."""
BROKEN_LINE = 8899
"""Its last quote is missing. GoAccess takes the rest of it for the user agent; here the line is not understood."""

needs_log = pytest.mark.skipif(not REAL_LOG.exists(), reason=f"there is no log at {REAL_LOG}")
needs_goaccess = pytest.mark.skipif(shutil.which("goaccess") is None, reason="goaccess is not installed")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a portal whose days are those of the log."""
    return settings_for("redis://x", "postgresql://x", tmp_path, portal={"time_zone": "UTC", "page_query": ["id"]})


def request(
    path: str = "/", time: str = "23/Nov/2026:08:00:00 +0000", address: str = "192.0.2.1", **other: str
) -> Request:
    """A page view of a person."""
    return Request(time, address, None, "GET", path, "200", None, BROWSER)._replace(**other)


def days_of(settings: Settings, requests: Iterable[Request]) -> tuple[list[ImportedDay], Counter[str]]:
    """Count requests."""
    days = LogDays(settings, settings.sites[SITE])
    for one in requests:
        days.add(one)
    found = list(days)
    days.close()
    return found, days.left_out


def goaccess(log: Path, folder: Path) -> dict[str, tuple[int, int]]:
    """Return the visitors and hits of each day by GoAccess, which otherwise counts nobody who saw only errors."""
    output = folder / "goaccess.json"
    options = ["--no-global-config", "--log-format=COMBINED", "--4xx-to-unique-count", "--no-progress"]
    subprocess.run(["goaccess", str(log), *options, "-o", str(output)], check=True, capture_output=True)
    days = json.loads(output.read_text())["visitors"]["data"]
    return {str(date.fromisoformat(day["data"])): (day["visitors"]["count"], day["hits"]["count"]) for day in days}


@needs_log
@needs_goaccess
def test_the_reader_tells_visitors_apart_as_goaccess_does(tmp_path: Path) -> None:
    """Another program reads the same 10,000 lines: with robots, files and errors each day has the same visitors."""
    pairs: dict[str, set[tuple[str, str | None]]] = defaultdict(set)
    unread = []
    for _, read in open_log(REAL_LOG).requests():
        if isinstance(read, Unread):
            unread.append(read.line)
        else:
            pairs[f"2015-05-{read.time[:2]}"].add((read.address, read.agent))
    assert unread == [BROKEN_LINE]
    by_goaccess = {day: visitors for day, (visitors, _) in goaccess(REAL_LOG, tmp_path).items()}
    assert by_goaccess == ORACLE
    ours = {day: len(visitors) for day, visitors in pairs.items()}
    assert ours == ORACLE | {"2015-05-20": ORACLE["2015-05-20"] - 1}  # the one of the broken line
    without = tmp_path / "without.log"
    lines = REAL_LOG.read_bytes().splitlines(keepends=True)
    without.write_bytes(b"".join(lines[: BROKEN_LINE - 1] + lines[BROKEN_LINE:]))
    assert {day: visitors for day, (visitors, _) in goaccess(without, tmp_path).items()} == ours


@needs_log
@needs_goaccess
def test_an_import_counts_of_the_page_views_what_goaccess_counts(settings: Settings, tmp_path: Path) -> None:
    """Of the lines that are views of people, visitors and views of each day are the same."""
    days, views = LogDays(settings, settings.sites[SITE]), tmp_path / "views.log"
    lines = REAL_LOG.read_bytes().splitlines(keepends=True)
    with views.open("wb") as log:
        for number, read in open_log(REAL_LOG).requests():
            if isinstance(read, Request) and days.add(read):
                log.write(lines[number - 1])
    found = {str(day.day): (day.visitors, day.views) for day in days}
    assert found == goaccess(views, tmp_path)
    assert sum(views for _, views in found.values()) > 1000
    assert days.left_out["robot"] > 1000


def test_only_page_views_of_people_count(settings: Settings) -> None:
    """The rules are those of a beacon; why a line is left out is counted."""
    found, left_out = days_of(
        settings.model_copy(update={"sites": _with(settings, excluded_networks=["203.0.113.0/24"])}),
        [
            request("/tin//1/?utm_source=x&id=7"),
            request("/tin/1?id=7", address="192.0.2.2", status="304"),
            request("/tin/2", host="portal.example.vn:443"),
            request("/a.png?x=/tin"),
            request(status="404"),
            request(method="POST"),
            request(agent="Googlebot/2.1 (+http://www.google.com/bot.html)"),
            request(agent=""),
            request(host="other.example.vn"),
            request(address="203.0.113.5"),
            request(address="portal"),
        ],
    )
    assert found == [ImportedDay(date(2026, 11, 23), 2, 3, exact=True, pages={"/tin/1?id=7": 2, "/tin/2": 1})]
    assert left_out == Counter(
        {
            "robot": 2,
            "no page, but a file of one": 1,
            "not status 200 or 304": 1,
            "not GET": 1,
            "of another host": 1,
            "of an excluded network": 1,
            "no address of a client": 1,
        }
    )


def _with(settings: Settings, **changes: Any) -> dict[str, Site]:
    return {SITE: replace(settings.sites[SITE], **changes)}


def test_days_are_those_of_the_site_whatever_the_log_writes(tmp_path: Path) -> None:
    """A server's clock is often in UTC; the portal's day begins seven hours earlier."""
    settings = settings_for("redis://x", "postgresql://x", tmp_path)
    times = {
        "23/Nov/2026:16:59:59 +0000": 23,
        "23/Nov/2026:17:00:00 +0000": 24,
        "23/Nov/2026:23:59:59 +0700": 23,
        "2026-11-23T17:00:00Z": 24,
        "2026-11-23T16:59:59.999999999Z": 23,
        "2026-11-24T00:00:00+07:00": 24,
        "1795453199.9": 23,
        "1795453200": 24,
    }
    for time, day in times.items():
        assert [one.day for one in days_of(settings, [request(time=time)])[0]] == [date(2026, 11, day)], time
    with pytest.raises(ValueError, match="does not match format"):
        days_of(settings, [request(time="31/Feb/20xx:00:00:00 +0000")])


def test_the_order_of_lines_and_files_says_nothing(settings: Settings) -> None:
    """Rotated files are named in any order, and servers write a line when the answer ends."""
    draw = random.Random(1)
    requests = [
        request(
            f"/{draw.randrange(9)}",
            f"{draw.randrange(20, 24)}/Nov/2026:08:00:00 +0000",
            f"192.0.2.{draw.randrange(50)}",
        )
        for _ in range(500)
    ]
    shuffled = draw.sample(requests, len(requests))
    assert days_of(settings, requests) == days_of(settings, shuffled)


def test_two_imports_have_no_hash_in_common(settings: Settings) -> None:
    """The key is made for one import, and thrown away at its end."""
    site, one, other = settings.sites[SITE], None, None
    one, other = LogDays(settings, site), LogDays(settings, site)
    hashes = [days._visitor(request()) for days in (one, one, other)]  # noqa: SLF001 - no other way to see them
    assert hashes[0] == hashes[1] != hashes[2]


def test_beyond_pages_max_pages_count_together(settings: Settings) -> None:
    """A log of random paths fills no table."""
    limited = settings.model_copy(update={"sites": _with(settings, pages_max=2)})
    (day,), _ = days_of(limited, [request(f"/{number}") for number in (1, 1, 2, 2, 3, 4)])
    assert day.pages == {"/1": 2, "/2": 2, "(other)": 2}


def test_a_log_without_user_agents_counts_addresses(settings: Settings) -> None:
    """Its robots cannot be known; the command says so."""
    days = LogDays(settings, settings.sites[SITE])
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        days.add(request(address=address)._replace(agent=None))
    assert [(day.visitors, day.views) for day in days] == [(2, 3)]
    assert days.lacks_agents


def test_memory_does_not_grow_with_the_log(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A year of a portal has a hundred million lines; what waits in memory is written every so many lines."""
    monkeypatch.setattr("footfall.imports.log_days.ROWS_AT_ONCE", 2000)

    def requests(number: int) -> Iterator[Request]:
        for at in range(number):
            yield request(f"/{at % 5000}", address=f"10.{at >> 16 & 255}.{at >> 8 & 255}.{at & 255}")

    peaks = []
    for lines in (20_000, 60_000):
        days = LogDays(settings, settings.sites[SITE])
        gc.collect()
        tracemalloc.start()
        for one in requests(lines):
            days.add(one)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert [(day.visitors, day.views) for day in days] == [(lines, lines)]
    assert peaks[1] < 1.5 * peaks[0]
