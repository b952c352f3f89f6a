"""The week of a small portal, played through the demo on real processes."""

import signal
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import aiohttp
import pytest
from aiohttp import web

from footfall.errors import Stop
from tests.replay.seed_week import BLOCK, DAYS, PRESENT, Demo, WrongNumbers, address_of, thursday_after
from tests.support.footfall import VIETNAM
from tests.support.process import start

SHOWN = "Đang online: 4 · Hôm nay: 63 · Trong tuần: 495 · Tất cả: 1.373.876"
MOMENTS = ("The week", "After a restart", "After FLUSHALL", "From PostgreSQL's dump, elsewhere")
MONDAY = datetime(2026, 11, 23, tzinfo=VIETNAM)


@pytest.mark.timeout(400)
async def test_a_small_portals_week_is_shown_without_any_error_whatever_is_lost() -> None:
    """4, 63, 495 and 1.373.876: in five weeks of six an estimate of 495 would be off, and people see it."""
    async with start("--listen", "127.0.0.1:0", environ={}, module="tests.replay.seed_week") as week:
        for moment in MOMENTS:  # one by one: each start of the demo may take as long as a busy machine needs
            await week.says(f"^{moment}.*: {SHOWN}$")
        await week.says("Ctrl-C stops it")
        url = (await week.says(r"^Without counting you: (\S+)"))[1]
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            image = await answer.text()
        assert await week.stop(signal.SIGINT) == 0
    assert f"\n{SHOWN.replace(' · ', chr(10))}\n" in week.text
    assert all(number in image for number in BLOCK)


def test_the_days_overlap_so_that_only_a_union_has_the_weeks_number() -> None:
    """A week that adds its days up would show 543."""
    visitors = set().union(*DAYS)
    assert (len(visitors), sum(map(len, DAYS)), len(DAYS[-1]), len(PRESENT)) == (495, 543, 63, 4)
    assert len({address_of(visitor) for visitor in visitors}) == 495


@pytest.mark.parametrize("hours", range(0, 7 * 24, 5))
def test_the_week_that_is_played_ends_after_now(hours: int) -> None:
    """It can be played on a Monday and at midnight; Redis would drop a week that is over by its own clock."""
    now = MONDAY + timedelta(hours=hours, minutes=7)
    thursday = thursday_after(now)
    assert (thursday.weekday(), thursday.hour) == (3, 12)
    assert timedelta(0) <= thursday - now < timedelta(days=7)


@pytest.fixture
async def portal() -> AsyncIterator[Demo]:
    """A server that counts, and shows one visitor too many in the week."""

    async def see(request: web.Request) -> web.Response:
        refused = request.headers["X-Forwarded-For"] == address_of(0)
        return web.json_response({"error": "forbidden"}, status=403) if refused else web.json_response({})

    async def show(_: web.Request) -> web.Response:
        numbers = ("4", "63", "496", "1.373.876")
        return web.Response(text="".join(f'<li>x: <b data-count="x">{number}</b></li>\n' for number in numbers))

    app = web.Application()
    app.router.add_post("/seen", see)
    app.router.add_get("/counts.html", show)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as http:
        yield Demo(f"http://127.0.0.1:{runner.addresses[0][1]}", http, patience_s=2)
    await runner.cleanup()


async def test_a_number_that_is_off_by_one_does_not_pass(portal: Demo) -> None:
    """Otherwise the command would show whatever it gets."""
    with pytest.raises(WrongNumbers, match=r"The week: x: 4 · x: 63 · x: 496 · x: 1\.373\.876; expected 4 · 63 · 495"):
        await portal.look("The week")


async def test_a_visitor_who_is_refused_is_no_reason_to_wait(portal: Demo) -> None:
    """Only what comes right by itself is sent again."""
    with pytest.raises(Stop, match="does not count a visitor: 403"):
        await portal.play([0])
