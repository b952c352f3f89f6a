"""The replay of an access log: which lines are page views, which are sent again, and when the comparison holds."""

import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from rich.console import Console

from footfall import sql_folder
from footfall.errors import Stop
from footfall.imports.log_days import is_asset
from footfall.model.periods import week_of
from footfall.model.salt import SALT_BYTES, Salt
from footfall.model.site_id import SiteId
from footfall.stores.migrations import migrate
from footfall.stores.postgres_store import open_postgres
from tests.replay.__main__ import (
    NEVER,
    Numbers,
    Tally,
    Target,
    Watch,
    judge,
    main,
    relative_error,
    replay,
    run,
    send_all,
)
from tests.replay.access_log import Log, View, open_log, parse_line, read_log
from tests.replay.made_log import made_log
from tests.support.own_footfall import HOST, SITE, prepare, running
from tests.support.project import PROJECT

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
REAL_LOG = Path(os.environ.get("FOOTFALL_REPLAY_LOG", PROJECT / "../shared/data/access-2015-05.log"))
VISITORS = 5200
BEFORE = Numbers(0, 0, "visitors", "2026-11-23", datetime(2026, 11, 23, 5, tzinfo=UTC))


def line(
    request: str = "GET /tin-tuc/1 HTTP/1.1",
    status: int = 200,
    agent: str = FIREFOX,
    address: str = "192.0.2.1",
) -> str:
    return f'{address} - - [23/Nov/2026:08:00:00 +0700] "{request}" {status} 512 "-" "{agent}"\n'


def view(address: str = "192.0.2.1", agent: str = FIREFOX) -> View:
    return View(address, agent, "/")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(line(), View("192.0.2.1", FIREFOX, "/tin-tuc/1"), id="page"),
        pytest.param(line(status=304), View("192.0.2.1", FIREFOX, "/tin-tuc/1"), id="page in the cache"),
        pytest.param(line("GET /?q=a.png HTTP/1.1"), View("192.0.2.1", FIREFOX, "/"), id="dot in the query"),
        pytest.param(line("GET /index.html"), View("192.0.2.1", FIREFOX, "/index.html"), id="HTTP 0.9"),
        pytest.param(line(agent="-"), View("192.0.2.1", "", "/tin-tuc/1"), id="no user agent"),
        pytest.param(line(agent=r"a \"b\" c"), View("192.0.2.1", r"a \"b\" c", "/tin-tuc/1"), id="quotes within"),
        pytest.param(line(address="2001:db8::1"), View("2001:db8::1", FIREFOX, "/tin-tuc/1"), id="IPv6"),
        pytest.param(line().strip() + ' "-" 0.004\n', View("192.0.2.1", FIREFOX, "/tin-tuc/1"), id="more fields"),
        pytest.param(line().replace("- -", "- a b"), View("192.0.2.1", FIREFOX, "/tin-tuc/1"), id="user a b"),
        pytest.param(line("POST /tin-tuc/1 HTTP/1.1"), "POST /tin-tuc/1 HTTP/1.1", id="no GET"),
        pytest.param(line(status=404), "GET /tin-tuc/1 HTTP/1.1", id="not found"),
        pytest.param(line("GET /a/STYLE.CSS?v=1 HTTP/1.1"), "GET /a/STYLE.CSS?v=1 HTTP/1.1", id="asset"),
        pytest.param(line("-", 408), "-", id="request that never came"),
        pytest.param(line()[:-2], None, id="broken quote"),
        pytest.param(line(address="portal.example.vn"), None, id="host name for an address"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_page_view_is_a_get_that_showed_a_page(text: str, expected: View | str | None) -> None:
    """The views sent are the reference for the views counted."""
    assert parse_line(text) == expected


def test_assets_are_known_by_their_ending() -> None:
    """A page loads dozens of files; none of them is a visit."""
    assert [page for page in ("/a.png", "/a.js", "/a.PDF", "/a", "/a.html", "/a.d/", "/a.aspx") if is_asset(page)] == [
        "/a.png",
        "/a.js",
        "/a.PDF",
    ]


def test_every_line_is_counted_somewhere() -> None:
    """Every line of the log must appear in the report."""
    log = read_log([line(), line(status=404), "broken", line("GET /a.css HTTP/1.1"), line()])
    assert (log.lines, log.unparseable, len(log.views)) == (5, 1, 2)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(view("2001:db8::1"), view("2001:db8::2"), True, id="one /64"),
        pytest.param(view("2001:db8::1"), view("2001:db8:0:1::1"), False, id="two /64"),
        pytest.param(view("192.0.2.1"), view("::ffff:192.0.2.1"), True, id="IPv4 written as IPv6"),
        pytest.param(view("192.0.2.1"), view("192.0.2.2"), False, id="two addresses"),
        pytest.param(view(agent=FIREFOX), view(agent="other"), False, id="two browsers"),
        pytest.param(view(agent="x" * 512 + "a"), view(agent="x" * 512 + "b"), True, id="beyond 512 characters"),
    ],
)
def test_the_reference_tells_visitors_apart_as_footfall_does(one: View, other: View, *, same: bool) -> None:
    """Otherwise the error of the sketch would hide a difference in the definition."""
    assert (one.visitor == other.visitor) is same


