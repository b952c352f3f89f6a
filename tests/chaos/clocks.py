"""F12, F16 and F39: days pass while Postgres is away, clocks are set, and clocks that were ahead are corrected."""

from datetime import date, datetime, timedelta

from footfall.model.periods import local_day
from footfall.model.retention import Retention
from footfall.model.site_id import SiteId
from footfall.stores.redis_store import day_key, ready_key
from tests.chaos.inside import VISITORS, copy, counting_lines, send, worker
from tests.chaos.ledger import Outcome
from tests.chaos.relay import answer_instead, open_relay
from tests.chaos.stage import Stage, socket_of
from tests.chaos.traffic import SITES, address_of
from tests.support.footfall import VIETNAM, FakeClock, Footfall

FRIDAY = datetime(2054, 11, 27, 20, tzinfo=VIETNAM)
AHEAD = (timedelta(hours=7), timedelta(hours=30))
FAR_AHEAD = timedelta(days=40)
"""By then sketches are dropped for their age."""
NOT_COME = "not come: a clock was ahead"
ADJUSTED = 1000
STEP_S = 3600
LINES_MAX = 100
DAY = timedelta(days=1)


async def outlast_postgres(stage: Stage) -> None:
    """Postgres is away from Friday to Tuesday: nothing dips, expires or is lost, and late beacons still count."""
    clock = FakeClock(FRIDAY)
    async with (
        open_relay(socket_of(stage.valkey)) as relay,
        worker(stage, clock, "one") as one,
        worker(stage, clock, "two", redis_url=f"redis://127.0.0.1:{relay.port}/0") as two,
    ):
        await _send_some(stage, one, 40)
        relay.requests = answer_instead(b"LOADING")
        await _send_some(stage, two, 20)
        stage.expect(stage.ledger.statuses[202] == 20, f"nothing was spooled: {dict(stage.ledger.statuses)}")
        await copy(one)
        await stage.postgres.stop()
        with counting_lines() as lines:
            await _live_through(stage, one, two, clock)
        stage.expect(len(lines) < LINES_MAX, f"{len(lines)} lines were logged, such as: {lines[-1:]}")

        await stage.postgres.start()
        await stage.connect_postgres()
        for _ in range(2):
            await copy(one)
        await _check_expiry(stage, one, clock)
        await _forget_in_redis(stage, FRIDAY.date())
        relay.repair()
        await _catch_up(two)
        await _catch_up(one)


async def set_clocks(stage: Stage) -> None:
    """Set the clock by an hour and over midnight, forth and back: each beacon counts on its day of receipt."""
    clock = FakeClock(FRIDAY)
    async with worker(stage, clock, "one") as one:
        for _ in range(3):
            for hours in stage.chance.sample((1, -1, 4, -4, 5, -5, 30, 2), 8):
                clock.set(datetime.fromtimestamp(clock() + hours * 3600, VIETNAM))
                answers = [await send(stage, one, site) for site in SITES for _ in range(5)]
                today = local_day(clock(), VIETNAM).isoformat()
                stage.expect(
                    all(answer.get("day_of") == today for answer in answers),
                    f"an answer is not of {today}: {answers[-1]}",
                )
                await copy(one)
        await _catch_up(one)


async def correct_clocks(stage: Stage) -> None:
    """Correct the clocks of a worker and of both stores that were ahead, beside a worker whose clock is right.

    Within one rollup every number is right again; days that have not come are named until they come.
    """
    clock = FakeClock(FRIDAY)
    with counting_lines() as lines:
        async with worker(stage, clock, "right") as right:
            for ahead in (*stage.chance.sample(AHEAD, len(AHEAD)), FAR_AHEAD):
                lines.clear()
                await _be_ahead(stage, right, ahead)
                stage.expect(any(NOT_COME in line for line in lines), f"the log names no day that is {ahead} ahead")
                await _expect_early_days(stage, right, named=True)
                if ahead is not FAR_AHEAD:
                    clock.advance(2 * DAY.total_seconds())
                    await _catch_up(right)
                    await _expect_early_days(stage, right, named=False)
            for site in SITES:
                await right.services.stores.postgres.adjust(SiteId(site), "chaos", ADJUSTED, "a correction")
            await copy(right)
            await _expect_right_numbers(stage, right)
            clock.advance(STEP_S)
            await _catch_up(right)


async def _be_ahead(stage: Stage, right: Footfall, ahead: timedelta) -> None:
    """Run a worker whose clock is ahead, as are those of the stores; then correct all of them."""
    clock = FakeClock(datetime.fromtimestamp(right.clock() + ahead.total_seconds(), VIETNAM))
    async with worker(stage, clock, f"ahead-{ahead.days}") as wrong:
        for footfall in (right, wrong):
            await _send_some(stage, footfall, 20)
        for footfall in (wrong, right):
            await copy(footfall)
        for site in SITES:
            await _leave_ahead(stage, site, ahead)
        clock.set_back(ahead.total_seconds())
        for site in SITES:
            senders = [*sorted(_visitors(stage, site))[:5], *(address_of(VISITORS + turn) for turn in range(5))]
            answers = [
                await send(stage, (right, wrong)[turn % 2], site, address) for turn, address in enumerate(senders)
            ]
            online, present = answers[-1].get("online"), len(set(senders))
            stage.expect(online == present, f"{site}: {online} are online after {ahead} ahead, and {present} present")
        for footfall in (wrong, right):
            await copy(footfall)
        for footfall in (wrong, right):
            await _expect_right_numbers(stage, footfall)


