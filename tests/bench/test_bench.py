"""The bench measures honestly: the same realistic requests to both servers, equal answers, a ledger, true marks.

No test here depends on how long anything takes.
"""

import asyncio
import difflib
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from footfall.errors import Stop
from footfall.ingest.beacon import parse_beacon
from footfall.ingest.robots import Robots
from tests.bench import (
    callgrind,
    closedloop,
    counted,
    families,
    figures,
    growth,
    instructions,
    kept_ids,
    memory,
    nginx,
    openloop,
    rates,
    results,
    servers,
    storage,
    tabs,
    traffic,
    tried,
)
from tests.bench.goals import Goal
from tests.bench.servers import Footfall
from tests.bench.wrk import drive
from tests.support.footfall import running, settings_for
from tests.support.nginx import find_nginx
from tests.support.project import PROJECT
from tests.support.raw_http import send_all

NEEDS_WRK = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
MICROSECONDS = "Redis' own microseconds of a call, ids kept / not kept (`exact_up_to = 0`)"
FLOOR = (
    "Memory in MB of an interpreter that imports a worker's libraries and nothing of Footfall: resident / for itself"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SHAPE = {"ratio", "p50_ratio", "p99_ratio", "p999_ratio", "cpu_ratio", "rps", "round_trips_per_beacon"}


def fields_of(request: bytes) -> dict[str, str]:
    """Return the headers of a request."""
    return dict(line.split(": ", 1) for line in request.decode().partition("\r\n\r\n")[0].split("\r\n")[1:])


def test_the_beacons_are_those_of_100000_readers_of_1000_pages_and_some_robots() -> None:
    """A cost measured with one visitor on one page would be the cost of a cache."""
    robots = Robots()
    senders, pages, from_robots = set(), set(), 0
    for visitor, request in enumerate(traffic.beacons()):
        fields, body = fields_of(request), request.partition(b"\r\n\r\n")[2]
        beacon = parse_beacon(body)
        assert (beacon.site, int(fields["Content-Length"])) == (traffic.SITE, len(body))
        assert robots.is_robot(fields["User-Agent"]) == traffic.is_robot(visitor)
        senders.add((fields["X-Forwarded-For"], fields["User-Agent"]))
        pages.add(beacon.page)
        from_robots += traffic.is_robot(visitor)
    assert (len(senders), len(pages), from_robots) == (100_000, 1_000, 2_000)


@NEEDS_WRK
async def test_wrk_sends_these_requests_and_no_others() -> None:
    """Both servers of a comparison get the same requests."""
    received: Counter[bytes] = Counter()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                received[head + await reader.readexactly(int(fields_of(head)["Content-Length"]))] += 1
                writer.write(OK)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        load = await drive(f"http://127.0.0.1:{port}", traffic.beacons(), 4, 1)
    assert set(received) <= set(traffic.beacons())
    assert load.errors == 0
    # Requests in flight at the end of the time are received and not counted.
    assert load.requests <= received.total() <= load.requests + 4


async def _saved(service: Footfall, views: int) -> int:
    """Return the views in Postgres, at the latest after two rollups."""
    for _ in range(25):
        if await service.saved_views() >= views:
            break
        await asyncio.sleep(1)
    return await service.saved_views()


@NEEDS_WRK
@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_short_bench_has_every_figure_and_its_ledger_is_right() -> None:
    """Its machine-readable result has a shape that others read, and "lost" means what Postgres lacks."""
    async with servers.footfall() as service:
        async with servers.baseline(service) as empty:
            for request in (traffic.beacons()[0], traffic.reads()[0]):
                ours, theirs = [await servers.answer_of(server, request) for server in (service, empty)]
                assert len(theirs["body"]) == len(ours["body"])
                assert theirs["headers"].keys() == ours["headers"].keys()
        assert await closedloop.idle_round_trips(service) == 1
        sent = closedloop.IDLE_ROUNDS * sum(not traffic.is_robot(visitor) for visitor in range(100))
        outcome = await openloop.drive(service.port, 300, 100, 1)
        assert outcome["unanswered"] == 0
        assert outcome["answers"]["read 200"] == 100
        assert outcome["answers"]["view 200"] + outcome["answers"].get("robot 200", 0) == 300
        assert await _saved(service, sent + outcome["answers"]["view 200"]) == sent + outcome["answers"]["view 200"]
        found = {"seen": await closedloop.seen(service, 1, 1)}
    assert set(found["seen"]) == {"16", "64", "256"}
    for row in found["seen"].values():
        assert set(row) >= SHAPE
        assert (row["errors"], row["round_trips_per_beacon"] < 1) == (0, True)
    beacons = next(rows for section, rows in figures.SECTIONS.items() if "empty POST" in section)
    unmeasured = [row.name for row in beacons if "not measured" in row.cells(found)[1]]
    assert unmeasured == ["round trips of a beacon that comes alone"]


@NEEDS_WRK
@pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")
@pytest.mark.slow
async def test_polls_through_nginx_share_one_question_a_second() -> None:
    """The project's own file runs: its cache answers the polls, and its limits let 100,000 readers pass."""
    async with servers.footfall() as service, nginx.running(service) as proxy:
        before = await service.answered("/counts")
        polls = await drive(proxy.url, traffic.reads(), 8, 1)
        assert polls.errors == 0
        assert await service.answered("/counts") - before <= 3
        statuses = await send_all(proxy.port, traffic.beacons()[1:50])
        assert statuses == {200: 49}
        assert await _saved(service, 49) == 49


def test_nginx_runs_the_file_of_the_operators_but_for_places(tmp_path: Path) -> None:
    """The bench would measure a changed limit or cache, and operators copy the unchanged one."""
    theirs = nginx.FILE.read_text("utf-8")
    ours = nginx.configuration(theirs, tmp_path, 1234, "http://127.0.0.1:5678")
    changed = [line[2:].strip() for line in difflib.ndiff(theirs.splitlines(), ours.splitlines()) if line[0] in "+-"]
    assert changed
    for line in changed:
        assert line.startswith(
            ("server 127.0.0.1:", "proxy_cache_path", "listen", "ssl_certificate", "error_log", "access_log")
        ), line
    with pytest.raises(Stop, match="does not say"):
        nginx.configuration(theirs.replace("443", "8443"), tmp_path, 1234, "http://127.0.0.1:5678")


def test_the_table_of_a_terminal_has_what_was_measured_alone() -> None:
    """Of one part, the rows of all others would only hide its own."""
    of_machine = {"versions": {}, "hardware": "", "busy_percent": 0, "additions_ms": [1, 1], "cores": ""}
    drawn = figures.table({"machine": of_machine, "instructions": {"robot": {"ratio": 1.0}}})
    assert [str(cell) for cell in drawn.columns[0].cells if "[bold]" in str(cell)] == [
        "[bold]Instructions of a request, 64 at once, ours by the empty server's[/]"
    ]


async def test_growth_has_a_row_for_every_number_of_sites_and_visitors() -> None:
    """Operators who size a Redis and a PostgreSQL need bytes as well as times."""
    found = await growth.measure(sites=(1, 3), visitors=(100, 3000))
    assert [*found["by_sites"], *found["by_visitors"]] == ["1", "3", "100", "3000"]
    assert [row["rollup_of_all_pings_per_site"] > 0 for row in found["by_sites"].values()] == [True, True]
    few, many = found["by_visitors"].values()
    assert few["redis_bytes_per_day"] < many["redis_bytes_per_day"] < 13_000
    assert few["postgres_row_bytes"] < many["postgres_row_bytes"] < 13_000
    assert 30 * 1000 < found["redis_bytes_per_1000_online"] < 200 * 1000


async def test_a_site_takes_its_ids_until_the_sketch_takes_over_and_then_less() -> None:
    """The bytes are of real batches: those of a sketch alone would hide what a small site pays for being exact."""
    found = {"storage": await storage.measure(visitors=(63, 4_096, 4_097), pages=60)}
    few, most, over = found["storage"]["by_visitors"].values()
    assert few["redis"] < 10_000 < over["redis"] < most["redis"]
    assert few["postgres"] < over["postgres"] < most["postgres"]
    rows = {
        row.name: row.cells(found)[1] for row in counted.SECTIONS["A site of 10,000 pages, each viewed on that day"]
    }
    assert [name for name, measured in rows.items() if "not measured" in measured] == []


@pytest.mark.timeout(180)
async def test_what_ids_cost_redis_stands_beside_a_site_that_keeps_none() -> None:
    """Of the same calls in the same run; where valgrind is, by the instructions of the server itself."""
    found = {"kept_ids": await kept_ids.measure(days=(63, 2_000), rounds=1, exact_up_to=900)}
    rows = [row for row in counted.SECTIONS[MICROSECONDS] if " 63 visitors" in row.name]
    assert [row.name for row in rows if "not measured" in row.cells(found)[1]] == []
    if callgrind.is_installed():
        small, big = (found["kept_ids"][day]["16"]["instructions"] for day in ("63", "2000"))
        assert small["with"] <= small["without"] + 2 * small["pfadd"], (
            "the sets of day and week cost more than a sketch"
        )
        assert big["with"] <= 1.1 * big["without"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what processes share")
async def test_memory_is_read_of_the_workers_and_of_all_processes() -> None:
    """A process that the reading missed would be memory that operators find only on their own machine."""
    found = await memory.measure(workers=(1,), sites=2, settle_s=0.1)
    assert found is not None
    one = found["by_workers"]["1"]
    assert 20 < one["private_mb"] <= one["share_mb"] <= one["resident_mb"]
    assert one["all_mb"] > 1.3 * one["share_mb"]  # the parent has some of the same modules
    assert found["many_sites"]["viewed"].keys() == found["many_sites"]["idle"].keys()
    libraries = [each["resident_mb"] for each in found["floor"].values()]
    assert 5 < libraries[0] <= libraries[1] <= libraries[-1] < one["resident_mb"]
    rows = [
        row.cells({"memory": found})[1]
        for name, rows in counted.SECTIONS.items()
        if name.startswith(FLOOR)
        for row in rows
    ]
    assert [cell for cell in rows if "not measured" in cell] == []
    assert len(rows) == len(memory.LIBRARIES) + 1


def test_the_floor_of_a_worker_has_only_what_a_worker_imports() -> None:
    """Another library would raise the floor, and a worker would seem to have less of its own."""
    program = "import sys; from footfall.process import worker; worker._loop_factory(); print(*sys.modules)"
    imported = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert {module for module, _ in memory.LIBRARIES.values()} <= set(imported)


async def test_rates_come_from_counted_instructions_and_what_a_core_does_in_a_second() -> None:
    """More instructions are a lower rate, less what the kernel takes of both; without counted ones there is no rate."""
    found = await rates.measure({case: {"ours": 400_000, "empty": 200_000} for case in rates.CASES}, requests=300)
    per_s = found["billion_instructions_per_s"]
    assert 0 < per_s["least"] <= per_s["median"] <= per_s["most"]
    for of_case in found["requests"].values():
        assert of_case["ours_per_s"] < of_case["empty_per_s"] <= 2 * of_case["ours_per_s"] + 2
    with pytest.raises(Stop, match="only instructions"):
        await rates.measure({})


@pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")
async def test_tabs_ping_over_kept_connections_through_the_operators_nginx() -> None:
    """A tab that pinged too seldom, or read the numbers beside its pings, would be another one than the script's."""
    found = await tabs.measure(tabs=(500,), sites=2, connections=8, seconds=2, settle_s=0)
    assert found["interval_s"] == 54
    cost = found["by_tabs"]["500"]
    assert cost["wanted_per_s"] == 19
    assert 0 < cost["pings_per_s"] < 25
    assert cost.keys() == found["new_connections"].keys()
    assert 200 * tabs.PINGS_AN_HOUR < found["bytes_received_per_hour"] < 2_000 * tabs.PINGS_AN_HOUR


@pytest.mark.parametrize(
    ("ratio", "worse"),
    [
        pytest.param(1.26, 0, id="within five per cent"),
        pytest.param(1.27, 1, id="beyond them"),
        pytest.param(1.0, 0, id="better"),
    ],
)
def test_a_request_that_takes_more_instructions_than_before_fails_the_bench(ratio: float, worse: int) -> None:
    """Wall-clock figures wander with the machine; these do not, so a change for the worse is one of the program."""
    before = {"instructions": {"seen": {"ratio": 1.2}, "robot": {"ratio": 1.0}}}
    assert len(counted.regressions({"instructions": {"seen": {"ratio": ratio}}}, before)) == worse
    assert counted.regressions({"instructions": {"seen": {"ratio": ratio}}}, {}) == []


def test_the_requests_whose_instructions_are_counted_are_of_the_kinds_that_they_are_called() -> None:
    """A robot among the readers would be cheaper, and a site of which no beacon came before dearer."""
    robots = Robots()
    found = instructions.cases('W/"etag"')
    assert found.keys() == counted.CASES.keys()
    for name, case in found.items():
        counts = case.requests[case.warming * instructions.CONNECTIONS :]
        assert len(counts) == instructions.COUNTED * instructions.CONNECTIONS, name
        from_robots = {robots.is_robot(fields_of(request)["User-Agent"]) for request in counts}
        assert name.startswith("counts") or from_robots == {name == "robot"}
    for name, kind in (("many_sites", "site"), ("seen_page", "page"), ("seen_view", "page")):
        case = found[name]
        values = [getattr(parse_beacon(request.partition(b"\r\n\r\n")[2]), kind) for request in case.requests]
        first = case.warming * instructions.CONNECTIONS
        assert (len(set(values[:first])), len(set(values[first:]))) == (1000, 512)
    requests = found["seen_view"].requests
    assert len({parse_beacon(request.partition(b"\r\n\r\n")[2]).view for request in requests}) == len(requests)


async def test_a_server_answers_beacons_without_any_family_and_counts_them_again_with_all(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """What is saved by leaving a family out is its part only if all else goes on; and later cases need all of it."""
    async with running(settings_for(redis_url, postgres_url, tmp_path)) as footfall:
        left_out, before = families.LeftOut(footfall.services), await footfall.see()
        for family in families.FAMILIES:
            left_out.leave_out_next()
            response = await footfall.send(address="203.0.113.2")
            assert (response.status, (await response.json())["views_today"]) == (200, before["views_today"]), family
        left_out.leave_out_next()
        assert (await footfall.see(address="203.0.113.3"))["views_today"] == before["views_today"] + 1


@pytest.mark.parametrize(
    ("goal", "mark"),
    [
        pytest.param(Goal("seen.64.ratio", ">=", 0.85), ">= 0.85: met", id="just met"),
        pytest.param(Goal("seen.64.p99_ratio", "<=", 1.3), "<= 1.3: missed", id="just missed"),
        pytest.param(Goal("sustained.lost", "=", 0), "= 0: missed", id="neither more nor less"),
        pytest.param(Goal("nginx.hit_ratio", ">=", 0.9), ">= 0.9: not measured", id="a part without its program"),
        pytest.param(Goal("counts.ratio", ">=", 0.9), ">= 0.9: not measured", id="a part that did not run"),
    ],
)
def test_a_goal_is_met_missed_or_not_measured(goal: Goal, mark: str) -> None:
    """A figure that was not measured is never marked as met."""
    found = {"seen": {"64": {"ratio": 0.85, "p99_ratio": 1.301}}, "sustained": {"lost": -1}, "nginx": None}
    assert goal.mark(found) == mark


def test_the_results_show_the_rows_and_goals_of_the_bench() -> None:
    """`python -m tests.bench --results` writes them; a row that has another name is from another bench."""
    shown = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in results.FILE.read_text("utf-8").partition(tried.HEADING)[0].splitlines()
        if line[:1] == "|" and line[:8] not in {"| figure", "|---|---"}
    ]
    expected = [
        (name, goal.mark({}).partition(":")[0] if goal else "")
        for section, rows in (figures.SECTIONS | counted.SECTIONS).items()
        for name, goal in ((f"**{section}**", None), *((row.name, row.goal) for row in rows))
    ]
    assert [(name, mark.partition(":")[0]) for name, _, mark in shown] == expected
    assert all(measured for name, measured, _ in shown if not name.startswith("**"))
    measured = {name: measured.split(" / ") for name, measured, _ in reversed(shown)}
    beacons = measured["beacons a second on one core"][1]  # at 64 connections
    ratio = measured["throughput, ours by the empty one's"][1]
    assert f"{beacons} beacons a second on one core, {ratio} times what" in (PROJECT / "README.md").read_text("utf-8")


def test_the_counted_figures_of_the_results_are_those_that_the_bench_compares_with() -> None:
    """A figure written by hand in one of the two would say what no run measured."""
    page = results.FILE.read_text("utf-8")
    assert (
        page.partition(counted.HEADING)[2] == "\n".join([*counted.lines(counted.saved()), ""])[len(counted.HEADING) :]
    )
    assert counted.saved().keys() == set(counted.PARTS)
    assert "\n".join(tabs.table(counted.saved()["tabs"])) in tabs.TABLE_PLACE.read_text("utf-8")


@pytest.mark.parametrize(
    ("saved", "why"),
    [
        pytest.param({"machine": {}}, "lacks seen", id="parts are missing"),
        pytest.param(
            {part: {} for part in results.PARTS} | {"again": ["growth"]}, "again .*: growth", id="two runs mixed"
        ),
    ],
)
def test_the_results_are_of_one_whole_run(saved: dict[str, object], why: str) -> None:
    """A hole looks like a result, and figures of two moments are not side by side."""
    with pytest.raises(Stop, match=why):
        list(results.lines(saved))