def agreeing(visitors: int = 1000) -> tuple[Log, Tally, Numbers]:
    """Visitors with two views each, all counted."""
    views = tuple(view(f"198.18.{number // 250}.{number % 250}") for number in range(visitors)) * 2
    tally = Tally(accepted=2 * visitors, visitors={one.visitor for one in views})
    return Log(2 * visitors + 100, 1, views), tally, replace(BEFORE, today=visitors, views_today=2 * visitors)


@pytest.mark.parametrize(
    ("visitors", "today", "holds"),
    [
        (967, 967, True),
        (967, 968, False),
        (967, 966, False),
        (5000, 5121, True),
        (5000, 5122, False),
        (5000, 4878, False),
    ],
)
def test_few_visitors_are_counted_without_any_error(visitors: int, today: int, holds: bool) -> None:
    """A day keeps the ids of 4,096; of more, three standard errors are allowed."""
    log, tally, after = agreeing(visitors)
    assert judge(log, tally, BEFORE, replace(after, today=today)).holds == holds


def test_equal_views_and_a_small_error_satisfy() -> None:
    """The sketch's error is known: 0.81 % is one standard error."""
    log, tally, after = agreeing(5000)
    tally.ignored = Counter(robot=5)
    verdict = judge(log, tally, BEFORE, replace(after, today=5120))
    assert verdict.holds
    report = "\n".join(verdict.lines)
    assert "ignored                  5  robot" in report
    assert "+2.40%, +2.96 standard errors of 0.81%" in report


@pytest.mark.parametrize(
    ("today", "views"),
    [
        pytest.param(1000, 1999, id="a view lost"),
        pytest.param(1000, 2001, id="a view twice"),
        pytest.param(1001, 2000, id="a visitor too many"),
        pytest.param(999, 2000, id="a visitor lost"),
    ],
)
def test_a_lost_view_or_a_large_error_does_not_satisfy(today: int, views: int) -> None:
    """Views are exact; a visitor estimate misses by three standard errors once in 370 honest runs."""
    log, tally, after = agreeing()
    assert not judge(log, tally, BEFORE, replace(after, today=today, views_today=views)).holds


def test_a_footfall_that_has_counted_before_is_judged_by_its_views() -> None:
    """Visitors from before the replay are not new, so `today` may grow by less."""
    log, tally, after = agreeing()
    earlier = replace(BEFORE, today=10, views_today=30)
    verdict = judge(log, tally, earlier, replace(after, today=900, views_today=2030))
    assert verdict.holds
    assert verdict.lines[-1].startswith("today is not judged")


def test_a_day_that_turned_is_said() -> None:
    """Then the views of one replay belong to two days, and neither number can be compared."""
    log, tally, after = agreeing()
    verdict = judge(log, tally, BEFORE, replace(after, day_of="2026-11-24"))
    assert not verdict.holds
    assert verdict.lines == ("The site's day turned from 2026-11-23 to 2026-11-24: run it again.",)