def _visitors(stage: Stage, site: str) -> set[str]:
    """Return the addresses that are in the ledger of a site."""
    entries = [entry for (noted, _), entry in stage.ledger.days.items() if noted == site]
    return set().union(*(entry.visitors[Outcome.OK] for entry in entries))


async def _leave_ahead(stage: Stage, site: str, ahead: timedelta) -> None:
    """Leave in Redis what it holds after its own clock and that of Postgres were ahead."""
    redis, ahead_s = stage.stores.redis, int(ahead.total_seconds())
    online, closed = (ready_key(site).removesuffix("ready") + name for name in ("online", "closed"))
    for visitor, seen_ms in await redis.zrange(online, 0, -1, withscores=True):
        await redis.zadd(online, {visitor: seen_ms + ahead_s * 1000})
    await redis.expire(online, ahead_s + 300)
    await redis.hincrby(closed, "read_at", ahead_s * 1_000_000)


async def _expect_right_numbers(stage: Stage, footfall: Footfall) -> None:
    """Compare the answer to a beacon with the days in Postgres after a rollup."""
    today = local_day(footfall.clock(), VIETNAM)
    for site in SITES:
        answer = await send(stage, footfall, site)
        await copy(footfall)
        days = await stage.stores.in_postgres(site)
        total = sum(day.visitors for day in days.values()) + await stage.stores.adjustments(site)
        right = {"today": days[today].visitors, "views_today": days[today].views, "total": total}
        shown = {name: answer.get(name) for name in right}
        stage.expect(shown == right, f"{site} shows {shown}, and the days say {right}")


async def _expect_early_days(stage: Stage, footfall: Footfall, *, named: bool) -> None:
    async with footfall.ops.get("/readyz") as response:
        in_readyz = NOT_COME in await response.text()
    in_metrics = footfall.metric("footfall_early_days") > 0
    stage.expect(in_readyz is named, f"/readyz names days that have not come: {in_readyz}")
    stage.expect(in_metrics is named, f"the metric counts days that have not come: {in_metrics}")


async def _live_through(stage: Stage, one: Footfall, two: Footfall, clock: FakeClock) -> None:
    """Pass three midnights and the turn of the week, hour by hour."""
    totals = dict.fromkeys(SITES, 0)
    while local_day(clock(), VIETNAM) < FRIDAY.date() + 4 * DAY:
        for site in SITES:
            answer = await send(stage, one, site)
            total = answer.get("total")
            stage.expect(isinstance(total, int), f"a beacon was not counted: {answer}")
            if isinstance(total, int):
                stage.expect(total >= totals[site], f"the total of {site} fell from {totals[site]} to {total}")
                totals[site] = total
        for footfall in (one, two):
            await footfall.services.reconciler.quick_step()
            await copy(footfall)
        clock.advance(STEP_S)
    for site in SITES:
        for day in await _days(stage, site):
            left_s = await stage.stores.redis.ttl(day_key(site, day, "visitors"))
            stage.expect(left_s == -1, f"{site} {day} expires although Postgres never had it")


async def _check_expiry(stage: Stage, one: Footfall, clock: FakeClock) -> None:
    """Check that every day is equal in both stores, and that only closed days expire."""
    for site in SITES:
        through = Retention.at(clock(), one.services.settings.sites[site].zone).closed_through
        live, saved = await stage.stores.in_redis(site), await stage.stores.in_postgres(site)
        for day in await _days(stage, site):
            stage.expect(live[day].views == saved[day].views, f"{site} {day} is not equal in both stores")
            expires = await stage.stores.redis.ttl(day_key(site, day, "visitors")) > 0
            stage.expect(expires == (day <= through), f"{site} {day} expires: {expires}, closed through {through}")


async def _forget_in_redis(stage: Stage, day: date) -> None:
    """Let a day expire now."""
    for site in SITES:
        await stage.stores.redis.delete(day_key(site, day, "visitors"), day_key(site, day, "logs"))


async def _days(stage: Stage, site: str) -> list[date]:
    return list(await stage.stores.in_redis(site))


async def _send_some(stage: Stage, footfall: Footfall, each: int) -> None:
    for turn in range(each):
        await send(stage, footfall, list(SITES)[turn % 2])


async def _catch_up(footfall: Footfall) -> None:
    """Probe, send what waits, and roll it up."""
    await footfall.services.reconciler.quick_step()
    for _ in range(2):
        await footfall.services.recorder.settle()
        await copy(footfall)