def test_the_error_of_an_estimate_is_a_part_of_the_truth() -> None:
    """An estimate of zero visitors is either right or infinitely wrong."""
    assert (relative_error(101, 100), relative_error(0, 0), relative_error(1, 0)) == (0.01, 0.0, float("inf"))


@pytest.mark.parametrize(
    ("watch", "holds"),
    [
        (Watch(5000, falls=0, off=0, error=0.024), True),
        (Watch(5000, falls=1), False),
        (Watch(5000, off=1), False),
        (Watch(5000, error=0.0244), False),
    ],
)
def test_an_answer_on_the_way_to_the_right_end_may_be_wrong(watch: Watch, *, holds: bool) -> None:
    """People look at any moment, and see a number that falls."""
    log, tally, after = agreeing(5000)
    tally.watch = watch
    assert judge(log, tally, BEFORE, replace(after, today=5000)).holds == holds
    tally.spooled = 1  # is in Redis later
    assert judge(log, tally, BEFORE, replace(after, today=5000)).holds


@pytest.mark.parametrize(
    ("today", "least", "most", "off", "error"),
    [
        (10, 10, 12, 0, 0.0),
        (12, 10, 12, 0, 0.0),
        (9, 10, 12, 1, 0.0),
        (13, 10, 12, 1, 0.0),
        (4096, 4096, 4096, 0, 0.0),
        (4900, 5000, 5002, 0, 0.02),
        (5102, 5000, 5002, 0, 0.02),
    ],
)
def test_an_answer_has_the_visitors_before_it_and_perhaps_those_on_their_way(
    today: int, least: int, most: int, off: int, error: float
) -> None:
    """Several views are sent at once; whichever of them came first, the number is known up to these."""
    watch = Watch()
    watch.look(today, least, most)
    assert watch.off == off
    assert watch.error == pytest.approx(error)


@pytest.fixture
async def refusing() -> AsyncIterator[tuple[str, Counter[str]]]:
    """A server that answers by the address in the request; a Footfall answers so only in trouble."""
    seen: Counter[str] = Counter()

    async def answer(request: web.Request) -> web.Response:
        who = request.headers["X-Forwarded-For"]
        seen[who] += 1
        match who:
            case "192.0.2.53" if seen[who] < 3:
                return web.json_response({"error": "busy"}, status=503, headers={"Retry-After": "0"})
            case "192.0.2.54":
                return web.json_response({"error": "spool_full"}, status=503)
            case "192.0.2.29":
                return web.json_response({"error": "rate_limited"}, status=429, headers={"Retry-After": "0"})
            case "192.0.2.0":
                assert request.transport is not None
                request.transport.close()
        headers = {} if "User-Agent" in request.headers else {"Footfall-Ignored": "robot"}
        return web.json_response({"as_of": "2026-11-23T08:00:00.000+07:00"}, headers=headers)

    app = web.Application()
    app.router.add_post("/seen", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    await runner.cleanup()


async def test_only_a_503_with_retry_after_is_sent_again(refusing: tuple[str, Counter[str]]) -> None:
    """A refused view counted zero times; repeating any other view could count it twice."""
    url, seen = refusing
    addresses = ["192.0.2.1", "192.0.2.53", "192.0.2.54", "192.0.2.29", "192.0.2.0"]
    views = [view(address) for address in addresses] + [view("192.0.2.2", agent="")]
    async with aiohttp.ClientSession(skip_auto_headers=["User-Agent"]) as session:
        tally = await send_all(Target(url, "portal", "https://portal.example.vn"), views, session, lambda: None)
    assert seen == Counter(dict.fromkeys(addresses, 1) | {"192.0.2.53": 3, "192.0.2.2": 1})
    assert (tally.accepted, tally.unanswered, tally.sent) == (2, 1, 6)
    assert tally.refused == Counter(spool_full=1, rate_limited=1)
    assert tally.ignored == Counter(robot=1)
    assert tally.visitors == {view("192.0.2.1").visitor, view("192.0.2.53").visitor}
    assert tally.last_commit > NEVER


def test_without_a_log_it_says_how_to_call_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`make replay` without LOG passes an empty text on."""
    assert main([""]) == 2
    assert capsys.readouterr().err.startswith("Name the access log to replay: make replay LOG=")
    assert main([str(tmp_path / "nowhere.log")]) == 2
    assert "cannot be read (No such file or directory)" in capsys.readouterr().err
    (tmp_path / "empty.log").touch()
    assert main([str(tmp_path / "empty.log")]) == 2
    assert "has no page view" in capsys.readouterr().err


async def test_a_footfall_of_its_own_is_waited_for_and_stopped() -> None:
    """The first beacon must not come too early, and no process may keep running."""
    script = "import time; print('starting'); print('Footfall is ready: http://127.0.0.1:9/'); time.sleep(60)"
    async with running(sys.executable, "-uc", script, environ={}) as url:
        assert url == "http://127.0.0.1:9"


async def test_a_footfall_that_does_not_start_says_why() -> None:
    """Only the child's own sentence explains the failure."""
    with pytest.raises(Stop, match=r"(?s)did not start.*port 8080 is taken"):
        async with running(sys.executable, "-c", "print('port 8080 is taken')", environ={}):
            pass


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not REAL_LOG.exists(), reason=f"there is no access log at {REAL_LOG}")
async def test_a_real_access_log_is_counted_view_by_view() -> None:
    """The main job on real input: every view counted once, visitors within the sketch's error."""
    verdict = await run(open_log(REAL_LOG), None, Console(stderr=True))
    assert verdict.holds, "\n".join(verdict.lines)


def test_a_made_log_is_the_same_each_time_and_has_as_many_visitors_as_wanted() -> None:
    """Its numbers are known; nothing of it has to be kept."""
    log = read_log(made_log(1000))
    assert log == read_log(made_log(1000)) != read_log(made_log(1000, seed=2))
    people = [view for view in log.views if "Googlebot" not in view.user_agent]
    assert len({view.visitor for view in people}) == 1000
    assert len({view.visitor[0] for view in people}) < len({view.address for view in people}), "a /64 is one network"
    assert 1200 < len(people) < 1300
    assert 1 <= log.unparseable < log.lines - len(log.views)


@pytest.fixture
async def crowded(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """A Footfall whose keys of the visitor hash are known, so that its sketch has the same error in each run."""
    environ = prepare(tmp_path) | {"FOOTFALL_REDIS_URL": redis_url, "FOOTFALL_POSTGRES_URL": postgres_url}
    await migrate(postgres_url, sql_folder())
    this_week = week_of(datetime.now(UTC).date())
    async with open_postgres(postgres_url) as postgres:
        salts = [Salt(this_week + weeks * timedelta(days=7), b"k" * SALT_BYTES, 0) for weeks in (-1, 0, 1)]
        await postgres.share_salts(SiteId(SITE), salts)
    async with running(sys.executable, "-m", "footfall", "serve", "--workers", "1", environ=environ) as url:
        yield url


@pytest.mark.timeout(400)
async def test_a_crowd_is_counted_one_by_one_and_then_estimated_without_a_fall(crowded: str, tmp_path: Path) -> None:
    """Beyond 4,096 visitors a day is a sketch: whoever watches sees the number grow, never fall, and no large error."""
    file = tmp_path / "access.log"
    file.write_text("".join(made_log(VISITORS)))
    log = open_log(file)
    assert len({view.visitor for view in log.views if "Googlebot" not in view.user_agent}) == VISITORS > 5000
    verdict = await replay(log, Target(crowded, SITE, f"https://{HOST}", connections=4), Console(stderr=True))
    report = "\n".join(verdict.lines)
    assert verdict.holds, report
    assert f"distinct pairs   {VISITORS:>9,}" in report
    assert "today fell 0 times; a set was off by 0," in report
